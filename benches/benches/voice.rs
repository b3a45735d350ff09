//! The voice turn with the real engines, stage by stage, and what streaming between the stages saves.
//!
//! Models are looked for in `BESPOKE_MODEL_PATH` and in the folder of the user; `bespoke demo --yes` fetches them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bespoke_agent::{Agent, AgentConfig, Session};
use bespoke_benches::Group;
use bespoke_host::{Host, ModelStore, Selection};
use bespoke_manifest::Model;
use bespoke_plugin_api::{Audio, CallCx, Code, Error};
use bespoke_voice::{Voice, VoiceConfig};
use {bespoke_provider_smol as _, bespoke_stt_moonshine as _, bespoke_tts_flite as _, bespoke_vad_silero as _};

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let voice = runtime.block_on(voice());
    let question = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/bespoke/assets/question.wav");
    let wav = bespoke_audio::read_wav(question.as_ref()).expect("the recording is there");
    let audio = Audio::new(wav.samples, wav.rate);
    let cx = CallCx::new();

    // Fewer turns than elsewhere: each takes tens of milliseconds.
    Group::new(format!("a spoken question of {:.1} s, stage by stage", audio.duration().as_secs_f64()))
        .turns(10, Duration::from_millis(50))
        .case("the whole turn", |n| {
            (0..n).for_each(|_| {
                let mut session = Session::new("bench");
                let turn = runtime.block_on(voice.turn(&cx, &mut session, audio.clone(), |_| {})).expect("a turn");
                assert!(turn.audio.is_some(), "the answer is spoken");
            });
        })
        .case("hear: VAD and speech to text", |n| {
            (0..n).for_each(|_| {
                runtime.block_on(voice.transcribe(&cx, audio.clone(), |_| {})).expect("a transcript");
            });
        })
        .case("think: the model", |n| {
            (0..n).for_each(|_| {
                let mut session = Session::new("bench");
                runtime.block_on(voice.agent().turn(&cx, &mut session, "What is the capital of France?", |_| {})).expect("an answer");
            });
        })
        .case("speak: text to speech", |n| {
            (0..n).for_each(|_| {
                runtime.block_on(voice.speak(&cx, "The capital of France is Paris.", |_| {})).expect("speech");
            });
        })
        .run();
}

async fn voice() -> Voice {
    let host = Host::builder().plugins(bespoke_plugin_api::compiled_in()).models(Arc::new(Folders)).build().expect("a host");
    host.start(Selection::All).await;
    for row in host.rows() {
        assert_eq!(row.state.name(), "ready", "{}: {:?}; run `bespoke demo --yes` first", row.id, row.reason);
    }
    let agent = Agent::new(host, AgentConfig::default()).expect("the defaults are right");
    Voice::new(agent, VoiceConfig::default()).expect("the defaults are right")
}

/// Model files of this machine. They are not verified: a benchmark takes what the program has verified.
struct Folders;

impl ModelStore for Folders {
    fn find(&self, plugin: &str, model: &Model) -> bespoke_plugin_api::Result<PathBuf> {
        let path = std::env::var_os("BESPOKE_MODEL_PATH").unwrap_or_default();
        let home = std::env::var_os("BESPOKE_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".bespoke")));
        let folders = std::env::split_paths(&path).chain(home.map(|home| home.join("models")));
        let found = folders.map(|folder| folder.join(plugin).join(&model.file)).find(|file| file.is_file());
        found.ok_or_else(|| Error::new(Code::MODEL_NOT_FOUND, format!("{} is missing", model.file)))
    }
}
