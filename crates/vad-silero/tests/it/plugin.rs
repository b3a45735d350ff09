//! The plugin as the host sees it: start, streams at any rate, live options, errors.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bespoke_plugin_api::{
    BoxFuture, Code, Contribution, Duplex, Error, Health, HostApi, Instance, Level, PluginContext, Result, RuntimePack, Timestamp, Vad,
    VadEvent, VadOptions,
    serde_json::{Value, json},
    try_next,
};
use bespoke_vad_silero::{BESPOKE_PLUGIN, Model};

use crate::kit::{self, recordings};
use crate::support;

/// A host that keeps one model, and packs of runtimes, and remembers what is logged.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) model: Option<PathBuf>,
    pub(crate) packs: Vec<RuntimePack>,
    pub(crate) log: Mutex<Vec<String>>,
}

impl HostApi for Host {
    fn log(&self, _level: Level, line: &str) {
        self.log.lock().unwrap().push(line.to_owned());
    }
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
    fn model(&self, file: &str) -> Result<PathBuf> {
        assert_eq!(file, "silero_vad.onnx");
        self.model.clone().ok_or_else(|| Error::new(Code::MODEL_NOT_FOUND, "no such model"))
    }
    fn runtime(&self, spec: &str) -> Result<RuntimePack> {
        let pack = self.packs.iter().find(|pack| pack.spec == spec).cloned();
        let missing = || Error::new(Code::DEPENDENCY_MISSING, format!("{spec} is not installed"));
        pack.ok_or_else(|| missing().with_help(format!("bespoke plugin install {spec}")))
    }
}

impl Host {
    fn clone_of(other: &Host) -> Self {
        Host { model: other.model.clone(), packs: other.packs.clone(), log: Mutex::default() }
    }
}

/// Nothing of the environment names a library.
const UNNAMED: [(&str, Option<PathBuf>); 2] = [(bespoke_onnx::LIBRARY_VAR, None), (bespoke_onnx::ROOT_VAR, None)];

pub(crate) fn host() -> Arc<Host> {
    Arc::new(Host { model: Some(kit::model_path()), ..Host::default() })
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

pub(crate) fn start(host: Arc<Host>, config: Value) -> Result<Instance> {
    now(BESPOKE_PLUGIN.start(PluginContext::new("silero", host), config))
}

pub(crate) fn vad(instance: &Instance) -> Arc<dyn Vad> {
    match &instance.contributions[..] {
        [Contribution::Vad(spec, vad)] => {
            assert_eq!(spec.name, "silero");
            vad.clone()
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) type VadStream = Box<dyn Duplex<[f32], VadEvent>>;

/// Feeds `samples` in blocks of `block` and returns everything that comes out.
pub(crate) fn listen(stream: &mut VadStream, samples: &[f32], block: usize) -> Vec<VadEvent> {
    let mut events = Vec::new();
    for chunk in samples.chunks(block) {
        stream.push(chunk).expect("takes sound");
        while let Some(event) = try_next(&mut **stream) {
            events.push(event.expect("no failure"));
        }
    }
    stream.finish().expect("ends");
    while let Some(event) = try_next(&mut **stream) {
        events.push(event.expect("no failure"));
    }
    events
}

/// Starts and ends, as type and place of decision.
pub(crate) fn borders(events: &[VadEvent]) -> Vec<(&'static str, u64)> {
    events
        .iter()
        .filter_map(|event| match *event {
            VadEvent::SpeechStart { at, .. } => Some(("start_of_speech", at)),
            VadEvent::SpeechEnd { at, .. } => Some(("end_of_speech", at)),
            _ => None,
        })
        .collect()
}

fn probabilities(events: &[VadEvent]) -> Vec<f32> {
    events
        .iter()
        .filter_map(|event| match *event {
            VadEvent::Window { probability, .. } => Some(probability),
            _ => None,
        })
        .collect()
}

#[test]
fn a_stream_gives_the_reference_events_and_probabilities_in_blocks_of_any_length() {
    for config in [json!({ "engine": "builtin" }), json!({ "engine": "ort", "onnxruntime": support::onnxruntime() })] {
        let instance = start(host(), config).expect("starts");
        for (reference, samples) in recordings() {
            let want: Vec<(&str, u64)> =
                reference.livekit_plugin_default.iter().map(|event| (event.kind.as_str(), event.samples_index)).collect();
            for block in [160, 512, 4_001, samples.len()] {
                let mut stream = vad(&instance).open(&VadOptions::new(reference.sr)).expect("opens");
                let events = listen(&mut stream, &samples, block);
                assert_eq!(borders(&events), want, "{} in blocks of {block}", reference.name);
                let probabilities = probabilities(&events);
                assert_eq!(probabilities.len(), reference.probs.len());
                for (got, want) in probabilities.iter().zip(&reference.probs) {
                    assert!((got - want).abs() <= 1e-4, "{}: {got} and {want}", reference.name);
                }
            }
        }
    }
}

#[test]
fn sound_at_other_rates_has_its_borders_in_its_own_samples() {
    let instance = start(host(), json!({ "engine": "builtin" })).expect("starts");
    let (reference, samples) = recordings().into_iter().find(|(r, _)| r.name == "librivox_0870").expect("always here");
    let silence = vec![0.0; 16_000];
    let sound = [&samples[..], &silence].concat();
    let mut want = None;
    for rate in [16_000, 44_100, 48_000, 22_050, 11_025, 8_000] {
        let resampled = bespoke_audio::resample(&sound, reference.sr, rate).expect("usual rates");
        let mut stream = vad(&instance).open(&VadOptions::new(rate)).expect("opens");
        let events = listen(&mut stream, &resampled, 480);
        let seconds: Vec<(&str, f64)> = borders(&events).iter().map(|&(edge, at)| (edge, at as f64 / f64::from(rate))).collect();
        assert!(events.iter().all(|event| match *event {
            VadEvent::Window { at, .. } | VadEvent::SpeechStart { at, .. } | VadEvent::SpeechEnd { at, .. } => at <= resampled.len() as u64,
            _ => false,
        }));
        let want = want.get_or_insert_with(|| seconds.clone());
        assert_eq!(seconds.len(), want.len(), "{rate}: {seconds:?}");
        assert_eq!(seconds.len(), 2);
        for ((edge, got), (want_edge, want)) in seconds.iter().zip(want.iter()) {
            assert_eq!(edge, want_edge);
            assert!((got - want).abs() < 0.1, "{rate}: {edge} at {got} s, expected {want} s");
        }
    }
}

#[test]
fn speech_has_its_prefix_and_ends_before_the_silence() {
    let instance = start(host(), json!({ "engine": "builtin" })).expect("starts");
    let (_, samples) = recordings().into_iter().find(|(r, _)| r.name == "librivox_0870").expect("always here");
    let sound = [&vec![0.0; 32_000][..], &samples, &vec![0.0; 16_000]].concat();
    let mut stream = vad(&instance).open(&VadOptions::new(16_000)).expect("opens");
    let events: Vec<VadEvent> =
        listen(&mut stream, &sound, 160).into_iter().filter(|event| !matches!(event, VadEvent::Window { .. })).collect();
    let [VadEvent::SpeechStart { at, from, .. }, VadEvent::SpeechEnd { at: end, to, .. }] = events[..] else { panic!("{events:?}") };
    // The prefix of 500 ms and two windows, as the LiveKit plugin sends them.
    assert_eq!(at - from, 9_024);
    // 18 windows of silence.
    assert_eq!(end - to, 18 * 512);
    assert!(to > 140_000 && to < 150_000, "{to}");
}

#[test]
fn a_change_of_options_reaches_open_streams() {
    let instance = start(host(), json!({ "engine": "builtin" })).expect("starts");
    let (_, samples) = recordings().into_iter().find(|(r, _)| r.name == "librivox_0870").expect("always here");
    let mut stream = vad(&instance).open(&VadOptions::new(16_000)).expect("opens");
    let change = |config: Value| now(instance.life.reconfigure(config));
    change(json!({ "min_speech_ms": 60_000 })).expect("live");
    assert_eq!(borders(&listen(&mut stream, &samples, 160)), []);
    assert!(change(json!({ "activation_threshold": 7 })).is_err());
    change(json!({})).expect("live");
    let mut stream = vad(&instance).open(&VadOptions::new(16_000)).expect("opens");
    assert_eq!(borders(&listen(&mut stream, &samples, 160)).len(), 1);
}

#[test]
fn a_finished_stream_stays_finished_and_takes_no_more() {
    let instance = start(host(), json!({ "engine": "builtin" })).expect("starts");
    let mut stream = vad(&instance).open(&VadOptions::new(16_000)).expect("opens");
    assert!(listen(&mut stream, &[], 160).is_empty());
    stream.finish().expect("again");
    assert!(stream.push(&[0.0; 512]).expect_err("over").message().contains("finished"));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(matches!(stream.poll_next(&mut cx), Poll::Ready(None)));
    }
}

#[test]
fn broken_samples_do_not_spoil_a_stream() {
    let instance = start(host(), json!({ "engine": "builtin" })).expect("starts");
    let (_, samples) = recordings().into_iter().find(|(r, _)| r.name == "librivox_0870").expect("always here");
    let broken = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 2.0];
    for rate in [16_000, 44_100] {
        let mut stream = vad(&instance).open(&VadOptions::new(rate)).expect("opens");
        let sound: Vec<f32> = broken.iter().copied().cycle().take(5_000).chain(vec![0.0; 100_000]).collect();
        let events = listen(&mut stream, &sound, 333);
        assert!(probabilities(&events).iter().all(|p| (0.0..=1.0).contains(p)), "{rate}");
    }
    let mut stream = vad(&instance).open(&VadOptions::new(16_000)).expect("opens");
    let sound: Vec<f32> = broken.iter().copied().chain(vec![0.0; 32_000]).chain(samples).collect();
    assert!(!borders(&listen(&mut stream, &sound, 160)).is_empty(), "still hears");
}

#[test]
fn what_runs_is_reported_and_what_does_not_is_explained() {
    let instance = start(host(), json!({ "engine": "builtin" })).expect("starts");
    let facts = instance.life.facts();
    assert_eq!((facts["engine"].as_str(), facts["model"].as_str()), ("builtin", "silero 6.2"));
    assert_eq!(instance.life.health(), Health::Ok);

    let instance = start(host(), json!({ "engine": "auto", "onnxruntime": "/nowhere/libonnxruntime.so" })).expect("falls back");
    assert_eq!(instance.life.facts()["engine"], "builtin");
    assert!(instance.life.health().reason().expect("degraded").contains("/nowhere/libonnxruntime.so"));

    let error = start(host(), json!({ "engine": "ort", "onnxruntime": "/nowhere/libonnxruntime.so" })).expect_err("not there");
    assert!(error.help().expect("a way out").contains("builtin"), "{error}");
    let error = start(host(), json!({ "model_file": "/nowhere/silero.onnx" })).expect_err("not there");
    assert_eq!(error.code(), Code::MODEL_NOT_FOUND);
    let error = start(host(), json!({ "min_speech": 50 })).expect_err("no such key");
    assert!(error.message().contains("min_speech"), "{error}");

    for rate in [0, 1, 999, u32::MAX] {
        let instance = start(host(), json!({ "engine": "builtin" })).expect("starts");
        let error = vad(&instance).open(&VadOptions::new(rate)).err().expect("refused");
        assert_eq!(error.code(), Code::STT_AUDIO_INVALID);
        assert!(error.message().contains(&rate.to_string()), "{error}");
    }
}

/// ONNX Runtime out of a pack, as the host hands it over, and nothing of the environment: the probabilities of the original,
/// and where they came from.
#[test]
fn a_pack_gives_the_reference_probabilities_and_is_reported() {
    if !support::apart("a_pack_gives_the_reference_probabilities_and_is_reported", &UNNAMED) {
        return;
    }
    let library = support::library();
    for origin in ["installed", "bundled"] {
        let pack = RuntimePack::new("onnx:cpu", "1.28.0", origin, library.parent().expect("in a folder"), &library);
        let host = Arc::new(Host { packs: vec![pack], ..Host::clone_of(&host()) });
        let instance = start(host.clone(), json!({})).expect("starts");
        let facts = instance.life.facts();
        let fact = |name: &str| facts.get(name).map(String::as_str);
        assert_eq!((fact("engine"), fact("device")), (Some("ort"), Some("cpu")));
        assert_eq!(fact("onnxruntime_library"), library.to_str());
        // The first is the one that the process has.
        assert_eq!(fact("onnxruntime_origin"), Some("installed pack"));
        assert_eq!(fact("device_reason"), Some("no CUDA: onnx:cuda is not installed; bespoke plugin install onnx:cuda"));
        assert!(fact("onnxruntime").is_some_and(|version| version.starts_with("1.")), "{facts:?}");
        assert!(facts.contains_key("onnxruntime_telemetry") && !facts.contains_key("onnxruntime_after_restart"), "{facts:?}");
        assert_eq!(instance.life.health(), Health::Ok);
        assert!(host.log.lock().unwrap().is_empty(), "nothing was asked for that does not run");

        for (reference, samples) in recordings() {
            let mut stream = vad(&instance).open(&VadOptions::new(reference.sr)).expect("opens");
            let got = probabilities(&listen(&mut stream, &samples, 512));
            assert_eq!(got.len(), reference.probs.len());
            for (got, want) in got.iter().zip(&reference.probs) {
                assert!((got - want).abs() <= 1e-4, "{}: {got} and {want}", reference.name);
            }
        }
    }
}

/// No machine for tests has a pack with CUDA: it is asked for in vain, and the processor does it.
#[test]
fn cuda_that_does_not_run_is_one_warning_or_an_error() {
    if !support::apart("cuda_that_does_not_run_is_one_warning_or_an_error", &UNNAMED) {
        return;
    }
    let library = support::library();
    let packs = || vec![RuntimePack::new("onnx:cpu", "1.28.0", "installed", library.parent().expect("in a folder"), &library)];
    // Those without a library first: once one is loaded, it serves everybody.
    for (engine, packs) in [("auto", Vec::new()), ("builtin", Vec::new()), ("auto", packs()), ("ort", packs())] {
        let host = Arc::new(Host { packs, ..Host::clone_of(&host()) });
        let instance = start(host.clone(), json!({ "device": "cuda", "engine": engine })).expect("runs on the processor");
        let facts = instance.life.facts();
        assert_eq!(facts["engine"], if host.packs.is_empty() { "builtin" } else { "ort" });
        assert_eq!(facts["device"], "cpu");
        let log = host.log.lock().unwrap();
        assert!(matches!(&log[..], [line] if line.starts_with("device = \"cuda\" does not run: ")), "{log:?}");
        assert_eq!(instance.life.health(), Health::Degraded(log[0].clone()));
        // The driver, if there is none, else the pack.
        let why = facts["device_reason"].as_str();
        let causes = ["NVIDIA driver", "bespoke plugin install onnx:cuda", "engine = \"builtin\""];
        assert!(causes.iter().any(|cause| why.contains(cause)) && log[0].contains(&why["no CUDA: ".len()..]), "{why}");
        drop(log);

        let error = start(host, json!({ "device": "cuda", "device_required": true, "engine": engine })).expect_err("required");
        assert_eq!(error.code(), Code::INITIALIZE_FAILED);
        assert!(error.message().starts_with("CUDA does not run: ") && error.help().is_some(), "{error}");
    }
    let instance = start(host(), json!({ "device": "auto", "device_required": true })).expect("auto asks for nothing");
    assert_eq!(instance.life.health(), Health::Ok);
    // With `cpu` nobody wants to hear of CUDA.
    let facts = start(host(), json!({ "device": "cpu" })).expect("starts").life.facts();
    assert!(!facts.contains_key("device_reason"), "{facts:?}");
    let error = start(host(), json!({ "device": "gpu" })).expect_err("no such device");
    assert!(error.message().contains("gpu"), "{error}");
}

/// A pack that is broken is said to be; the plugin runs without it.
#[test]
fn a_broken_pack_is_a_reason_and_no_engine() {
    if !support::apart("a_broken_pack_is_a_reason_and_no_engine", &UNNAMED) {
        return;
    }
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("vad-silero-broken-pack");
    std::fs::create_dir_all(&folder).expect("a folder for this test");
    let (truncated, gone) = (folder.join("libonnxruntime.so.1.28.0"), folder.join("libonnxruntime.so.9"));
    let bytes = std::fs::read(support::library()).expect("a library");
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).expect("written");
    for library in [truncated, gone] {
        let pack = RuntimePack::new("onnx:cpu", "1.28.0", "installed", &folder, &library);
        let host = Arc::new(Host { packs: vec![pack], ..Host::clone_of(&host()) });
        let instance = start(host.clone(), json!({})).expect("falls back");
        assert_eq!(instance.life.facts()["engine"], "builtin");
        let health = instance.life.health();
        assert!(health.reason().is_some_and(|reason| reason.contains(library.to_str().expect("text"))), "{health:?}");
        let error = start(host, json!({ "engine": "ort" })).expect_err("nothing to fall back on");
        assert!(error.message().contains(library.to_str().expect("text")), "{error}");
    }
}

/// The file of the manifest is the one that the plugin was written for, or it does not start; one of the user's choice may be
/// another, and is named for what it is.
#[test]
fn a_wrong_truncated_or_replaced_model_is_refused() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("vad-silero-replaced-models");
    std::fs::create_dir_all(&folder).expect("a folder for this test");
    let good = std::fs::read(kit::model_path()).expect("the model of the repository");
    let mut replaced = good.clone();
    // The last byte of a weight: as long as before, and as well-formed.
    let at = good.windows(9).position(|window| window == b"raw_data\0").unwrap_or(good.len() / 2);
    replaced[at] ^= 1;
    let cases = [
        ("wrong", b"<!DOCTYPE html><html><body>404</body></html>".to_vec(), false),
        ("truncated", good[..good.len() - 4096].to_vec(), false),
        ("replaced", replaced, true),
    ];
    for (name, bytes, well_formed) in cases {
        let path = folder.join(format!("{name}.onnx"));
        std::fs::write(&path, bytes).expect("written");
        assert_eq!(Model::read(&path).is_ok(), well_formed, "{name}");
        for engine in [json!({ "engine": "builtin" }), json!({ "engine": "ort", "onnxruntime": support::onnxruntime() })] {
            // From the host; a program with the model inside asks nobody.
            if !cfg!(feature = "bundled") {
                let host = Arc::new(Host { model: Some(path.clone()), ..Host::default() });
                let error = start(host, engine.clone()).expect_err(name);
                assert_eq!(error.code(), Code::INITIALIZE_FAILED, "{error}");
                assert!(error.message().contains(path.to_str().expect("text")) && error.message().contains("fetch it again"), "{error}");
                assert_eq!(error.help(), Some("bespoke plugin download-files silero"));
            }
            let mut config = engine;
            config["model_file"] = json!(path);
            match start(host(), config) {
                Ok(instance) => assert!(well_formed && instance.life.facts()["model"] == "unknown checkpoint", "{name}"),
                Err(error) => assert!(!well_formed && error.message().contains(path.to_str().expect("text")), "{name}: {error}"),
            }
        }
    }
}

/// Without the bundled model the host is asked for it, and its answer is passed on; with it nobody is asked.
#[test]
fn the_model_comes_from_the_program_or_from_the_host() {
    let empty = Arc::new(Host::default());
    match start(empty, json!({ "engine": "builtin" })) {
        Ok(instance) => assert!(cfg!(feature = "bundled") && instance.life.facts()["model_source"] == "bundled"),
        Err(error) => assert!(!cfg!(feature = "bundled") && error.code() == Code::MODEL_NOT_FOUND),
    }
}

#[test]
fn speech_beyond_the_buffer_is_logged_once() {
    let host = host();
    let instance = start(host.clone(), json!({ "engine": "builtin", "max_buffered_speech_ms": 1_000 })).expect("starts");
    let (_, samples) = recordings().into_iter().find(|(r, _)| r.name == "librivox_0870").expect("always here");
    let mut stream = vad(&instance).open(&VadOptions::new(16_000)).expect("opens");
    listen(&mut stream, &samples, 160);
    let log = host.log.lock().unwrap();
    assert_eq!(log.iter().filter(|line| line.contains("max_buffered_speech_ms")).count(), 1, "{log:?}");
}
