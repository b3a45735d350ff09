//! Names of the methods. Strings, so that a peer that knows more or fewer of them can answer −32601.

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $value:literal),+ $(,)?) => {
        $($(#[$doc])* pub const $name: &str = $value;)+

        /// All that this side knows: those of the host begin with `host.` or `inbox.`.
        pub const ALL: &[&str] = &[$($value),+];
    };
}

methods! {
    /// `Plugin::start`, with [`Setup`](crate::Setup).
    START = "plugin.start",
    /// `Plugin::reconfigure`.
    RECONFIGURE = "plugin.reconfigure",
    /// `Plugin::capture_state`.
    CAPTURE_STATE = "plugin.capture_state",
    /// `Plugin::restore_state`.
    RESTORE_STATE = "plugin.restore_state",
    /// `Plugin::shutdown`.
    SHUTDOWN = "plugin.shutdown",
    /// `Plugin::health` and `Plugin::facts`, answered by [`Vitals`](crate::Vitals).
    VITALS = "plugin.vitals",
    /// `Life::invoke`, with [`InvokeArgs`](crate::InvokeArgs): a method by the plugin's own name.
    INVOKE = "plugin.invoke",
    /// `Life::methods`: the names that `plugin.invoke` takes.
    METHODS = "plugin.methods",

    /// `Tool::call`.
    TOOL_CALL = "tool.call",
    /// `Provider::models`.
    PROVIDER_MODELS = "provider.models",
    /// `Provider::chat`: the reply says that the stream is open, its deltas follow as events under the id of the call.
    PROVIDER_CHAT = "provider.chat",
    /// `Stt::transcribe`.
    STT_TRANSCRIBE = "stt.transcribe",
    /// `Stt::open`: samples in, `SttEvent` out.
    STT_OPEN = "stt.open",
    /// `Tts::voices`.
    TTS_VOICES = "tts.voices",
    /// `Tts::open`: text in, `AudioChunk` out.
    TTS_OPEN = "tts.open",
    /// `Vad::open`: samples in, `VadEvent` out.
    VAD_OPEN = "vad.open",
    /// `Embedder::embed`.
    EMBEDDER_EMBED = "embedder.embed",
    /// `Command::run`; its lines come as `OUTPUT`.
    COMMAND_RUN = "command.run",
    /// `HookHandler::on`.
    HOOK_ON = "hook.on",
    /// `Channel::run`; its messages come as host calls [`HOST_ACCEPT`].
    CHANNEL_RUN = "channel.run",
    /// `Channel::send`.
    CHANNEL_SEND = "channel.send",
    /// `Channel::edit`.
    CHANNEL_EDIT = "channel.edit",
    /// `Channel::typing`.
    CHANNEL_TYPING = "channel.typing",
    /// `Channel::stream`: text in, one `MessageRef` out.
    CHANNEL_STREAM = "channel.stream",
    /// `HttpEndpoint::handle`.
    HTTP_HANDLE = "http.handle",
    /// `Accelerator::devices`.
    ACCELERATOR_DEVICES = "accelerator.devices",

    /// `HostApi::sleep`.
    HOST_SLEEP = "host.sleep",
    /// `HostApi::http`, a [`Streamed`](crate::Streamed) host call: status and headers, then the body in pieces.
    HOST_HTTP = "host.http",
    /// `HostApi::call`.
    HOST_CALL = "host.call",
    /// `HostApi::publish`.
    HOST_PUBLISH = "host.publish",
    /// `HostApi::emit`.
    HOST_EMIT = "host.emit",
    /// `HostApi::subscribe`, a [`Streamed`](crate::Streamed) host call.
    HOST_SUBSCRIBE = "host.subscribe",
    /// `HostApi::secret`.
    HOST_SECRET = "host.secret",
    /// `HostApi::load`.
    HOST_LOAD = "host.load",
    /// `HostApi::store`.
    HOST_STORE = "host.store",
    /// `HostApi::report_health`.
    HOST_REPORT_HEALTH = "host.report_health",
    /// `Inbox::accept` of a running channel.
    HOST_ACCEPT = "inbox.accept",
}
