//! The recordings of `bespoke demo`.

bespoke_plugin_api::notice! {
    name: "recording-austen",
    files: ["sense_and_sensibility.wav"],
    license: "public domain",
    text: include_str!("../../../LICENSES/recording-austen.txt"),
}

bespoke_plugin_api::notice! {
    name: "recording-question",
    files: ["question.wav"],
    license: "Apache-2.0",
    text: include_str!("../../../LICENSES/recording-question.txt"),
}

/// A recording, as the bytes of a WAV file.
pub(crate) struct Recording {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) wav: &'static [u8],
}

/// Two turns: a person reading, and a question that calls for a fact.
pub(crate) const RECORDINGS: &[Recording] = &[
    Recording {
        name: "sense_and_sensibility.wav",
        about: "a sentence of Jane Austen, read for LibriVox (public domain)",
        wav: include_bytes!("../assets/sense_and_sensibility.wav"),
    },
    Recording { name: "question.wav", about: "a spoken question", wav: include_bytes!("../assets/question.wav") },
];
