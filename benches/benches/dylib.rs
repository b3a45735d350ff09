//! What a library costs: a plugin in one against a bare call into the same library, and its start against opening it.

#![allow(unsafe_code, reason = "the floor: functions of a library, called as they are")]

use std::{
    env,
    ffi::c_void,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_benches::{Aim, Counting, ECHO_MANIFEST, Group, Sink};
use bespoke_host::{Artifact, Grounds, Terms, open_folder};
use bespoke_plugin_api::{
    AudioChunk, CallCx, Contribution, Duplex, Instance, Tool, ToolRequest, TtsOptions, VadEvent, VadOptions, next,
    serde_json::{Value, json},
    try_next,
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on};
// The driver is in the host's slice.
use bespoke_tier_dylib as _;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A word, 10 ms of audio at 16 kHz, and what a pipe holds.
const SIZES: [usize; 3] = [0, 640, 64 << 10];

type Take = unsafe extern "C" fn(*const u8, usize) -> u8;
type Echo = unsafe extern "C" fn(*const u8, usize, Sink, *mut c_void);

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // For the timers of a start.
    let _entered = runtime.enter();
    let echo = plugin(folder.path());
    let bare = bespoke_library::open(&library()).expect("the library");
    // SAFETY: these are its functions.
    let (take, give) = unsafe {
        let take = bare.get::<Take>("bespoke_bench_take").expect("a function");
        (*take, *bare.get::<Echo>("bespoke_bench_echo").expect("a function"))
    };
    for bytes in SIZES {
        frames(&echo, take, bytes);
    }
    for bytes in SIZES {
        back(&echo, give, bytes);
    }
    for bytes in SIZES {
        calls(&echo, give, bytes);
    }
    starts(&runtime, &echo);
}

/// The harness itself, as a library: cargo builds it beside this program.
fn library() -> PathBuf {
    let own = env::current_exe().expect("a program");
    let places = own.ancestors().skip(1).take(2).map(|folder| folder.join("libbespoke_benches.so"));
    places.into_iter().find(|path| path.is_file()).expect("libbespoke_benches.so beside this program")
}

/// The echo in a folder of its own.
fn plugin(world: &Path) -> Arc<dyn Artifact> {
    let folder = world.join("echo");
    fs::create_dir_all(&folder).expect("a folder");
    fs::copy(library(), folder.join("plugin.so")).expect("it is copied");
    fs::write(folder.join("plugin.toml"), format!("{ECHO_MANIFEST}\n[dylib]\nfile = \"plugin.so\"\n")).expect("it is written");
    let candidate = open_folder(&folder, &Grounds::new(world.join("cache")));
    candidate.manifest.expect("a manifest");
    candidate.artifact
}

async fn start(echo: &Arc<dyn Artifact>) -> Instance {
    let host = TestHost::with_clock(Clock::Real);
    echo.start(host.context("echo"), json!({}), Terms::default()).await.expect("it starts")
}

/// One way: audio that nothing is heard in.
fn frames(echo: &Arc<dyn Artifact>, take: Take, bytes: usize) {
    let instance = block_on(start(echo));
    let vad = instance.contributions.iter().find_map(|c| if let Contribution::Vad(_, vad) = c { Some(vad) } else { None });
    let mut stream: Box<dyn Duplex<[f32], VadEvent>> = vad.expect("the echo listens").open(&VadOptions::new(16_000)).expect("it listens");
    let samples = vec![0.25_f32; bytes / 4];
    let raw = vec![1_u8; bytes];
    let group = Group::new(format!("data lane, a frame of {bytes} bytes"))
        .case("a bare call", |n| {
            for _ in 0..n {
                let raw = black_box(&raw);
                // SAFETY: so many bytes lie there.
                _ = black_box(unsafe { take(raw.as_ptr(), raw.len()) });
            }
        })
        .case("a frame of a stream, and a look for events", |n| {
            for _ in 0..n {
                // Never waits: the library takes it in the same call.
                stream.push(black_box(&samples)).expect("it listens");
                assert!(try_next(&mut *stream).is_none());
            }
        })
        .aim(Aim::Allocations(0));
    if bytes == 640 { group.aim(Aim::Within(Duration::from_nanos(200))) } else { group }.run();
    drop(stream);
    block_on(instance.life.shutdown());
}

/// There and back: text in, as many bytes of audio out.
fn back(echo: &Arc<dyn Artifact>, give: Echo, bytes: usize) {
    let instance = block_on(start(echo));
    let tts = instance.contributions.iter().find_map(|c| if let Contribution::Tts(_, tts) = c { Some(tts) } else { None });
    let mut stream: Box<dyn Duplex<str, AudioChunk>> = tts.expect("the echo speaks").open(&TtsOptions::default()).expect("it listens");
    let text = "x".repeat(bytes);
    let mut got = Vec::new();
    Group::new(format!("data lane, {bytes} bytes there and back"))
        .case("a bare call", |n| bare(give, &text, &mut got, n))
        .case("a frame of a stream, and its event", |n| {
            block_on(async {
                for _ in 0..n {
                    stream.push(black_box(&text)).expect("it listens");
                    let chunk = next(&mut *stream).await.expect("it goes on").expect("it answers");
                    assert_eq!(black_box(chunk).audio.samples.len(), text.len() / 4);
                }
            });
        })
        .run();
    drop(stream);
    block_on(instance.life.shutdown());
}

fn calls(echo: &Arc<dyn Artifact>, give: Echo, bytes: usize) {
    let instance = block_on(start(echo));
    let tool = instance.contributions.iter().find_map(|c| if let Contribution::Tool(_, tool) = c { Some(tool.clone()) } else { None });
    let tool: Arc<dyn Tool> = tool.expect("the echo has a tool");
    let text = "x".repeat(bytes);
    let (args, mut got): (Value, _) = (json!({ "text": text }), Vec::new());
    let group = Group::new(format!("control lane, {bytes} bytes there and back"))
        .case("a bare call", |n| bare(give, &text, &mut got, n))
        .case("a call", |n| {
            let cx = CallCx::new();
            block_on(async {
                for _ in 0..n {
                    _ = black_box(tool.call(&cx, ToolRequest::new(args.clone())).await.expect("the echo answers"));
                }
            });
        });
    if bytes < 1024 { group.aim(Aim::Within(Duration::from_nanos(1500))) } else { group }.run();
    block_on(instance.life.shutdown());
}

fn bare(give: Echo, text: &str, got: &mut Vec<u8>, n: u64) {
    unsafe extern "C" fn sink(context: *mut c_void, bytes: *const u8, len: usize) {
        // SAFETY: the context is that of the call below, and so many bytes lie there.
        unsafe { (*context.cast::<Vec<u8>>()).extend_from_slice(slice::from_raw_parts(bytes, len)) }
    }
    for _ in 0..n {
        got.clear();
        let text = black_box(text);
        // SAFETY: so many bytes lie there, and the sink is for this vector.
        unsafe { give(text.as_ptr(), text.len(), sink, (&raw mut *got).cast()) }
        _ = black_box(&*got);
    }
}

/// A start of a library that is open already, which each but the first is.
fn starts(runtime: &Runtime, echo: &Arc<dyn Artifact>) {
    let file = library();
    Group::new("start in a library")
        .turns(20, Duration::from_millis(1))
        .case("its file is read", |n| (0..n).for_each(|_| _ = black_box(fs::read(&file).expect("it is there"))))
        .timed("a plugin, until it serves", |n| {
            (0..n)
                .map(|_| {
                    let begun = Instant::now();
                    let instance = runtime.block_on(start(echo));
                    let took = begun.elapsed();
                    runtime.block_on(instance.life.shutdown());
                    took
                })
                .sum()
        })
        .run();
}
