//! What the wire costs: the same plugin compiled in, and behind guest core and proxy joined by memory.
//!
//! The guest has a thread of its own, so a round trip is mostly two wake-ups; what several frames on their way cost each shows
//! what is left when nobody waits.

use std::{hint::black_box, sync::Arc, time::Duration};

use bespoke_benches::{Aim, Counting, Group};
use bespoke_fake::BESPOKE_PLUGIN as FAKE;
use bespoke_plugin_api::{CallCx, Contribution, Duplex, Instance, Tool, ToolRequest, Vad, VadEvent, VadOptions, next, serde_json::json};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::{TestHost, block_on, loopback};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames that are on their way at once, well within the window of a stream.
const AHEAD: u64 = 16;

fn main() {
    let host = TestHost::new();
    let direct = block_on(FAKE.start(host.context(FAKE.id()), json!({}))).expect("the fake starts");
    let (remote, _probe) = block_on(loopback(&FAKE, host, StartOptions::new(FAKE.id(), json!({})))).expect("the fake starts");

    let (near, far) = (tool(&direct), tool(&remote));
    Group::new("small request call of a tool").case("compiled in", |n| call(&near, n)).case("loopback", |n| call(&far, n)).run();

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
