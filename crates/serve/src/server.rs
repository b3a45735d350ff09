//! The server as its caller sees it: started, asked, told of a new configuration, drained.

use std::{
    fmt,
    fs::File,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bespoke_agent::Agent;
use bespoke_host::Host;
use bespoke_plugin_api::{CancelToken, Code, Error, Hook, HookEvent, Result, Timestamp};
use bespoke_state::{KeptLetter, State, StateError};
use bespoke_voice::Notes;

use crate::{ServeConfig, Status, core::Core, lines};

/// What of a drain is kept for answers that are to leave.
const FOR_LETTERS: u32 = 5;
/// How long answers that were told to stop, and channels, may take to do so.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked for what is kept for too long.
const BETWEEN_TIDYING: Duration = Duration::from_secs(60 * 60);

/// What a server is made of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Parts {
    /// The host, whose plugins are started or are about to be.
    pub host: Host,
    /// Who answers.
    pub agent: Agent,
    /// Where messages and conversations are kept.
    pub state: State,
    /// Who hears and speaks voice notes, if anybody.
    pub notes: Option<Notes>,
    /// How it serves.
    pub config: ServeConfig,
}

impl Parts {
    /// What is needed in any case.
    pub fn new(host: Host, agent: Agent, state: State) -> Self {
        Parts { host, agent, state, notes: None, config: ServeConfig::default() }
    }

    /// With somebody who hears and speaks voice notes.
    #[must_use]
    pub fn notes(mut self, notes: Option<Notes>) -> Self {
        self.notes = notes;
        self
    }

    /// With this configuration.
    #[must_use]
    pub fn config(mut self, config: ServeConfig) -> Self {
        self.config = config;
        self
    }
}

/// A running agent. Clones are the same server. It runs until it is [drained](Self::drain) or its runtime ends, whoever drops it.
#[derive(Clone)]
pub struct Server(Arc<Core>);

impl Server {
    /// Starts serving: each channel on its own, none waited for, and no hook either ([`started`](Self::started)). What the program before left is taken up: messages that were not
    /// answered, answers that have not left.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for a value of the configuration that cannot work; `CONFLICT` when another server has the same file; when the
    /// file cannot be read and written.
    pub async fn start(parts: Parts) -> Result<Server> {
        parts.config.check()?;
        let lock = lock(&parts.state)?;
        let left = parts.state.recover_letters()?;
        if left > 0 {
            tracing::warn!(left, "messages were being sent when the program ended, and are sent again");
        }
        let core = Core::new(parts, lock)?;
        lines::follow(&core);
        lines::settle(&core);
        tokio::spawn(greet(core.clone()));
        tokio::spawn(tidy(Arc::downgrade(&core), core.over.clone()));
        Ok(Server(core))
    }

    /// Completes when hooks have been told that it serves. It serves already, and may be drained: whoever does not wait for this loses
    /// nothing.
    pub async fn started(&self) {
        // The sender is part of the core, so it is never gone while we look.
        let _ = self.0.greeted.subscribe().wait_for(|greeted| *greeted).await;
    }

    /// How it does.
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Answers with this agent and by this configuration from now on: channels that it does not name are stopped, those that it names are
    /// started. Answers that are being written are finished as they were begun. A configuration that cannot work changes nothing; it is
    /// logged.
    pub async fn reload(&self, agent: Agent, config: ServeConfig) {
        if let Err(error) = config.check() {
            return tracing::error!(%error, "the old configuration of [serve] stays");
        }
        self.0.agent.store(Arc::new(agent));
        self.0.config.store(Arc::new(config));
        lines::settle(&self.0);
        self.0.desk.hire(&self.0);
    }

    /// Hears and speaks voice notes with these from now on; with nobody, it says that it cannot hear.
    pub fn hear_with(&self, notes: Option<Notes>) {
        self.0.notes.store(notes.map(Arc::new));
    }

    /// Ends it within the limit and some seconds: no message is taken any more, answers that are being written are finished, and leave.
    /// What is not finished in time is taken back, and begun again by the next server; so is what has not left. The conversations of
    /// chats go on with the next server, too.
    pub async fn drain(&self, limit: Duration) {
        let core = &self.0;
        if core.close() {
            return;
        }
        let until = Instant::now() + limit;
        let cx = core.cx();
        core.greeting.cancel();
        let stopping = core.host.hooks().run(&cx, Hook::OnGatewayShutdown, HookEvent::on_gateway_shutdown);
        // Its handlers have limits of their own, which may be longer than ours.
        let _ = tokio::time::timeout(limit, stopping).await;
        core.desk.close();
        let for_answers = until.saturating_duration_since(Instant::now()).saturating_sub(limit / FOR_LETTERS);
        if tokio::time::timeout(for_answers, core.desk.empty()).await.is_err() {
            core.answers.cancel();
            if tokio::time::timeout(GRACE, core.desk.empty()).await.is_err() {
                tracing::warn!("an answer does not stop, and is left behind");
            }
        }
        let lines = core.lines();
        let flushed = futures_util::future::join_all(lines.iter().map(|line| line.flushed(core)));
        let left = until.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left, flushed).await.is_err() {
            tracing::warn!("not all messages have left; they are sent after the next start");
        }
        lines.iter().for_each(|line| line.stop());
        let lines: Vec<_> = core.table().leaving.values().cloned().chain(lines).collect();
        let ended = futures_util::future::join_all(lines.iter().map(|line| line.ended()));
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("a channel does not stop, and is left behind");
        }
        core.end();
    }

    /// Messages that have not left, by their numbers: at most so many after that one.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn letters(&self, after: i64, most: u32) -> std::result::Result<Vec<KeptLetter>, StateError> {
        self.0.state.letters(after, most)
    }

    /// Sends messages at once: dead ones as if they had just been written, those that wait without their pause. All, or these; answers with
    /// their numbers.
    ///
    /// # Errors
    /// As [`State::resend_letters`].
    pub fn resend(&self, ids: Option<&[i64]>) -> std::result::Result<Vec<i64>, StateError> {
        let sent = self.0.state.resend_letters(ids)?;
        self.0.lines().iter().for_each(|line| line.post.wake());
        Ok(sent)
    }

    /// Completes when none of these is being sent or about to be: each has left, is dead, or waits. Or when the limit passes.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn tried(&self, ids: &[i64], limit: Duration) -> std::result::Result<(), StateError> {
        let until = tokio::time::Instant::now() + limit;
        loop {
            let lines = self.0.lines();
            let mut moved: Vec<_> = lines.iter().map(|line| Box::pin(line.post.moved())).collect();
            // From before the look: whatever moves after it is heard.
            moved.iter_mut().for_each(|moved| _ = moved.as_mut().enable());
            if self.0.state.letters_under_way(ids)? == 0 || moved.is_empty() {
                return Ok(());
            }
            if tokio::time::timeout_at(until, futures_util::future::select_all(moved)).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Forgets messages that have not left. All, or these; answers with their numbers.
    ///
    /// # Errors
    /// As [`State::drop_letters`].
    pub fn forget(&self, ids: Option<&[i64]>) -> std::result::Result<Vec<i64>, StateError> {
        let dropped = self.0.state.drop_letters(ids)?;
        // Those after them may leave now.
        self.0.lines().iter().for_each(|line| line.post.wake());
        Ok(dropped)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("status", &self.status()).finish()
    }
}

/// Tells hooks that it serves, until a drain has no more time for that.
async fn greet(core: Arc<Core>) {
    let cx = core.cx();
    let told = core.host.hooks().run(&cx, Hook::OnGatewayStart, HookEvent::on_gateway_start);
    tokio::select! {
        // Nothing is about to happen that a veto could stop.
        _ = told => {}
        () = core.greeting.cancelled() => {}
    }
    core.greeted.send_replace(true);
}

/// Forgets now and then what was kept for long enough.
async fn tidy(core: Weak<Core>, over: CancelToken) {
    loop {
        let Some(core) = core.upgrade() else { return };
        if let Some(age) = core.config.load().dead_age() {
            let before = Timestamp(bespoke_host::now().0.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)));
            match core.state.forget_dead(before) {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "messages that could not be sent are forgotten: they are older than serve.dead_days"),
                Err(error) => tracing::warn!(%error, "messages that could not be sent are not forgotten"),
            }
        }
        drop(core);
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(BETWEEN_TIDYING) => {}
        }
    }
}

/// Two servers would send each other's letters. The file ends with whoever has it open, however that ends.
fn lock(state: &State) -> Result<File> {
    let mut path = state.path().as_os_str().to_owned();
    path.push("-serving");
    let told = |error: std::io::Error| Error::internal(format!("{}: cannot open: {error}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(told)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let message = format!("another server has {}", state.path().display());
            Err(Error::new(Code::CONFLICT, message).with_help("bespoke status"))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(told(error)),
    }
}
