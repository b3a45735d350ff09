//! What the wire costs: the same plugin compiled in, behind guest core and proxy joined by memory, and in each tier that ships, side by
//! side. A call compiled in is a bare call of a trait; what a tier costs beyond its own floor stands in `dylib`, `wasm` and `process`.
//!
//! The guest of the loopback has a thread of its own, so a round trip is mostly two wake-ups; what several frames on their way cost each
//! shows what is left when nobody waits.

use std::{future::poll_fn, hint::black_box, path::Path, sync::Arc, time::Duration};

use bespoke_benches::{Aim, Counting, Group};
use bespoke_builder::{Request, Tier, build};
use bespoke_fake::BESPOKE_PLUGIN as FAKE;
use bespoke_host::{Grounds, Terms, open_folder};
use bespoke_plugin_api::{
    CallCx, Contribution, Duplex, Instance, Timestamp, Tool, ToolRequest, Vad, VadEvent, VadOptions, next,
    serde_json::{Value, json},
    try_next,
};
use bespoke_plugin_guest::{Core, Platform};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::{Clock, TestHost, block_on, loopback};
// The drivers are in the host's slice.
use bespoke_protocol::{CxHead, Kind, Setup, method, parse, put_call, put_credit, put_samples_frame, read_samples};
use bespoke_tier_dylib as _;
use bespoke_tier_process as _;
use bespoke_tier_wasm as _;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Number of the stream that the guest core has open.
const STREAM: u32 = 2;

/// Frames that are on their way at once, well within the window of a stream.
const AHEAD: u64 = 16;

/// Of text or samples: none, 10 ms of audio at 16 kHz, and what a pipe holds.
const SIZES: [usize; 3] = [0, 640, 64 << 10];

fn main() {
    wire();
    side_by_side();
}

/// Compiled in, and through the loopback.
fn wire() {
    let host = TestHost::new();
    let direct = block_on(FAKE.start(host.context(FAKE.id()), json!({}))).expect("the fake starts");
    let (remote, _probe) = block_on(loopback(&FAKE, host, StartOptions::new(FAKE.id(), json!({})))).expect("the fake starts");

    let (near, far) = (tool(&direct), tool(&remote));
    Group::new("small request call of a tool").case("compiled in", |n| call(&near, n)).case("loopback", |n| call(&far, n)).run();

    // 640 bytes, 10 ms at 16 kHz: what a telephone sends at a time.
    let short = vec![0.25_f32; 160];
    let (mut stream, mut core) = (open(&direct), core());
    let (mut bytes, mut read, mut out, mut frame) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    put_samples_frame(&mut frame, STREAM, &short).expect("a short frame");
    Group::new("frame of 160 samples, one thread")
        .case("compiled in", |n| {
            for _ in 0..n {
                stream.push(black_box(&short)).expect("it listens");
                while let Some(event) = try_next(&mut *stream) {
                    _ = black_box(event.expect("it hears"));
                }
            }
        })
        .case("encoded and decoded", |n| {
            for _ in 0..n {
                bytes.clear();
                put_samples_frame(&mut bytes, STREAM, black_box(&short)).expect("a short frame");
                let (frame, _) = parse(black_box(&bytes)).expect("a frame").expect("a whole one");
                read_samples(frame.blob, &mut read).expect("whole samples");
            }
        })
        .aim(Aim::Allocations(0))
        .case("one step of the guest core", |n| {
            for _ in 0..n {
                out.clear();
                core.step(black_box(&frame), &mut out).expect("frames");
            }
        })
        .run();

    let samples = vec![0.25_f32; 512];
    let (mut near, mut far) = (open(&direct), open(&remote));
    let (mut near_ahead, mut far_ahead) = (open(&direct), open(&remote));
    Group::new("frame of 512 samples, waiting for its event")
        .case("compiled in", |n| frames(&mut *near, &samples, n, 1))
        .case("loopback", |n| frames(&mut *far, &samples, n, 1))
        .run();
    Group::new(format!("frame of 512 samples, {AHEAD} on their way"))
        .case("compiled in", |n| frames(&mut *near_ahead, &samples, n, AHEAD))
        .case("loopback", |n| frames(&mut *far_ahead, &samples, n, AHEAD))
        .aim(Aim::Within(Duration::from_micros(10)))
        .run();
}

/// All four tiers, one after the other in the same groups.
fn side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // For the timers and pipes of the tiers.
    let _entered = runtime.enter();
    let mut tiers = vec![("compiled in", block_on(FAKE.start(TestHost::new().context(FAKE.id()), json!({}))).expect("the fake starts"))];
    for tier in [Tier::Dylib, Tier::Wasm, Tier::Process] {
        match built(tier, folder.path()) {
            Ok(instance) => tiers.push((tier.name(), instance)),
            #[allow(clippy::print_stderr, reason = "it is no measurement")]
            Err(why) => eprintln!("not measured: {}: {why}", tier.name()),
        }
    }
    for bytes in SIZES {
        let args = json!({ "text": "x".repeat(bytes) });
        let mut group = Group::new(format!("control lane: a call with {bytes} bytes there and back"));
        for (name, instance) in &tiers {
            let (tool, args) = (tool(instance), args.clone());
            group = group.case(*name, move |n| asked(&tool, &args, n));
        }
        group.run();
    }
    for bytes in SIZES {
        let samples = vec![0.25_f32; bytes / 4];
        let mut group = Group::new(format!("data lane: a frame of {bytes} bytes, with an event for each window of 512 samples"));
        for (name, instance) in &tiers {
            let (mut stream, samples) = (open(instance), &samples);
            group = group.case(*name, move |n| heard(&mut *stream, samples, n));
        }
        group.run();
    }
}

/// The fake in another tier, built as its author would build it.
fn built(tier: Tier, world: &Path) -> Result<Instance, String> {
    let mut request = Request::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/fake"), tier);
    request.release = true;
    let built = build(&request, &mut |_| ()).map_err(|e| e.to_string())?;
    let candidate = open_folder(&built.path, &Grounds::new(world.join("cache")).program(env!("CARGO_BIN_EXE_guest").into()));
    let host = TestHost::with_clock(Clock::Real);
    block_on(candidate.artifact.start(host.context(FAKE.id()), json!({}), Terms::default())).map_err(|e| e.to_string())
}

/// Calls with these arguments, one after the other.
fn asked(tool: &Arc<dyn Tool>, args: &Value, n: u64) {
    let cx = CallCx::new();
    block_on(async {
        for _ in 0..n {
            _ = black_box(tool.call(&cx, ToolRequest::new(args.clone())).await.expect("the fake answers"));
        }
    });
}

/// Pushes frames as fast as they are taken, and takes what comes.
fn heard(stream: &mut dyn Duplex<[f32], VadEvent>, samples: &[f32], n: u64) {
    block_on(async {
        for _ in 0..n {
            poll_fn(|cx| stream.poll_ready(cx)).await.expect("it listens");
            stream.push(black_box(samples)).expect("it listens");
            while let Some(event) = try_next(stream) {
                _ = black_box(event.expect("it hears"));
            }
        }
    });
}

/// A guest core whose plugin is started, with one open stream of the detector that may send as much as it likes.
fn core() -> Core {
    struct Bare;
    impl Platform for Bare {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
    }
    let mut core = Core::new(&FAKE, Arc::new(Bare));
    let (mut frames, mut out) = (Vec::new(), Vec::new());
    let setup = Setup { config: json!({}), data_dir: None, cpu_budget: 1, models: Default::default(), runtimes: Default::default() };
    put_call(&mut frames, Kind::CALL, 1, method::START, "", &CxHead::default(), &setup).expect("a small call");
    // A stream can be opened once the start has been polled.
    core.step(&frames, &mut out).expect("frames");
    frames.clear();
    let options = VadOptions::new(16_000);
    put_call(&mut frames, Kind::OPEN, STREAM, method::VAD_OPEN, "fake", &CxHead::default(), &options).expect("a small call");
    put_credit(&mut frames, 0, STREAM, u32::MAX);
    core.step(&frames, &mut out).expect("frames");
    core
}

fn tool(instance: &Instance) -> Arc<dyn Tool> {
    let found = instance.contributions.iter().find_map(|c| if let Contribution::Tool(_, tool) = c { Some(tool.clone()) } else { None });
    found.expect("the fake has a tool")
}

fn open(instance: &Instance) -> Box<dyn Duplex<[f32], VadEvent>> {
    let found = instance.contributions.iter().find_map(|c| if let Contribution::Vad(_, vad) = c { Some(vad) } else { None });
    let vad: &Arc<dyn Vad> = found.expect("the fake has a detector");
    vad.open(&VadOptions::new(16_000)).expect("it takes 16 kHz")
}

fn call(tool: &Arc<dyn Tool>, n: u64) {
    let cx = CallCx::new();
    block_on(async {
        for _ in 0..n {
            let answer = tool.call(&cx, ToolRequest::new(json!({ "text": "ahoy" }))).await;
            _ = black_box(answer.expect("the fake answers"));
        }
    });
}

/// Pushes `ahead` windows of silence and takes their events, as often as makes `n` windows.
fn frames(stream: &mut dyn Duplex<[f32], VadEvent>, samples: &[f32], n: u64, ahead: u64) {
    block_on(async {
        let mut left = n;
        while left > 0 {
            let now = left.min(ahead);
            for _ in 0..now {
                stream.push(black_box(samples)).expect("it listens");
            }
            for _ in 0..now {
                _ = black_box(next(stream).await.expect("it goes on").expect("it hears"));
            }
            left -= now;
        }
    });
}
