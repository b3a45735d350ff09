//! Sixty seconds of audio through a detector in each tier: the same events, no frame lost, and on the host's side no allocation for a frame
//! of which nothing comes, but the one that wasmtime makes. A binary of its own, because the counting allocator is the whole program's;
//! what a library allocates is the library's.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bespoke_plugin_api::{Contract, Duplex, Instance, Vad, VadEvent, VadOptions, next, serde_json::json};
use bespoke_plugin_testkit::{Counting, TestHost, block_on, block_on_for};
use bespoke_vad_energy::BESPOKE_PLUGIN;

#[allow(dead_code, reason = "what is compared between tiers is the other binary's")]
#[path = "../tiers/built.rs"]
mod built;

use built::{TIERS, candidate, runtime, starts};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RATE: u32 = 16_000;
/// 20 ms.
const FRAME: usize = 320;
/// A minute.
const FRAMES: usize = 3_000;
/// Longer than it takes where two cores are shared by many.
const LONG: Duration = Duration::from_secs(300);

/// A minute of somebody who speaks for a second, and is silent for one and a half: a tone that swells, over a little noise.
fn minute() -> Vec<f32> {
    let mut noise = 1_u32;
    (0..FRAME * FRAMES)
        .map(|n| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = (noise >> 16) as f32 / 65_536.0 * 0.002 - 0.001;
            let within = n % (RATE as usize * 5 / 2);
            let speaks = within < RATE as usize;
            let tone = if n / 40 % 2 == 0 { 0.3 } else { -0.3 };
            if speaks { tone + hiss } else { hiss }
        })
        .collect()
}

fn open(instance: &Instance) -> Box<dyn Duplex<[f32], VadEvent>> {
    let (_, vad) = instance.contributions.iter().find_map(<dyn Vad>::of).unwrap();
    vad.open(&VadOptions::new(RATE)).unwrap()
}

/// What was heard, without how long it took.
fn told(event: VadEvent) -> String {
    match event {
        VadEvent::Window { at, probability, .. } => format!("{at} {:08x}", probability.to_bits()),
        other => format!("{other:?}"),
    }
}

/// What a minute came to.
struct Heard {
    events: Vec<VadEvent>,
    /// Frames after which nothing had come, in the second half, when all buffers have grown.
    quiet: u64,
    /// What this thread allocated for them.
    allocated: u64,
    /// What all threads allocated in the second half, for frames and events.
    all: u64,
}

/// Pushes all frames, one after the other, as fast as the stream takes them, and reads to the end.
async fn heard(stream: &mut dyn Duplex<[f32], VadEvent>, audio: &[f32]) -> Heard {
    // Room for all that comes, so that keeping it allocates nothing.
    let mut heard = Heard { events: Vec::with_capacity(FRAMES * 4), quiet: 0, allocated: 0, all: 0 };
    let mut begun = 0;
    for (n, frame) in audio.chunks(FRAME).enumerate() {
        if n == FRAMES / 2 {
            begun = Counting::all();
        }
        poll_fn(|cx| stream.poll_ready(cx)).await.unwrap();
        let (before, events) = (Counting::mine(), heard.events.len());
        stream.push(frame).unwrap();
        let pushed = Counting::mine() - before;
        while let Poll::Ready(Some(event)) = stream.poll_next(&mut Context::from_waker(Waker::noop())) {
            heard.events.push(event.unwrap());
        }
        if n >= FRAMES / 2 && heard.events.len() == events {
            heard.quiet += 1;
            heard.allocated += pushed;
        }
    }
    stream.finish().unwrap();
    while let Some(event) = next(stream).await {
        heard.events.push(event.unwrap());
    }
    heard.all = Counting::all() - begun;
    heard
}

#[test]
fn a_minute_of_audio_is_the_same_in_each_tier() {
    let place = tempfile::tempdir().unwrap();
    let (runtime, audio, host) = (runtime(), minute(), TestHost::new());
    let _entered = runtime.enter();
    let mut instances = vec![("compiled", block_on(BESPOKE_PLUGIN.start(host.context("energy"), json!({}))).unwrap())];
    for &tier in TIERS {
        let start = starts(candidate("crates/vad-energy", tier, place.path()));
        let started = block_on_for(LONG, start(host.context("energy"), json!({}))).expect("it hangs");
        instances.push((tier.name(), started.unwrap()));
    }
    let mut first: Option<Vec<String>> = None;
    for (tier, instance) in instances {
        let mut stream = open(&instance);
        let heard = block_on_for(LONG, heard(&mut *stream, &audio)).expect("it hangs");
        let events: Vec<String> = heard.events.into_iter().map(told).collect();
        let starts = events.iter().filter(|event| event.starts_with("SpeechStart")).count();
        assert_eq!(starts, 24, "{tier}: a second of speech each two and a half");
        // Each sample was heard: the last window ends where the audio ends, but for what fills no window.
        let last = events.iter().rev().find_map(|event| event.split_once(' ')?.0.parse::<usize>().ok()).unwrap();
        assert!(audio.len() - last < 512, "{tier}: heard up to {last} of {}", audio.len());
        let half = events.len() as f64 / 2.0;
        #[allow(clippy::print_stdout, reason = "what was counted is what one wants to see of it")]
        let told = |line: String| println!("{line}");
        told(format!(
            "{tier}: {} events; {} quiet frames cost {} allocations; {:.1} for each event, all threads together",
            events.len(),
            heard.quiet,
            heard.allocated,
            heard.all as f64 / half
        ));
        assert!(heard.quiet > 100, "{tier}: {} frames of which nothing came", heard.quiet);
        // What waits because it is pushed faster than it is read waits in a buffer that grows now and then. A step in wasm is a fiber, of
        // which wasmtime has a record each time.
        let most = match tier {
            "compiled" => 0,
            "wasm" => heard.quiet * 2,
            _ => heard.quiet / 20,
        };
        assert!(heard.allocated <= most, "{tier}: {} allocations for {} frames of which nothing came", heard.allocated, heard.quiet);
        assert!((heard.all as f64) < half * 24.0, "{tier}: {} allocations for {half} events", heard.all);
        match &first {
            Some(first) => assert_eq!(&events, first, "{tier}"),
            None => first = Some(events),
        }
    }
}
