//! A plugin for these tests: a tool that does to the host whatever its arguments say, and streams that misbehave on request.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, Contribution, Descriptor, Duplex, Error, Health, Hook, HttpReply, HttpRequest, Level,
    ModelInfo, Package, Plugin, PluginApi, PluginContext, Provider, ProviderSpec, Result, Target, Tool, ToolOutput, ToolRequest, ToolSpec,
    Vad, VadEvent, VadOptions, VadSpec, async_trait, feed, futures_core::Stream,
};
use bytes::Bytes;
use serde_json::{Map, Value, json};

pub(crate) static WORLD: Descriptor = Descriptor::of::<World>(
    "world",
    Package {
        name: "world",
        version: "0.1.0",
        license: "Apache-2.0",
        manifest: r#"
            id = "world"
            [[provides]]
            kind = "tool"
            name = "world"
            [[provides]]
            kind = "provider"
            name = "endless"
            [[provides]]
            kind = "vad"
            name = "gated"
            [[models]]
            file = "here.bin"
            [[models]]
            file = "missing.bin"
        "#,
        config_schema: "{}",
    },
);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {}

pub(crate) struct World {
    cx: PluginContext,
    /// Deltas that the endless provider has made.
    made: AtomicU64,
    /// Streams that were dropped.
    dropped: AtomicU64,
    gate: Gate,
    /// An answer of which the body is not read yet.
    reply: Mutex<Option<HttpReply>>,
}

#[derive(Default)]
struct Gate {
    open: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Plugin for World {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("world", "Does what it is told."), |world| Arc::new(Obey(world.clone())));
        api.provider(ProviderSpec::new("endless"), |world| Arc::new(Endless(world.clone())));
        api.vad(VadSpec::new("gated"), |world| Arc::new(Gated(world.clone())));
    }

    async fn start(cx: PluginContext, _config: Config) -> Result<Self> {
        cx.log(Level::Info, "the world begins");
        Ok(World { cx, made: AtomicU64::new(0), dropped: AtomicU64::new(0), gate: Gate::default(), reply: Mutex::default() })
    }
}

struct Obey(Arc<World>);

#[async_trait]
impl Tool for Obey {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let args: Map<String, Value> = request.parse()?;
        let mut did = Map::new();
        for (what, with) in args {
            let came = self.act(cx, &what, with).await?;
            did.insert(what, came);
        }
        Ok(ToolOutput::text("done").with_data(Value::Object(did)))
    }
}

impl Obey {
    fn reply(&self) -> Result<HttpReply> {
        self.0.reply.lock().unwrap().take().ok_or_else(|| Error::invalid_params("no answer is held"))
    }

    async fn act(&self, cx: &CallCx, what: &str, with: Value) -> Result<Value> {
        let world = &self.0;
        let (host, text) = (world.cx.host(), with.as_str().unwrap_or_default().to_owned());
        Ok(match what {
            "http" => {
                let mut reply = world.cx.http(HttpRequest::new("POST", text).body(Bytes::from_static(b"\x00raw"))).await?;
                json!({ "status": reply.status, "body": &reply.read(1 << 20).await?[..] })
            }
            "begin" => {
                let reply = world.cx.http(HttpRequest::new("GET", text)).await?;
                let begun = json!({ "status": reply.status, "headers": reply.headers });
                *world.reply.lock().unwrap() = Some(reply);
                begun
            }
            "piece" => {
                let mut reply = self.reply()?;
                let piece = poll_fn(|cx| reply.body.as_mut().poll_next(cx)).await.transpose()?;
                *world.reply.lock().unwrap() = Some(reply);
                json!(piece.map(|p| p.len()))
            }
            "rest" => {
                let rest = self.reply()?.read(64 << 20).await?;
                let sum = rest.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                json!({ "bytes": rest.len(), "sum": sum })
            }
            "let_go" => {
                drop(self.reply()?);
                Value::Null
            }
            "secret" => json!(world.cx.secret(&text).await?),
            "store" => {
                host.store(&text, Some(Bytes::from(text.clone().into_bytes()))).await?;
                let stored = host.load(&text).await?;
                host.store(&text, None).await?;
                json!([stored, host.load(&text).await?])
            }
            "keep" => {
                host.store(&text, Some(Bytes::new())).await?;
                json!(host.load(&text).await?)
            }
            "call" => world.cx.call(cx, Target::new("tool", text), json!({ "zeta": 0.1, "alpha": [] })).await?,
            "emit" => json!(world.cx.emit(&text, json!({ "n": 1 })).is_ok()),
            "random" => {
                let mut bytes = [0; 8];
                host.random(&mut bytes)?;
                json!(bytes)
            }
            "model" => json!(world.cx.model(&text)?),
            "blocking" => json!(world.cx.blocking(move || text.len()).await?),
            "blocking_panic" => json!(world.cx.blocking(move || assert!(text.is_empty(), "not empty")).await?),
            "spawn" => {
                let (sender, mut done) = feed::<u64>(1);
                let inner = world.cx.clone();
                world.cx.spawn(async move {
                    inner.sleep(Duration::from_millis(5)).await;
                    let _ = sender.send(Ok(7));
                });
                json!(std::future::poll_fn(|cx| done.poll_item(cx)).await.transpose()?)
            }
            "sleep" => {
                let before = world.cx.now();
                world.cx.sleep(Duration::from_secs(1)).await;
                json!(before.until(world.cx.now()))
            }
            "publish" => {
                let made = Contribution::Tool(ToolSpec::new(text, "Made at run time."), Arc::new(Obey(world.clone())));
                host.publish(vec![made])?;
                Value::Null
            }
            "health" => {
                world.cx.report_health(Health::Degraded(text));
                Value::Null
            }
            "subscribe" => {
                let mut events = world.cx.subscribe(&text)?;
                cx.progress(json!("listening"));
                let event = std::future::poll_fn(|cx| events.as_mut().poll_next(cx)).await.transpose()?;
                json!(event)
            }
            "cx" => json!({
                "session": cx.session(), "caller": cx.caller(), "trace": cx.trace(), "depth": cx.depth(),
                "deadline": cx.deadline(), "fires": cx.fires(Hook::BeforeAgentRun),
            }),
            "progress" => {
                cx.progress(with);
                Value::Null
            }
            "made" => json!(world.made.load(Ordering::SeqCst)),
            "dropped" => json!(world.dropped.load(Ordering::SeqCst)),
            "open_gate" => {
                world.gate.open.store(true, Ordering::SeqCst);
                let waiting = std::mem::take(&mut *world.gate.waiting.lock().unwrap());
                waiting.into_iter().for_each(Waker::wake);
                Value::Null
            }
            other => return Err(Error::invalid_params(format!("`{other}` is beyond me"))),
        })
    }
}

/// Streams as many deltas as it may; for ever, when it may.
struct Endless(Arc<World>);

#[async_trait]
impl Provider for Endless {
    async fn models(&self, _cx: &CallCx) -> Result<Vec<ModelInfo>> {
        Ok(vec![])
    }

    async fn chat(&self, _cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        let limit = request.max_tokens.map_or(3, |max| if max == u32::MAX { u64::MAX } else { u64::from(max) });
        Ok(Box::pin(Counting { world: self.0.clone(), next: 0, limit }))
    }
}

struct Counting {
    world: Arc<World>,
    next: u64,
    limit: u64,
}

impl Stream for Counting {
    type Item = Result<ChatDelta>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.next == self.limit {
            return Poll::Ready(None);
        }
        self.world.made.fetch_add(1, Ordering::SeqCst);
        self.next += 1;
        Poll::Ready(Some(Ok(ChatDelta::text((self.next - 1).to_string()))))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.world.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Takes nothing before its gate opens; then one event per frame.
struct Gated(Arc<World>);

impl Vad for Gated {
    fn open(&self, _options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        Ok(Box::new(Behind { world: self.0.clone(), heard: 0, told: 0, frames: 0, finished: false }))
    }
}

struct Behind {
    world: Arc<World>,
    heard: u64,
    told: u64,
    frames: u64,
    finished: bool,
}

impl Duplex<[f32], VadEvent> for Behind {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.world.gate.waiting.lock().unwrap().push(cx.waker().clone());
        if self.world.gate.open.load(Ordering::SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn push(&mut self, samples: &[f32]) -> Result<()> {
        if samples.iter().any(|s| *s < -1.0) {
            return Err(Error::invalid_params("too quiet"));
        }
        self.heard += samples.len() as u64;
        self.frames += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(())
    }

    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        if self.told < self.frames {
            self.told += 1;
            return Poll::Ready(Some(Ok(VadEvent::speech_start(self.heard, self.told))));
        }
        if self.finished { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.world.dropped.fetch_add(1, Ordering::SeqCst);
    }
}
