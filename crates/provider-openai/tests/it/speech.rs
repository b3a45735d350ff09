//! Hearing, speaking and vectors against a server in memory.

use std::{sync::Arc, time::Duration};

use bespoke_plugin_api::{
    Audio, AudioChunk, BoxStream, CallCx, Code, Duplex, EmbedRequest, Embedder, Error, HttpReply, Result, Segment, Stt, SttRequest, Tts,
    TtsOptions,
    bytes::Bytes,
    next,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on};
use futures_util::{StreamExt, stream};

use crate::memory::{Memory, reply, whole};

fn transcribe(server: &Memory, request: SttRequest) -> Result<bespoke_plugin_api::Transcript> {
    block_on(server.of::<dyn Stt>().transcribe(&CallCx::new(), request))
}

/// Half a second of a tone.
fn tone(rate: u32) -> Audio {
    Audio::new((0..rate / 2).map(|n| (n as f32 * 440.0 * std::f32::consts::TAU / rate as f32).sin() / 2.0).collect::<Vec<_>>(), rate)
}

/// Parts of a form: the head of each and its content.
fn parts(body: &Bytes, media_type: &str) -> Vec<(String, Vec<u8>)> {
    let boundary = format!("--{}", media_type.strip_prefix("multipart/form-data; boundary=").unwrap());
    let mut rest = &body[..];
    let mut found = Vec::new();
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|w| w == what);
    while let Some(begin) = rest.strip_prefix(boundary.as_bytes()).and_then(|rest| rest.strip_prefix(b"\r\n")) {
        let end = find(begin, boundary.as_bytes()).unwrap();
        let head = find(begin, b"\r\n\r\n").unwrap();
        found.push((String::from_utf8(begin[..head].to_vec()).unwrap(), begin[head + 4..end - 2].to_vec()));
        rest = &begin[end..];
    }
    assert_eq!(rest, format!("{boundary}--\r\n").as_bytes());
    found
}

#[test]
fn a_recording_goes_as_wav_of_16_khz_and_comes_back_as_text() {
    let heard = r#"{"task":"transcribe","language":"english","duration":0.5,"text":" Hello there.","segments":[{"id":0,"start":0.0,"end":0.25,"text":" Hello"},{"id":1,"start":0.25,"end":0.5,"text":" there."}]}"#;
    let server = Memory::new(json!({}), move |_| Ok(whole(200, heard)));
    let transcript = transcribe(&server, SttRequest::new(tone(44_100)).language("en-GB".into())).unwrap();
    assert_eq!((transcript.text.as_str(), transcript.language.as_deref()), ("Hello there.", Some("en-GB")));
    assert_eq!(transcript.segments, [Segment::new(0, 250, "Hello"), Segment::new(250, 500, "there.")]);

    let request = &server.asked()[0];
    assert_eq!(request.url, "http://127.0.0.1:9/v1/audio/transcriptions");
    let parts = parts(&request.body, &request.headers.iter().find(|(name, _)| name == "content-type").unwrap().1);
    let text = |n: usize| (parts[n].0.rsplit('"').nth(1).unwrap(), std::str::from_utf8(&parts[n].1).unwrap());
    assert_eq!([text(1), text(2), text(3)], [("model", "whisper-1"), ("response_format", "verbose_json"), ("language", "en")]);
    assert!(parts[0].0.contains("filename=\"audio.wav\"\r\ncontent-type: audio/wav"), "{}", parts[0].0);
    let wav = bespoke_audio::decode_wav(&parts[0].1[..], std::path::Path::new("sent")).unwrap();
    assert_eq!((wav.rate, wav.samples.len()), (16_000, 8_000));
    let loud = wav.samples.iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
    assert!((0.45..0.56).contains(&loud), "{loud}");
}

#[test]
fn models_without_times_are_not_asked_for_them() {
    let server = Memory::new(json!({ "stt_model": "gpt-4o-transcribe" }), |_| Ok(whole(200, r#"{"text":"Hi."}"#)));
    assert_eq!(transcribe(&server, SttRequest::new(tone(16_000))).unwrap().text, "Hi.");
    let body = String::from_utf8_lossy(&server.asked()[0].body).into_owned();
    assert!(body.contains("\r\n\r\njson\r\n") && !body.contains("language"), "{}", body.len());
}

#[test]
fn recordings_that_are_none_are_refused_before_anything_is_sent() {
    let server = Memory::new(json!({}), |_| Ok(whole(200, r#"{"text":""}"#)));
    for (audio, code) in [
        (Audio::new([], 16_000), Code::STT_AUDIO_INVALID),
        (Audio::new([0.0; 9], 0), Code::STT_AUDIO_INVALID),
        (Audio::new([f32::NAN; 9], 16_000), Code::STT_AUDIO_INVALID),
    ] {
        assert_eq!(transcribe(&server, SttRequest::new(audio)).unwrap_err().code(), code);
    }
    let error = transcribe(&server, SttRequest::new(tone(16_000)).language("not a tag".into())).unwrap_err();
    assert_eq!(error.code(), Code::STT_LANGUAGE_NOT_SUPPORTED);
    assert!(server.asked().is_empty());
    let wrong = Memory::new(json!({}), |_| Ok(whole(200, "<html>")));
    let error = transcribe(&wrong, SttRequest::new(tone(16_000))).unwrap_err();
    assert!(error.code() == Code::STT_TRANSCRIPTION_FAILED && error.message().contains("no transcript"), "{error}");
}

/// Opens a stream, pushes the fragments, reads to the end.
fn speak(server: &Memory, options: &TtsOptions, fragments: &[&str]) -> Result<Vec<Audio>> {
    let mut stream = server.of::<dyn Tts>().open(options)?;
    for fragment in fragments {
        stream.push(fragment)?;
    }
    stream.finish()?;
    block_on(async {
        let mut chunks = Vec::new();
        while let Some(chunk) = next(&mut *stream).await {
            chunks.push(chunk?.audio);
        }
        Ok(chunks)
    })
}

fn pcm(count: i16) -> Vec<u8> {
    (0..count).flat_map(i16::to_le_bytes).collect()
}

#[test]
fn speech_is_the_same_however_the_network_cuts_the_samples() {
    for size in [1, 3, 999, 4800, 100_000] {
        let server = Memory::new(json!({}), move |_| {
            // A byte that is half a sample stands at the end.
            let bytes = [pcm(5000), vec![7]].concat();
            Ok(reply(200, &[], bytes.chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect()))
        });
        let chunks = speak(&server, &TtsOptions::default().speed(1.5), &["It is ", "noon."]).unwrap();
        assert_eq!(chunks.iter().map(|c| (c.samples.len(), c.rate)).collect::<Vec<_>>(), [(2400, 24_000), (2400, 24_000), (200, 24_000)]);
        let samples: Vec<f32> = chunks.iter().flat_map(|c| c.samples.to_vec()).collect();
        assert!(samples.iter().enumerate().all(|(n, sample)| *sample == n as f32 / 32_768.0));
        let asked: Vec<Value> = server.asked().iter().map(|r| bespoke_plugin_api::serde_json::from_slice(&r.body).unwrap()).collect();
        let expected =
            json!({ "model": "gpt-4o-mini-tts", "input": "It is noon.", "voice": "alloy", "response_format": "pcm", "speed": 1.5 });
        assert_eq!(asked, [expected]);
    }
}

#[test]
fn a_sentence_is_asked_for_while_the_next_is_written() {
    let server = Memory::new(json!({}), |_| Ok(whole(200, String::from_utf8(vec![1; 20]).unwrap())));
    let mut stream = server.of::<dyn Tts>().open(&TtsOptions::default().voice("nova".into())).unwrap();
    stream.push("The sun is out today. ").unwrap();
    assert!(bespoke_plugin_api::try_next(&mut *stream).is_none());
    assert!(server.asked().is_empty(), "it may go on");
    stream.push("Is").unwrap();
    assert_eq!(bespoke_plugin_api::try_next(&mut *stream).unwrap().unwrap().audio.samples.len(), 10);
    assert_eq!((server.body()["input"].as_str(), server.body()["voice"].as_str()), (Some("The sun is out today."), Some("nova")));
    stream.push(" it warm?").unwrap();
    stream.finish().unwrap();
    assert!(block_on(next(&mut *stream)).unwrap().is_ok());
    assert_eq!(server.body()["input"], "Is it warm?");
    assert!(block_on(next(&mut *stream)).is_none() && stream.push("more").is_err());
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn what_is_no_speech_is_told() {
    for (status, bytes, code, message) in [
        (200, &b"RIFF\x24\0\0\0WAVE"[..], Code::TTS_SYNTHESIS_FAILED, "a file of the kind WAV instead of bare samples"),
        (200, b"ID3\x04\0\0", Code::TTS_SYNTHESIS_FAILED, "a file of the kind MP3"),
        (200, b"{\"error\":1}", Code::TTS_SYNTHESIS_FAILED, "JSON instead of bare samples"),
        (200, b"", Code::TTS_SYNTHESIS_FAILED, "without any sound"),
        (400, b"{\"error\":{\"message\":\"Voice x is unknown\"}}", Code::TTS_VOICE_NOT_FOUND, "Voice x is unknown"),
        (401, b"", Code::TTS_SYNTHESIS_FAILED, "401 Unauthorized"),
    ] {
        // Cut, so that the first piece tells nothing yet.
        let server = Memory::new(json!({}), move |_| Ok(reply(status, &[], bytes.chunks(2).map(|c| Ok(Bytes::from_static(c))).collect())));
        let error = speak(&server, &TtsOptions::default(), &["Hello."]).unwrap_err();
        assert!(error.code() == code && error.message().contains(message), "{error:?}");
    }
    let broken = Memory::new(json!({}), |_| Ok(reply(200, &[], vec![Ok(pcm(3000).into()), Err(Error::internal("reset"))])));
    let error = speak(&broken, &TtsOptions::default(), &["Hello."]).unwrap_err();
    assert!(error.is_retryable() && error.message().contains("broke off: reset"), "{error:?}");

    let server = Memory::new(json!({}), |_| Ok(whole(200, "")));
    assert!(speak(&server, &TtsOptions::default(), &[" ... ", "\n---\n"]).unwrap().is_empty(), "there is nothing to say");
    assert!(server.asked().is_empty());
    assert_eq!(speak(&server, &TtsOptions::default().speed(9.0), &[]).unwrap_err().code(), Code::INVALID_PARAMS);
    let long = "word ".repeat(5000);
    assert_eq!(speak(&server, &TtsOptions::default(), &[&long]).unwrap_err().code(), Code::TTS_TEXT_TOO_LONG);
}

#[test]
fn a_stream_that_is_dropped_drops_its_request() {
    let held = Arc::new(());
    let inside = held.clone();
    let server = Memory::on(TestHost::with_clock(Clock::Manual), json!({}), move |_| {
        let inside = inside.clone();
        let body: BoxStream<Bytes> =
            Box::pin(stream::iter([Ok(Bytes::from(pcm(2400)))]).chain(stream::pending()).inspect(move |_| drop(inside.clone())));
        Ok(HttpReply::new(200, Vec::new(), body))
    });
    let mut stream: Box<dyn Duplex<str, AudioChunk>> = server.of::<dyn Tts>().open(&TtsOptions::default()).unwrap();
    stream.push("Hello.").unwrap();
    stream.finish().unwrap();
    assert!(block_on(next(&mut *stream)).unwrap().is_ok());
    assert_eq!(Arc::strong_count(&held), 3);
    drop(stream);
    assert_eq!(Arc::strong_count(&held), 2);
}

#[test]
fn a_listener_that_takes_its_time_makes_no_server_silent() {
    let server = Memory::on(TestHost::with_clock(Clock::Manual), json!({}), |_| {
        Ok(reply(200, &[], (0..3).map(|_| Ok(Bytes::from(pcm(2400)))).collect()))
    });
    let mut stream = server.of::<dyn Tts>().open(&TtsOptions::default()).unwrap();
    stream.push("Hello.").unwrap();
    stream.finish().unwrap();
    for _ in 0..3 {
        assert!(block_on(next(&mut *stream)).unwrap().is_ok());
        server.host.advance(Duration::from_secs(3600));
    }
    assert!(block_on(next(&mut *stream)).is_none());
}

#[test]
fn vectors_are_asked_for_in_batches_and_come_in_order() {
    let server = Memory::new(json!({ "embedding_model": "e" }), |n| {
        let count = if n == 0 { 128 } else { 2 };
        let items: Vec<Value> =
            (0..count).rev().map(|at| json!({ "index": at, "embedding": [f64::from(n as u32 * 128 + at), 1] })).collect();
        Ok(whole(200, json!({ "data": items, "usage": {} }).to_string()))
    });
    let texts: Vec<String> = (0..130).map(|n| n.to_string()).collect();
    let vectors = block_on(server.of::<dyn Embedder>().embed(&CallCx::new(), EmbedRequest::new(texts))).unwrap().vectors;
    assert_eq!(vectors.len(), 130);
    for (n, vector) in vectors.iter().enumerate() {
        assert!((vector[0] / vector[1] - n as f32).abs() < 0.01, "{n}: {vector:?}");
    }
    assert_eq!(server.body(), json!({ "model": "e", "input": ["128", "129"], "encoding_format": "float" }));
    let none = block_on(server.of::<dyn Embedder>().embed(&CallCx::new(), EmbedRequest::new(vec![]))).unwrap();
    assert!(none.vectors.is_empty() && server.asked().len() == 2, "nothing is asked for nothing");

    for (answer, why) in
        [("{\"data\":[]}", "0 vectors for 1 texts"), ("{\"data\":[{\"embedding\":\"AAAA\"}]}", "no vectors"), ("[]", "no vectors")]
    {
        let server = Memory::new(json!({}), move |_| Ok(whole(200, answer)));
        let error = block_on(server.of::<dyn Embedder>().embed(&CallCx::new(), EmbedRequest::new(vec!["a".into()]))).unwrap_err();
        assert!(error.message().contains(why), "{error}");
    }
}
