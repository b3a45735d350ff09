//! SmolLM2-135M-Instruct in this process: a language model of 98 MB that needs no key, no network and no library.
//!
//! From the file outwards: [`gguf`] and [`tokenizer`] read it, `matrix` packs its weights, [`kernel`] multiplies them,
//! [`model`] is the network over the cache in [`kv`], [`sampler`] chooses tokens, [`engine`] puts answers together,
//! [`plugin`] offers them as a provider.
//!
//! There is no model library underneath. Measured on one thread at the default target processor with this very file,
//! `candle-core` 0.11.1 gives 22 tokens/s as shipped and 80 re-quantised, because on x86 it has no vector code that is
//! chosen at run time; llama.cpp needs cmake and libclang to build. In one run with a 100-token prompt on one thread
//! (Zen 5): here 290 tokens/s and 0.073 s to the first token with AVX-512, 224 and 0.11 s with AVX2; llama.cpp 128 and
//! 0.385 s. Loading takes 0.1 s and 105 MB. The portable kernels are the slow ones: 40 tokens/s and 1.4 s.

mod vectorised;
pub(crate) use vectorised::vectorised;

pub mod constrain;
mod conversations;
pub mod engine;
pub mod error;
pub mod gguf;
mod half;
pub mod kernel;
pub mod kv;
mod matrix;
pub mod model;
mod ops;
mod output;
pub mod plugin;
mod pretokenize;
mod prompt;
pub mod sampler;
pub mod tokenizer;
pub mod tools;

pub use plugin::{BESPOKE_PLUGIN, Config, Smol};
