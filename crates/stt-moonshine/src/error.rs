//! What can go wrong between model files and text. Not the wire error of a plugin: `plugin.rs` turns one into the other.

use std::path::PathBuf;

/// Why the engine could not load or could not transcribe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A model file is missing or unreadable.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file that was tried.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not an ONNX graph, or uses an operator that the runtime does not have.
    #[error("{} cannot be loaded as an ONNX graph: {source}", path.display())]
    Graph {
        /// The graph file.
        path: PathBuf,
        /// What the runtime said.
        source: rten::LoadError,
    },
    /// The graph loads, but is not the one that this engine drives.
    #[error("{} is not the expected Moonshine graph: it has no {missing}", path.display())]
    NotMoonshine {
        /// The graph file.
        path: PathBuf,
        /// The input or output that should be there.
        missing: String,
    },
    /// The tokenizer file is broken or belongs to another model.
    #[error("{} is not a usable tokenizer: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A graph failed while running.
    #[error("the {stage} graph failed: {source}")]
    Run {
        /// `encoder` or `decoder`.
        stage: &'static str,
        /// What the runtime said.
        source: rten::RunError,
    },
    /// A graph gave something else than the tensor it declares.
    #[error("the {stage} graph gave no usable {output}; the model files do not fit together")]
    Output {
        /// `encoder` or `decoder`.
        stage: &'static str,
        /// The output in question.
        output: &'static str,
    },
    /// The audio holds NaN or an infinity.
    #[error("sample {index} of the audio is not a finite number")]
    NotFinite {
        /// Index of the first such sample.
        index: usize,
    },
    /// The audio's rate is none that can be converted.
    #[error(transparent)]
    Rate(#[from] bespoke_audio::ResampleError),
    /// The caller no longer wants the answer.
    #[error("the transcription was cancelled")]
    Cancelled,
}
