//! Voice notes by real engines: people's recordings in Opus are understood, and what is answered is, too.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bespoke_agent::{Agent, AgentConfig};
use bespoke_host::{Config, Host, ModelStore, Selection};
use bespoke_manifest::Model;
use bespoke_plugin_api::{Attachment, CallCx, CancelToken, Code, Result};
use bespoke_voice::{Notes, Voice, VoiceConfig};

/// Transcription of ten seconds takes less than one on an idle machine.
const LIMIT: Duration = Duration::from_secs(300);

/// The models of the set-up of the tests.
struct Models;

impl ModelStore for Models {
    fn find(&self, plugin: &str, model: &Model) -> Result<PathBuf> {
        let path = std::env::var_os("BESPOKE_MODEL_PATH").unwrap_or_default();
        let mut files = std::env::split_paths(&path).map(|folder| folder.join(plugin).join(&model.file));
        Ok(files.find(|file| file.is_file()).unwrap_or_else(|| {
            panic!("no {plugin}/{} in BESPOKE_MODEL_PATH ({path:?}): run `cargo xtask test`, which fetches it", model.file)
        }))
    }
}

async fn notes() -> (Host, Notes) {
    let plugins = [&bespoke_vad_energy::BESPOKE_PLUGIN, &bespoke_stt_moonshine::BESPOKE_PLUGIN, &bespoke_tts_flite::BESPOKE_PLUGIN];
    let config = Config::parse("bespoke.toml", "").unwrap();
    let host = Host::builder().config(config).plugins(plugins).models(Arc::new(Models)).build().unwrap();
    within(host.start(Selection::All)).await;
    let agent = Agent::new(host.clone(), AgentConfig::default()).unwrap();
    (host, Notes::new(Voice::new(agent, VoiceConfig::default()).unwrap()))
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it hangs")
}

/// A recording among the fixtures of vad-silero, as somebody's telephone would send it.
fn recorded(name: &str) -> Attachment {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vad-silero/tests/fixtures/audio");
    let wav = bespoke_audio::read_wav(&folder.join(name)).unwrap();
    let samples = bespoke_audio::resample(&wav.samples, wav.rate, 48_000).unwrap();
    Attachment::voice("audio/ogg", bespoke_ogg_opus::encode(&samples, 48_000).unwrap())
}

/// The words of a text, in small letters and without marks.
fn words(text: &str) -> Vec<String> {
    let plain = |word: &str| word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    text.split(|c: char| c.is_whitespace() || c == '-').map(plain).filter(|word| !word.is_empty()).collect()
}

/// How many of the words of one text are in the other, in order, in percent.
fn common(said: &str, heard: &str) -> usize {
    let (said, heard) = (words(said), words(heard));
    let mut row = vec![0; heard.len() + 1];
    for word in &said {
        let mut before = 0;
        for (at, other) in heard.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { before + 1 } else { above.max(row[at]) };
            before = above;
        }
    }
    row[heard.len()] * 100 / said.len().max(1)
}

#[tokio::test]
async fn a_recording_in_opus_is_understood() {
    let (host, notes) = notes().await;
    for (name, said) in [
        (
            "librivox_0870.wav",
            "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do for them.",
        ),
        ("librivox_0890.wav", "unless to be rather cold-hearted and rather selfish is to be ill-disposed"),
    ] {
        let heard = within(notes.hear(&CallCx::new(), &recorded(name))).await.unwrap();
        assert!(common(said, &heard) >= 80, "{name}: {heard}");
    }
    // Nobody speaks.
    assert_eq!(within(notes.hear(&CallCx::new(), &recorded("neg_white.wav"))).await.unwrap(), "");
    within(host.shutdown()).await;
}

#[tokio::test]
async fn a_spoken_answer_is_a_note_that_is_understood() {
    let (host, notes) = notes().await;
    let text = "Kick the ball straight and follow through. The boy was there when the sun rose. A pot of tea helps to pass the evening.";
    let note = within(notes.speak(&CallCx::new(), text)).await.unwrap();
    assert_eq!((note.mime.as_str(), note.voice, note.name.as_deref()), ("audio/ogg", true, Some("answer.ogg")));
    assert_eq!(note.size, note.data.len() as u64);
    let sound = bespoke_ogg_opus::decode(&note.data, 16_000, LIMIT).unwrap();
    let seconds = sound.len() / 16_000;
    assert!((5..20).contains(&seconds), "{seconds} s");
    assert!(note.data.len() < seconds * 6_000, "{} bytes for {seconds} s", note.data.len());
    let heard = within(notes.hear(&CallCx::new(), &note)).await.unwrap();
    assert!(common(text, &heard) >= 75, "{heard}");
    within(host.shutdown()).await;
}

#[tokio::test]
async fn what_is_no_note_and_what_is_no_text_say_so() {
    let (host, notes) = notes().await;
    let junk = Attachment::voice("audio/ogg", &b"not a note"[..]);
    assert_eq!(within(notes.hear(&CallCx::new(), &junk)).await.unwrap_err().code(), Code::STT_AUDIO_INVALID);
    assert_eq!(within(notes.speak(&CallCx::new(), " *** ")).await.unwrap_err().code(), Code::INVALID_PARAMS);
    let token = CancelToken::new();
    token.cancel();
    let cx = CallCx::new().with_cancel(token);
    assert_eq!(within(notes.hear(&cx, &junk)).await.unwrap_err().code(), Code::CANCELLED);
    assert_eq!(within(notes.speak(&cx, "Hello.")).await.unwrap_err().code(), Code::CANCELLED);
    within(host.shutdown()).await;
}
