//! What runs while it serves: the plugins, the server behind the channels, the listener; how it begins, takes over a new configuration, and
//! ends. No signal, no socket.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bespoke_agent::Agent;
use bespoke_host::{Row, Selection, State as Life};
use bespoke_plugin_api::CancelToken;
use bespoke_serve::{Parts, ServeConfig, Server};
use bespoke_state::State;
use bespoke_voice::{Notes, Voice};
use serde_json::{Value, json};

use super::{SECTIONS, listener::Gate, told::Told};
use crate::{
    cmd::usage,
    exit::{Failure, Result},
    gate::GatewayConfig,
    setup::Setup,
    time,
};

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
    reloading: tokio::sync::Mutex<()>,
}

/// What changes while it serves.
struct Now {
    phase: Phase,
    serve: ServeConfig,
    gateway: GatewayConfig,
    /// Where plugins are reached, or why they are not.
    listens: Result<Option<SocketAddr>, String>,
    reloaded: Option<Value>,
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
            now: Mutex::new(Now { phase: Phase::Starting, serve, gateway, listens: Ok(None), reloaded: None }),
            reloading: tokio::sync::Mutex::default(),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
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
        self.tell_of_channels(&serve);
        let agent = setup.agent()?;
        let notes = Voice::new(agent.clone(), setup.voice.clone()).map(Notes::new);
        let notes = notes.map_err(|error| self.told.warn(&format!("voice notes are not heard: {error}"))).ok();
        let state = State::open(setup.paths.state())?;
        let server = Server::start(Parts::new(setup.host.clone(), agent, state).notes(notes).config(serve)).await?;
        let _ = self.server.set(server);
        self.listen().await;
        self.now().phase = Phase::Serving;
        self.tell_ready();
        Ok(())
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
        let channels: Vec<String> =
            self.server().map(|server| server.status().channels.into_iter().map(|c| c.name).collect()).unwrap_or_default();
        let listens = self.now().listens.clone().ok().flatten();
        let mut parts = vec![if channels.is_empty() { "no channel".to_owned() } else { channels.join(", ") }];
        parts.extend(listens.map(|address| format!("http://{address}")));
        parts.push(format!("asked at {}", self.socket.display()));
        let more = json!({ "pid": std::process::id(), "channels": channels, "listen": listens, "socket": self.socket });
        self.told.say("ready", &format!("serving {} (process {})", parts.join("; "), std::process::id()), &more);
    }

    /// Listens where plugins want to be reached, by the configuration as it is now. Nobody waits for an address that is taken: it is tried
    /// again.
    pub(super) async fn listen(&self) {
        let config = self.now().gateway.clone();
        let before = self.now().listens.clone();
        let listens = self.gate.settle(&self.setup.host, &config).await.map_err(|failure| failure.to_string());
        match (&before, &listens) {
            (before, listens) if before == listens => {}
            (_, Err(why)) => self.told.warn(&format!("plugins cannot be reached over HTTP: {why}")),
            (_, Ok(Some(address))) if self.phase() != Phase::Starting => {
                self.told.say("listening", &format!("plugins are reached at http://{address}"), &json!({ "listen": address }));
            }
            _ => {}
        }
        self.now().listens = listens;
    }

    /// Whether there should be a listener, and is none.
    pub(super) fn listens_badly(&self) -> bool {
        self.now().listens.is_err()
    }

    /// Takes over the configuration as it stands now. What is wrong with it is told; then everything stays as it was.
    pub(super) async fn reload(self: &Arc<Self>, why: &str) -> Result<Value> {
        // In a task of its own: whoever asked may go in the middle of it.
        let (this, why) = (self.clone(), why.to_owned());
        let done = tokio::spawn(async move { this.reload_now(&why).await }).await;
        done.map_err(|error| Failure::failed(format!("the reload broke: {error}")))?
    }

    async fn reload_now(&self, why: &str) -> Result<Value> {
        let _one = self.reloading.lock().await;
        let Some(server) = self.server() else { return Err(Failure::failed("it is starting; it has read the newest file already")) };
        let result = self.take_over(server).await;
        let at = bespoke_state::iso(time::now());
        match &result {
            Ok(report) => {
                self.now().reloaded = Some(json!({ "at": at, "ok": true, "why": why }));
                let lines: Vec<&str> = report["lines"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let text = if lines.is_empty() { format!("{why}: nothing is new") } else { format!("{why}: {}", lines.join("; ")) };
                self.told.say("reloaded", &text, &json!({ "why": why, "report": report }));
            }
            Err(failure) => {
                self.now().reloaded = Some(json!({ "at": at, "ok": false, "why": why, "error": failure.message }));
                let text = format!("{why}: the configuration is wrong, and what ran before goes on: {failure}");
                self.told.reject(&text, why, &failure.message);
            }
        }
        result
    }

    async fn take_over(&self, server: &Server) -> Result<Value> {
        let setup = &self.setup;
        let reloaded = setup.reload(SECTIONS).await?;
        let mut lines = reloaded.lines();
        let agent = Agent::new(setup.host.clone(), reloaded.sections.agent.clone())?;
        // Whoever is named now and was not before.
        setup.host.start(Selection::Ids(&setup.needed_by(&reloaded.sections))).await;
        server.reload(agent, reloaded.sections.serve.clone()).await;
        {
            let mut now = self.now();
            now.serve = reloaded.sections.serve.clone();
            now.gateway = reloaded.sections.gateway.clone();
        }
        self.listen().await;
        if reloaded.changes.iter().any(|change| change.key.starts_with("voice.")) {
            lines.push("[voice] counts for voice notes from the next start on".to_owned());
        }
        let Ok(plugins) = serde_json::to_value(&reloaded.report.plugins) else {
            return Err(Failure::failed("the report cannot be written"));
        };
        let keys: Vec<&str> = reloaded.changes.iter().map(|change| change.key.as_str()).collect();
        let problem = |p: &bespoke_host::Problem| json!({ "place": p.place, "key": p.key, "message": p.message, "fix": p.fix });
        let problems: Vec<Value> = reloaded.report.problems.iter().map(problem).collect();
        Ok(json!({ "changes": keys, "plugins": plugins, "problems": problems, "lines": lines }))
    }

    /// Takes no new messages; answers under way may end.
    pub(super) async fn drain(&self, limit: Option<Duration>) {
        let limit = {
            let mut now = self.now();
            now.phase = Phase::Draining;
            limit.unwrap_or_else(|| now.serve.drain_limit())
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

    /// How it does.
    pub(super) fn status(&self) -> Value {
        let rows = self.rows();
        let of = |wanted: fn(&Row) -> bool| rows.iter().filter(|row| wanted(row)).map(|row| row.id.clone()).collect::<Vec<_>>();
        let ready = of(|row| row.state == Life::Ready);
        let failed = of(|row| matches!(row.state, Life::Failed | Life::Quarantined | Life::Blocked | Life::Missing));
        let mut value = match self.server().map(|server| serde_json::to_value(server.status())) {
            Some(Ok(value)) => value,
            _ => json!({ "channels": [] }),
        };
        let now = self.now();
        let (listen, listen_error) = match &now.listens {
            Ok(address) => (*address, None),
            Err(why) => (None, Some(why.clone())),
        };
        let own = json!({
            "state": now.phase.name(),
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "home": self.setup.paths.home,
            "config": self.setup.paths.config_to_be(),
            "socket": self.socket,
            "listen": listen,
            "listen_error": listen_error,
            "reloaded": now.reloaded,
            "plugins": { "ready": ready, "failed": failed },
            "memory_bytes": memory(),
            "tokens": usage::tokens(&self.setup.host).map(|(today, daily)| json!({ "today": today, "daily": daily })),
        });
        if let (Some(value), Value::Object(own)) = (value.as_object_mut(), own) {
            value.extend(own);
        }
        value
    }
}

/// What this process has in memory, where the system says it.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
