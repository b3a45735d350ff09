//! Timestamps, iterator and events equal those of the originals, on our own probabilities.

use bespoke_audio::{
    Border, IteratorOptions, SpeechDetector, SpeechEdge, SpeechIterator, SpeechOptions, TimestampOptions, speech_timestamps,
};
use bespoke_vad_silero::Rate;

use crate::engines;
use crate::kit::{self, LiveKitEvent, Reference, recordings, windows};

/// Probabilities of every recording by both engines, and the reference ones.
fn cases() -> Vec<(String, Reference, Vec<f32>)> {
    let ort = engines::ort();
    let builtin = engines::builtin();
    let mut cases = Vec::new();
    for engines in [ort, builtin] {
        for (reference, samples) in recordings() {
            let mut engine = engines.open(reference.rate()).expect("opens");
            let probabilities = windows(&samples, reference.rate()).map(|w| engine.window(&w).expect("runs")).collect();
            cases.push((format!("{} {}", engines.kind().name(), reference.name), reference, probabilities));
        }
    }
    for reference in kit::references() {
        cases.push((format!("reference {}", reference.name), reference, Vec::new()));
        let last = cases.last_mut().expect("just pushed");
        last.2 = last.1.probs.clone();
    }
    cases
}

#[test]
fn timestamps_are_equal() {
    for (name, reference, probabilities) in cases() {
        let cut = |options: TimestampOptions| -> Vec<[u64; 2]> {
            speech_timestamps(&probabilities, reference.samples as u64, reference.sr, reference.rate().window() as u32, &options)
                .into_iter()
                .map(|range| [range.start, range.end])
                .collect()
        };
        assert_eq!(cut(TimestampOptions::default()), reference.timestamps_default, "{name}");
        let mut options = TimestampOptions::default();
        options.threshold = 0.3;
        assert_eq!(cut(options), reference.timestamps_thr03, "{name}, threshold 0.3");
        let mut options = TimestampOptions::default();
        options.min_silence_ms = 500.0;
        options.speech_pad_ms = 200.0;
        assert_eq!(cut(options), reference.timestamps_minsil500_pad200, "{name}, silence 500 ms, padding 200 ms");
    }
}

#[test]
fn iterator_borders_are_equal() {
    for (name, reference, probabilities) in cases() {
        let mut iterator = SpeechIterator::new(reference.sr, reference.rate().window() as u32, IteratorOptions::default());
        let got: Vec<(&str, u64, u64)> = probabilities
            .iter()
            .filter_map(|&p| {
                let border = iterator.push(p)?;
                Some(match border {
                    Border::Start(sample) => ("start", sample, iterator.sample()),
                    Border::End(sample) => ("end", sample, iterator.sample()),
                })
            })
            .collect();
        let want: Vec<(&str, u64, u64)> = reference
            .iterator_default
            .iter()
            .map(|border| {
                let edge = if border.contains_key("start") { "start" } else { "end" };
                (edge, border[edge], border["at_sample"])
            })
            .collect();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn livekit_events_are_equal() {
    for (name, reference, probabilities) in cases() {
        // The plugin looks at whole windows only.
        let whole = &probabilities[..reference.samples / reference.rate().window()];
        assert_events(&name, reference.rate(), whole, SpeechOptions::default(), &reference.livekit_plugin_default);
        // The newer detector of the same project: no filter, and 250 ms of silence.
        let mut options = SpeechOptions::default();
        options.min_silence = std::time::Duration::from_millis(250);
        options.smoothing = 0.0;
        if reference.rate() == Rate::Hz16000 {
            assert_events(&name, reference.rate(), whole, options, &reference.livekit_inference_default);
        }
    }
}

fn assert_events(name: &str, rate: Rate, probabilities: &[f32], options: SpeechOptions, want: &[LiveKitEvent]) {
    let mut detector = SpeechDetector::new(options, rate.hz(), rate.hz(), rate.window() as u32);
    let got: Vec<_> = probabilities.iter().filter_map(|&p| detector.push(p).event).collect();
    assert_eq!(got.len(), want.len(), "{name}: {got:?}");
    for (got, want) in got.iter().zip(want) {
        let kind = if got.edge == SpeechEdge::Start { "start_of_speech" } else { "end_of_speech" };
        assert_eq!((kind, got.sample), (want.kind.as_str(), want.samples_index), "{name}");
        for (got, want) in [(got.timestamp, want.timestamp), (got.speech, want.speech_duration), (got.silence, want.silence_duration)] {
            assert!((got - want).abs() < 1e-3, "{name}: {got} and {want}");
        }
    }
}
