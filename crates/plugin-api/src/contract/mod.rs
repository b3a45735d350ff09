//! The contracts: what a plugin can be. One file each; a request method takes [`CallCx`](crate::CallCx) first, one
//! `#[non_exhaustive]` request, and returns [`Result`](crate::Result), so a contract grows by fields, never by parameters.

mod accelerator;
mod channel;
mod command;
mod embedder;
mod http;
mod provider;
mod stt;
mod tool;
mod tts;
mod vad;

pub use accelerator::{Accelerator, AcceleratorSpec, Device};
pub use channel::{Attachment, Channel, ChannelSpec, Inbound, Inbox, InboxSink, MessageRef, Outbound};
pub use command::{Command, CommandRequest, CommandSpec, Output, OutputSink};
pub use embedder::{EmbedRequest, Embedder, EmbedderSpec, Embeddings};
pub use http::{EndpointSpec, HttpEndpoint, HttpReply, HttpRequest, HttpResponse};
pub use provider::{ChatDelta, ChatRequest, FinishReason, Message, ModelInfo, Provider, ProviderSpec, Role, ToolCall, ToolChoice, Usage};
pub use stt::{Segment, Stt, SttEvent, SttOptions, SttRequest, SttSpec, Transcript};
pub use tool::{Part, Tool, ToolOutput, ToolRequest, ToolSpec};
pub use tts::{AudioChunk, Tts, TtsOptions, TtsSpec, Voice};
pub use vad::{Vad, VadEvent, VadOptions, VadSpec};

/// `new` and one setter per optional field for a `#[non_exhaustive]` struct.
macro_rules! builder {
    ($ty:ident { $($(#[$doc:meta])* $field:ident: $arg:ty => $value:expr),* $(,)? }) => {
        impl $ty {
            $($(#[$doc])* #[must_use]
            pub fn $field(mut self, $field: $arg) -> Self { self.$field = $value; self })*
        }
    };
}
pub(crate) use builder;
