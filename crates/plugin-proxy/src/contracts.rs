//! One remote object for all contracts: a name and a link. Each method is one call on the wire.

use std::sync::Arc;

use bespoke_plugin_api::{
    Accelerator, AudioChunk, BoxStream, CallCx, Channel, ChatDelta, ChatRequest, Code, Command, CommandRequest, Contribution, Device,
    Duplex, EmbedRequest, Embedder, Embeddings, Error, HookEvent, HookHandler, HookReply, HttpEndpoint, HttpRequest, HttpResponse, Inbox,
    MessageRef, ModelInfo, Outbound, Output, Provider, Result, Spec, Stt, SttEvent, SttOptions, SttRequest, Tool, ToolOutput, ToolRequest,
    Transcript, Tts, TtsOptions, Vad, VadEvent, VadOptions, Voice, async_trait,
};
use bespoke_protocol::{ChannelEdit, ChatArgs, Nothing, method};

use crate::{call::Company, inner::Inner};

/// The contribution that serves a spec over the wire; `None` for a kind that this host does not know.
pub(crate) fn contribution(inner: &Arc<Inner>, spec: Spec) -> Option<Contribution> {
    let streaming = match &spec {
        Spec::Stt(stt) => stt.streaming,
        Spec::Channel(channel) => channel.streams,
        _ => false,
    };
    let remote = Arc::new(Remote { inner: inner.clone(), name: spec.name().to_owned(), streaming });
    Some(match spec {
        Spec::Channel(spec) => Contribution::Channel(spec, remote),
        Spec::Tool(spec) => Contribution::Tool(spec, remote),
        Spec::Provider(spec) => Contribution::Provider(spec, remote),
        Spec::Stt(spec) => Contribution::Stt(spec, remote),
        Spec::Tts(spec) => Contribution::Tts(spec, remote),
        Spec::Vad(spec) => Contribution::Vad(spec, remote),
        Spec::Embedder(spec) => Contribution::Embedder(spec, remote),
        Spec::Command(spec) => Contribution::Command(spec, remote),
        Spec::Hook(spec) => Contribution::Hook(spec, remote),
        Spec::Http(spec) => Contribution::Http(spec, remote),
        Spec::Accelerator(spec) => Contribution::Accelerator(spec, remote),
        _ => return None,
    })
}

/// A contribution in a guest.
struct Remote {
    inner: Arc<Inner>,
    name: String,
    /// Whether its `Stt::open` or `Channel::stream` works.
    streaming: bool,
}

#[async_trait]
impl Tool for Remote {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        self.inner.call(cx, method::TOOL_CALL, &self.name, &request).await
    }
}

#[async_trait]
impl Provider for Remote {
    async fn models(&self, cx: &CallCx) -> Result<Vec<ModelInfo>> {
        self.inner.call(cx, method::PROVIDER_MODELS, &self.name, &Nothing {}).await
    }

    async fn chat(&self, cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        self.inner.call_stream(cx, method::PROVIDER_CHAT, &self.name, &request).await
    }
}

#[async_trait]
impl Stt for Remote {
    async fn transcribe(&self, cx: &CallCx, request: SttRequest) -> Result<Transcript> {
        self.inner.call(cx, method::STT_TRANSCRIBE, &self.name, &request).await
    }

    fn open(&self, options: &SttOptions) -> Result<Box<dyn Duplex<[f32], SttEvent>>> {
        if !self.streaming {
            return Err(Error::unsupported(method::STT_OPEN));
        }
        self.inner.open(method::STT_OPEN, &self.name, options)
    }
}

#[async_trait]
impl Tts for Remote {
    async fn voices(&self, cx: &CallCx) -> Result<Vec<Voice>> {
        self.inner.call(cx, method::TTS_VOICES, &self.name, &Nothing {}).await
    }

    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        self.inner.open(method::TTS_OPEN, &self.name, options)
    }
}

impl Vad for Remote {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        self.inner.open(method::VAD_OPEN, &self.name, options)
    }
}

#[async_trait]
impl Embedder for Remote {
    async fn embed(&self, cx: &CallCx, request: EmbedRequest) -> Result<Embeddings> {
        self.inner.call(cx, method::EMBEDDER_EMBED, &self.name, &request).await
    }
}

#[async_trait]
impl Command for Remote {
    async fn run(&self, cx: &CallCx, request: CommandRequest, out: Output) -> Result<i32> {
        let company = Company { output: Some(out), ..Company::default() };
        self.inner.call_with(cx, method::COMMAND_RUN, &self.name, &request, company).await
    }
}

#[async_trait]
impl HookHandler for Remote {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        self.inner.call(cx, method::HOOK_ON, &self.name, event).await
    }
}

#[async_trait]
impl Channel for Remote {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        let company = Company { inbox: Some(inbox), ..Company::default() };
        self.inner.call_with(cx, method::CHANNEL_RUN, &self.name, &Nothing {}, company).await
    }

    async fn send(&self, cx: &CallCx, message: Outbound) -> Result<MessageRef> {
        self.inner.call(cx, method::CHANNEL_SEND, &self.name, &message).await
    }

    async fn edit(&self, cx: &CallCx, message: MessageRef, new: Outbound) -> Result<()> {
        or_unsupported(self.inner.call(cx, method::CHANNEL_EDIT, &self.name, &ChannelEdit { message, new }).await, method::CHANNEL_EDIT)
    }

    async fn typing(&self, cx: &CallCx, chat: &str) -> Result<()> {
        let args = ChatArgs { chat: chat.to_owned() };
        or_unsupported(self.inner.call(cx, method::CHANNEL_TYPING, &self.name, &args).await, method::CHANNEL_TYPING)
    }

    fn stream(&self, chat: &str) -> Result<Box<dyn Duplex<str, MessageRef>>> {
        if !self.streaming {
            return Err(Error::unsupported(method::CHANNEL_STREAM));
        }
        self.inner.open(method::CHANNEL_STREAM, &self.name, &ChatArgs { chat: chat.to_owned() })
    }
}

#[async_trait]
impl HttpEndpoint for Remote {
    async fn handle(&self, cx: &CallCx, request: HttpRequest) -> Result<HttpResponse> {
        self.inner.call(cx, method::HTTP_HANDLE, &self.name, &request).await
    }
}

#[async_trait]
impl Accelerator for Remote {
    async fn devices(&self, cx: &CallCx) -> Result<Vec<Device>> {
        self.inner.call(cx, method::ACCELERATOR_DEVICES, &self.name, &Nothing {}).await
    }
}

/// An optional method answers in the same words whether the plugin or its whole guest does not know it.
fn or_unsupported<T>(result: Result<T>, method: &str) -> Result<T> {
    result.map_err(|e| if e.code() == Code::METHOD_NOT_FOUND { Error::unsupported(method) } else { e })
}
