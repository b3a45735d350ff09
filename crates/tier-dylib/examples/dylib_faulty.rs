//! A plugin as a library that does what it must not, when a test tells it to. Not for use.

#![allow(unsafe_code, reason = "a mark that tests write into the file")]

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bespoke_plugin_api::{
    AudioChunk, CallCx, Descriptor, Duplex, Error, Package, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest,
    ToolSpec, Tts, TtsOptions, TtsSpec, Voice, async_trait,
    serde_json::{Map, Value},
};

/// What the file says that it does; a test writes something else behind the colon.
#[unsafe(no_mangle)]
static DYLIB_FAULTY_MODE: [u8; 32] = *b"BESPOKE-MODE:as it was built....";

fn mode() -> String {
    // SAFETY: it is a static; it is read as if it could change, so that the compiler does not know what stands in it.
    let mode = unsafe { std::ptr::read_volatile(&raw const DYLIB_FAULTY_MODE) };
    String::from_utf8_lossy(&mode[13..]).trim_end_matches('.').to_owned()
}

static FAULTY: Descriptor = Descriptor::of::<Faulty>(
    "faulty",
    Package { name: "faulty", version: "1.0.0", license: "Apache-2.0", manifest: "", config_schema: "{}" },
);

bespoke_guest_dylib::export!(crate::FAULTY);

struct Faulty {
    cx: PluginContext,
    config: Map<String, Value>,
}

impl Plugin for Faulty {
    type Config = Map<String, Value>;

    fn register(api: &mut PluginApi<Self>) {
        assert!(mode() != "declare", "in register");
        api.tool(ToolSpec::new("faulty", "Does what it must not."), |p| Arc::new(Act(p.clone())));
        api.tts(TtsSpec::new("faulty", 16_000), |_| Arc::new(Speaks));
    }

    async fn start(cx: PluginContext, config: Self::Config) -> Result<Self> {
        match config.get("begin").and_then(Value::as_str) {
            Some("panic") => panic!("in start"),
            Some("fail") => Err(Error::internal("it does not want to")),
            Some("hang") => std::future::pending().await,
            _ => Ok(Faulty { cx, config }),
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        assert!(self.config.get("drop").and_then(Value::as_str) != Some("panic"), "in drop");
    }
}

struct Act(Arc<Faulty>);

/// A panic that panics when it is thrown away.
struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        panic!("again");
    }
}

#[async_trait]
impl Tool for Act {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        match request.args["do"].as_str().unwrap_or_default() {
            "panic" => panic!("in a call"),
            "twice" => std::panic::panic_any(Twice),
            "fail" => Err(Error::internal("as told")),
            "hang" => {
                cx.cancelled().await;
                Err(Error::cancelled())
            }
            "work" => Ok(ToolOutput::text(self.0.cx.blocking(|| "worked").await?)),
            "broken work" => Ok(ToolOutput::text(self.0.cx.blocking(|| -> &str { panic!("in work") }).await?)),
            "thread" => {
                let _ = std::thread::spawn(|| panic!("in a thread of its own")).join();
                Ok(ToolOutput::text("went on"))
            }
            _ => Ok(ToolOutput::text(mode())),
        }
    }
}

struct Speaks;

#[async_trait]
impl Tts for Speaks {
    async fn voices(&self, _: &CallCx) -> Result<Vec<Voice>> {
        Ok(Vec::new())
    }

    fn open(&self, _: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        Ok(Box::new(Speech))
    }
}

struct Speech;

impl Duplex<str, AudioChunk> for Speech {
    fn push(&mut self, text: &str) -> Result<()> {
        assert!(text != "panic", "in push");
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        Poll::Pending
    }
}

impl Drop for Speech {
    fn drop(&mut self) {
        assert!(mode() != "stream", "in the drop of a stream");
    }
}
