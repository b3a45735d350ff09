//! SmolLM2-135M-Instruct in this process: a language model of 98 MB that needs no key, no network and no library.
//!
//! From the file outwards: [`gguf`] and [`tokenizer`] read it, `matrix` packs its weights, [`kernel`] multiplies them,
//! [`model`] is the network over the cache in [`kv`], [`sampler`] chooses tokens, [`constrain`] keeps them to a JSON
//! Schema, [`engine`] puts answers together, [`tools`] chooses tools, [`plugin`] offers it all as a provider.
//!
//! There is no model library underneath. Measured on one thread at the default target processor with this very file,
//! `candle-core` 0.11.1 gives 22 tokens/s as shipped and 80 re-quantised, because on x86 it has no vector code that is
//! chosen at run time; llama.cpp needs cmake and libclang to build. In one run with a 100-token prompt on one thread
//! (Zen 5): here 290 tokens/s and 0.073 s to the first token with AVX-512, 224 and 0.11 s with AVX2; llama.cpp 128 and
//! 0.385 s. Loading takes 0.1 s and 105 MB. The portable kernels are the slow ones: 40 tokens/s and 1.4 s.
//!
//! # How well it uses tools
//!
//! The model was not trained to; [`tools`] tells how it is led. It was offered the four tools that `clock` and `files` offer
//! unless they are configured, always the likeliest one taken (`tests/it/choice.rs` prints each question). Nothing was tuned
//! on the held-out questions; the prompts and the descriptions of the tools were, on the development ones.
//!
//! | | held out | development |
//! |---|---|---|
//! | right choice: this tool, or none | 26 of 28 | 52 of 56 |
//! | a tool was needed: the right one | 15 of 16 | 30 of 32 |
//! | and with exactly the right arguments | 10 of 16 | 23 of 32 |
//! | answered: the call brings what was asked for | 10 of 16 | 25 of 32 |
//! | none was needed, and one was called | 1 of 12 | 2 of 24 |
//!
//! A call also answers where the right one is another: a file that is listed is shown, a folder that is read is listed.
//!
//! What fails, and why: names in the arguments are made up or changed ("my_file.txt" for diary.txt, "images_folder" for the
//! images folder), so the tools should say which names come close. A question about a thing is taken for one that needs the
//! tool ("What is a directory in computing?"). Zones of cities are mostly left out or written as "London, UK": it
//! does not know the names. Only the last message is looked at, so "and in Tokyo?" calls nothing. One tool is called for what
//! a user says. What a tool answered it repeats rather than explains, since it explains wrongly. Of a
//! tool that failed the provider itself says that, with the reason in the tool's words: the model gets reasons wrong. It does not draw the conclusion that a question may have asked for, and of a
//! long result it repeats as much as an answer may have. A decision costs about 0.2 s of one core for five tools with
//! AVX-512, each optional argument 0.2 to 0.3 s; the first decision takes 2 s, as its prompt is read for the first time.

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
