//! Both engines give the probabilities of the original, whatever the processor.

use std::sync::Arc;

use bespoke_onnx::Places;
use bespoke_vad_silero::{Builtin, Engine, EngineChoice, EngineKind, Engines, Model, Network, Rate, Simd, Wanted};

use crate::kit::{self, recordings, windows};
use crate::support;

/// The largest difference from the reference over all recordings, and where.
fn worst(engine: &mut dyn Engine, label: &str, only: Option<Rate>, limit: f32) {
    let mut compared = 0;
    for (reference, samples) in recordings() {
        if only.is_some_and(|rate| rate != reference.rate()) || engine.rate() != reference.rate() {
            continue;
        }
        engine.reset();
        let mut worst = 0.0_f32;
        let mut count = 0;
        for (window, want) in windows(&samples, reference.rate()).zip(&reference.probs) {
            let got = engine.window(&window).expect("a window of the right length");
            worst = worst.max((got - want).abs());
            count += 1;
        }
        assert_eq!(count, reference.probs.len(), "{}", reference.name);
        println!("{label} {}: {count} windows, off by {worst:.1e} at most", reference.name);
        assert!(worst <= limit, "{label} is off by {worst} on {}", reference.name);
        compared += 1;
    }
    assert!(compared > 0 || engine.rate() == Rate::Hz8000, "nothing was compared");
}

#[test]
fn the_built_in_engine_gives_the_reference_probabilities() {
    let model = kit::model();
    for simd in [Simd::Baseline, Simd::Avx2, Simd::Avx512].into_iter().filter(|simd| simd.available()) {
        for rate in [Rate::Hz8000, Rate::Hz16000] {
            let network = Arc::new(Network::with_simd(&model, rate, simd).expect("a known model"));
            assert_eq!(network.simd(), simd);
            worst(&mut Builtin::new(network), simd.name(), Some(rate), 1e-4);
        }
    }
}

#[test]
fn onnx_runtime_gives_the_reference_probabilities() {
    let engines = ort();
    assert_eq!(engines.kind(), EngineKind::Ort);
    println!("{}", engines.reason());
    for rate in [Rate::Hz8000, Rate::Hz16000] {
        let mut engine = engines.open(rate).expect("opens");
        assert_eq!((engine.kind(), engine.rate()), (EngineKind::Ort, rate));
        worst(&mut *engine, "ort", Some(rate), 1e-3);
    }
}

/// No recording at 8 kHz may be redistributed, so at 8 kHz the engines are held against each other.
#[test]
fn the_engines_agree_at_both_rates() {
    let ort = ort();
    let builtin = builtin();
    for rate in [Rate::Hz8000, Rate::Hz16000] {
        let (mut a, mut b) = (ort.open(rate).expect("opens"), builtin.open(rate).expect("opens"));
        for (reference, samples) in recordings() {
            let samples = bespoke_audio::resample(&samples, reference.sr, rate.hz()).expect("usual rates");
            a.reset();
            b.reset();
            for (index, window) in windows(&samples, rate).enumerate() {
                let (p, q) = (a.window(&window).expect("runs"), b.window(&window).expect("runs"));
                assert!((p - q).abs() <= 1e-4, "{} at {rate:?}, window {index}: {p} and {q}", reference.name);
            }
        }
    }
}

#[test]
fn reset_restores_a_fresh_stream_and_a_refused_window_leaves_it_untouched() {
    let ort = ort();
    let builtin = builtin();
    let (_, samples) = recordings().swap_remove(0);
    for engines in [&ort, &builtin] {
        let mut engine = engines.open(Rate::Hz16000).expect("opens");
        let run = |engine: &mut dyn Engine| -> Vec<f32> {
            windows(&samples, Rate::Hz16000).take(40).map(|w| engine.window(&w).expect("runs")).collect()
        };
        let first = run(&mut *engine);
        let error = engine.window(&[0.0; 511]).expect_err("too short").to_string();
        assert!(error.contains("512 samples, not 511"), "{error}");
        engine.reset();
        assert_eq!(run(&mut *engine), first);
        // A session goes from stream to stream, its state does not.
        drop(engine);
        assert_eq!(run(&mut *engines.open(Rate::Hz16000).expect("opens")), first);
    }
}

#[test]
fn the_choice_of_engine_is_kept_and_explained() {
    let missing = || "/nowhere/libonnxruntime.so".into();
    let error = Engines::new(kit::model(), &named(EngineChoice::Ort, missing())).err().expect("no such library");
    assert!(error.to_string().contains("/nowhere/libonnxruntime.so"), "{error}");
    let auto = Engines::new(kit::model(), &named(EngineChoice::Auto, missing())).expect("falls back");
    assert_eq!(auto.kind(), EngineKind::Builtin);
    assert!(auto.reason().contains("/nowhere/libonnxruntime.so"), "{}", auto.reason());
    let auto = Engines::new(kit::model(), &named(EngineChoice::Auto, support::onnxruntime())).expect("loads");
    assert_eq!(auto.kind(), EngineKind::Ort);
    assert!(auto.reason().contains("ONNX Runtime 1."), "{}", auto.reason());
    assert!(auto.reason().contains(" on cpu from "), "{}", auto.reason());
}

/// What ONNX Runtime says to a model that has lost an operation is an error, or a reason for the built-in engine, which does
/// not look at operations; never an engine `ort` that has run nothing.
#[test]
fn a_model_that_onnx_runtime_refuses_is_no_engine_ort() {
    let mut bytes = std::fs::read(kit::model_path()).expect("the model of the repository");
    let operation = b"ConstantOfShape";
    let mut found = 0;
    while let Some(at) = bytes.windows(operation.len()).position(|window| window == operation) {
        bytes[at] = b'X';
        found += 1;
    }
    assert!(found > 0);
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("vad-silero-unknown-operation.onnx");
    std::fs::write(&path, bytes).expect("written");
    let model = || Model::read(&path).expect("its weights are whole");
    let error = Engines::new(model(), &named(EngineChoice::Ort, support::onnxruntime())).err().expect("refused").to_string();
    assert!(error.contains("refused the model") && error.contains("XonstantOfShape"), "{error}");
    let auto = Engines::new(model(), &named(EngineChoice::Auto, support::onnxruntime())).expect("falls back");
    assert_eq!(auto.kind(), EngineKind::Builtin);
    assert!(auto.onnx().is_none() && auto.reason().contains("refused the model"), "{}", auto.reason());
}

pub(crate) fn ort() -> Engines {
    Engines::new(kit::model(), &named(EngineChoice::Ort, support::onnxruntime())).expect("ONNX Runtime runs")
}

pub(crate) fn builtin() -> Engines {
    Engines::new(kit::model(), &Wanted::new(EngineChoice::Builtin)).expect("always runs")
}

fn named(engine: EngineChoice, library: std::path::PathBuf) -> Wanted {
    Wanted { places: Places::new(Some(library)), ..Wanted::new(engine) }
}
