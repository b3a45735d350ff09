//! Chat, hearing, speech and vectors from any server that speaks the OpenAI protocol: the one of OpenAI itself, llama.cpp, vLLM,
//! Ollama and many more. Portable: it has no network of its own, every request goes through the host.
//!
//! A request is made by `client`, which retries what may be retried and explains what may not. Its answer is read through
//! `body`, which bounds how long a server may be silent and how much it may say. For a chat, `sse` cuts the bytes into events
//! and `answer` puts deltas together from them; both are pure and know nothing of time or network.

mod answer;
mod body;
mod chat;
mod client;
mod config;
mod embed;
mod failure;
mod models;
mod plugin;
mod retry;
mod sentences;
mod sse;
mod stt;
mod tts;
mod wav;

pub use config::{Config, MaxTokensKey, ModelConfig, ToolMode};
pub use plugin::{BESPOKE_PLUGIN, Openai};
