//! From a call on the wire to a call of a contract: one arm per method, all of one pattern.

use std::{sync::Arc, task::Poll};

use bespoke_plugin_api::{
    Accelerator, BoxFuture, CallCx, Channel, Code, Command, CommandRequest, Contract, Contribution, Descriptor, EmbedRequest, Embedder,
    Error, HookEvent, HookHandler, HttpEndpoint, HttpRequest, Inbox, Instance, Life, Outbound, Output, OutputSink, PluginContext, Provider,
    Result, State, Stt, SttOptions, SttRequest, Tool, ToolRequest, Tts, TtsOptions, Vad, VadOptions, serde_json::Value,
};
use bespoke_protocol::{
    Body, ChannelEdit, ChatArgs, Frame, InvokeArgs, Kind, Nothing, OutputHead, Route, Setup, Vitals, method, put_json, put_reply, read_args,
};

use crate::{
    client::{Client, GuestInbox},
    shared::Shared,
    source::{DuplexSource, Source, StreamSource, caught},
};

/// What a call came to: the whole frame of its reply, and what is to be done besides sending it.
pub(crate) struct Answer {
    pub(crate) frame: Vec<u8>,
    pub(crate) effect: Effect,
}

/// What is to be done besides replying.
pub(crate) enum Effect {
    None,
    /// The plugin runs.
    Started(Instance),
    /// The plugin has shut down: its tasks end.
    Stopped,
    /// The reply is followed by events.
    Stream(Box<dyn Source>),
}

/// A call under way.
pub(crate) type Work = BoxFuture<'static, Answer>;

/// What a call may reach.
pub(crate) struct Dispatch<'a> {
    pub(crate) descriptor: &'static Descriptor,
    pub(crate) instance: Option<&'a Instance>,
    pub(crate) shared: &'a Arc<Shared>,
}

impl Dispatch<'_> {
    /// Begins a call. Nothing of the plugin runs before the work is polled.
    ///
    /// # Errors
    /// `METHOD_NOT_FOUND`, `NOT_READY`, `PLUGIN_NOT_FOUND`, `INVALID_PARAMS`.
    pub(crate) fn call(&self, frame: &Frame<'_>, route: &Route, cx: CallCx) -> Result<Work> {
        let (id, name) = (frame.id, route.name.as_str());
        /// Finds the contribution, reads the arguments, awaits the method, writes the reply.
        macro_rules! method {
            ($contract:ident($args:ident: $ty:ty) $object:ident => $call:expr) => {{
                let $object = self.find::<dyn $contract>(name)?;
                let $args: $ty = read_args(frame)?;
                Ok(replying(id, async move { $call(&$object, &cx, $args).await }))
            }};
        }
        match route.method.as_str() {
            method::START => self.start(frame),
            method::RECONFIGURE => {
                let (life, config) = (self.life()?, read_args::<Value>(frame)?);
                Ok(replying(id, async move { life.reconfigure(config).await }))
            }
            method::CAPTURE_STATE => {
                let life = self.life()?;
                Ok(replying(id, async move { life.capture_state().await }))
            }
            method::RESTORE_STATE => {
                let (life, state) = (self.life()?, read_args::<State>(frame)?);
                Ok(replying(id, async move { life.restore_state(state).await }))
            }
            method::SHUTDOWN => {
                let life = self.life()?;
                Ok(Box::pin(async move {
                    life.shutdown().await;
                    Answer { effect: Effect::Stopped, ..Answer::of(id, &Ok(())) }
                }))
            }
            method::VITALS => {
                let life = self.life()?;
                Ok(replying(id, async move { Ok(vitals(&*life)) }))
            }
            method::INVOKE => {
                let (life, InvokeArgs { method, args }) = (self.life()?, read_args(frame)?);
                Ok(replying(id, async move { life.invoke(&cx, &method, args).await }))
            }
            method::METHODS => {
                let life = self.life()?;
                Ok(replying(id, async move { life.methods().await }))
            }
            method::TOOL_CALL => method!(Tool(args: ToolRequest) tool => async |t: &Arc<dyn Tool>, cx: &_, a| t.call(cx, a).await),
            method::PROVIDER_MODELS => {
                method!(Provider(args: Nothing) p => async |p: &Arc<dyn Provider>, cx: &_, _| p.models(cx).await)
            }
            method::PROVIDER_CHAT => {
                let provider = self.find::<dyn Provider>(name)?;
                let request = read_args(frame)?;
                Ok(Box::pin(async move {
                    match provider.chat(&cx, request).await {
                        Ok(stream) => Answer { effect: Effect::Stream(Box::new(StreamSource::new(stream))), ..Answer::of(id, &Ok(())) },
                        Err(e) => Answer::of::<()>(id, &Err(e)),
                    }
                }))
            }
            method::STT_TRANSCRIBE => {
                method!(Stt(args: SttRequest) stt => async |s: &Arc<dyn Stt>, cx: &_, a| s.transcribe(cx, a).await)
            }
            method::TTS_VOICES => method!(Tts(args: Nothing) tts => async |t: &Arc<dyn Tts>, cx: &_, _| t.voices(cx).await),
            method::EMBEDDER_EMBED => {
                method!(Embedder(args: EmbedRequest) e => async |e: &Arc<dyn Embedder>, cx: &_, a| e.embed(cx, a).await)
            }
            method::COMMAND_RUN => {
                let command = self.find::<dyn Command>(name)?;
                let request: CommandRequest = read_args(frame)?;
                let out = Output::new(Arc::new(GuestOutput { shared: self.shared.clone(), id }));
                Ok(replying(id, async move { command.run(&cx, request, out).await }))
            }
            method::HOOK_ON => {
                method!(HookHandler(args: HookEvent) h => async |h: &Arc<dyn HookHandler>, cx: &_, e| h.on(cx, &e).await)
            }
            method::CHANNEL_RUN => {
                let channel = self.find::<dyn Channel>(name)?;
                let inbox = Inbox::new(Arc::new(GuestInbox { shared: self.shared.clone(), call: id }));
                Ok(replying(id, async move { channel.run(&cx, inbox).await }))
            }
            method::CHANNEL_SEND => {
                method!(Channel(args: Outbound) c => async |c: &Arc<dyn Channel>, cx: &_, m| c.send(cx, m).await)
            }
            method::CHANNEL_EDIT => {
                method!(Channel(args: ChannelEdit) c => async |c: &Arc<dyn Channel>, cx: &_, a: ChannelEdit| c.edit(cx, a.message, a.new).await)
            }
            method::CHANNEL_TYPING => {
                method!(Channel(args: ChatArgs) c => async |c: &Arc<dyn Channel>, cx: &_, a: ChatArgs| c.typing(cx, &a.chat).await)
            }
            method::HTTP_HANDLE => {
                method!(HttpEndpoint(args: HttpRequest) e => async |e: &Arc<dyn HttpEndpoint>, cx: &_, a| e.handle(cx, a).await)
            }
            method::ACCELERATOR_DEVICES => {
                method!(Accelerator(args: Nothing) a => async |a: &Arc<dyn Accelerator>, cx: &_, _| a.devices(cx).await)
            }
            other => Err(Error::unsupported(other)),
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// As [`call`](Self::call), and what the plugin's `open` says.
    pub(crate) fn open(&self, frame: &Frame<'_>, route: &Route) -> Result<Box<dyn Source>> {
        match route.method.as_str() {
            method::VAD_OPEN => {
                let (vad, options) = (self.find::<dyn Vad>(&route.name)?, read_args::<VadOptions>(frame)?);
                Ok(Box::new(DuplexSource::new(caught(|| vad.open(&options))??)))
            }
            method::CHANNEL_STREAM => {
                let (channel, args) = (self.find::<dyn Channel>(&route.name)?, read_args::<ChatArgs>(frame)?);
                Ok(Box::new(DuplexSource::new(caught(|| channel.stream(&args.chat))??)))
            }
            method::STT_OPEN => {
                let (stt, options) = (self.find::<dyn Stt>(&route.name)?, read_args::<SttOptions>(frame)?);
                Ok(Box::new(DuplexSource::new(caught(|| stt.open(&options))??)))
            }
            method::TTS_OPEN => {
                let (tts, options) = (self.find::<dyn Tts>(&route.name)?, read_args::<TtsOptions>(frame)?);
                Ok(Box::new(DuplexSource::new(caught(|| tts.open(&options))??)))
            }
            other => Err(Error::unsupported(other)),
        }
    }

    fn start(&self, frame: &Frame<'_>) -> Result<Work> {
        let setup: Setup = read_args(frame)?;
        let setup = match self.shared.setup.set(setup) {
            Ok(()) => self.shared.setup.get().cloned(),
            Err(_) => None,
        };
        let setup = setup.ok_or_else(|| Error::new(Code::ALREADY_LOADED, "this guest has been started before: one guest, one instance"))?;
        let mut cx = PluginContext::new(self.descriptor.id(), Arc::new(Client(self.shared.clone()))).with_cpu_budget(setup.cpu_budget);
        if let Some(dir) = setup.data_dir {
            cx = cx.with_data_dir(dir);
        }
        let (descriptor, id) = (self.descriptor, frame.id);
        Ok(Box::pin(async move {
            match descriptor.start(cx, setup.config).await {
                Ok(instance) => {
                    let vitals = vitals(&*instance.life);
                    Answer { effect: Effect::Started(instance), ..Answer::of(id, &Ok(vitals)) }
                }
                Err(e) => Answer::of::<Vitals>(id, &Err(e)),
            }
        }))
    }

    fn running(&self) -> Result<&Instance> {
        self.instance.ok_or_else(|| Error::new(Code::NOT_READY, format!("{} has not been started", self.descriptor.id())).retryable())
    }

    fn life(&self) -> Result<Arc<dyn Life>> {
        Ok(self.running()?.life.clone())
    }

    fn find<T: Contract + ?Sized>(&self, name: &str) -> Result<Arc<T>> {
        let find = |all: &[Contribution]| all.iter().filter(|c| c.name() == name).find_map(T::of).map(|(_, object)| object.clone());
        let fixed = find(&self.running()?.contributions);
        fixed
            .or_else(|| find(&self.shared.dynamic()))
            .ok_or_else(|| Error::new(Code::PLUGIN_NOT_FOUND, format!("{} has no {} named `{name}`", self.descriptor.id(), T::KIND)))
    }
}

impl Answer {
    pub(crate) fn of<R: Body>(id: u32, result: &Result<R>) -> Self {
        let mut frame = Vec::new();
        #[cfg(target_family = "wasm")]
        if let Err(error) = result
            && error.help().is_none()
            && let Some(help) = crate::panics::against(error.message())
        {
            put_reply::<()>(&mut frame, Kind::REPLY, id, &Err(error.clone().with_help(help)));
            return Answer { frame, effect: Effect::None };
        }
        put_reply(&mut frame, Kind::REPLY, id, result);
        Answer { frame, effect: Effect::None }
    }
}

/// What a plugin says of itself; a panic while it does is a failure.
pub(crate) fn vitals(life: &dyn Life) -> Vitals {
    let health = caught(|| life.health()).unwrap_or_else(|e| bespoke_plugin_api::Health::Failed(e.message().to_owned()));
    Vitals { health, facts: caught(|| life.facts()).unwrap_or_default() }
}

fn replying<R: Body>(id: u32, run: impl Future<Output = Result<R>> + Send + 'static) -> Work {
    Box::pin(async move { Answer::of(id, &run.await) })
}

/// Polls a call; a panic is its answer.
pub(crate) fn poll_work(work: &mut Work, id: u32, cx: &mut std::task::Context<'_>) -> Poll<Answer> {
    caught(|| work.as_mut().poll(cx)).unwrap_or_else(|e| Poll::Ready(Answer::of::<()>(id, &Err(e))))
}

struct GuestOutput {
    shared: Arc<Shared>,
    id: u32,
}

impl GuestOutput {
    fn put(&self, head: &OutputHead) {
        // A line over 64 MiB is the only one that does not fit; the command goes on without it.
        let put = put_json(self.shared.outbox().lane(Kind::OUTPUT), Kind::OUTPUT, self.id, head);
        if let Err(e) = put {
            self.shared.outbox().log(bespoke_plugin_api::Level::Error, e.message());
        }
        self.shared.platform.wake();
    }
}

impl OutputSink for GuestOutput {
    fn line(&self, text: &str) {
        self.put(&OutputHead::Line(text.to_owned()));
    }

    fn note(&self, text: &str) {
        self.put(&OutputHead::Note(text.to_owned()));
    }
}
