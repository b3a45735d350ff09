//! Names of the methods. Strings, so that a peer that knows more or fewer of them can answer −32601.

/// `Plugin::start`, with [`Setup`](crate::Setup).
pub const START: &str = "plugin.start";
/// `Plugin::reconfigure`.
pub const RECONFIGURE: &str = "plugin.reconfigure";
/// `Plugin::capture_state`.
pub const CAPTURE_STATE: &str = "plugin.capture_state";
/// `Plugin::restore_state`.
pub const RESTORE_STATE: &str = "plugin.restore_state";
/// `Plugin::shutdown`.
pub const SHUTDOWN: &str = "plugin.shutdown";
/// `Plugin::health` and `Plugin::facts`, answered by [`Vitals`](crate::Vitals).
pub const VITALS: &str = "plugin.vitals";
/// `Life::invoke`, with [`InvokeArgs`](crate::InvokeArgs): a method by the plugin's own name.
pub const INVOKE: &str = "plugin.invoke";

/// `Tool::call`.
pub const TOOL_CALL: &str = "tool.call";
/// `Provider::models`.
pub const PROVIDER_MODELS: &str = "provider.models";
/// `Provider::chat`: the reply says that the stream is open, its deltas follow as events under the id of the call.
pub const PROVIDER_CHAT: &str = "provider.chat";
/// `Stt::transcribe`.
pub const STT_TRANSCRIBE: &str = "stt.transcribe";
/// `Stt::open`: samples in, `SttEvent` out.
pub const STT_OPEN: &str = "stt.open";
/// `Tts::voices`.
pub const TTS_VOICES: &str = "tts.voices";
/// `Tts::open`: text in, `AudioChunk` out.
pub const TTS_OPEN: &str = "tts.open";
/// `Vad::open`: samples in, `VadEvent` out.
pub const VAD_OPEN: &str = "vad.open";
/// `Embedder::embed`.
pub const EMBEDDER_EMBED: &str = "embedder.embed";
/// `Command::run`; its lines come as `OUTPUT`.
pub const COMMAND_RUN: &str = "command.run";
/// `HookHandler::on`.
pub const HOOK_ON: &str = "hook.on";
/// `Channel::run`; its messages come as host calls [`HOST_ACCEPT`].
pub const CHANNEL_RUN: &str = "channel.run";
/// `Channel::send`.
pub const CHANNEL_SEND: &str = "channel.send";
/// `Channel::edit`.
pub const CHANNEL_EDIT: &str = "channel.edit";
/// `Channel::typing`.
pub const CHANNEL_TYPING: &str = "channel.typing";
/// `Channel::stream`: text in, one `MessageRef` out.
pub const CHANNEL_STREAM: &str = "channel.stream";
/// `HttpEndpoint::handle`.
pub const HTTP_HANDLE: &str = "http.handle";
/// `Accelerator::devices`.
pub const ACCELERATOR_DEVICES: &str = "accelerator.devices";

/// `HostApi::sleep`.
pub const HOST_SLEEP: &str = "host.sleep";
/// `HostApi::http`, a [`Streamed`](crate::Streamed) host call: status and headers, then the body in pieces.
pub const HOST_HTTP: &str = "host.http";
/// `HostApi::call`.
pub const HOST_CALL: &str = "host.call";
/// `HostApi::publish`.
pub const HOST_PUBLISH: &str = "host.publish";
/// `HostApi::emit`.
pub const HOST_EMIT: &str = "host.emit";
/// `HostApi::subscribe`, a [`Streamed`](crate::Streamed) host call.
pub const HOST_SUBSCRIBE: &str = "host.subscribe";
/// `HostApi::secret`.
pub const HOST_SECRET: &str = "host.secret";
/// `HostApi::load`.
pub const HOST_LOAD: &str = "host.load";
/// `HostApi::store`.
pub const HOST_STORE: &str = "host.store";
/// `HostApi::report_health`.
pub const HOST_REPORT_HEALTH: &str = "host.report_health";
/// `Inbox::accept` of a running channel.
pub const HOST_ACCEPT: &str = "inbox.accept";
