//! Silence, broken sound, real speech, options.

use std::path::Path;

use bespoke_plugin_api::{Code, Health, serde_json::json};

use crate::host::{borders, listen, now, open, probabilities, sine, start};

#[test]
fn digital_silence_is_silent() {
    for rate in [8_000, 16_000, 44_100] {
        let events = listen(rate, &vec![0.0; rate as usize * 10], 160);
        assert!(borders(&events).is_empty());
        assert!(!events.is_empty() && probabilities(&events).iter().all(|&p| p == 0.0));
    }
}

#[test]
fn broken_samples_are_no_speech_and_spoil_nothing() {
    let broken: Vec<f32> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().cycle().take(16_000).collect();
    let events = listen(16_000, &[broken, sine(16_000, 0.3, 1.0)].concat(), 160);
    assert!(probabilities(&events).iter().all(|p| (0.0..=1.0).contains(p)));
    assert_eq!(borders(&events).len(), 1);
    assert!(borders(&events)[0].1 > 16_000);
}

/// Two sentences read aloud, with their hand-made ends: it hears them, and not much more.
#[test]
fn read_sentences_are_heard_where_they_are() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vad-silero/tests/fixtures/audio");
    for (name, start, end) in [("librivox_0870", 0.2357, 6.7617), ("librivox_0890", 0.2601, 5.0565)] {
        let wav = bespoke_audio::read_wav(&fixtures.join(name).with_extension("wav")).expect("a fixture");
        let sound = [&wav.samples[..], &vec![0.0; 16_000]].concat();
        let borders = borders(&listen(wav.rate, &sound, 160));
        assert_eq!(borders.first().map(|b| b.0), Some("start"), "{name}");
        assert_eq!(borders.last().map(|b| b.0), Some("end"), "{name}");
        let seconds = |sample: u64| sample as f64 / f64::from(wav.rate);
        assert!((seconds(borders[0].1) - start).abs() < 0.5, "{name}: {borders:?}");
        assert!((seconds(borders[borders.len() - 1].2) - end).abs() < 0.5, "{name}: {borders:?}");
    }
}

#[test]
fn it_says_what_it_is_and_refuses_what_it_cannot_do() {
    let instance = start(json!({})).expect("starts");
    assert_eq!(instance.life.health(), Health::Ok);
    assert!(instance.life.facts()["engine_reason"].contains("last resort"));
    for rate in [0, 999, u32::MAX] {
        let error = open(&instance, rate).err().expect("refused");
        assert_eq!(error.code(), Code::STT_AUDIO_INVALID);
    }
    assert!(start(json!({ "snr_db": 0 })).expect_err("refused").message().contains("plugins.energy.snr_db = 0"));
    assert!(start(json!({ "threshold": 1 })).expect_err("refused").message().contains("threshold"));
}

#[test]
fn a_change_of_options_reaches_open_streams() {
    let instance = start(json!({})).expect("starts");
    let mut stream = open(&instance, 16_000).expect("opens");
    now(instance.life.reconfigure(json!({ "snr_db": 60 }))).expect("live");
    assert!(now(instance.life.reconfigure(json!({ "snr_db": 61 }))).is_err());
    stream.push(&sine(16_000, 0.2, 1.0)).expect("takes sound");
    stream.finish().expect("ends");
    let mut events = Vec::new();
    while let Some(event) = bespoke_plugin_api::try_next(&mut *stream) {
        events.push(event.expect("no failure"));
    }
    assert!(borders(&events).is_empty());
}

#[test]
fn behaves_the_same_in_every_tier() {
    let sound = [sine(44_100, 0.001, 1.0), sine(44_100, 0.3, 1.0), sine(44_100, 0.001, 1.0)].concat();
    bespoke_plugin_testkit::Conformance::new(&bespoke_vad_energy::BESPOKE_PLUGIN)
        .audio(bespoke_plugin_api::Audio::new(sound, 44_100))
        .check();
}
