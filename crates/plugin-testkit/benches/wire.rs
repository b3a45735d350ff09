//! What the wire costs: a frame and a call, compiled in, through one step of the guest core, and through the loopback.

use std::sync::Arc;

use bespoke_fake::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    CallCx, Channel, Contract, Duplex, Instance, MessageRef, Timestamp, Tool, ToolRequest, Vad, VadEvent, VadOptions, try_next,
};
use bespoke_plugin_guest::{Core, Platform};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::{TestHost, block_on, loopback};
use bespoke_protocol::{CxHead, Kind, Setup, method, put_bytes_frame, put_call, put_samples_frame};
use divan::{Bencher, black_box};
use serde_json::json;

fn main() {
    divan::main();
}

/// 640 bytes: 10 ms at 16 kHz.
const FRAME: [f32; 160] = [0.25; 160];

fn compiled() -> Instance {
    block_on(BESPOKE_PLUGIN.start(TestHost::new().context("fake"), json!({}))).unwrap()
}

fn wired() -> Instance {
    block_on(loopback(&BESPOKE_PLUGIN, TestHost::new(), StartOptions::new("fake", json!({})))).unwrap().0
}

fn vad(instance: &Instance) -> Box<dyn Duplex<[f32], VadEvent>> {
    let (_, vad) = instance.contributions.iter().find_map(<dyn Vad>::of).unwrap();
    vad.open(&VadOptions::new(16_000)).unwrap()
}

fn text(instance: &Instance) -> Box<dyn Duplex<str, MessageRef>> {
    instance.contributions.iter().find_map(<dyn Channel>::of).unwrap().1.stream("chat").unwrap()
}

fn echo(instance: &Instance) -> &Arc<dyn Tool> {
    instance.contributions.iter().find_map(<dyn Tool>::of).unwrap().1
}

struct Bare;

impl Platform for Bare {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

fn core() -> Core {
    let mut core = Core::new(&BESPOKE_PLUGIN, Arc::new(Bare));
    let mut frames = Vec::new();
    let setup = Setup { config: json!({}), data_dir: None, cpu_budget: 1, models: Default::default() };
    put_call(&mut frames, Kind::CALL, 1, method::START, "", &CxHead::default(), &setup).unwrap();
    let mut out = Vec::new();
    // A stream can be opened once the start has been polled.
    core.step(&frames, &mut out).unwrap();
    frames.clear();
    put_call(&mut frames, Kind::OPEN, 2, method::VAD_OPEN, "fake", &CxHead::default(), &VadOptions::new(16_000)).unwrap();
    put_call(
        &mut frames,
        Kind::OPEN,
        3,
        method::CHANNEL_STREAM,
        "fake",
        &CxHead::default(),
        &bespoke_protocol::ChatArgs { chat: "c".into() },
    )
    .unwrap();
    core.step(&frames, &mut out).unwrap();
    core
}

/// Samples into the VAD, its events out: one window in three frames.
#[divan::bench]
fn frame_with_events_compiled_in(bencher: Bencher<'_, '_>) {
    let instance = compiled();
    let mut stream = vad(&instance);
    bencher.bench_local(|| {
        stream.push(black_box(&FRAME)).unwrap();
        while let Some(event) = try_next(&mut *stream) {
            black_box(event.unwrap());
        }
    });
}

#[divan::bench]
fn frame_encode_and_decode(bencher: Bencher<'_, '_>) {
    let (mut bytes, mut samples) = (Vec::new(), Vec::new());
    bencher.bench_local(|| {
        bytes.clear();
        put_samples_frame(&mut bytes, 7, black_box(&FRAME)).unwrap();
        let (frame, _) = bespoke_protocol::parse(black_box(&bytes)).unwrap().unwrap();
        bespoke_protocol::read_samples(frame.blob, &mut samples).unwrap();
        samples.len()
    });
}

/// Text of 12 bytes that makes no event: the price of the frame alone.
#[divan::bench]
fn frame_without_events_core_step(bencher: Bencher<'_, '_>) {
    let (mut core, mut frame, mut out) = (core(), Vec::new(), Vec::new());
    put_bytes_frame(&mut frame, 3, b"a few words ").unwrap();
    bencher.bench_local(|| {
        out.clear();
        core.step(black_box(&frame), &mut out).unwrap()
    });
}

#[divan::bench]
fn frame_with_events_core_step(bencher: Bencher<'_, '_>) {
    let (mut core, mut frame, mut out) = (core(), Vec::new(), Vec::new());
    put_samples_frame(&mut frame, 2, &FRAME).unwrap();
    let mut credit = Vec::new();
    bespoke_protocol::put_credit(&mut credit, 0, 2, u32::MAX);
    core.step(&credit, &mut out).unwrap();
    bencher.bench_local(|| {
        out.clear();
        core.step(black_box(&frame), &mut out).unwrap()
    });
}

#[divan::bench]
fn frame_push_loopback(bencher: Bencher<'_, '_>) {
    let instance = wired();
    let mut stream = text(&instance);
    bencher.bench_local(|| {
        block_on(std::future::poll_fn(|cx| stream.poll_ready(cx))).unwrap();
        stream.push(black_box("a few words ")).unwrap();
    });
}

#[divan::bench]
fn call_compiled_in(bencher: Bencher<'_, '_>) {
    let instance = compiled();
    let (tool, cx) = (echo(&instance), CallCx::new());
    bencher.bench_local(|| block_on(tool.call(&cx, ToolRequest::new(json!({ "a": 1 })))).unwrap());
}

#[divan::bench]
fn call_core_step(bencher: Bencher<'_, '_>) {
    let (mut core, mut frame, mut out) = (core(), Vec::new(), Vec::new());
    put_call(&mut frame, Kind::CALL, 9, method::TOOL_CALL, "fake_echo", &CxHead::default(), &ToolRequest::new(json!({ "a": 1 }))).unwrap();
    bencher.bench_local(|| {
        out.clear();
        core.step(black_box(&frame), &mut out).unwrap()
    });
}

#[divan::bench]
fn call_loopback(bencher: Bencher<'_, '_>) {
    let instance = wired();
    let (tool, cx) = (echo(&instance), CallCx::new());
    bencher.bench_local(|| block_on(tool.call(&cx, ToolRequest::new(json!({ "a": 1 })))).unwrap());
}
