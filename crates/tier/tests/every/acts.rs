//! A portable plugin that does what its test tells it, good and bad, in every tier. Not an example: those are in `examples/`.

use std::{
    collections::VecDeque,
    future::poll_fn,
    hint::black_box,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxFuture, CallCx, Duplex, Error, HttpRequest, Level, Plugin, PluginApi, PluginContext, Result, State, Target, Tool, ToolOutput,
    ToolRequest, ToolSpec, Vad, VadEvent, VadOptions, VadSpec, async_trait,
    serde_json::{Value, json},
};

/// Bytes that it says beside the frames of its core, and before those of the same step: whoever exports it asks for them.
static RAW: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Takes what is to be said raw.
pub(crate) fn raw() -> Vec<u8> {
    std::mem::take(&mut *RAW.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One instance.
pub(crate) struct Acts {
    cx: PluginContext,
    calls: AtomicU64,
    /// What its shutdown does.
    last: String,
}

impl Plugin for Acts {
    type Config = Value;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("acts", "Does what it is told.").input(json!({ "type": "object" })), |acts| Arc::new(Act(acts.clone())));
        api.vad(VadSpec::new("acts"), |_| Arc::new(Loud));
    }

    async fn start(cx: PluginContext, config: Value) -> Result<Self> {
        match config["begin"].as_str() {
            Some("panic") => panic!("at the start"),
            Some("fail") => return Err(Error::internal("it does not want to")),
            Some("hang") => std::future::pending().await,
            _ => {}
        }
        tracing::info!(words = 2, "has started");
        let last = config["end"].as_str().unwrap_or_default().to_owned();
        Ok(Acts { cx, calls: AtomicU64::new(0), last })
    }

    async fn shutdown(&self) {
        match &*self.last {
            "hang" => std::future::pending().await,
            "panic" => panic!("at the end"),
            _ => {}
        }
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
            "fail" => return Err(Error::internal("as told")),
            "abort" => std::process::abort(),
            // Bytes, so often, with a number that counts on where a frame has its own.
            "raw" => {
                let bytes: Vec<u8> = args["bytes"].as_array().into_iter().flatten().map(|byte| byte.as_u64().unwrap_or(0) as u8).collect();
                let mut raw = RAW.lock().unwrap_or_else(PoisonError::into_inner);
                for n in 0..number.max(1) as u32 {
                    let at = raw.len() + 4;
                    raw.extend_from_slice(&bytes);
                    if let (Some(from), Some(id)) = (args["from"].as_u64(), raw.get_mut(at..at + 4)) {
                        id.copy_from_slice(&(from as u32 + n).to_le_bytes());
                    }
                }
                "said".to_owned()
            }
            "emits" => {
                for n in 0..number {
                    cx.emit("flood", json!({ "n": n }))?;
                }
                number.to_string()
            }
            // All at once, and how many of them were answered, well or not.
            "loads" => {
                let loads = (0..number).map(|n| cx.host().load(&format!("{n}"))).collect();
                format!("{} answered", all(loads).await.len())
            }
            "asks" => {
                let mut byte = [0];
                for _ in 0..number {
                    cx.host().random(&mut byte)?;
                    black_box(cx.now());
                }
                number.to_string()
            }
            "stores" => {
                for n in 0..number {
                    cx.host().store("again", Some(n.to_string().into_bytes().into())).await?;
                }
                number.to_string()
            }
            "calls itself" => cx.call(call, Target::new("tool", "acts"), json!({ "do": "calls itself" })).await?.to_string(),
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
            "opens" => std::fs::read_to_string(text("path")).unwrap(),
            "thread" => format!("{:?}", std::thread::spawn(|| 7).join()),
            "naps" => {
                std::thread::sleep(Duration::from_millis(1));
                "slept".to_owned()
            }
            "instant" => format!("{:?}", std::time::Instant::now()),
            other => return Err(Error::invalid_params(format!("knows nothing of {other}"))),
        };
        Ok(ToolOutput::text(said))
    }
}

/// Polls all of them until each has an answer.
async fn all<T>(futures: Vec<BoxFuture<'static, T>>) -> Vec<T> {
    let (mut waiting, mut done) = (futures, Vec::new());
    poll_fn(|cx| {
        let mut at = 0;
        while at < waiting.len() {
            match waiting[at].as_mut().poll(cx) {
                Poll::Ready(answer) => {
                    done.push(answer);
                    drop(waiting.swap_remove(at));
                }
                Poll::Pending => at += 1,
            }
        }
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    let frame = black_box([n; 64]);
    if n == u64::MAX { 0 } else { deep(black_box(n + 1)) + frame[7] }
}

/// Speech is where the first sample of a frame is loud. One that is far too loud makes it panic, or abort.
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
        match frame.first() {
            Some(8.0) => panic!("in a push"),
            Some(9.0) => std::process::abort(),
            _ => {}
        }
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
