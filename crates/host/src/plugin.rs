//! One plugin as the host knows it: where it comes from, its state, its health, its current generation and its counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bespoke_manifest::{Manifest, Permission};
use bespoke_plugin_api::{Code, Error, Facts, Health, Kind, Result};
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    Config, HttpAllowed, Used,
    candidate::{Candidate, State, Tier},
    commands::RunningCommands,
    generation::{Footing, Generation, lock},
    metrics::Metrics,
    supervise::Watch,
    thread::{Late, Seats, Threads},
};

/// A call under way beside its caller, and the end of its thread where it has one of its own.
pub(crate) type Spawned<R> = (JoinHandle<Result<R>>, Option<oneshot::Receiver<()>>);

/// A plugin's place in the host, from discovery to shutdown.
pub(crate) struct PluginCell {
    pub(crate) id: Arc<str>,
    pub(crate) candidate: Candidate,
    /// That of its configuration. The schema of a broken plugin says nothing.
    pub(crate) schema: Value,
    pub(crate) manifest: Option<Arc<Manifest>>,
    pub(crate) generation: ArcSwapOption<Generation>,
    /// Held while contributions are put in place: those of a generation that is being replaced must not come after its successor's.
    pub(crate) publishing: Mutex<()>,
    /// Held while it is started, replaced or stopped: one after the other.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Calls are held until its next generation is there.
    replacing: AtomicBool,
    swaps: AtomicU64,
    /// What its generation runs with.
    applied: Mutex<Option<Applied>>,
    /// Whether it may rest, and how often it ended by itself.
    pub(crate) watch: Watch,
    /// Hooks of its that are not asked for a while, having failed too often.
    tripped: Mutex<BTreeSet<String>>,
    /// Events that handlers of its lost, being too slow or not there.
    lost: Mutex<BTreeMap<String, u64>>,
    /// Why it could not be enabled, for one that is switched off.
    unfit: Option<Error>,
    /// Whether it has said what it hooks into.
    hooks_known: AtomicBool,
    /// Why it runs on without the table that it has by now, where it had none before.
    refused: Mutex<Option<(String, Option<String>)>>,
    /// Commands of its that cannot be run under their names, and why.
    refused_commands: Mutex<BTreeMap<String, String>>,
    pub(crate) running_commands: RunningCommands,
    status: Mutex<Status>,
    settled: watch::Sender<State>,
    pub(crate) metrics: Arc<Metrics>,
    /// Processor time of its generation that was told already.
    cpu_told: Mutex<Duration>,
    /// What its generations made use of.
    pub(crate) used: Arc<Used>,
    /// Milliseconds.
    call_limit: AtomicU64,
    runtime: Handle,
    late: Arc<Late>,
    seats: Arc<Seats>,
}

/// A configuration that a generation runs with.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// Its table as it was written, references and all.
    pub(crate) written: Value,
    /// What the plugin got.
    pub(crate) filled: Value,
}

/// What can be said of a plugin at this moment.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// Health that the plugin or the host reported, beside what the plugin says when asked.
    pub(crate) reported: Health,
    pub(crate) reason: Option<String>,
    pub(crate) fix: Option<String>,
    /// The code of the failure, while the state is one.
    pub(crate) code: Option<Code>,
    pub(crate) started_in: Option<Duration>,
}

impl PluginCell {
    pub(crate) fn new(candidate: Candidate, call_limit_ms: u64, threads: &Threads) -> Self {
        let manifest = fitting(&candidate);
        let unfit = manifest.as_ref().err().cloned().or_else(|| candidate.artifact.refusal().map(|(_, error)| error));
        let status = Status { state: State::Unloaded, reported: Health::Unknown, reason: None, fix: None, code: None, started_in: None };
        PluginCell {
            id: candidate.id.as_str().into(),
            schema: serde_json::from_str(&candidate.config_schema).unwrap_or_default(),
            candidate,
            manifest: manifest.ok(),
            generation: ArcSwapOption::empty(),
            publishing: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            replacing: AtomicBool::new(false),
            swaps: AtomicU64::new(0),
            applied: Mutex::default(),
            watch: Watch::default(),
            tripped: Mutex::default(),
            lost: Mutex::default(),
            unfit,
            hooks_known: AtomicBool::new(false),
            refused: Mutex::default(),
            refused_commands: Mutex::default(),
            running_commands: RunningCommands::default(),
            status: Mutex::new(status),
            settled: watch::Sender::new(State::Unloaded),
            metrics: Arc::default(),
            cpu_told: Mutex::default(),
            used: Arc::default(),
            call_limit: AtomicU64::new(call_limit_ms),
            runtime: Handle::current(),
            late: threads.late().clone(),
            seats: threads.seats().clone(),
        }
    }

    /// Whether its names are its own, and it could serve under them.
    pub(crate) fn may_serve(&self) -> bool {
        self.unfit.is_none() && self.has_its_names()
    }

    /// Whether its names are its own: it is not switched off, and no other plugin has them.
    pub(crate) fn has_its_names(&self) -> bool {
        let status = self.status();
        status.state != State::Disabled && status.code != Some(Code::ALREADY_LOADED)
    }

    /// Whether it is switched on.
    pub(crate) fn is_enabled(&self) -> bool {
        self.state() != State::Disabled
    }

    /// Its manifest, unless that keeps it from ever running.
    ///
    /// # Errors
    /// As [`unfit`](Self::unfit).
    pub(crate) fn fit(&self) -> Result<&Manifest> {
        match (&self.manifest, &self.unfit) {
            (Some(manifest), None) => Ok(manifest),
            (_, unfit) => Err(unfit.clone().unwrap_or_else(|| Error::internal("a plugin without a manifest"))),
        }
    }

    /// Why it could not be started, however it is configured.
    pub(crate) fn unfit(&self) -> Option<&Error> {
        self.unfit.as_ref()
    }

    /// Whether it says only at run time what it hooks into.
    pub(crate) fn publishes_hooks(&self) -> bool {
        self.manifest.as_ref().is_some_and(|m| m.is_dynamic(Kind::Hook))
    }

    /// It has said what it hooks into: its guards stand, whatever becomes of it.
    pub(crate) fn hooks_are_known(&self) {
        *lock(&self.refused) = None;
        self.hooks_known.store(true, Ordering::Release);
    }

    /// Whether it is there for nothing but hooks, the user counts on it, and it came to nothing before it said which: then nobody knows
    /// what it would have stopped.
    pub(crate) fn is_missed(&self, config: &Config) -> bool {
        let only_hooks = self.manifest.as_ref().is_some_and(|m| m.kinds() == [Kind::Hook]);
        let state = self.state();
        let is_named = config.plugin_ids().iter().any(|id| *id == *self.id);
        // One with a folder of its own was put there by the user; until it has the user's consent, nobody counts on it.
        let is_counted_on = is_named || self.candidate.tier != Tier::Compiled && state != State::Blocked;
        let came_to_nothing = matches!(state, State::Failed | State::Quarantined | State::Blocked | State::Missing);
        let is_missing = came_to_nothing || is_named && lock(&self.refused).is_some();
        only_hooks && is_counted_on && is_missing && self.has_its_names() && self.is_unheard()
    }

    /// Why it is [missed](Self::is_missed), and what helps.
    pub(crate) fn why_missed(&self) -> (String, Option<String>) {
        let refused = lock(&self.refused).clone().filter(|_| self.state() == State::Ready);
        refused.unwrap_or_else(|| {
            let status = self.status();
            (status.reason.unwrap_or_else(|| status.state.name().to_owned()), status.fix)
        })
    }

    /// It runs with the configuration as it is, or why not. Hooks that it never had are not its old ones.
    pub(crate) fn refuses(&self, why: Option<(String, Option<String>)>) {
        let had_none = || self.applied().is_none_or(|applied| applied.written.as_object().is_none_or(|table| table.is_empty()));
        let why = why.filter(|_| self.publishes_hooks() && had_none());
        self.hooks_known.store(why.is_none(), Ordering::Release);
        *lock(&self.refused) = why;
    }

    /// Whether it is about to say, perhaps, what it hooks into.
    pub(crate) fn is_tried(&self) -> bool {
        matches!(self.state(), State::Unloaded | State::Starting) && self.is_unheard()
    }

    /// Whether it is switched on, and has not said yet what it hooks into.
    pub(crate) fn is_unheard(&self) -> bool {
        self.is_enabled() && !self.hooks_known.load(Ordering::Acquire)
    }

    pub(crate) fn applied(&self) -> Option<Applied> {
        lock(&self.applied).clone()
    }

    pub(crate) fn apply(&self, applied: Option<Applied>) {
        *lock(&self.applied) = applied;
    }

    /// Lets a generation of its ask whom a configuration names.
    pub(crate) fn permit(&self, footing: &Footing, applied: &Applied) {
        let granted = footing.granted.load();
        let granted = granted.as_deref().or_else(|| self.manifest.as_ref().map(|m| &m.permissions));
        let asked = granted.map_or(&[][..], |granted| &granted.network_access);
        let allowed = HttpAllowed::of(&self.id, asked, &applied.filled, &applied.written, &self.schema);
        footing.http.store(Some(Arc::new(allowed)));
    }

    /// Whether calls wait for its next generation.
    pub(crate) fn is_replacing(&self) -> bool {
        self.replacing.load(Ordering::Acquire)
    }

    /// How often calls were held so far.
    pub(crate) fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::SeqCst)
    }

    pub(crate) fn set_replacing(&self, replacing: bool) {
        self.swaps.fetch_add(u64::from(replacing), Ordering::SeqCst);
        self.replacing.store(replacing, Ordering::Release);
    }

    /// Whether it failed because another plugin does not serve.
    pub(crate) fn lacks_need(&self) -> bool {
        let status = self.status();
        status.state == State::Failed && status.code == Some(Code::DEPENDENCY_MISSING)
    }

    /// A hook of its is not asked for a while, or again.
    pub(crate) fn hook_tripped(&self, hook: &str, tripped: bool) {
        let mut all = lock(&self.tripped);
        if tripped {
            all.insert(hook.to_owned())
        } else {
            all.remove(hook)
        };
    }

    /// All of its hooks are asked again.
    pub(crate) fn hooks_forgiven(&self) {
        lock(&self.tripped).clear();
    }

    /// A handler of events has lost some.
    pub(crate) fn hook_lost(&self, hook: &str, lost: u64) {
        *lock(&self.lost).entry(hook.to_owned()).or_default() += lost;
    }

    /// Whether it runs, or would with its next call.
    pub(crate) fn is_up(&self) -> bool {
        self.generation.load().is_some() || self.rests() || self.is_replacing() || self.state() == State::Starting
    }

    /// Whether it may hear events whose topics begin so; `None` while it does not run, when nobody knows.
    pub(crate) fn may_hear(&self, prefix: &str) -> Option<bool> {
        if prefix.strip_prefix(&*self.id).is_some_and(|rest| rest.starts_with('.')) {
            return Some(true);
        }
        let generation = self.generation.load_full()?;
        let granted = generation.footing.granted.load();
        let asked = self.manifest.as_deref().map(|m| &m.permissions).filter(|_| self.candidate.tier == Tier::Compiled);
        let allowed = granted.as_deref().or(asked).is_some_and(|granted| granted.may_hear(prefix));
        self.used.count(Permission::PluginCommunication, &format!("event:{}", if prefix.is_empty() { "*" } else { prefix }), allowed);
        Some(allowed)
    }

    pub(crate) fn refuse_commands(&self, refused: BTreeMap<String, String>) {
        *lock(&self.refused_commands) = refused;
    }

    /// Why a command of its cannot be run under its name.
    pub(crate) fn refused_command(&self, name: &str) -> Option<String> {
        lock(&self.refused_commands).get(name).cloned()
    }

    /// Why commands of its cannot be run, in a sentence.
    pub(crate) fn refused_commands(&self) -> Option<String> {
        let refused = lock(&self.refused_commands);
        (!refused.is_empty()).then(|| refused.values().cloned().collect::<Vec<_>>().join("; "))
    }

    /// Whether it failed only because a model file is not here.
    pub(crate) fn lacks_model(&self) -> bool {
        let status = self.status();
        status.state == State::Failed && status.code == Some(Code::MODEL_NOT_FOUND)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Processor time since it was taken last, of a generation that has used so much.
    pub(crate) fn cpu_since(&self, now: Duration, taken: bool) -> Duration {
        let mut told = lock(&self.cpu_told);
        // Less than before is another process.
        let since = now.checked_sub(*told).unwrap_or(now);
        if taken {
            *told = now;
        }
        since
    }

    /// Another generation, which has used nothing yet.
    pub(crate) fn cpu_begins(&self) {
        *lock(&self.cpu_told) = Duration::ZERO;
    }

    pub(crate) fn call_limit(&self) -> Duration {
        Duration::from_millis(self.call_limit.load(Ordering::Relaxed))
    }

    pub(crate) fn set_call_limit(&self, ms: u64) {
        self.call_limit.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn late(&self) -> &Arc<Late> {
        &self.late
    }

    /// Runs a call of its beside its caller: on a thread of the runtime, as long as enough of them are left for everybody else.
    /// Otherwise, and for a plugin that has blocked one of them, on a thread of its own, whose end the receiver tells.
    pub(crate) fn spawn<R: Send + 'static>(&self, work: impl Future<Output = Result<R>> + Send + 'static) -> Result<Spawned<R>> {
        if self.late.of(&self.id) == 0
            && let Some(seat) = self.seats.take(&self.runtime)
        {
            let seated = async move {
                // Given back when the code is out, not when nobody waits for it any more.
                let _seat = seat;
                work.await
            };
            return Ok((self.runtime.spawn(seated), None));
        }
        let ((mut tx, rx), (ends, ended)) = (oneshot::channel(), oneshot::channel());
        let runtime = self.runtime.clone();
        let body = move || {
            let _ends: oneshot::Sender<()> = ends;
            let result = runtime.block_on(async {
                tokio::select! {
                    result = work => Some(result),
                    () = tx.closed() => None,
                }
            });
            if let Some(result) = result {
                // Nobody waits any more: what came too late is dropped here, where it may block.
                let _ = tx.send(result);
            }
        };
        std::thread::Builder::new()
            .name(format!("call-{}", self.id))
            .spawn(body)
            .map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the call: {e}")))?;
        let broke = || Err(Error::internal("the thread of the call ended without a word"));
        Ok((self.runtime.spawn(async move { rx.await.unwrap_or_else(|_| broke()) }), Some(ended)))
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    /// From one state into another, if it is in the first: of two who try, one succeeds.
    pub(crate) fn change(&self, from: State, to: State) -> bool {
        {
            let mut status = self.lock();
            if status.state != from {
                return false;
            }
            status.state = to;
            // Why it was in the state before is not why it is in this one.
            (status.reason, status.fix, status.code) = (None, None, None);
        }
        self.settled.send_replace(to);
        true
    }

    pub(crate) fn set_state(&self, state: State) {
        self.enter(state, |_| {});
    }

    /// Into a state, with the reason and what would help.
    pub(crate) fn set(&self, state: State, reason: impl Into<String>, fix: Option<String>) {
        let reason = reason.into();
        self.enter(state, |status| (status.reason, status.fix, status.code) = (Some(reason), fix, None));
    }

    pub(crate) fn fail(&self, error: Error) {
        let (reason, fix) = (error.message().to_owned(), error.help().map(str::to_owned));
        let state = self.candidate.artifact.refusal().map_or(State::Failed, |(state, _)| state);
        self.enter(state, |status| (status.reason, status.fix, status.code) = (Some(reason), fix, Some(error.code())));
    }

    pub(crate) fn ready(&self, started_in: Duration) {
        self.enter(State::Ready, |status| {
            status.started_in = Some(started_in);
            (status.reason, status.fix, status.code) = (None, None, None);
        });
    }

    /// As if it had never been started, if it neither runs nor is about to.
    pub(crate) fn renew(&self) {
        self.watch.forgive();
        if self.publishes_hooks() {
            // Those of its next start may be others.
            self.hooks_known.store(false, Ordering::Release);
            *lock(&self.refused) = None;
        }
        let still = [State::Disabled, State::Failed, State::Quarantined, State::Blocked, State::Stopped];
        if still.into_iter().any(|state| self.change(state, State::Unloaded)) {
            self.report(Health::Unknown);
        }
    }

    /// Into a state, together with what is said of it: nobody sees one without the other.
    fn enter(&self, state: State, say: impl FnOnce(&mut Status)) {
        {
            let mut status = self.lock();
            say(&mut status);
            status.state = state;
        }
        self.settled.send_replace(state);
    }

    pub(crate) fn report(&self, health: Health) {
        self.lock().reported = health;
    }

    /// What the plugin says of itself, caught if it panics; worse reports win.
    pub(crate) fn health(&self) -> Health {
        self.health_in(&self.status())
    }

    /// As [`health`](Self::health), of a status that was looked at already.
    pub(crate) fn health_in(&self, status: &Status) -> Health {
        match status.state {
            State::Failed => return Health::Failed(status.reason.clone().unwrap_or_default()),
            State::Ready => {}
            _ => return Health::Unknown,
        }
        let Some(generation) = self.generation.load_full() else { return Health::Unknown };
        if let Some(longest) = self.late.longest(&self.id) {
            let (n, s) = (self.late.of(&self.id), longest.as_secs());
            let calls = if n == 1 { "1 call blocks its thread".to_owned() } else { format!("{n} calls block their threads") };
            return Health::Degraded(format!("{calls}, the first for {s} s"));
        }
        let Some(life) = generation.life() else { return Health::Unknown };
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.health()))
            .unwrap_or_else(|panic| Health::Failed(crate::slot::panicked("health()", &*panic).message().to_owned()));
        crate::slot::drop_caught(life);
        let tripped = lock(&self.tripped).iter().map(|hook| format!("hook `{hook}` tripped")).collect::<Vec<_>>();
        // Its other contributions serve all the same.
        let tripped: Vec<String> = tripped.into_iter().chain(self.refused_commands()).collect();
        match (asked, status.reported.clone()) {
            (Health::Ok | Health::Unknown, Health::Ok | Health::Unknown) if !tripped.is_empty() => Health::Degraded(tripped.join(", ")),
            (Health::Failed(reason), _) | (_, Health::Failed(reason)) => Health::Failed(reason),
            (Health::Degraded(reason), _) | (_, Health::Degraded(reason)) => Health::Degraded(reason),
            (asked, _) => asked,
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        let Some(generation) = self.generation.load_full() else { return Facts::new() };
        let Some(life) = generation.life() else { return Facts::new() };
        let mut facts = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.facts())).unwrap_or_default();
        crate::slot::drop_caught(life);
        let lost = lock(&self.lost).iter().map(|(hook, lost)| format!("{lost} by `{hook}`")).collect::<Vec<_>>();
        if !lost.is_empty() {
            facts.insert("events lost".into(), lost.join(", "));
        }
        facts
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.generation.load().as_ref().map_or(0, |g| g.in_flight())
    }

    /// The error of a call that came while the plugin does not serve.
    pub(crate) fn not_ready(&self) -> Error {
        let status = self.status();
        let why = status.reason.map_or(String::new(), |reason| format!(": {reason}"));
        let code = if status.state == State::Blocked { Code::PERMISSION_DENIED } else { Code::NOT_READY };
        let error = Error::new(code, format!("is {}{why}", status.state.name())).with_plugin(&self.id);
        match status.fix {
            Some(fix) => error.with_help(fix),
            None => error,
        }
    }

    /// Why it does not serve, as the error that it failed with.
    pub(crate) fn why(&self) -> Error {
        let status = self.status();
        let Some(code) = status.code else { return self.not_ready() };
        let error = Error::new(code, status.reason.unwrap_or_default()).with_plugin(&self.id);
        status.fix.map_or(error.clone(), |fix| error.with_help(fix))
    }

    /// The error of a contribution that a plugin which serves does not publish: it says itself why, or its configuration does.
    pub(crate) fn does_not_offer(&self, kind: Kind, name: &str) -> Error {
        let why = self.health().reason().map_or_else(|| ", as it is configured".to_owned(), |reason| format!(": {reason}"));
        Error::new(Code::NOT_READY, format!("does not offer the {kind} `{name}`{why}"))
            .with_plugin(&self.id)
            .with_help(format!("bespoke plugin info {}", self.id))
    }

    /// Completes when the plugin does not start, or no longer.
    pub(crate) async fn started(&self) {
        // The sender is part of this cell, so it is never gone while we look.
        let _ = self.settled.subscribe().wait_for(|state| *state != State::Starting).await;
    }

    /// Completes when the plugin is in a state that does not change by itself. One that rests is started: somebody needs it.
    pub(crate) async fn up(self: &Arc<Self>) -> State {
        let mut watch = self.settled.subscribe();
        loop {
            let rests = |state: State| state == State::Unloaded && self.watch.is_resting();
            let settled = watch.wait_for(|state| state.is_settled() || rests(*state)).await.map(|state| *state);
            // The sender is part of this cell, so it is never gone while we look.
            match settled.unwrap_or(State::Failed) {
                State::Unloaded => self.wake(),
                state => return state,
            }
        }
    }
}

/// The manifest, if it is that of this plugin.
fn fitting(candidate: &Candidate) -> Result<Arc<Manifest>> {
    let manifest = candidate.manifest.clone()?;
    if manifest.id != candidate.id {
        let at = manifest.position("id").map_or(String::new(), |at| format!(":{at}"));
        let message = format!("{}{at}: id: it is `{}`, but the plugin registers as `{}`", manifest.path, manifest.id, candidate.id);
        return Err(Error::new(Code::MANIFEST_INVALID, message).with_help("make the two equal"));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Artifact, Tier, tier::Terms};
    use bespoke_plugin_api::{BoxFuture, Instance, PluginContext, Spec};

    struct Nothing;

    impl Artifact for Nothing {
        fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
            Ok(Vec::new())
        }
        fn check(&self, _: &Value) -> Result<()> {
            Ok(())
        }
        fn start(&self, _: PluginContext, _: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
            Box::pin(async { Err(Error::internal("there is nothing to start")) })
        }
    }

    #[tokio::test]
    async fn a_reason_is_never_seen_beside_another_state() {
        let candidate = Candidate {
            id: "a".into(),
            tier: Tier::Compiled,
            origin: "test-a".into(),
            manifest: Err(Error::internal("no manifest")),
            config_schema: "{}".into(),
            artifact: Arc::new(Nothing),
        };
        let cell = PluginCell::new(candidate, 1, &Threads::default());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    cell.fail(Error::internal("failed"));
                    cell.ready(Duration::ZERO);
                    cell.set(State::Disabled, "disabled", None);
                    cell.renew();
                    cell.fail(Error::internal("failed"));
                    cell.change(State::Failed, State::Starting);
                }
                over.store(true, Ordering::Release);
            });
            while !over.load(Ordering::Acquire) {
                let status = cell.status();
                let reason = matches!(status.state, State::Failed | State::Disabled).then(|| status.state.name().to_owned());
                assert_eq!((status.reason, status.code.is_some()), (reason, status.state == State::Failed), "{:?}", status.state);
            }
        });
    }
}
