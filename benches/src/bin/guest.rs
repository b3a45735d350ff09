//! What the benchmark of processes starts: an echo as a plugin, an echo without anything around it, the supervisor of either, and a
//! program that does nothing. What is measured stands in the benchmark.

use std::{
    collections::VecDeque,
    env, fs,
    io::{self, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll},
};

use bespoke_plugin_api::{
    Audio, AudioChunk, CallCx, Descriptor, Duplex, Package, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest,
    ToolSpec, Tts, TtsOptions, TtsSpec, Voice, async_trait, serde_json::Value,
};

static ECHO: Descriptor = Descriptor::of::<Echo>(
    "echo",
    Package {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        license: env!("CARGO_PKG_LICENSE"),
        manifest: bespoke_benches::ECHO_MANIFEST,
        config_schema: "{}",
    },
);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let word = arguments.first().and_then(|word| word.to_str()).unwrap_or_default();
    match word {
        "empty" => ExitCode::SUCCESS,
        "serve" => bespoke_guest_process::serve(&ECHO),
        "__exec" => bespoke_sandbox::supervise(&arguments[1..]),
        bytes => match bytes.parse().map_err(io::Error::other).and_then(echo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Gives back so many bytes at a time: the least that any protocol has to do.
fn echo(bytes: usize) -> io::Result<()> {
    let mut input = fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut piece = vec![0; bytes];
    loop {
        let mut at = 0;
        while at < bytes {
            match input.read(&mut piece[at..])? {
                0 => return Ok(()),
                n => at += n,
            }
        }
        output.write_all(&piece)?;
    }
}

/// Gives back what it gets, on both lanes.
struct Echo;

impl Plugin for Echo {
    type Config = Value;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new("echo", "Gives its text back."), |_| Arc::new(Echo));
        api.tts(TtsSpec::new("echo", 16_000), |_| Arc::new(Echo));
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
