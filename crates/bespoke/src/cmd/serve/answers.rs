//! What the server answers at its socket. One method a question; nothing here is done that the server cannot do by itself.
//!
//! | method | params | answer |
//! |---|---|---|
//! | `status` | | how it does |
//! | `reload` | | what became of the configuration: what is new, what was not taken over, and why |
//! | `plugin.list` | | a row a plugin |
//! | `plugin.info` | `id` | its row, what it made use of, its methods |
//! | `plugin.hooks` | | handlers in their order, and what the user wants told |
//! | `usage` | | what plugins were used for, and the tokens of today |
//! | `command.run` | `name`, `args` | its exit code; streams `{line}` and `{note}` |
//! | `plugin.restart` | `id` | how long it took, and whether its manifest is another |
//! | `plugin.load`, `plugin.unload` | `id` | |
//! | `plugin.consent` | `id` | what it was granted counts from now on |
//! | `events.tail` | `filter`, `follow`, `lines` | streams events, and `{lost}` where some are missing |
//! | `events.emit` | `name`, `payload` | the topic and the number, when the history has it |
//! | `events.stats` | | who listens, and what each lost |
//! | `outbox.list` | | streams the messages that have not left |
//! | `outbox.resend` | `ids`, or none for all | the numbers; streams those that have not left when all were tried, or after a while |
//! | `outbox.drop` | `ids`, or none for all | the numbers |

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_control::{Fault, Handler, Items, Peer};
use bespoke_host::{Caller, Outcome, Selection, State, Tier};
use bespoke_plugin_api::{CallCx, Event, Hook, HookEvent, Output, OutputSink};
use bespoke_state::StateError;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::serving::{Phase, Serving};
use crate::{
    cmd::{events::CUSTOM, plugin::Listed, usage},
    exit::{Exit, Failure, Result},
    running::fault,
};

pub(super) struct Answers(Arc<Serving>);

#[derive(Deserialize)]
struct OfPlugin {
    id: String,
}

#[derive(Deserialize)]
struct Tail {
    filter: String,
    follow: bool,
    lines: usize,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    args: Vec<String>,
}

#[derive(Deserialize)]
struct Emitted {
    name: String,
    payload: Value,
}

#[derive(Deserialize)]
struct Letters {
    ids: Option<Vec<i64>>,
}

/// The longest name of an event that somebody makes up.
const LONGEST_NAME: usize = 100;
/// Messages of the outbox that are read at once.
const PAGE: u32 = 100;
/// How long whoever has messages sent again waits for what becomes of them.
const TO_SEND: Duration = Duration::from_secs(10);

impl Answers {
    pub(super) fn new(serving: Arc<Serving>) -> Self {
        Answers(serving)
    }

    async fn answer(&self, method: &str, params: Value, items: &Items) -> Result<Value, Fault> {
        let serving = &self.0;
        let host = &serving.setup.host;
        match method {
            "status" => Ok(serving.status()),
            "reload" => serving.reload("bespoke reload").await.map_err(fault),
            "usage" => {
                let used = usage::here(host).map_err(fault)?;
                serde_json::to_value(used).map_err(unwritten)
            }
            "command.run" => command(serving, read(params)?, items).await,
            "plugin.list" => serde_json::to_value(serving.rows()).map_err(unwritten),
            "plugin.info" => {
                let OfPlugin { id } = read(params)?;
                let row = serving.rows().into_iter().find(|row| row.id == id).ok_or_else(|| fault(serving.setup.no_plugin(&id)))?;
                let value = json!({ "row": row, "used": host.used(&id), "methods": host.methods(&id) });
                Ok(value)
            }
            "plugin.hooks" => {
                let hooks = host.hooks();
                serde_json::to_value(Listed { handlers: hooks.list(), told: hooks.told_rows() }).map_err(unwritten)
            }
            "plugin.restart" => {
                let OfPlugin { id } = read(params)?;
                apart(serving.clone(), |serving| async move { restart(&serving, &id).await }).await
            }
            "plugin.load" => {
                let OfPlugin { id } = read(params)?;
                apart(serving.clone(), |serving| async move { load(&serving, &id).await }).await
            }
            "plugin.unload" => {
                let OfPlugin { id } = read(params)?;
                apart(serving.clone(), |serving| async move { unload(&serving, &id).await }).await
            }
            "plugin.consent" => {
                let OfPlugin { id } = read(params)?;
                apart(serving.clone(), |serving| async move { consent(&serving, &id).await }).await
            }
            "events.tail" => tail(serving, read(params)?, items).await,
            "events.emit" => emit(serving, read(params)?).await.map_err(fault),
            "events.stats" => Ok(stats(serving)),
            "outbox.list" => letters(serving, items).await,
            "outbox.resend" => resend(serving, &read(params)?, items).await,
            "outbox.drop" => forget(serving, &read(params)?).map_err(fault),
            other => Err(Fault::no_method(other)),
        }
    }
}

impl Handler for Answers {
    async fn connected(&self, peer: &Peer) -> Result<(), Fault> {
        let event = || HookEvent::on_client_connect(client(peer));
        match self.0.setup.host.hooks().run(&CallCx::new(), Hook::OnClientConnect, event).await {
            // A guard that cannot be asked keeps nobody out: this is whoever owns the program, and has to mend it.
            Some(Outcome::Vetoed { plugin, reason, said: false }) => {
                tracing::warn!(plugin, reason, pid = peer.pid, "a client of the control socket is let in unasked");
                Ok(())
            }
            Some(Outcome::Vetoed { plugin, reason, .. }) => {
                let failure = Failure::new(Exit::Consent, format!("refused by {plugin}: {reason}"));
                tracing::warn!(plugin, reason, pid = peer.pid, "a client of the control socket is refused");
                Err(fault(failure))
            }
            _ => Ok(()),
        }
    }

    async fn disconnected(&self, peer: &Peer) {
        let event = || HookEvent::on_client_disconnect(client(peer));
        self.0.setup.host.hooks().run(&CallCx::new(), Hook::OnClientDisconnect, event).await;
    }

    async fn call(&self, _: &Peer, method: &str, params: Value, items: &Items) -> Result<Value, Fault> {
        self.answer(method, params, items).await
    }
}

fn client(peer: &Peer) -> String {
    format!("control-{}", peer.number)
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Fault> {
    serde_json::from_value(params).map_err(|error| Fault::params(error.to_string()))
}

fn unwritten(error: serde_json::Error) -> Fault {
    fault(Failure::failed(error.to_string()))
}

/// Does something to its end, whoever still waits for it.
async fn apart<F>(serving: Arc<Serving>, what: impl FnOnce(Arc<Serving>) -> F) -> Result<Value, Fault>
where
    F: Future<Output = Result<Value>> + Send + 'static,
{
    let done = tokio::spawn(what(serving)).await;
    done.unwrap_or_else(|error| Err(Failure::failed(format!("it broke: {error}")))).map_err(fault)
}

/// A new instance of what runs, by what its folder holds now. It starts nothing that nobody asked for.
async fn restart(serving: &Serving, id: &str) -> Result<Value> {
    let setup = &serving.setup;
    let began = Instant::now();
    let found = setup.shelf_now().find(id);
    let load = format!("bespoke plugin load {id}");
    let Some(row) = setup.host.rows().into_iter().find(|row| row.id == id) else {
        let there = |_| Failure::new(Exit::Conflict, format!("{id} is not loaded in the server that runs")).help(&load);
        return Err(found.map_or_else(|| setup.no_plugin(id), there));
    };
    // One that rests says so, and is loaded all the same.
    if row.state == State::Stopped || row.state == State::Unloaded && row.reason.is_none() {
        let why = row.reason.map_or(String::new(), |reason| format!(", {reason}"));
        let message = format!("{id} is not loaded in the server that runs: it is {}{why}", row.state.name());
        return Err(Failure::new(Exit::Conflict, message).help(row.fix.unwrap_or(load)));
    }
    let anew = match found.filter(|_| row.tier != Tier::Compiled) {
        Some(candidate) => setup.host.renew(candidate).await?,
        None => false,
    };
    if !anew {
        setup.host.restart(id).await?;
    }
    let how = if anew { "loaded anew, by its new manifest" } else { "reloaded" };
    serving.told.say("restarted", &format!("{id} is {how}"), &json!({ "plugin": id, "anew": anew }));
    Ok(json!({ "id": id, "ms": (began.elapsed().as_secs_f64() * 1e6).round() / 1e3, "anew": anew }))
}

/// What runs already gives way to what its folder holds now, if that is another.
async fn load(serving: &Arc<Serving>, id: &str) -> Result<Value> {
    // Its folder may be in the configuration since a moment ago. What else is wrong there is told by the reload.
    serving.reload("bespoke plugin load").await?;
    let setup = &serving.setup;
    let row = || setup.host.rows().into_iter().find(|row| row.id == id);
    let found = setup.shelf_now().find(id).filter(|_| row().is_none_or(|row| row.tier != Tier::Compiled));
    if row().is_none() && found.is_none() {
        return Err(setup.no_plugin(id));
    }
    // What the user said yes to a moment ago counts.
    if row().is_some_and(|row| row.state == State::Blocked) {
        setup.host.settle_consent(id).await?;
    }
    let anew = match found {
        Some(candidate) => setup.host.renew(candidate).await?,
        None => false,
    };
    setup.host.start(Selection::Ids(&[id.to_owned()])).await;
    match row() {
        Some(row) if matches!(row.state, State::Ready | State::Unloaded) => {}
        Some(row) if row.state == State::Disabled => {
            return Err(Failure::new(Exit::Conflict, format!("{id} is switched off")).help(format!("bespoke plugin enable {id}")));
        }
        // One that failed before is tried again; it says why it does not start.
        _ => setup.host.restart(id).await?,
    }
    serving.told.say("loaded", &format!("{id} is loaded"), &json!({ "plugin": id, "anew": anew }));
    Ok(json!({ "id": id, "anew": anew }))
}

async fn unload(serving: &Serving, id: &str) -> Result<Value> {
    let host = &serving.setup.host;
    if !host.rows().iter().any(|row| row.id == id) {
        // It is not there already.
        return Ok(json!({ "id": id }));
    }
    host.unload(id).await?;
    serving.told.say("unloaded", &format!("{id} is taken out"), &json!({ "plugin": id }));
    Ok(json!({ "id": id }))
}

/// What its user granted a plugin, or took back, counts from now on.
async fn consent(serving: &Serving, id: &str) -> Result<Value> {
    let host = &serving.setup.host;
    if !host.rows().iter().any(|row| row.id == id) {
        // Nobody runs it here.
        return Ok(json!({ "id": id, "state": null }));
    }
    host.settle_consent(id).await?;
    let state = host.rows().into_iter().find(|row| row.id == id).map(|row| row.state);
    serving.told.say("consent", &format!("what {id} was granted is taken over"), &json!({ "plugin": id, "state": state }));
    Ok(json!({ "id": id, "state": state }))
}

/// Runs a command as the owner of this home: nobody else reaches the socket. Dropped with the connection, it is cancelled.
async fn command(serving: &Serving, Named { name, args }: Named, items: &Items) -> Result<Value, Fault> {
    // The host bounds what is said.
    let (said, mut heard) = mpsc::unbounded_channel();
    let cx = CallCx::new();
    let run = serving.setup.host.run_command(&cx, &name, args, Caller::local(), Output::new(Arc::new(Sent(said))));
    let mut run = pin!(run);
    let ran = loop {
        tokio::select! {
            biased;
            Some(item) = heard.recv() => items.send(&item).await?,
            ran = &mut run => break ran,
        }
    };
    while let Ok(item) = heard.try_recv() {
        items.send(&item).await?;
    }
    Ok(json!({ "exit_code": ran.map_err(|error| fault(error.into()))? }))
}

/// Hands over what a command says.
struct Sent(mpsc::UnboundedSender<Value>);

impl OutputSink for Sent {
    fn line(&self, text: &str) {
        // Nobody to tell when the connection is gone.
        let _ = self.0.send(json!({ "line": text }));
    }

    fn note(&self, text: &str) {
        let _ = self.0.send(json!({ "note": text }));
    }
}

async fn tail(serving: &Serving, tail: Tail, items: &Items) -> Result<Value, Fault> {
    let events = serving.setup.host.events();
    let kept = events.history("", 0);
    let last = kept.last().map_or(0, |event| event.seq);
    let fitting: Vec<&Event> = kept.iter().filter(|event| event.topic.starts_with(&tail.filter)).collect();
    for event in &fitting[fitting.len().saturating_sub(tail.lines)..] {
        items.send(&serde_json::to_value(event).map_err(unwritten)?).await?;
    }
    if !tail.follow {
        return Ok(Value::Null);
    }
    let mut heard = events.subscribe_since(&tail.filter, None, last);
    // Ends with the connection: it is dropped then.
    while let Some(event) = poll_fn(|cx| heard.as_mut().poll_next(cx)).await {
        let item = match event {
            Ok(event) => serde_json::to_value(event).map_err(unwritten)?,
            Err(error) => json!({ "lost": error.data().map_or(Value::Null, |data| data["lost"].clone()), "message": error.message() }),
        };
        items.send(&item).await?;
    }
    Ok(Value::Null)
}

async fn emit(serving: &Serving, Emitted { name, payload }: Emitted) -> Result<Value> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = name.strip_prefix(CUSTOM).unwrap_or(&name);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_name) {
        let message = format!("an event is named by 1 to {LONGEST_NAME} letters, digits, dots, dashes and underscores");
        return Err(Failure::new(Exit::Usage, message).help("bespoke events emit door_opened '{\"door\":\"front\"}'"));
    }
    let (topic, host) = (format!("{CUSTOM}{name}"), &serving.setup.host);
    let seq = host.events().emit(&topic, None, payload);
    // Whoever looks there next finds it.
    host.kept(seq).await;
    Ok(json!({ "topic": topic, "seq": seq }))
}

fn stats(serving: &Serving) -> Value {
    let subscriptions = serving.setup.host.events().subscriptions().into_iter();
    subscriptions.map(|s| json!({ "topics": s.topics, "listener": s.listener, "lost": s.lost })).collect()
}

/// Page by page, as there may be more than memory should hold.
async fn letters(serving: &Serving, items: &Items) -> Result<Value, Fault> {
    let state = serving.setup.kept.state().map_err(|error| fault(error.into()))?;
    let mut last = 0;
    loop {
        let page = state.letters(last, PAGE).map_err(|error| fault(error.into()))?;
        let Some(letter) = page.last() else { return Ok(Value::Null) };
        last = letter.id;
        for letter in page {
            items.send(&serde_json::to_value(letter).map_err(unwritten)?).await?;
        }
    }
}

async fn resend(serving: &Serving, Letters { ids }: &Letters, items: &Items) -> Result<Value, Fault> {
    let wrong = |error: StateError| fault(error.into());
    let server = serving.server().filter(|_| serving.phase() == Phase::Serving);
    let ends = || fault(Failure::failed("the server does not send now: it starts or ends").help("bespoke status"));
    let server = server.ok_or_else(ends)?;
    let ids = server.resend(ids.as_deref()).map_err(wrong)?;
    server.tried(&ids, TO_SEND).await.map_err(wrong)?;
    let state = serving.setup.kept.state().map_err(|error| fault(error.into()))?;
    for id in &ids {
        if let Some(letter) = state.kept_letter(*id).map_err(wrong)? {
            items.send(&serde_json::to_value(letter).map_err(unwritten)?).await?;
        }
    }
    Ok(json!({ "resent": ids }))
}

fn forget(serving: &Serving, Letters { ids }: &Letters) -> Result<Value> {
    let dropped = match serving.server() {
        Some(server) => server.forget(ids.as_deref())?,
        None => serving.setup.kept.state()?.drop_letters(ids.as_deref())?,
    };
    Ok(json!({ "dropped": dropped }))
}
