//! A host for the plugin, and a way to play sound to it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bespoke_plugin_api::{
    BoxFuture, Contribution, Duplex, HostApi, Instance, Level, PluginContext, Result, Timestamp, VadEvent, VadOptions, serde_json::Value,
    try_next,
};
use bespoke_vad_energy::BESPOKE_PLUGIN;

struct Host;

impl HostApi for Host {
    fn log(&self, _level: Level, _line: &str) {}
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(async {})
    }
    fn spawn(&self, _: BoxFuture<'static, ()>) {}
}

pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

pub(crate) fn start(config: Value) -> Result<Instance> {
    now(BESPOKE_PLUGIN.start(PluginContext::new("energy", Arc::new(Host)), config))
}

pub(crate) fn open(instance: &Instance, rate: u32) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
    match &instance.contributions[..] {
        [Contribution::Vad(spec, vad)] => {
            assert_eq!(spec.name, "energy");
            vad.open(&VadOptions::new(rate))
        }
        other => panic!("{other:?}"),
    }
}

/// Plays `sound` in blocks and returns everything that comes out.
pub(crate) fn listen(rate: u32, sound: &[f32], block: usize) -> Vec<VadEvent> {
    let instance = start(Value::Object(Default::default())).expect("starts");
    let mut stream = open(&instance, rate).expect("opens");
    let mut events = Vec::new();
    let mut drain = |stream: &mut Box<dyn Duplex<[f32], VadEvent>>| {
        while let Some(event) = try_next(&mut **stream) {
            events.push(event.expect("no failure"));
        }
    };
    for chunk in sound.chunks(block) {
        stream.push(chunk).expect("takes sound");
        drain(&mut stream);
    }
    stream.finish().expect("ends");
    drain(&mut stream);
    events
}

/// Starts and ends, as place of decision and place of the border.
pub(crate) fn borders(events: &[VadEvent]) -> Vec<(&'static str, u64, u64)> {
    events
        .iter()
        .filter_map(|event| match *event {
            VadEvent::SpeechStart { at, from, .. } => Some(("start", at, from)),
            VadEvent::SpeechEnd { at, to, .. } => Some(("end", at, to)),
            _ => None,
        })
        .collect()
}

pub(crate) fn probabilities(events: &[VadEvent]) -> Vec<f32> {
    events
        .iter()
        .filter_map(|event| match *event {
            VadEvent::Window { probability, .. } => Some(probability),
            _ => None,
        })
        .collect()
}

pub(crate) fn sine(rate: u32, amplitude: f32, seconds: f32) -> Vec<f32> {
    let step = 2.0 * std::f32::consts::PI * 200.0 / rate as f32;
    (0..(rate as f32 * seconds) as usize).map(|i| amplitude * (i as f32 * step).sin()).collect()
}
