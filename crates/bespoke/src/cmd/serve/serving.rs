//! What runs while it serves: the plugins, the server behind the channels, the listener; how it begins and ends. How it takes over a new
//! configuration is `reload`, how it does is `status`. No signal, no socket.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bespoke_agent::Agent;
use bespoke_host::{Row, Selection, State};
use bespoke_plugin_api::{CancelToken, Kind};
use bespoke_serve::{Parts, ServeConfig, Server};
use bespoke_voice::{Notes, Voice, VoiceConfig};
use serde_json::{Value, json};

use super::{listener::Gate, reload::Left, status::is_down, told::Told};
use crate::{exit::Result, gate::GatewayConfig, setup::Setup};

/// A server and all that it needs, from before its plugins start until after they have stopped.
pub(super) struct Serving {
    pub(super) setup: Setup,
    pub(super) told: Told,
    pub(super) began: Instant,
    pub(super) socket: PathBuf,
    /// Cancelled when nobody is to ask any more.
    pub(super) stop: CancelToken,
    server: OnceLock<Server>,
    gate: Gate,
    now: Mutex<Now>,
    /// One at a time.
    pub(super) reloading: tokio::sync::Mutex<()>,
    /// One at a time.
    listening: tokio::sync::Mutex<()>,
}

/// What changes while it serves.
pub(super) struct Now {
    pub(super) phase: Phase,
    /// Since when it drains, and how long that may take.
    pub(super) draining: Option<(Instant, Duration)>,
    pub(super) serve: ServeConfig,
    pub(super) gateway: GatewayConfig,
    /// Where plugins are reached.
    pub(super) listens: Option<SocketAddr>,
    /// Why that is not as the configuration says.
    pub(super) listens_badly: Option<Left>,
    /// What became of the last reload.
    pub(super) reloaded: Option<Value>,
    /// The last one in which something was new.
    pub(super) taken: Option<Value>,
    /// What it did not take over.
    pub(super) left: Vec<Left>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Serving,
    Draining,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
        }
    }
}

impl Serving {
    pub(super) fn new(setup: Setup, told: Told, socket: &Path) -> Self {
        let (serve, gateway) = (setup.serve.clone(), setup.gateway.clone());
        Serving {
            setup,
            told,
            began: Instant::now(),
            socket: socket.to_owned(),
            stop: CancelToken::new(),
            server: OnceLock::new(),
            gate: Gate::default(),
            now: Mutex::new(Now {
                phase: Phase::Starting,
                draining: None,
                serve,
                gateway,
                listens: None,
                listens_badly: None,
                reloaded: None,
                taken: None,
                left: Vec::new(),
            }),
            reloading: tokio::sync::Mutex::default(),
            listening: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        self.now().phase
    }

    /// The server behind the channels, once it is there.
    pub(super) fn server(&self) -> Option<&Server> {
        self.server.get()
    }

    /// Starts what serving needs, and serves.
    ///
    /// # Errors
    /// When nobody can answer, or nothing can be kept.
    pub(super) async fn begin(&self, offline: bool, stop: &CancelToken) -> Result<()> {
        let setup = &self.setup;
        crate::packs::arm(setup, offline, stop).await;
        let serve = self.now().serve.clone();
        setup.host.start(Selection::Ids(&setup.needed_to_serve(&serve.channels))).await;
        for id in setup.host.lacking_models() {
            self.told.warn(&format!("{id} lacks model files, and does not serve: bespoke plugin download-files {id}"));
        }
        setup.without_guard().iter().for_each(|warning| self.told.warn(warning));
        for missed in setup.host.hooks().missed() {
            self.told.warn(&format!("whatever a hook can stop is refused: {}", missed.reason));
        }
        self.tell_of_channels(&serve);
        let agent = setup.agent()?;
        let notes = self.notes(&agent, &setup.voice);
        let state = setup.kept.state()?;
        let server = Server::start(Parts::new(setup.host.clone(), agent, state).notes(notes).config(serve)).await?;
        // From here on a signal ends it by a drain, whatever hooks of the start still do.
        let _ = self.server.set(server.clone());
        server.started().await;
        self.listen().await;
        self.now().phase = Phase::Serving;
        self.tell_ready();
        Ok(())
    }

    /// Who hears and speaks voice notes; that there is nobody is told.
    pub(super) fn notes(&self, agent: &Agent, voice: &VoiceConfig) -> Option<Notes> {
        let voice = Voice::new(agent.clone(), voice.clone());
        voice.map(Notes::new).map_err(|error| self.told.warn(&format!("voice notes are not heard: {error}"))).ok()
    }

    /// Channels that are named and are not here, and that there are none.
    fn tell_of_channels(&self, serve: &ServeConfig) {
        for row in self.setup.missing() {
            if row.kinds.iter().any(|kind| kind == "channel") {
                let (why, fix) = (row.reason.unwrap_or_default(), row.fix.unwrap_or_default());
                self.told.warn(&format!("the channel {} is {why}\n  try: {fix}", row.id));
            }
        }
        if self.setup.channels_to_serve(&serve.channels).is_empty() {
            self.told.warn("no channel is configured: nobody can write to it\n  try: bespoke plugin list channel");
        }
    }

    fn tell_ready(&self) {
        let named: Vec<String> =
            self.server().map(|server| server.status().channels.into_iter().map(|c| c.name).collect()).unwrap_or_default();
        let rows = self.rows();
        // Those that come to nothing: what is known of them here is known at once.
        let down = |name: &String| {
            let id = self.setup.host.provider_of(Kind::Channel, name)?;
            rows.iter().find(|row| row.id == id && (is_down(row) || row.state == State::Disabled))
        };
        for (name, row) in named.iter().filter_map(|name| Some((name, down(name)?))) {
            let fix = row.fix.as_ref().map_or(String::new(), |fix| format!("\n  try: {fix}"));
            self.told.warn(&format!("the channel {name} is {}: {}{fix}", row.state.name(), row.reason.as_deref().unwrap_or_default()));
        }
        let channels: Vec<&String> = named.iter().filter(|name| down(name).is_none()).collect();
        if channels.is_empty() && !named.is_empty() {
            self.told.warn("none of the channels runs: nobody can write to it\n  try: bespoke status");
        }
        let listens = self.now().listens;
        let mut parts = vec![if channels.is_empty() { "no channel".to_owned() } else { join(&channels) }];
        parts.extend(listens.map(|address| format!("http://{address}")));
        parts.push(format!("asked at {}", self.socket.display()));
        let more = json!({ "pid": std::process::id(), "channels": channels, "listen": listens, "socket": self.socket });
        self.told.say("ready", &format!("serving {} (process {})", parts.join("; "), std::process::id()), &more);
    }

    /// Listens where plugins want to be reached, by the configuration as it is now. Nobody waits for an address that is taken: it is tried
    /// again.
    pub(super) async fn listen(&self) {
        let _one = self.listening.lock().await;
        let config = self.now().gateway.clone();
        let (listens, failure) = self.gate.settle(&self.setup.host, &config).await;
        let badly = failure.map(|failure| Left::of_listener(failure, listens));
        let (before, badly_before) = {
            let mut now = self.now();
            (std::mem::replace(&mut now.listens, listens), std::mem::replace(&mut now.listens_badly, badly.clone()))
        };
        if let Some(left) = badly.filter(|left| Some(left) != badly_before.as_ref()) {
            self.told.warn(&left.to_string());
        }
        if before == listens || self.phase() == Phase::Starting {
            return;
        }
        let line = listens.map_or("no plugin is reached over HTTP any more".to_owned(), |a| format!("plugins are reached at http://{a}"));
        self.told.say("listening", &line, &json!({ "listen": listens }));
    }

    /// Whether there should be another listener than there is.
    pub(super) fn listens_badly(&self) -> bool {
        self.now().listens_badly.is_some()
    }

    /// Takes no new messages; answers under way may end.
    pub(super) async fn drain(&self, limit: Option<Duration>) {
        let limit = {
            let mut now = self.now();
            now.phase = Phase::Draining;
            let limit = limit.unwrap_or_else(|| now.serve.drain_limit());
            now.draining = Some((Instant::now(), limit));
            limit
        };
        if let Some(server) = self.server() {
            server.drain(limit).await;
        }
    }

    /// Stops the listener, and the plugins in order.
    pub(super) async fn end(&self) {
        self.gate.close().await;
        self.setup.host.shutdown().await;
    }

    /// All plugins, as they are.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.setup.rows()
    }
}

fn join(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}
