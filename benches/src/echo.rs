//! The plugin that the benchmarks of tiers run: it gives back what it gets, on both lanes, and hears nothing. And what a library of it
//! exports beside it, the least that a call into a library can be.

use std::{
    collections::VecDeque,
    ffi::c_void,
    sync::Arc,
    task::{Context, Poll},
};

use bespoke_plugin_api::{
    Audio, AudioChunk, CallCx, Descriptor, Duplex, Package, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest,
    ToolSpec, Tts, TtsOptions, TtsSpec, Vad, VadEvent, VadOptions, VadSpec, Voice, async_trait, serde_json::Value,
};

/// Its manifest, but for the tier and how it is started there.
pub const ECHO_MANIFEST: &str = r#"id = "echo"
version = "0.1.0"
license = "Apache-2.0"
description = "Gives back what it gets."
author = "The Bespoke authors"
protocol = "1"
tiers = ["process", "dylib"]
provides = [{ kind = "tool", name = "echo" }, { kind = "tts", name = "echo" }, { kind = "vad", name = "echo" }]
"#;

/// The plugin.
pub static ECHO: Descriptor = Descriptor::of::<Echo>(
    "echo",
    Package {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        license: env!("CARGO_PKG_LICENSE"),
        manifest: ECHO_MANIFEST,
        config_schema: "{}",
    },
);

bespoke_guest_dylib::export!(crate::ECHO);

/// Where the bare functions leave what they give back.
pub type Sink = unsafe extern "C" fn(context: *mut c_void, bytes: *const u8, len: usize);

/// A call into a library that reads so many bytes and gives nothing back: the floor of a frame.
///
/// # Safety
/// So many bytes lie there.
#[allow(unsafe_code, reason = "the floor of a call into a library")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bespoke_bench_take(bytes: *const u8, len: usize) -> u8 {
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, len) };
    // As a detector would: it has looked at the first and the last.
    bytes.first().copied().unwrap_or(0) ^ bytes.last().copied().unwrap_or(0)
}

/// A call into a library that gives back what it gets: the floor of a call.
///
/// # Safety
/// So many bytes lie there, and the sink takes them.
#[allow(unsafe_code, reason = "the floor of a call into a library")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bespoke_bench_echo(bytes: *const u8, len: usize, sink: Sink, context: *mut c_void) {
    // SAFETY: as the caller promises.
    unsafe { sink(context, bytes, len) }
}

/// Gives back what it gets, on both lanes.
struct Echo;

impl Plugin for Echo {
    type Config = Value;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("echo", "Gives its text back."), |_| Arc::new(Echo));
        api.tts(TtsSpec::new("echo", 16_000), |_| Arc::new(Echo));
        api.vad(VadSpec::new("echo"), |_| Arc::new(Echo));
    }

    async fn start(_: PluginContext, _: Value) -> Result<Self> {
        Ok(Echo)
    }
}

#[async_trait]
impl Tool for Echo {
    async fn call(&self, _: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        Ok(ToolOutput::text(request.args["text"].as_str().unwrap_or_default()))
    }
}

#[async_trait]
impl Tts for Echo {
    async fn voices(&self, _: &CallCx) -> Result<Vec<Voice>> {
        Ok(Vec::new())
    }

    fn open(&self, _: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        Ok(Box::new(Back(VecDeque::new())))
    }
}

impl Vad for Echo {
    fn open(&self, _: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        Ok(Box::new(Deaf))
    }
}

/// As many bytes of audio as there were of text, piece by piece.
struct Back(VecDeque<AudioChunk>);

impl Duplex<str, AudioChunk> for Back {
    fn push(&mut self, text: &str) -> Result<()> {
        self.0.push_back(AudioChunk::new(Audio::new(vec![0.25; text.len() / 4], 16_000)));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<AudioChunk>>> {
        // Nobody is woken: pieces come from pushes alone.
        self.0.pop_front().map_or(Poll::Pending, |chunk| Poll::Ready(Some(Ok(chunk))))
    }
}

/// Takes audio, and hears nothing in it.
struct Deaf;

impl Duplex<[f32], VadEvent> for Deaf {
    fn push(&mut self, samples: &[f32]) -> Result<()> {
        std::hint::black_box(samples);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        Poll::Pending
    }
}
