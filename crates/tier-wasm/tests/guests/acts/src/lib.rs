//! A portable plugin that does what its test tells it, good and bad. Not an example: those are in `examples/`.

use std::{
    collections::VecDeque,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Duplex, Error, HttpRequest, Level, Plugin, PluginApi, PluginContext, Result, State, Target, Tool, ToolOutput, ToolRequest,
    ToolSpec, Vad, VadEvent, VadOptions, VadSpec, async_trait,
    serde_json::{Value, json},
};

bespoke_guest_wasm::export!(BESPOKE_PLUGIN);
bespoke_plugin_api::plugin!("acts", Acts);

/// One instance.
pub struct Acts {
    cx: PluginContext,
    calls: AtomicU64,
}

impl Plugin for Acts {
    type Config = Value;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("acts", "Does what it is told."), |acts| Arc::new(Act(acts.clone())));
        api.vad(VadSpec::new("acts"), |_| Arc::new(Loud));
    }

    async fn start(cx: PluginContext, config: Value) -> Result<Self> {
        if config["panic"].as_bool() == Some(true) {
            panic!("at the start");
        }
        tracing::info!(words = 2, "has started");
        Ok(Acts { cx, calls: AtomicU64::new(0) })
    }

    async fn capture_state(&self) -> Result<Option<State>> {
        Ok(Some(State::new(1, self.calls.load(Ordering::Relaxed).to_le_bytes().to_vec())))
    }

    async fn restore_state(&self, state: State) -> Result<()> {
        let bytes = <[u8; 8]>::try_from(&state.bytes[..]).map_err(|_| Error::invalid_params("no state of this plugin"))?;
        self.calls.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        Ok(())
    }
}

struct Act(Arc<Acts>);

#[async_trait]
impl Tool for Act {
    async fn call(&self, call: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let Act(acts) = self;
        let cx = &acts.cx;
        let args = request.args;
        let text = |key: &str| args[key].as_str().unwrap_or_default().to_owned();
        let number = args["n"].as_u64().unwrap_or_default();
        let said = match text("do").as_str() {
            "echo" => args["value"].to_string(),
            "count" => (acts.calls.fetch_add(1, Ordering::Relaxed) + 1).to_string(),
            "many" => "x".repeat(number as usize),
            "length" => text("value").len().to_string(),
            "log" => {
                for n in 0..number {
                    cx.log(Level::Info, &format!("line {n}"));
                    tracing::info!("event {n}");
                }
                number.to_string()
            }
            "panic" => panic!("on purpose"),
            "loop" => loop {
                black_box(());
            },
            "host_loop" => loop {
                black_box(cx.now());
            },
            // As a computation that asks between its steps.
            "checks" => loop {
                call.check()?;
                black_box((0..10_000u64).fold(0, |sum, n| sum ^ black_box(n)));
            },
            // As one that does not.
            "computes" => {
                let until = cx.now().plus(Duration::from_millis(number));
                while cx.now() < until {
                    black_box((0..10_000u64).fold(0, |sum, n| sum ^ black_box(n)));
                }
                "computed".to_owned()
            }
            "memory" => {
                let mut all = Vec::new();
                loop {
                    all.push(black_box(vec![1u8; 1 << 20]));
                }
            }
            "stack" => deep(0).to_string(),
            "waits" => {
                cx.sleep(Duration::from_secs(3600)).await;
                "slept".to_owned()
            }
            "sleeps" => {
                cx.sleep(Duration::from_millis(number)).await;
                "slept".to_owned()
            }
            "blocking" => cx.blocking(move || number + 1).await?.to_string(),
            "random" => {
                let mut bytes = vec![0; number as usize];
                cx.host().random(&mut bytes)?;
                bytes.iter().filter(|byte| **byte == 0).count().to_string()
            }
            "http" => {
                let reply = cx.http(HttpRequest::new("GET", text("url"))).await?;
                reply.status.to_string()
            }
            "secret" => cx.secret(&text("name")).await?,
            "store" => {
                cx.host().store(&text("key"), Some(text("value").into_bytes().into())).await?;
                let loaded = cx.host().load(&text("key")).await?.unwrap_or_default();
                String::from_utf8_lossy(&loaded).into_owned()
            }
            "call" => cx.call(call, Target::new("tool", text("name")), json!({})).await?.to_string(),
            "emit" => {
                cx.emit(&text("topic"), json!({}))?;
                String::new()
            }
            "file" => std::fs::read_to_string(text("path")).map_err(|e| Error::internal(e.to_string()))?,
            "instant" => format!("{:?}", std::time::Instant::now()),
            other => return Err(Error::invalid_params(format!("knows nothing of {other}"))),
        };
        Ok(ToolOutput::text(said))
    }
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    let frame = black_box([n; 64]);
    if n == u64::MAX { 0 } else { deep(black_box(n + 1)) + frame[7] }
}

/// Speech is where the first sample of a frame is loud.
struct Loud;

impl Vad for Loud {
    fn open(&self, _options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        Ok(Box::new(Hears { at: 0, speaks: false, events: VecDeque::new(), over: false }))
    }
}

struct Hears {
    at: u64,
    speaks: bool,
    events: VecDeque<VadEvent>,
    over: bool,
}

impl Duplex<[f32], VadEvent> for Hears {
    fn push(&mut self, frame: &[f32]) -> Result<()> {
        let loud = frame.first().is_some_and(|sample| sample.abs() > 0.5);
        if loud != self.speaks {
            self.speaks = loud;
            self.events.push_back(if loud { VadEvent::speech_start(self.at, self.at) } else { VadEvent::speech_end(self.at, self.at) });
        }
        self.at += frame.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.over = true;
        Ok(())
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if self.over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
