//! SmolLM2-135M-Instruct in process, from GGUF.

mod vectorised;
pub(crate) use vectorised::vectorised;

pub mod error;
pub mod gguf;
pub mod tokenizer;
mod pretokenize;
pub mod kernel;
pub mod matrix;
mod half;
pub mod kv;
pub mod model;
mod ops;
