//! All that a plugin author reads.
//!
//! A plugin is a Rust type. It is written once against this crate and ships in any of four tiers: compiled in, as a dynamic
//! library, as a wasm component, as a child process. This page is the tutorial; the example is a complete plugin.
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
//! use bespoke_plugin_api::{
//!     CallCx, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait, serde, serde_json::json,
//! };
//!
//! /// The table `[plugins.dice]` of bespoke.toml. An unknown key is an error; a missing one has its default.
//! #[derive(serde::Deserialize)]
//! #[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
//! struct Config { sides: u64 }
//!
//! impl Default for Config {
//!     fn default() -> Self { Config { sides: 6 } }
//! }
//!
//! /// One instance. State lives here, never in statics: a reload makes a second instance beside the first.
//! struct Dice { sides: u64, rolls: AtomicU64, cx: PluginContext }
//!
//! impl Plugin for Dice {
//!     type Config = Config;
//!
//!     /// What it contributes: must equal `[[provides]]` of plugin.toml.
//!     fn register(api: &mut PluginApi<Self>) {
//!         api.tool(ToolSpec::new("roll", "Rolls a die and says what it shows."), |dice| Arc::new(Roll(dice.clone())));
//!     }
//!
//!     async fn start(cx: PluginContext, config: Config) -> Result<Self> {
//!         Ok(Dice { sides: config.sides, rolls: AtomicU64::new(0), cx })
//!     }
//! }
//!
//! struct Roll(Arc<Dice>);
//!
//! #[async_trait]
//! impl Tool for Roll {
//!     async fn call(&self, cx: &CallCx, _request: ToolRequest) -> Result<ToolOutput> {
//!         cx.check()?;                                            // somebody may have hung up already
//!         self.0.rolls.fetch_add(1, Ordering::Relaxed);
//!         let shows = self.0.cx.now().0 % self.0.sides + 1;       // the world is reached through the context
//!         Ok(ToolOutput::text(shows.to_string()).with_data(json!({ "shows": shows })))
//!     }
//! }
//!
//! // In a crate of its own the last line is `bespoke_plugin_api::plugin!("dice", Dice);`, and beside Cargo.toml stand
//! // plugin.toml and config.schema.json (`cargo xtask new-plugin tool dice` writes all of it). Here we do its work by hand:
//! # use bespoke_plugin_api::{BoxFuture, Contribution, Descriptor, HostApi, Level, Package, Timestamp};
//! # struct Host;
//! # impl HostApi for Host {
//! #     fn log(&self, _: Level, line: &str) {}
//! #     fn now(&self) -> Timestamp { Timestamp(9) }
//! #     fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> { Box::pin(async {}) }
//! #     fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> { work(); Box::pin(async {}) }
//! #     fn spawn(&self, _: BoxFuture<'static, ()>) {}
//! # }
//! # fn block_on<T>(f: impl std::future::Future<Output = T>) -> T {
//! #     let mut f = std::pin::pin!(f);
//! #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
//! #     loop { if let std::task::Poll::Ready(v) = f.as_mut().poll(&mut cx) { return v; } }
//! # }
//! let package = Package { name: "dice", version: "0.1.0", license: "Apache-2.0", manifest: "", config_schema: "{}" };
//! let descriptor = Descriptor::of::<Dice>("dice", package);
//! assert_eq!(descriptor.declare()[0].name(), "roll");
//! assert!(descriptor.check(&json!({ "side": 6 })).unwrap_err().message().contains("unknown field `side`"));
//!
//! let context = PluginContext::new("dice", Arc::new(Host));
//! let instance = block_on(descriptor.start(context, json!({ "sides": 4 })))?;
//! let [Contribution::Tool(_, roll)] = &instance.contributions[..] else { panic!() };
//! let output = block_on(roll.call(&CallCx::new(), ToolRequest::new(json!({}))))?;
//! assert_eq!(output.to_text(), "2");
//! # Ok::<(), bespoke_plugin_api::Error>(())
//! ```
//!
//! # What to know
//!
//! * **Portable or native.** A *portable* plugin reaches the world only through [`PluginContext`] and ships in all tiers. A
//!   *native* one (FFI, tokio, threads, files) ships compiled in, as library or as process; `tiers` in plugin.toml says which.
//! * **Streams** of audio and text are [`Duplex`]: `push` borrows and returns at once, events come when they come.
//! * **Heavy work** goes through [`PluginContext::blocking`], and [`feed`] carries its results back into a stream.
//! * **Cancellation** is cooperative: ask [`CallCx::check`] between steps.
//! * **Panics** are caught and reported as `PLUGIN_EXCEPTION`; `abort`, stack overflow and endless loops take a compiled-in host
//!   down, as they would any program.
//!
//! | contract | trait | spec |
//! |---|---|---|
//! | `channel` | [`Channel`] | [`ChannelSpec`] |
//! | `tool` | [`Tool`] | [`ToolSpec`] |
//! | `provider` | [`Provider`] | [`ProviderSpec`] |
//! | `stt` | [`Stt`] | [`SttSpec`] |
//! | `tts` | [`Tts`] | [`TtsSpec`] |
//! | `vad` | [`Vad`] | [`VadSpec`] |
//! | `embedder` | [`Embedder`] | [`EmbedderSpec`] |
//! | `command` | [`Command`] | [`CommandSpec`] |
//! | `hook` | [`HookHandler`] | [`HookSpec`] |
//! | `http` | [`HttpEndpoint`] | [`EndpointSpec`] |
//! | `accelerator` | [`Accelerator`] | [`AcceleratorSpec`] |
//!
//! **Invariant:** no feature of this crate changes what a plugin exports, and no public type names a runtime.

use std::{future::Future, pin::Pin};

mod api;
mod audio;
mod call;
mod cancel;
mod context;
mod contract;
mod duplex;
mod error;
mod health;
mod hook;
mod notice;
mod plugin;
mod runtime_pack;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use call::look_for_cancels;
#[cfg(not(target_family = "wasm"))]
pub use notice::{BESPOKE_NOTICES_V1, notices};
#[cfg(not(target_family = "wasm"))]
pub use plugin::{BESPOKE_PLUGINS_V1, compiled_in};
pub use {
    api::{Contract, Contribution, Kind, PluginApi, Spec},
    audio::Audio,
    call::{CallCx, MAX_DEPTH, Timestamp},
    cancel::{CancelToken, Cancelled},
    context::{Event, HostApi, Level, PluginContext, Target},
    contract::{
        Accelerator, AcceleratorSpec, Attachment, AudioChunk, Channel, ChannelSpec, ChatDelta, ChatRequest, Command, CommandRequest,
        CommandSpec, Device, EmbedRequest, Embedder, EmbedderSpec, Embeddings, EndpointSpec, FinishReason, HttpEndpoint, HttpReply,
        HttpRequest, HttpResponse, Inbound, Inbox, InboxSink, Message, MessageRef, ModelInfo, Outbound, Output, OutputSink, Part, Provider,
        ProviderSpec, Role, Segment, Stt, SttEvent, SttOptions, SttRequest, SttSpec, Tool, ToolCall, ToolChoice, ToolOutput, ToolRequest,
        ToolSpec, Transcript, Tts, TtsOptions, TtsSpec, Usage, Vad, VadEvent, VadOptions, VadSpec, Voice,
    },
    duplex::{Duplex, Feed, FeedClosed, FeedSender, feed, next, try_next},
    error::{Code, Error, ErrorBody, Result},
    health::{Facts, Health},
    hook::{Hook, HookEvent, HookHandler, HookReply, HookSpec, OnFailure},
    notice::Notice,
    plugin::{Descriptor, Instance, Life, Package, Plugin, PluginMeta, Reload, State},
    runtime_pack::RuntimePack,
};

// Re-exported so that a plugin crate can do with this one dependency, and so that versions agree.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub use linkme;
pub use {async_trait::async_trait, bytes, futures_core, serde, serde_json};

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A boxed stream of results. `'static`, because the host stores it beside its lease; authors clone an inner `Arc` into it.
pub type BoxStream<T> = Pin<Box<dyn futures_core::Stream<Item = Result<T>> + Send>>;
