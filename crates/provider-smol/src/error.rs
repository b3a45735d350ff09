//! What can go wrong between a model file and an answer: one enum for the whole engine.
//!
//! It is not the error of the plugin contract; `provider` translates it there.

use std::path::PathBuf;

/// Why the engine could not load or generate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be opened or read.
    #[error("cannot read the model {path}: {source}")]
    Io {
        /// The model file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a GGUF file, is cut short, or contradicts itself.
    #[error("the model file is damaged at byte {offset}: {what}; fetch it again")]
    Damaged {
        /// Where in the file the reader stood.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// A sound GGUF file that this engine does not run.
    #[error("this engine does not run the model: {0}; it runs llama models such as SmolLM2-135M-Instruct")]
    Unsupported(String),
    /// The prompt does not fit into the model's context.
    #[error("the prompt has {tokens} tokens and the model reads at most {limit}; shorten the conversation or the system prompt")]
    ContextTooLong {
        /// Tokens in the prompt; a lower bound when the text was too long to be worth counting.
        tokens: usize,
        /// Tokens that a prompt may have.
        limit: usize,
    },
    /// An option of the request is out of its range.
    #[error("{option} = {value} is out of range: {range}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was asked for.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// The schema of the request is one that answers cannot be kept to.
    #[error("cannot keep an answer to the JSON Schema, at {0}")]
    Schema(#[from] crate::constrain::SchemaError),
    /// Not even the shortest text that fits the schema has so few tokens.
    #[error("the shortest answer that fits the JSON Schema has {least} tokens, and there is room for {room}")]
    NoRoom {
        /// Tokens of the shortest answer.
        least: usize,
        /// Tokens that the answer may have.
        room: usize,
    },
    /// Too many requests are already waiting for the processor.
    #[error("{waiting} requests are already waiting for this model; try again later")]
    Busy {
        /// Requests in the queue.
        waiting: usize,
    },
    /// The caller cancelled the request.
    #[error("the request was cancelled")]
    Cancelled,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
