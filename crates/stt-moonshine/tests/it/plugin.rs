//! The plugin as a host sees it: through its descriptor and the contract.

use std::path::Path;
use std::sync::Arc;

use bespoke_plugin_api::serde_json::{Value, json};
use bespoke_plugin_api::{
    Audio, CallCx, CancelToken, Code, Contribution, Duplex, Error, Instance, Stt, SttEvent, SttOptions, SttRequest, next, try_next,
};
use bespoke_plugin_testkit::{Conformance, TestHost, block_on};
use bespoke_stt_moonshine::BESPOKE_PLUGIN;

use crate::models::{beckett, folder, librivox};
use crate::wer::WordErrors;

const FILES: [&str; 3] = ["encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.json"];

fn start_in(models: &Path, config: Value) -> Result<Instance, Error> {
    let host = TestHost::new();
    for file in FILES.iter().filter(|file| models.join(file).is_file()) {
        host.set_model(file, models.join(file));
    }
    block_on(BESPOKE_PLUGIN.start(host.context("moonshine"), config))
}

fn start(config: Value) -> Arc<dyn Stt> {
    let instance = start_in(&folder(), config).unwrap();
    let [Contribution::Stt(spec, stt)] = &instance.contributions[..] else { panic!("one engine was promised") };
    assert!(spec.streaming);
    stt.clone()
}

fn request((samples, rate): (Vec<f32>, u32)) -> SttRequest {
    SttRequest::new(Audio::new(samples, rate))
}

/// All events until the end.
fn drain(stream: &mut dyn Duplex<[f32], SttEvent>) -> Result<Vec<SttEvent>, Error> {
    let mut events = Vec::new();
    while let Some(event) = block_on(next(stream)) {
        events.push(event?);
    }
    assert!(block_on(next(stream)).is_none(), "the end stays the end");
    Ok(events)
}

fn finals(events: &[SttEvent]) -> Vec<&str> {
    let mut texts = Vec::new();
    for event in events {
        if let SttEvent::Final { transcript, .. } = event {
            texts.push(transcript.text.as_str());
        }
    }
    texts
}

#[test]
fn behaves_the_same_in_every_tier() {
    let (samples, rate) = beckett();
    let suite = Conformance::new(&BESPOKE_PLUGIN).config(json!({ "interim_ms": 0 })).audio(Audio::new(samples, rate));
    FILES.iter().fold(suite, |suite, file| suite.model(file, folder().join(file))).check();
}

#[test]
fn a_recording_has_a_text_with_times() {
    let stt = start(json!({}));
    let recording = beckett();
    let transcript = block_on(stt.transcribe(&CallCx::new(), request(recording).language("en-IE".into()))).unwrap();
    assert_eq!(WordErrors::of("Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.", &transcript.text).errors, 0);
    assert_eq!(transcript.language.as_deref(), Some("en"));
    let [segment] = &transcript.segments[..] else { panic!("{:?}", transcript.segments) };
    assert!(segment.start_ms < 1_000 && (8_000..=9_970).contains(&segment.end_ms), "{segment:?}");
    assert_eq!(segment.text, transcript.text);
}

#[test]
fn unusable_audio_and_languages_are_refused() {
    let stt = start(json!({}));
    let refused = |request| block_on(stt.transcribe(&CallCx::new(), request)).unwrap_err();
    let with_nan = [vec![0.1; 20_000], vec![f32::NAN]].concat();
    for (samples, rate, part) in [(vec![], 16_000, "no samples"), (vec![0.1; 800], 0, "0 Hz"), (with_nan, 16_000, "sample 20000")] {
        let error = refused(request((samples, rate)));
        assert_eq!(error.code(), Code::STT_AUDIO_INVALID);
        assert!(error.message().contains(part), "{error}");
    }
    let error = refused(request((vec![0.1; 16_000], 16_000)).language("de".into()));
    assert_eq!(error.code(), Code::STT_LANGUAGE_NOT_SUPPORTED);
    let open = |options: &SttOptions| stt.open(options).err().expect("refused").code();
    assert_eq!(open(&SttOptions::new(7)), Code::STT_AUDIO_INVALID);
    assert_eq!(open(&SttOptions::new(16_000).language("fr".into())), Code::STT_LANGUAGE_NOT_SUPPORTED);
}

#[test]
fn a_caller_who_has_gone_gets_no_text() {
    let stt = start(json!({}));
    let token = CancelToken::new();
    token.cancel();
    let error = block_on(stt.transcribe(&CallCx::new().with_cancel(token), request(beckett()))).unwrap_err();
    assert_eq!(error.code(), Code::CANCELLED);
}

#[test]
fn a_stream_guesses_while_somebody_speaks_and_is_sure_at_the_end() {
    let stt = start(json!({ "interim_ms": 1000 }));
    let (audio, rate) = librivox("librivox_0870.wav");
    let mut stream = stt.open(&SttOptions::new(rate)).unwrap();
    let mut events = Vec::new();
    for frame in audio.chunks(512) {
        stream.push(frame).unwrap();
        events.extend(try_next(&mut *stream).map(Result::unwrap));
    }
    stream.finish().unwrap();
    events.extend(drain(&mut *stream).unwrap());

    let whole = block_on(stt.transcribe(&CallCx::new(), request((audio.clone(), rate)))).unwrap();
    assert_eq!(finals(&events), [whole.text.as_str()]);
    assert!(matches!(events.last(), Some(SttEvent::Final { at, .. }) if *at == audio.len() as u64), "{events:?}");
    assert!(matches!(events.first(), Some(SttEvent::Interim { text, .. }) if text.starts_with("And")), "{events:?}");
}

#[test]
fn a_stream_tells_each_utterance_when_its_pause_is_long() {
    let stt = start(json!({ "interim_ms": 0 }));
    let (first, rate) = librivox("librivox_0870.wav");
    let (second, _) = librivox("librivox_0890.wav");
    let mut stream = stt.open(&SttOptions::new(rate)).unwrap();
    for part in [&first[..], &vec![0.0; 8 * rate as usize], &second, &vec![0.0; rate as usize]] {
        stream.push(part).unwrap();
    }
    let early = block_on(next(&mut *stream)).expect("a final before the end").unwrap();
    let SttEvent::Final { transcript, .. } = &early else { panic!("{early:?}") };
    assert!(transcript.text.contains("Dashwood"), "{early:?}");
    stream.finish().unwrap();
    let rest = drain(&mut *stream).unwrap();
    let [SttEvent::Final { at, transcript, .. }] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(*at, (first.len() + second.len()) as u64 + 9 * u64::from(rate));
    assert!(transcript.text.contains("selfish") && !transcript.text.contains("Dashwood"), "{rest:?}");
    let start_ms = (first.len() as u64 + 8 * u64::from(rate)) * 1000 / u64::from(rate);
    assert!(transcript.segments[0].start_ms.abs_diff(start_ms) < 500, "{rest:?} at {start_ms}");
}

#[test]
fn a_silent_stream_ends_with_an_empty_text() {
    let stt = start(json!({}));
    for audio in [vec![], vec![0.0; 48_000 * 20]] {
        let mut stream = stt.open(&SttOptions::new(48_000)).unwrap();
        stream.push(&audio).unwrap();
        stream.finish().unwrap();
        stream.finish().unwrap();
        assert_eq!(stream.push(&[0.0]).unwrap_err().code(), Code::INVALID_PARAMS);
        assert_eq!(finals(&drain(&mut *stream).unwrap()), [""]);
    }
}

#[test]
fn a_stream_that_nobody_reads_does_not_grow_without_end() {
    let stt = start(json!({}));
    let mut stream = stt.open(&SttOptions::new(1_000)).unwrap();
    let minute = vec![0.0; 60_000];
    let refused = (0..40).find_map(|_| stream.push(&minute).err()).expect("a limit");
    assert_eq!(refused.code(), Code::RESOURCE_EXHAUSTED);
}

#[test]
fn bad_samples_end_a_stream_with_an_error() {
    let stt = start(json!({}));
    let mut stream = stt.open(&SttOptions::new(16_000)).unwrap();
    stream.push(&[f32::INFINITY; 100]).unwrap();
    stream.finish().unwrap();
    assert_eq!(drain(&mut *stream).unwrap_err().code(), Code::STT_AUDIO_INVALID);
    assert!(block_on(next(&mut *stream)).is_none());
}

#[test]
fn missing_broken_and_foreign_models_are_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let error = |models: &Path| start_in(models, json!({})).expect_err("refused");
    assert_eq!(error(home.path()).code(), Code::MODEL_NOT_FOUND);

    let place = |name: &str, from: &str| std::fs::copy(folder().join(from), home.path().join(name)).unwrap();
    for name in FILES {
        place(name, name);
    }
    start_in(home.path(), json!({})).unwrap();

    for (name, damage, part) in [
        ("encoder_model.onnx", &b"not a graph"[..], "encoder_model.onnx"),
        ("decoder_model_merged.onnx", b"", "decoder_model_merged.onnx"),
        ("tokenizer.json", b"{\"model\": 3}", "tokenizer.json"),
    ] {
        std::fs::write(home.path().join(name), damage).unwrap();
        let error = error(home.path());
        assert_eq!(error.code(), Code::INITIALIZE_FAILED, "{error}");
        assert!(error.message().contains(part), "{error}");
        assert_eq!(error.help(), Some("bespoke plugin download-files moonshine"));
        place(name, name);
    }
    place("decoder_model_merged.onnx", "encoder_model.onnx");
    let error = error(home.path());
    assert!(error.message().contains("not the expected Moonshine graph"), "{error}");
}

#[test]
fn the_configuration_is_checked() {
    let error = |config| start_in(&folder(), config).expect_err("refused");
    assert!(error(json!({ "threads": 0 })).message().contains("plugins.moonshine.threads is 0"));
    assert!(error(json!({ "thread": 1 })).message().contains("thread"));
    let instance = start_in(&folder(), json!({ "threads": 2 })).unwrap();
    assert_eq!(instance.life.facts()["threads"], "2");
}
