//! Frames inside an open stream allocate nothing: neither compiled in nor on their way through the wire. A binary of its
//! own, because the counting allocator is the whole program's.

use std::{
    future::poll_fn,
    task::{Context, Waker},
    time::Duration,
};

use bespoke_fake::BESPOKE_PLUGIN;
use bespoke_plugin_api::{Channel, Contract, Duplex, Instance, Vad, VadEvent, VadOptions, try_next};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::{Counting, TestHost, block_on, loopback};
use bespoke_protocol::{
    MAX_FRAME,
    line::{Incoming, LineReader, LineWriter, Side},
    parse, put_samples_frame,
};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Half a window: two pushes make one event.
const FRAME: [f32; 256] = [0.25; 256];
const FRAMES: u64 = 10_000;

#[test]
fn frames_allocate_nothing() {
    let host = TestHost::new();
    let compiled = block_on(BESPOKE_PLUGIN.start(host.context("fake"), json!({}))).unwrap();
    let mut stream = open(&compiled);
    let frames = |stream: &mut dyn Duplex<[f32], VadEvent>, count: u64| {
        for _ in 0..count {
            stream.push(&FRAME).unwrap();
            while let Some(event) = try_next(stream) {
                event.unwrap();
            }
        }
    };
    frames(&mut *stream, 100);
    let before = Counting::mine();
    frames(&mut *stream, FRAMES);
    assert_eq!(Counting::mine() - before, 0, "compiled in");

    // Text that makes no event: frames alone, pushed as fast as the guest takes them.
    let (wired, probe) = block_on(loopback(&BESPOKE_PLUGIN, host, StartOptions::new("fake", json!({})))).unwrap();
    let mut text = wired.contributions.iter().find_map(<dyn Channel>::of).unwrap().1.stream("chat").unwrap();
    let mut write = |count: u64| {
        for _ in 0..count {
            // Only where there is no room: waiting makes a waker.
            if !text.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready() {
                assert!(probe.wait_quiet(Duration::from_secs(10)));
            }
            text.push("a few words ").unwrap();
        }
        assert!(probe.wait_quiet(Duration::from_secs(10)));
    };
    write(FRAMES);
    let (before, mine) = (Counting::all(), Counting::mine());
    write(FRAMES);
    let (all, pushing) = (Counting::all() - before, Counting::mine() - mine);
    // The buffers of the wire and the plugin's own text grow by doubling: a few times in all, not once a frame.
    assert!(pushing <= 32, "{pushing} allocations of the pushing thread for {FRAMES} frames");
    assert!(all <= 128, "{all} allocations of all threads for {FRAMES} frames");

    lines();

    let mut stream = open(&wired);
    // With events each of them is JSON and costs a few.
    let mut taken = 0;
    let before = Counting::all();
    for _ in 0..FRAMES {
        block_on(poll_fn(|cx| stream.poll_ready(cx))).unwrap();
        stream.push(&FRAME).unwrap();
        while let Some(event) = try_next(&mut *stream) {
            event.unwrap();
            taken += 1;
        }
    }
    while taken < FRAMES / 2 {
        block_on(bespoke_plugin_api::next(&mut *stream)).unwrap().unwrap();
        taken += 1;
    }
    let each = (Counting::all() - before) as f64 / taken as f64;
    assert!(each < 12.0, "{each} allocations for each event");
}

/// The same frames as lines on a pipe, written and read, whole and cut.
fn lines() {
    let (writer, mut reader) = (LineWriter::new(Side::Host).blobs(true), LineReader::new(Side::Host, MAX_FRAME));
    let (mut frame, mut line, mut seen) = (Vec::new(), Vec::new(), 0);
    let mut frames = |count: u64| {
        for n in 0..count {
            frame.clear();
            line.clear();
            put_samples_frame(&mut frame, 7, &FRAME).unwrap();
            let (frame, _) = parse(&frame).unwrap().unwrap();
            writer.put(&frame, &mut line).unwrap();
            let (a, b) = line.split_at(n as usize % line.len());
            for piece in [a, b] {
                reader.feed(piece, |incoming| seen += usize::from(matches!(incoming, Incoming::Frame(f) if f == frame)));
            }
        }
    };
    frames(3000);
    let before = Counting::mine();
    frames(FRAMES);
    assert_eq!(Counting::mine() - before, 0, "as lines");
    assert_eq!(seen as u64, FRAMES + 3000);
}

fn open(instance: &Instance) -> Box<dyn Duplex<[f32], VadEvent>> {
    let (_, vad) = instance.contributions.iter().find_map(<dyn Vad>::of).unwrap();
    vad.open(&VadOptions::new(16_000)).unwrap()
}
