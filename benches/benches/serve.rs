//! What serving adds to answering: an inbox, hooks, a conversation and an outbox in a file, against a loop that only asks the provider; and
//! what of the program's memory a hundred thousand answers keep.

use std::{
    collections::{HashMap, VecDeque},
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_agent::{Agent, AgentConfig};
use bespoke_benches::{Aim, Counting, Group};
use bespoke_host::{Artifact, Candidate, Config, Host, Selection, Terms, Tier};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    BoxFuture, CallCx, Channel, ChannelSpec, ChatDelta, ChatRequest, Contribution, Error, Inbound, Inbox, Instance, Message, MessageRef,
    Outbound, Plugin, PluginApi, PluginContext, Provider, Result, Spec, async_trait,
    serde_json::{self, Value, json},
};
use bespoke_serve::{Parts, Server};
use bespoke_state::State;
use futures_util::{StreamExt, future::join_all};
use tokio::sync::Notify;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// People who write at the same time.
const CHATS: usize = 16;
/// Tokens of a conversation that the model is shown, and about as many messages.
const HISTORY: (u32, usize) = (200, 24);
const QUESTION: &str = "one two three four";
/// Answers for the memory, and those before it is looked at for the first time.
const MANY: (usize, usize) = (100_000, 10_000);

fn main() {
    one_heap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for (title, pause, aim) in [
        ("serve a turn of a model that takes 20 ms, 16 chats at once", 5, Aim::Ratio(1.25)),
        ("serve a turn of a model that takes no time, 16 chats at once", 0, Aim::Over(Duration::from_millis(1))),
    ] {
        let (bare, served) = (runtime.block_on(Bare::new(pause)), runtime.block_on(Served::new(pause)));
        Group::new(title)
            .turns(10, Duration::from_millis(200))
            .case("Provider::chat, and the pieces put together", |n| runtime.block_on(bare.turns(n as usize)))
            .case("Server, from accept to sent", |n| runtime.block_on(served.turns(n as usize)))
            .aim(aim)
            .run();
        runtime.block_on(served.end());
        runtime.block_on(bare.host.shutdown());
    }
    memory(&runtime);
}

/// As the program does before anything else.
fn one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a call of the C library")]
    // SAFETY: it takes two integers, and no other thread exists yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// What the program holds after many answers, against what it holds after some.
fn memory(runtime: &tokio::runtime::Runtime) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    if !words.is_empty() && !words.iter().any(|word| "memory".contains(word.as_str())) {
        return;
    }
    let (many, some) = if arguments.iter().any(|a| a == "--bench") { MANY } else { (300, 100) };
    let served = runtime.block_on(Served::new(0));
    let begun = Instant::now();
    runtime.block_on(served.turns(some));
    let before = resident();
    for _ in 0..10 {
        runtime.block_on(served.turns(many / 10));
        served.wire.forget();
    }
    let after = resident();
    let more = (after as f64 / before as f64 - 1.0) * 100.0;
    let took = begun.elapsed().as_secs_f64();
    #[allow(clippy::print_stdout, reason = "it is what a bench is for")]
    let told = |line: String| println!("{line}");
    told(format!(
        "\nmemory after {many} answers, in {took:.0} s\n  {before} KiB after {some}, {after} KiB after {many} more: {more:+.1} %  (aim: +5 %)"
    ));
    runtime.block_on(served.end());
}

/// KiB of memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(1)
}

async fn host(pause: u64, more: Option<Candidate>) -> Host {
    let tables = format!("[plugins.fake]\npiece_delay_ms = {pause}\n[plugins.wire]\n");
    let config = Config::parse("bespoke.toml", &tables).expect("a configuration");
    let plugins = [Some((&bespoke_fake::BESPOKE_PLUGIN).into()), more].into_iter().flatten();
    let host = Host::builder().config(config).plugins(plugins.collect::<Vec<Candidate>>()).build().expect("a host");
    host.start(Selection::All).await;
    host
}

/// The least that could be done: each chat asks the provider itself and remembers what was said.
struct Bare {
    host: Host,
    talks: Vec<tokio::sync::Mutex<VecDeque<Message>>>,
}

impl Bare {
    async fn new(pause: u64) -> Self {
        Bare { host: host(pause, None).await, talks: (0..CHATS).map(|_| Default::default()).collect() }
    }

    async fn turns(&self, n: usize) {
        let slot = self.host.registry().get::<dyn Provider>("fake").expect("it is registered");
        let provider = slot.lease().expect("it is ready");
        let (provider, cx) = (&provider, &CallCx::new());
        join_all(self.talks.iter().enumerate().map(|(chat, talk)| async move {
            let mut talk = talk.lock().await;
            for _ in (chat..n).step_by(CHATS) {
                talk.push_back(Message::user(QUESTION));
                let request = ChatRequest::new(talk.iter().cloned().collect());
                let mut stream = provider.chat(cx, request).await.expect("it answers");
                let mut text = String::new();
                while let Some(Ok(delta)) = stream.next().await {
                    if let ChatDelta::Text { text: piece, .. } = delta {
                        text.push_str(&piece);
                    }
                }
                talk.push_back(Message::assistant(black_box(text)));
                while talk.len() > HISTORY.1 {
                    talk.pop_front();
                }
            }
        }))
        .await;
    }
}

/// A server, and people who wait for their answers.
struct Served {
    server: Server,
    host: Host,
    wire: Arc<Wire>,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn new(pause: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let wire = Arc::new(Wire::default());
        let host = host(pause, Some(plug(&wire))).await;
        let keys = json!({ "provider": ["fake"], "tools": [], "system": "", "history_tokens": HISTORY.0 });
        let config: AgentConfig = serde_json::from_value(keys).expect("a configuration");
        let agent = Agent::new(host.clone(), config).expect("in range");
        let state = State::open(folder.path().join("state.db")).expect("a new file");
        let config = serde_json::from_value(json!({ "chats": CHATS })).expect("a configuration");
        let server = Server::start(Parts::new(host.clone(), agent, state).config(config)).await.expect("it starts");
        Served { server, host, wire, _folder: folder }
    }

    async fn turns(&self, n: usize) {
        let wanted = self.wire.sent.load(Ordering::SeqCst) + n;
        self.wire.to_write.fetch_add(n, Ordering::SeqCst);
        self.wire.wanted.notify_one();
        while self.wire.sent.load(Ordering::SeqCst) < wanted {
            self.wire.moved.notified().await;
        }
    }

    async fn end(self) {
        self.server.drain(Duration::from_secs(10)).await;
        self.host.shutdown().await;
    }
}

/// A channel whose people write so much, and only when nobody of them waits for too many answers.
#[derive(Default)]
struct Wire {
    to_write: AtomicUsize,
    wanted: Notify,
    sent: AtomicUsize,
    moved: Notify,
    /// How often each chat was answered.
    read: Mutex<HashMap<String, usize>>,
}

impl Wire {
    fn forget(&self) {
        self.read.lock().expect("nobody panics").clear();
    }
}

struct End(Arc<Wire>);

#[async_trait]
impl Channel for End {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        let mut written = 0;
        loop {
            while written < self.0.to_write.load(Ordering::SeqCst) {
                // As many as there are chats, twice: the file is to be read from, too.
                if written >= self.0.sent.load(Ordering::SeqCst) + 2 * CHATS {
                    tokio::task::yield_now().await;
                    continue;
                }
                inbox.accept(Inbound::new(format!("chat {}", written % CHATS), "ann", written.to_string(), QUESTION)).await?;
                written += 1;
            }
            tokio::select! {
                () = cx.cancelled() => return Ok(()),
                () = self.0.wanted.notified() => {}
            }
        }
    }

    async fn send(&self, _: &CallCx, message: Outbound) -> Result<MessageRef> {
        *self.0.read.lock().expect("nobody panics").entry(message.chat.clone()).or_default() += 1;
        self.0.sent.fetch_add(1, Ordering::SeqCst);
        self.0.moved.notify_one();
        Ok(MessageRef::new(message.chat, "1"))
    }
}

fn plug(wire: &Arc<Wire>) -> Candidate {
    let text = "id = \"wire\"\ndescription = \"A bench.\"\nauthor = \"The Bespoke authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n\
                [[provides]]\nkind = \"channel\"\nname = \"wire\"\n";
    let manifest = Manifest::parse("plugin.toml", text, Some(Inherited { version: "1.0.0", license: "Apache-2.0" }));
    Candidate {
        id: "wire".into(),
        tier: Tier::Compiled,
        origin: "bench".into(),
        manifest: manifest.map(Arc::new).map_err(Error::from),
        config_schema: "{}".into(),
        artifact: Arc::new(Plug(wire.clone())),
    }
}

struct Plug(Arc<Wire>);

impl Plug {
    fn contributions(&self) -> Vec<Contribution> {
        vec![Contribution::Channel(ChannelSpec::new("wire").idempotent(true), Arc::new(End(self.0.clone())))]
    }
}

impl Artifact for Plug {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok(self.contributions().iter().map(Contribution::spec).collect())
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, _: PluginContext, _: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let contributions = self.contributions();
        Box::pin(async move { Ok(Instance { life: Arc::new(Alive), contributions }) })
    }
}

struct Alive;

impl Plugin for Alive {
    type Config = Value;

    fn register(_: &mut PluginApi<Self>) {}

    async fn start(_: PluginContext, _: Value) -> Result<Self> {
        Ok(Alive)
    }
}
