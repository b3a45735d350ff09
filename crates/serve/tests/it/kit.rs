//! Plugins of closures, channels whose other end is a list, and a server over them.

use std::{
    collections::VecDeque,
    future::Future,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_agent::{Agent, AgentConfig};
use bespoke_host::{Artifact, Candidate, Config, Host, Selection, Terms, Tier};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, Channel, ChannelSpec, ChatDelta, ChatRequest, Code, Contribution, Error, FinishReason, HookEvent,
    HookHandler, HookReply, HookSpec, Inbound, Inbox, Instance, MessageRef, ModelInfo, Outbound, Plugin, PluginApi, PluginContext,
    Provider, ProviderSpec, Result, Role, Spec, async_trait,
    serde_json::{self, Value, json},
};
use bespoke_serve::{Parts, ServeConfig, Server, Status};
use bespoke_state::State;
use bespoke_voice::Notes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

/// Longer than anything here takes on a machine that does other things, too.
const LONG: Duration = Duration::from_secs(120);

/// Fails instead of waiting for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it hangs")
}

/// A message as people see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    pub(crate) key: String,
    pub(crate) chat: String,
    pub(crate) text: String,
    pub(crate) edits: usize,
    pub(crate) files: usize,
}

/// Says why a message is not sent.
pub(crate) type Fault = Box<dyn Fn(&Outbound) -> Option<Error> + Send + Sync>;

/// The other end of a channel: people who write, and what they read.
pub(crate) struct World {
    spec: ChannelSpec,
    writing: Mutex<VecDeque<Inbound>>,
    /// Rises with everything that happens.
    moved: watch::Sender<usize>,
    sent: Mutex<Vec<Sent>>,
    pub(crate) fault: Mutex<Option<Fault>>,
    /// How often it listened, and how often somebody was told that it writes.
    pub(crate) runs: AtomicUsize,
    pub(crate) typed: AtomicUsize,
    /// Instances that listen now.
    pub(crate) listening: AtomicUsize,
    /// Most instances that listened at once.
    pub(crate) most: AtomicUsize,
    /// Does not listen, but fails so.
    pub(crate) broken: Mutex<Option<Error>>,
    /// Told to stop, it goes on listening until this opens.
    pub(crate) lingers: Mutex<Option<Gate>>,
}

impl World {
    pub(crate) fn new(spec: ChannelSpec) -> Arc<Self> {
        Arc::new(World {
            spec,
            writing: Mutex::default(),
            moved: watch::Sender::new(0),
            sent: Mutex::default(),
            fault: Mutex::default(),
            runs: AtomicUsize::new(0),
            typed: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            broken: Mutex::default(),
            lingers: Mutex::default(),
        })
    }

    /// A channel that can only send, and tells messages apart.
    pub(crate) fn plain(name: &str) -> Arc<Self> {
        World::new(ChannelSpec::new(name).idempotent(true))
    }

    /// The plugin of it, whose id is its name; each start makes another instance.
    pub(crate) fn plug(self: &Arc<Self>) -> Candidate {
        let world = self.clone();
        plug(&self.spec.name.clone(), "", move || vec![Contribution::Channel(world.spec.clone(), Arc::new(Wire(world.clone())))])
    }

    pub(crate) fn write(&self, chat: &str, id: &str, text: &str) {
        self.write_message(Inbound::new(chat, "ann", id, text));
    }

    pub(crate) fn write_message(&self, message: Inbound) {
        self.writing.lock().unwrap().push_back(message);
        self.moved();
    }

    pub(crate) fn moved(&self) {
        self.moved.send_modify(|n| *n += 1);
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// What one chat has read.
    pub(crate) fn read(&self, chat: &str) -> Vec<String> {
        self.sent().into_iter().filter(|sent| sent.chat == chat).map(|sent| sent.text).collect()
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, mut so: impl FnMut(&World) -> bool) {
        let mut moved = self.moved.subscribe();
        let done = async {
            while !so(self) {
                // What the server does itself moves nothing here.
                let _ = tokio::time::timeout(Duration::from_millis(20), moved.changed()).await;
            }
        };
        if tokio::time::timeout(LONG, done).await.is_err() {
            panic!("it hangs: {:?}", self.sent());
        }
    }

    pub(crate) async fn until_read(&self, chat: &str, texts: &[&str]) {
        self.until(|world| world.read(chat).len() >= texts.len()).await;
        assert_eq!(self.read(chat), texts);
    }
}

/// The channel of a world, for plugins that are more than that.
pub(crate) fn channel(world: &Arc<World>) -> Arc<dyn Channel> {
    Arc::new(Wire(world.clone()))
}

struct Wire(Arc<World>);

/// Counts who listens.
struct Listens<'w>(&'w World);

impl Drop for Listens<'_> {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Ordering::SeqCst);
        self.0.moved();
    }
}

#[async_trait]
impl Channel for Wire {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        let world = &*self.0;
        world.runs.fetch_add(1, Ordering::SeqCst);
        let listening = world.listening.fetch_add(1, Ordering::SeqCst) + 1;
        world.most.fetch_max(listening, Ordering::SeqCst);
        let _listens = Listens(world);
        world.moved();
        if let Some(error) = world.broken.lock().unwrap().clone() {
            return Err(error);
        }
        let mut moved = world.moved.subscribe();
        loop {
            if cx.is_cancelled() {
                let lingers = world.lingers.lock().unwrap().clone();
                if let Some(gate) = lingers {
                    gate.opened().await;
                }
                return Ok(());
            }
            let next = world.writing.lock().unwrap().front().cloned();
            match next {
                // It is acknowledged only once it is taken.
                Some(message) => match inbox.accept(message).await {
                    Ok(()) => _ = world.writing.lock().unwrap().pop_front(),
                    Err(error) if error.code() == Code::NOT_READY => {
                        cx.cancelled().await;
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                },
                None => {
                    tokio::select! {
                        () = cx.cancelled() => {}
                        _ = moved.changed() => {}
                    }
                }
            }
        }
    }

    async fn send(&self, _: &CallCx, message: Outbound) -> Result<MessageRef> {
        let world = &*self.0;
        if let Some(error) = world.fault.lock().unwrap().as_ref().and_then(|fault| fault(&message)) {
            world.moved();
            return Err(error);
        }
        let key = message.idempotency_key.clone().expect("every message has one");
        let mut sent = world.sent.lock().unwrap();
        let known = sent.iter().position(|sent| sent.key == key).filter(|_| world.spec.idempotent);
        let at = known.unwrap_or_else(|| {
            let (chat, text, files) = (message.chat.clone(), message.text.clone(), message.attachments.len());
            sent.push(Sent { key, chat, text, edits: 0, files });
            sent.len() - 1
        });
        drop(sent);
        world.moved();
        Ok(MessageRef::new(message.chat, at.to_string()))
    }

    async fn edit(&self, _: &CallCx, message: MessageRef, new: Outbound) -> Result<()> {
        let world = &*self.0;
        if let Some(error) = world.fault.lock().unwrap().as_ref().and_then(|fault| fault(&new)) {
            return Err(error);
        }
        {
            let mut sent = world.sent.lock().unwrap();
            let sent = &mut sent[message.id.parse::<usize>().unwrap()];
            assert_eq!(sent.chat, message.chat);
            (sent.text, sent.edits) = (new.text, sent.edits + 1);
        }
        world.moved();
        Ok(())
    }

    async fn typing(&self, _: &CallCx, _: &str) -> Result<()> {
        self.0.typed.fetch_add(1, Ordering::SeqCst);
        self.0.moved();
        Ok(())
    }
}

/// A plugin whose every start makes its contributions anew. `extra` stands at the end of its manifest's head.
pub(crate) fn plug(id: &str, extra: &str, make: impl Fn() -> Vec<Contribution> + Send + Sync + 'static) -> Candidate {
    let provides = make().iter().map(|c| format!("[[provides]]\nkind = \"{}\"\nname = \"{}\"\n", c.kind(), c.name())).collect::<String>();
    let head = "description = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";
    let text = format!("id = \"{id}\"\n{head}{extra}{provides}");
    let inherited = Inherited { version: "1.0.0", license: "MIT" };
    Candidate {
        id: id.into(),
        tier: Tier::Compiled,
        origin: format!("test-{id}"),
        manifest: Manifest::parse("plugin.toml", &text, Some(inherited)).map(Arc::new).map_err(Error::from),
        config_schema: "{}".into(),
        artifact: Arc::new(Plug(Box::new(make))),
    }
}

struct Plug(Box<dyn Fn() -> Vec<Contribution> + Send + Sync>);

impl Artifact for Plug {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok((self.0)().iter().map(Contribution::spec).collect())
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, _: PluginContext, _: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let contributions = (self.0)();
        Box::pin(async move { Ok(Instance { life: Arc::new(Alive), contributions }) })
    }
}

/// A life without events.
struct Alive;

impl Plugin for Alive {
    type Config = Value;

    fn register(_: &mut PluginApi<Self>) {}

    async fn start(_: PluginContext, _: Value) -> Result<Self> {
        Ok(Alive)
    }
}

struct FnHook<C>(C);

#[async_trait]
impl<C: Fn(HookEvent) -> Result<HookReply> + Send + Sync> HookHandler for FnHook<C> {
    async fn on(&self, _: &CallCx, event: &HookEvent) -> Result<HookReply> {
        (self.0)(event.clone())
    }
}

/// A plugin of hooks that all do the same.
pub(crate) fn hooks(
    id: &'static str,
    specs: Vec<HookSpec>,
    on: impl Fn(HookEvent) -> Result<HookReply> + Clone + Send + Sync + 'static,
) -> Candidate {
    plug(id, "", move || specs.iter().map(|spec| Contribution::Hook(spec.clone(), Arc::new(FnHook(on.clone())))).collect())
}

/// Pieces of an answer, each when the future before it is ready.
pub(crate) type Pieces = BoxStream<ChatDelta>;

struct Mind<F>(F);

#[async_trait]
impl<F: Fn(String) -> Pieces + Send + Sync> Provider for Mind<F> {
    async fn models(&self, _: &CallCx) -> Result<Vec<ModelInfo>> {
        Ok(vec![ModelInfo::new("m", 100_000).tools(true)])
    }

    async fn chat(&self, _: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        let asked = request.messages.iter().rev().find(|m| m.role == Role::User).map(|m| m.text.clone()).unwrap_or_default();
        Ok((self.0)(asked))
    }
}

/// A provider that answers so.
pub(crate) fn mind(answer: impl Fn(String) -> Pieces + Clone + Send + Sync + 'static) -> Candidate {
    plug("mind", "", move || vec![Contribution::Provider(ProviderSpec::new("mind"), Arc::new(Mind(answer.clone())))])
}

/// One that says what it was told.
pub(crate) fn echo() -> Candidate {
    mind(|asked| says(&format!("re {asked}")))
}

pub(crate) fn says(text: &str) -> Pieces {
    Box::pin(stream::iter([Ok(ChatDelta::text(text)), Ok(end())]))
}

pub(crate) fn end() -> ChatDelta {
    ChatDelta::finish(FinishReason::Stop, None)
}

/// An answer that waits before its end.
pub(crate) fn says_after(text: &str, gate: impl Future<Output = ()> + Send + 'static) -> Pieces {
    let last = stream::once(async move {
        gate.await;
        Ok(end())
    });
    Box::pin(stream::iter([Ok(ChatDelta::text(text))]).chain(last))
}

/// A gate that a test opens.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn opened(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut gate = self.0.subscribe();
        async move { drop(gate.wait_for(|open| *open).await) }
    }
}

/// A host of these plugins, each with an empty table.
pub(crate) async fn host(plugins: Vec<Candidate>) -> Host {
    let tables: String = plugins.iter().map(|plugin| format!("[plugins.{}]\n", plugin.id)).collect();
    host_of(&tables, plugins).await
}

/// A host of these plugins, with these tables.
pub(crate) async fn host_of(tables: &str, plugins: Vec<Candidate>) -> Host {
    let host = Host::builder().config(Config::parse("bespoke.toml", tables).unwrap()).plugins(plugins).build().unwrap();
    within(host.start(Selection::All)).await;
    host
}

pub(crate) fn agent(host: &Host) -> Agent {
    let config: AgentConfig = serde_json::from_value(json!({ "provider": ["mind"], "tools": [], "system": "" })).unwrap();
    Agent::new(host.clone(), config).unwrap()
}

/// Short pauses: nothing here waits for a server that is far away.
pub(crate) fn config(keys: Value) -> ServeConfig {
    let mut all = json!({ "retry_ms": 5, "edit_every_ms": 1 });
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// A server and what it stands on.
pub(crate) struct Served {
    pub(crate) server: Server,
    pub(crate) host: Host,
    pub(crate) state: State,
}

impl Served {
    pub(crate) async fn over(path: &Path, config: ServeConfig, plugins: Vec<Candidate>) -> Self {
        let host = host(plugins).await;
        Served::on(path, config, host, None).await
    }

    pub(crate) async fn on(path: &Path, config: ServeConfig, host: Host, notes: Option<Notes>) -> Self {
        let state = State::open(path).unwrap();
        let parts = Parts::new(host.clone(), agent(&host), state.clone()).config(config).notes(notes);
        let server = within(Server::start(parts)).await.unwrap();
        within(server.started()).await;
        Served { server, host, state }
    }

    pub(crate) fn status(&self) -> Status {
        self.server.status()
    }

    /// What was said in the conversation of a chat, over all its sessions, oldest first.
    pub(crate) fn said(&self, channel: &str, chat: &str) -> Vec<String> {
        said(&self.state, channel, chat)
    }

    pub(crate) async fn end(self) {
        within(self.server.drain(Duration::from_secs(20))).await;
        within(self.host.shutdown()).await;
        self.state.check().unwrap();
    }
}

pub(crate) fn said(state: &State, channel: &str, chat: &str) -> Vec<String> {
    let mut sessions = state.list(&bespoke_state::Filter::default().channel(channel).chat(chat), u32::MAX, 0).unwrap();
    sessions.reverse();
    sessions.iter().flat_map(|session| state.show(&session.id).unwrap().messages).map(|(_, message)| message.text).collect()
}

pub(crate) fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    (folder, path)
}
