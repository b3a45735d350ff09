//! The plugin as a host sees it: through its descriptor and the contract. Whether the speech is understood is measured
//! in `stt-moonshine`, which has ears.

mod host;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bespoke_plugin_api::{
    AudioChunk, CallCx, Code, Contribution, Duplex, Error, PluginContext, Tts, TtsOptions, next, serde_json::json, try_next,
};
use bespoke_plugin_testkit::{Conformance, block_on};
use bespoke_tts_flite::{BESPOKE_PLUGIN, MAX_TEXT};
use host::Host;

fn start(config: bespoke_plugin_api::serde_json::Value) -> Result<(Arc<Host>, Arc<dyn Tts>), Error> {
    let host = Arc::new(Host::default());
    let cx = PluginContext::new("flite", host.clone());
    let instance = block_on(BESPOKE_PLUGIN.start(cx, config))?;
    let [Contribution::Tts(_, tts)] = &instance.contributions[..] else { panic!("one voice was promised") };
    Ok((host, tts.clone()))
}

fn drain(stream: &mut dyn Duplex<str, AudioChunk>) -> Result<Vec<f32>, Error> {
    let mut samples = Vec::new();
    while let Some(chunk) = block_on(next(stream)) {
        let audio = chunk?.audio;
        assert_eq!(audio.rate, 16_000);
        assert!(!audio.samples.is_empty());
        samples.extend_from_slice(&audio.samples);
    }
    assert!(block_on(next(stream)).is_none(), "the end stays the end");
    Ok(samples)
}

fn say(tts: &dyn Tts, options: &TtsOptions, fragments: &[&str]) -> Result<Vec<f32>, Error> {
    let mut stream = tts.open(options)?;
    for fragment in fragments {
        stream.push(fragment)?;
    }
    stream.finish()?;
    drain(&mut *stream)
}

fn seconds(samples: &[f32]) -> f32 {
    samples.len() as f32 / 16_000.0
}

#[test]
fn behaves_the_same_in_every_tier() {
    Conformance::new(&BESPOKE_PLUGIN).texts(&["The capital of France, as", " you know, is Paris. It", " has 2.1 million people."]).check();
}

#[test]
fn speaks_at_the_declared_rate_and_at_any_speed() {
    let (_, tts) = start(json!({})).unwrap();
    let voices = block_on(tts.voices(&CallCx::new())).unwrap();
    assert_eq!((voices[0].id.as_str(), voices[0].language.as_str()), ("kal16", "en-US"));

    let text = ["The capital of France is Paris."];
    let normal = say(&*tts, &TtsOptions::default(), &text).unwrap();
    assert!((1.5..4.0).contains(&seconds(&normal)), "{} s", seconds(&normal));
    assert!(normal.iter().all(|s| s.abs() <= 1.0) && normal.iter().any(|s| s.abs() > 0.05));

    let fast = say(&*tts, &TtsOptions::default().speed(2.0), &text).unwrap();
    assert!((0.4..0.6).contains(&(seconds(&fast) / seconds(&normal))), "{} s of {} s", seconds(&fast), seconds(&normal));

    let (_, slow) = start(json!({ "speed": 0.5 })).unwrap();
    let slow = say(&*slow, &TtsOptions::default().voice("kal16".into()), &text).unwrap();
    assert!((1.8..2.2).contains(&(seconds(&slow) / seconds(&normal))), "{} s of {} s", seconds(&slow), seconds(&normal));
}

#[test]
fn fragments_sound_like_the_whole() {
    let (_, tts) = start(json!({})).unwrap();
    let text = "It is 5 p.m. on May 3rd, 2024. Dr. Smith owes me $12.50! Does he?";
    let whole = say(&*tts, &TtsOptions::default(), &[text]).unwrap();
    let letters: Vec<String> = text.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    // Fragments may be cut at commas of sentences under way, so this text has none that is late enough.
    assert_eq!(say(&*tts, &TtsOptions::default(), &letters).unwrap(), whole);
}

#[test]
fn the_first_sentence_sounds_before_the_text_ends() {
    let (_, tts) = start(json!({})).unwrap();
    let mut stream = tts.open(&TtsOptions::default()).unwrap();
    stream.push("Paris is the capi").unwrap();
    assert!(try_next(&mut *stream).is_none(), "half a sentence is not spoken");
    stream.push("tal. And").unwrap();
    let first = block_on(next(&mut *stream)).expect("the first sentence").unwrap();
    assert!(first.audio.duration() <= Duration::from_millis(150), "{:?}", first.audio);
    stream.push(" so on").unwrap();
    stream.finish().unwrap();
    assert!(seconds(&drain(&mut *stream).unwrap()) > 1.0);
}

#[test]
fn nothing_to_say_is_silent_and_not_an_error() {
    let (host, tts) = start(json!({})).unwrap();
    for text in [&[][..], &[""], &["  \n", "\t \n\n"], &["…", " ?! ", "—"], &["👍 🎉"]] {
        assert!(say(&*tts, &TtsOptions::default(), text).unwrap().is_empty(), "{text:?}");
    }
    assert!(host.jobs.load(Ordering::SeqCst) > 0, "the punctuation went through the engine");
}

#[test]
fn a_foreign_script_alone_is_an_error_and_beside_english_is_left_out() {
    let (_, tts) = start(json!({})).unwrap();
    let error = say(&*tts, &TtsOptions::default(), &["東京は大きい。"]).unwrap_err();
    assert_eq!(error.code(), Code::TTS_SYNTHESIS_FAILED);
    assert!(error.message().contains("English"), "{error}");
    let plain = say(&*tts, &TtsOptions::default(), &["Tokyo is big."]).unwrap();
    let mixed = say(&*tts, &TtsOptions::default(), &["Tokyo 東京 is big."]).unwrap();
    assert_eq!(mixed, plain);
}

#[test]
fn too_long_unknown_voice_odd_speed_and_late_text_are_refused() {
    let (_, tts) = start(json!({})).unwrap();
    let mut stream = tts.open(&TtsOptions::default()).unwrap();
    stream.push(&"é".repeat(MAX_TEXT)).unwrap();
    assert_eq!(stream.push("x").unwrap_err().code(), Code::TTS_TEXT_TOO_LONG);
    stream.finish().unwrap();
    stream.finish().unwrap();
    assert_eq!(stream.push("x").unwrap_err().code(), Code::INVALID_PARAMS);

    let refused = |options: &TtsOptions| tts.open(options).err().expect("refused").code();
    assert_eq!(refused(&TtsOptions::default().voice("nobody".into())), Code::TTS_VOICE_NOT_FOUND);
    for speed in [0.0, -1.0, 0.49, 2.1, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(&TtsOptions::default().speed(speed)), Code::INVALID_PARAMS, "{speed}");
    }
    let error = start(json!({ "speed": 9 })).err().expect("refused");
    assert!(error.message().contains("plugins.flite.speed is 9"), "{error}");
    assert!(start(json!({ "sped": 1.0 })).err().expect("refused").message().contains("sped"));
}

/// flite recurses over the characters of a token: 20,000 apostrophes overflowed its stack and took the program down.
#[test]
fn hostile_text_of_full_length_neither_crashes_nor_hangs() {
    let (_, tts) = start(json!({})).unwrap();
    for unit in ["'", "a", "9", "A.", "1/", "'\"", "€", "\u{301}", "𝒳"] {
        let text: String = unit.chars().cycle().take(MAX_TEXT).collect();
        let mut stream = tts.open(&TtsOptions::default().speed(2.0)).unwrap();
        stream.push(&text).unwrap();
        stream.finish().unwrap();
        let began = Instant::now();
        drain(&mut *stream).unwrap_or_default();
        assert!(began.elapsed() < Duration::from_secs(60), "{unit}: {:?}", began.elapsed());
    }
}

#[test]
fn nobody_listening_means_no_work() {
    let (host, tts) = start(json!({})).unwrap();
    let mut stream = tts.open(&TtsOptions::default()).unwrap();
    stream.push(&"One more sentence. ".repeat(500)).unwrap();
    stream.finish().unwrap();
    assert_eq!(host.jobs.load(Ordering::SeqCst), 0, "work begins when somebody reads");
    block_on(next(&mut *stream)).unwrap().unwrap();
    drop(stream);
    assert_eq!(host.jobs.load(Ordering::SeqCst), 1, "and goes one clause at a time");
}
