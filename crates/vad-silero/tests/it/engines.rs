//! Both engines give the probabilities of the original, whatever the processor.

use std::sync::Arc;

use bespoke_vad_silero::{Builtin, Engine, EngineChoice, EngineKind, Engines, Network, Rate, Simd};

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
    let engines = Engines::new(kit::model(), EngineChoice::Ort, Some(support::onnxruntime())).expect("ONNX Runtime runs");
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
    let ort = Engines::new(kit::model(), EngineChoice::Ort, Some(support::onnxruntime())).expect("ONNX Runtime runs");
    let builtin = Engines::new(kit::model(), EngineChoice::Builtin, None).expect("always runs");
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
    let ort = Engines::new(kit::model(), EngineChoice::Ort, Some(support::onnxruntime())).expect("ONNX Runtime runs");
    let builtin = Engines::new(kit::model(), EngineChoice::Builtin, None).expect("always runs");
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
    let missing = Some("/nowhere/libonnxruntime.so".into());
    let error = Engines::new(kit::model(), EngineChoice::Ort, missing.clone()).err().expect("no such library");
    assert!(error.to_string().contains("/nowhere/libonnxruntime.so"), "{error}");
    let auto = Engines::new(kit::model(), EngineChoice::Auto, missing).expect("falls back");
    assert_eq!(auto.kind(), EngineKind::Builtin);
    assert!(auto.reason().contains("/nowhere/libonnxruntime.so"), "{}", auto.reason());
    let auto = Engines::new(kit::model(), EngineChoice::Auto, Some(support::onnxruntime())).expect("loads");
    assert_eq!(auto.kind(), EngineKind::Ort);
    assert!(auto.reason().contains("ONNX Runtime 1."), "{}", auto.reason());
}
