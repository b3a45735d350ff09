//! The reference outputs, and the recordings that go with them as far as they are here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bespoke_audio::read_wav;
use bespoke_vad_silero::{Model, Rate};
use serde::Deserialize;

/// What the original gives for one recording.
#[derive(Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) sr: u32,
    pub(crate) samples: usize,
    pub(crate) model_sha256: String,
    pub(crate) probs: Vec<f32>,
    pub(crate) timestamps_default: Vec<[u64; 2]>,
    pub(crate) timestamps_thr03: Vec<[u64; 2]>,
    pub(crate) timestamps_minsil500_pad200: Vec<[u64; 2]>,
    pub(crate) iterator_default: Vec<BTreeMap<String, u64>>,
    pub(crate) livekit_plugin_default: Vec<LiveKitEvent>,
    pub(crate) livekit_inference_default: Vec<LiveKitEvent>,
}

/// An event of the LiveKit plugin.
#[derive(Debug, Deserialize)]
pub(crate) struct LiveKitEvent {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) samples_index: u64,
    pub(crate) timestamp: f64,
    pub(crate) speech_duration: f64,
    pub(crate) silence_duration: f64,
}

impl Reference {
    pub(crate) fn rate(&self) -> Rate {
        assert!(self.sr == 8_000 || self.sr == 16_000);
        Rate::for_input(self.sr)
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every reference, sorted by name.
pub(crate) fn references() -> Vec<Reference> {
    let folder = fixtures().join("reference");
    let mut paths: Vec<PathBuf> = folder.read_dir().expect("fixtures").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 10);
    paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("reference")).collect()
}

/// The references whose recordings are here: three always, the others with the voice kit.
pub(crate) fn recordings() -> Vec<(Reference, Vec<f32>)> {
    let kit = std::env::var_os("BESPOKE_VOICE_KIT").map(PathBuf::from);
    let folders = [Some(fixtures()), kit.clone()];
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    for reference in references() {
        let file = format!("audio/{}.wav", reference.name);
        let path = folders.iter().flatten().map(|folder| folder.join(&file)).find(|path| path.is_file());
        match path {
            Some(path) => {
                let wav = read_wav(&path).expect("a sound recording");
                assert_eq!((wav.rate, wav.samples.len()), (reference.sr, reference.samples), "{}", reference.name);
                found.push((reference, wav.samples));
            }
            None if reference.name == "neg_zero" => {
                let silence = vec![0.0; reference.samples];
                found.push((reference, silence));
            }
            None => left_out.push(reference.name),
        }
    }
    let names: Vec<&str> = found.iter().map(|(reference, _)| reference.name.as_str()).collect();
    println!("recordings: {}; not here: {}", names.join(" "), left_out.join(" "));
    assert!(found.len() >= if kit.is_some() { 10 } else { 4 }, "recordings are missing");
    found
}

/// The model that every reference was made with.
pub(crate) fn model_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/silero_vad.onnx")
}

pub(crate) fn model() -> Model {
    Model::read(&model_path()).expect("the model of the repository")
}

/// The windows of a recording, the last one filled with zeros.
pub(crate) fn windows(samples: &[f32], rate: Rate) -> impl Iterator<Item = Vec<f32>> {
    samples.chunks(rate.window()).map(move |chunk| {
        let mut window = chunk.to_vec();
        window.resize(rate.window(), 0.0);
        window
    })
}
