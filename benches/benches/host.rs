//! What the host puts between a caller and a compiled-in plugin: look-up, guard, lease, hooks; each against doing without.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bespoke_benches::{Aim, Counting, Group};
use bespoke_host::{Host, Selection};
use bespoke_plugin_api::{
    CallCx, Descriptor, Duplex, Hook, HookEvent, HookHandler, HookReply, HookSpec, Package, Plugin, PluginApi, PluginContext, Result, Tool,
    ToolOutput, ToolRequest, ToolSpec, Vad, VadEvent, VadOptions, VadSpec, async_trait,
    serde_json::{Map, Value},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tools in the registry: about as many as an agent with a few tool servers has.
const TOOLS: usize = 64;

/// A plugin whose work is next to nothing, so that what is around it shows.
struct Bench;

impl Plugin for Bench {
    type Config = Map<String, Value>;

    fn register(api: &mut PluginApi<Self>) {
        for n in 0..TOOLS {
            api.tool(ToolSpec::new(format!("tool_{n}"), "Answers nothing."), |_| Arc::new(Nothing));
        }
        api.vad(VadSpec::new("ear"), |_| Arc::new(Ear));
        api.hook(HookSpec::new("one", Hook::OnClientConnect), |_| Arc::new(Nothing));
        for n in 0..8 {
            api.hook(HookSpec::new(format!("eight_{n}"), Hook::BeforeAgentRun), |_| Arc::new(Nothing));
        }
    }

    async fn start(_: PluginContext, _: Self::Config) -> Result<Self> {
        Ok(Bench)
    }
}

struct Nothing;

#[async_trait]
impl Tool for Nothing {
    async fn call(&self, _: &CallCx, _: ToolRequest) -> Result<ToolOutput> {
        Ok(ToolOutput::default())
    }
}

#[async_trait]
impl HookHandler for Nothing {
    async fn on(&self, _: &CallCx, _: &HookEvent) -> Result<HookReply> {
        Ok(HookReply::Continue)
    }
}

struct Ear;

impl Vad for Ear {
    fn open(&self, _: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        Ok(Box::new(Listening { at: 0, event: None }))
    }
}

/// One event per frame, without looking at the samples.
struct Listening {
    at: u64,
    event: Option<VadEvent>,
}

impl Duplex<[f32], VadEvent> for Listening {
    fn push(&mut self, samples: &[f32]) -> Result<()> {
        self.at += samples.len() as u64;
        self.event = Some(VadEvent::speech_start(self.at, 0));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        self.event.take().map_or(Poll::Pending, |event| Poll::Ready(Some(Ok(event))))
    }
}

fn descriptor() -> &'static Descriptor {
    let mut manifest = String::from("id = \"bench\"\ndescription = \"d\"\nauthor = \"a\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n");
    let tools = (0..TOOLS).map(|n| ("tool", format!("tool_{n}")));
    let hooks = (0..8).map(|n| ("hook", format!("eight_{n}"))).chain([("hook", "one".to_owned()), ("vad", "ear".to_owned())]);
    for (kind, name) in tools.chain(hooks) {
        manifest += &format!("[[provides]]\nkind = \"{kind}\"\nname = \"{name}\"\n");
    }
    let package = Package { name: "bench", version: "0.1.0", license: "Apache-2.0", manifest: manifest.leak(), config_schema: "{}" };
    Box::leak(Box::new(Descriptor::of::<Bench>("bench", package)))
}

fn frame(stream: &mut dyn Duplex<[f32], VadEvent>, samples: &[f32], cx: &mut Context<'_>) {
    _ = black_box(stream.push(black_box(samples)));
    _ = black_box(stream.poll_next(cx));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let host = runtime.block_on(async {
        let host = Host::builder().plugins([descriptor()]).build().expect("an empty configuration");
        host.start(Selection::All).await;
        host
    });
    let rows = host.rows();
    assert!(rows.iter().all(|row| row.health == "ok"), "{rows:?}");

    let slot = host.registry().get::<dyn Tool>("tool_7").expect("it is registered");
    let map: HashMap<String, Arc<dyn Tool>> = (0..TOOLS).map(|n| (format!("tool_{n}"), Arc::new(Nothing) as Arc<dyn Tool>)).collect();
    Group::new(format!("registry look-up among {TOOLS} tools"))
        .case("HashMap::get, Arc::clone", |n| (0..n).for_each(|_| _ = black_box(map.get(black_box("tool_7")).cloned())))
        .case("Registry::get", |n| (0..n).for_each(|_| _ = black_box(host.registry().get::<dyn Tool>(black_box("tool_7")))))
        .aim(Aim::Allocations(0))
        .run();

    let tool: Arc<dyn Tool> = black_box(Arc::new(Nothing));
    let cx = CallCx::new();
    let request = || ToolRequest::new(Value::Null);
    Group::new("guarded request call")
        .case("async_trait call of dyn Tool", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    _ = black_box(tool.call(&cx, request()).await);
                }
            });
        })
        .case("Slot::call", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    _ = black_box(slot.call(&cx, |tool, cx| async move { tool.call(&cx, request()).await }).await);
                }
            });
        })
        .aim(Aim::Over(Duration::from_nanos(150)))
        .case("Slot::call_apart", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    _ = black_box(
                        slot.call_apart(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(Value::Null)).await }).await,
                    );
                }
            });
        })
        .case("Slot::lease, bare call", |n| {
            runtime.block_on(async {
                for _ in 0..n {
                    if let Ok(lease) = slot.lease() {
                        _ = black_box(lease.call(&cx, request()).await);
                    }
                }
            });
        })
        .case("two readings of the clock", |n| {
            (0..n).for_each(|_| _ = black_box((std::time::Instant::now(), std::time::Instant::now())));
        })
        .run();

    let samples = vec![0.25_f32; 512];
    let vad = host.registry().get::<dyn Vad>("ear").expect("it is registered");
    let mut direct: Box<dyn Duplex<[f32], VadEvent>> = Ear.open(&VadOptions::new(16_000)).expect("it opens");
    let mut leased = vad.enter(|vad| vad.open(&VadOptions::new(16_000))).expect("it opens");
    let (mut cx_a, mut cx_b) = (Context::from_waker(Waker::noop()), Context::from_waker(Waker::noop()));
    Group::new("frame of 512 samples inside an open stream: push, and drain one event")
        .case("Box<dyn Duplex>", |n| (0..n).for_each(|_| frame(&mut **black_box(&mut direct), &samples, &mut cx_a)))
        .case("Leased<dyn Vad, Box<dyn Duplex>>", |n| (0..n).for_each(|_| frame(black_box(&mut leased), &samples, &mut cx_b)))
        // A net below each of the two calls; the stream itself does nothing, so a ratio would say nothing.
        .aim(Aim::Over(Duration::from_nanos(10)))
        .aim(Aim::Allocations(0))
        .run();

    let payload = || Value::String("nothing much".to_owned());
    Group::new("event that nobody hears")
        .case("its payload", |n| (0..n).for_each(|_| _ = black_box(payload())))
        .case("Events::emit", |n| (0..n).for_each(|_| _ = host.events().emit("bench.event", None, payload())))
        .run();

    hooks(&runtime, &host, &cx);
    runtime.block_on(host.shutdown());
}

fn hooks(runtime: &tokio::runtime::Runtime, host: &Host, cx: &CallCx) {
    let before = || HookEvent::before_agent_run("session", "What time is it?");
    let run = |n: u64, hook: Hook, event: &dyn Fn() -> HookEvent| {
        runtime.block_on(async {
            for _ in 0..n {
                _ = black_box(host.hooks().run(cx, black_box(hook), event).await);
            }
        });
    };
    let mask = AtomicU64::new(1);
    Group::new("hook that nobody wants")
        .case("one load and a branch", |n| (0..n).for_each(|_| _ = black_box(black_box(&mask).load(Ordering::Relaxed) & 2 != 0)))
        .case("Hooks::wants", |n| (0..n).for_each(|_| _ = black_box(black_box(host.hooks()).wants(Hook::AfterAgentRun))))
        .aim(Aim::Over(Duration::from_nanos(1)))
        .aim(Aim::Allocations(0))
        .case("Hooks::run", |n| run(n, Hook::AfterAgentRun, &|| unreachable!("built for nobody")))
        .aim(Aim::Allocations(0))
        .run();

    let handler: Arc<dyn HookHandler> = black_box(Arc::new(Nothing));
    let direct = |handlers: usize, n: u64| {
        runtime.block_on(async {
            for _ in 0..n {
                let event = before();
                for _ in 0..handlers {
                    _ = black_box(handler.on(cx, black_box(&event)).await);
                }
            }
        });
    };
    let connect = || HookEvent::on_client_connect("client");
    Group::new("hook with 1 subscriber")
        .case("payload and direct call", |n| direct(1, n))
        .case("Hooks::run", |n| run(n, Hook::OnClientConnect, &connect))
        .run();
    Group::new("hook with 8 subscribers")
        .case("payload and 8 direct calls", |n| direct(8, n))
        .case("Hooks::run", |n| run(n, Hook::BeforeAgentRun, &before))
        .run();
}
