//! Speech to text, one recording at a time.

use bespoke_audio::{MAX_RATE, MIN_RATE, resample};
use bespoke_multipart::Form;
use bespoke_plugin_api::{
    Audio, CallCx, Code, Error, Result, Segment, SttRequest, Transcript,
    serde::{self, Deserialize},
    serde_json,
};

use crate::{
    client::{Ask, Client},
    failure::Op,
    wav::wav,
};

/// What servers hear best; more only takes longer to send.
const RATE: u32 = 16_000;

/// Most bytes of a transcript.
const MAX_TRANSCRIPT: usize = 16 << 20;

/// Sends a recording and reads what was said in it.
pub(crate) async fn transcribe(client: &Client, call: &CallCx, request: SttRequest) -> Result<Transcript> {
    let SttRequest { audio, language, .. } = request;
    if audio.samples.is_empty() {
        return Err(Error::new(Code::STT_AUDIO_INVALID, "the recording has no samples"));
    }
    let file = client.cx.blocking(move || file(&audio)).await??;
    call.check()?;
    let mut random = [0; 16];
    client.cx.host().random(&mut random)?;
    let model = &client.settings.config.stt_model;
    let mut form = Form::new(random);
    form.file("file", "audio.wav", "audio/wav", &file);
    form.text("model", model);
    // Only the models that are named so have times for what they hear; others refuse to be asked.
    form.text("response_format", if model.contains("whisper") { "verbose_json" } else { "json" });
    if let Some(tag) = &language {
        form.text("language", primary(tag)?);
    }
    let (content_type, body) = form.finish();
    let ask = Ask { op: Op::Transcribe, content_type, body, limit: client.settings.first_token() };
    let (_, bytes) = client.fetch(call, &ask, MAX_TRANSCRIPT).await?;
    match serde_json::from_slice::<Heard>(&bytes) {
        Ok(heard) => Ok(heard.into_transcript(language)),
        Err(e) => Err(client.nonsense(Op::Transcribe, &format!("no transcript ({e})"), &String::from_utf8_lossy(&bytes)).await),
    }
}

/// The recording as a WAV file of 16 kHz.
fn file(audio: &Audio) -> Result<Vec<u8>> {
    let invalid = |why: String| Error::new(Code::STT_AUDIO_INVALID, why);
    if !(MIN_RATE..=MAX_RATE).contains(&audio.rate) {
        return Err(invalid(format!("{} Hz is no rate of a recording; it has to be between {MIN_RATE} and {MAX_RATE}", audio.rate)));
    }
    if audio.samples.iter().any(|sample| !sample.is_finite()) {
        return Err(invalid("the recording has samples that are no numbers".into()));
    }
    let samples = resample(&audio.samples, audio.rate, RATE).map_err(|e| invalid(e.to_string()))?;
    wav(&samples, RATE).ok_or_else(|| invalid("the recording is longer than a WAV file can be".into()))
}

/// The language of a BCP 47 tag without its region: servers take `en`, not `en-GB`.
fn primary(tag: &str) -> Result<&str> {
    let primary = tag.split(['-', '_']).next().unwrap_or_default();
    if (2..=8).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Ok(primary);
    }
    Err(Error::new(Code::STT_LANGUAGE_NOT_SUPPORTED, format!("`{tag}` is no language")).with_help("use a BCP 47 tag such as en or de-AT"))
}

/// `json` and `verbose_json`.
#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Heard {
    text: String,
    #[serde(default)]
    segments: Option<Vec<HeardSegment>>,
}

/// A segment; times in seconds.
#[derive(Deserialize)]
#[serde(crate = "serde")]
struct HeardSegment {
    start: f64,
    end: f64,
    text: String,
}

impl Heard {
    /// The server names a language in words (`english`), which is no tag; what was asked for is.
    fn into_transcript(self, language: Option<String>) -> Transcript {
        // Saturating: negative is 0, as is what is no number.
        let millis = |seconds: f64| (seconds * 1000.0).round() as u64;
        let segment = |s: HeardSegment| Segment::new(millis(s.start), millis(s.end).max(millis(s.start)), s.text.trim());
        let segments = self.segments.into_iter().flatten().map(segment).collect();
        let transcript = Transcript::new(self.text.trim()).segments(segments);
        match language {
            Some(language) => transcript.language(language),
            None => transcript,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_left_out_and_nonsense_refused() {
        for (tag, expected) in [("en", "en"), ("en-GB", "en"), ("de_AT", "de"), ("tlh", "tlh")] {
            assert_eq!(primary(tag).unwrap(), expected);
        }
        for bad in ["", "-", "e", "en\r\nx: y", "123", "überlang"] {
            assert_eq!(primary(bad).unwrap_err().code(), Code::STT_LANGUAGE_NOT_SUPPORTED, "{bad}");
        }
    }

    #[test]
    fn both_shapes_of_a_transcript_are_read() {
        let read = |text: &str| serde_json::from_str::<Heard>(text).unwrap().into_transcript(Some("en".into()));
        assert_eq!(read(r#"{"text":" Hello. "}"#), Transcript::new("Hello.").language("en".into()));
        let verbose = read(
            r#"{"task":"transcribe","text":"A b.","segments":[{"id":0,"start":-1.0,"end":0.5,"text":" A"},{"start":0.5,"end":0.2,"text":" b."}]}"#,
        );
        assert_eq!(verbose.segments, [Segment::new(0, 500, "A"), Segment::new(500, 500, "b.")]);
    }
}
