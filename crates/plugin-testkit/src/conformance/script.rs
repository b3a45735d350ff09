//! The script: for each contribution the calls that its kind allows, well-formed and malformed, in one fixed order.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bespoke_plugin_api::{
    Audio, AudioChunk, BoxFuture, CallCx, CancelToken, Channel, ChatRequest, Command, CommandRequest, Contribution, EmbedRequest, Hook,
    HookEvent, HttpEndpoint, HttpRequest, Inbound, Inbox, InboxSink, MessageRef, Outbound, Output, OutputSink, Result as ApiResult, Stt,
    SttOptions, SttRequest, Tool, ToolCall, ToolOutput, ToolRequest, Tts, TtsOptions, Vad, VadEvent, VadOptions,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Conformance,
    record::{audio, called, caught, outcome, piped, streamed},
};
use crate::{executor::block_on_for, rules::LIMIT, running::Running};

/// Samples of one push.
const FRAME: usize = 512;

pub(crate) fn run(suite: &Conformance, running: &Running) -> Result<Vec<Value>, String> {
    let mut steps = Vec::new();
    let life = &running.instance.life;
    steps.push(json!({ "vitals": [life.health(), running.facts()] }));
    for contribution in running.contributions() {
        let name = format!("{contribution:?}");
        let calls = contribution_calls(suite, &contribution);
        let recorded = block_on_for(LIMIT, calls).ok_or_else(|| format!("{name}: a call does not end"))?;
        steps.push(json!({ name: recorded }));
    }
    let lives = async {
        let reconfigured = called(life.reconfigure(suite.config.clone())).await;
        let refused = caught(life.reconfigure(json!({ "no such key": 1 }))).await;
        let captured = caught(life.capture_state()).await;
        let restored = match &captured {
            Ok(Some(state)) => Some(called(life.restore_state(state.clone())).await),
            _ => None,
        };
        json!({ "reconfigured": reconfigured, "refused": outcome(refused), "captured": outcome(captured), "restored": restored })
    };
    steps.push(block_on_for(LIMIT, lives).ok_or("the life of the plugin does not end")?);
    steps.push(json!({ "vitals": [life.health(), running.facts()] }));
    steps.push(json!({ "published": running.host.published().iter().map(|c| format!("{c:?}")).collect::<Vec<_>>() }));
    // A process says on its standard error that it panicked, and its wall what it refused: those lines are not the plugin's.
    let of_the_tier = |line: &str| line.contains(" panicked at ") || line.starts_with("was refused (");
    let lines = running.host.lines().iter().filter(|(_, line)| !of_the_tier(line)).count();
    steps.push(json!({ "log": lines, "emitted": running.host.emitted(), "health": running.host.reported_health() }));
    Ok(steps)
}

async fn contribution_calls(suite: &Conformance, contribution: &Contribution) -> Value {
    let cx = CallCx::new().with_session("s1").with_trace(7);
    match contribution {
        Contribution::Tool(spec, tool) => tool_calls(suite, &cx, &spec.name, &**tool).await,
        Contribution::Provider(_, provider) => {
            let mut all = vec![called(provider.models(&cx)).await];
            for request in &suite.chats {
                all.push(streamed(caught(provider.chat(&cx, request.clone())).await).await);
            }
            all.push(streamed(caught(provider.chat(&cx, ChatRequest::new(Vec::new()))).await).await);
            json!(all)
        }
        Contribution::Vad(_, vad) => vad_streams(suite, &**vad).await,
        Contribution::Stt(_, stt) => stt_calls(suite, &cx, &**stt).await,
        Contribution::Tts(_, tts) => tts_calls(suite, &cx, &**tts).await,
        Contribution::Embedder(_, embedder) => {
            let texts = ["hello", "", "hello", "ünïcödé"].map(str::to_owned).to_vec();
            json!([
                called(embedder.embed(&cx, EmbedRequest::new(texts))).await,
                called(embedder.embed(&cx, EmbedRequest::new(vec![]))).await
            ])
        }
        Contribution::Command(_, command) => command_calls(&cx, &**command).await,
        Contribution::Hook(spec, handler) => match hook_event(spec.hook) {
            Some(event) => json!([called(handler.on(&cx, &event)).await]),
            None => json!("a hook that this suite does not know"),
        },
        Contribution::Channel(_, channel) => channel_calls(suite, &cx, &**channel).await,
        Contribution::Http(_, endpoint) => endpoint_calls(&cx, &**endpoint).await,
        Contribution::Accelerator(_, accelerator) => json!([called(accelerator.devices(&cx)).await]),
        _ => json!("a kind that this suite does not know"),
    }
}

async fn tool_calls(suite: &Conformance, cx: &CallCx, name: &str, tool: &dyn Tool) -> Value {
    let mut all = Vec::new();
    let given = suite.tools.iter().filter(|(tool, _)| tool == name).map(|(_, args)| args.clone());
    for args in [json!({}), json!(42), json!({ "no such argument": [0.1, -0.0, 1e300] })].into_iter().chain(given) {
        let progress = Arc::new(Mutex::new(Vec::new()));
        let listener = progress.clone();
        let cx = cx.with_progress(move |value| listener.lock().unwrap_or_else(PoisonError::into_inner).push(value));
        let result = called(tool.call(&cx, ToolRequest::new(args))).await;
        let progress = progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.push(json!({ "result": result, "progress": progress }));
    }
    json!(all)
}

async fn vad_streams(suite: &Conformance, vad: &dyn Vad) -> Value {
    let show = |event: VadEvent| match event {
        // How long a window took is no part of what was found.
        VadEvent::Window { at, probability, .. } => json!({ "at": at, "bits": probability.to_bits() }),
        other => json!(other),
    };
    let mut all = Vec::new();
    for recording in suite.audio.iter().chain([&Audio::new([], 16_000), &Audio::new([0.0; 100], 0), &Audio::new([f32::NAN; 600], 16_000)]) {
        let opened = caught(async { vad.open(&VadOptions::new(recording.rate)) }).await;
        all.push(piped(opened, recording.samples.chunks(FRAME), show).await);
    }
    json!(all)
}

async fn stt_calls(suite: &Conformance, cx: &CallCx, stt: &dyn Stt) -> Value {
    let mut all = Vec::new();
    for recording in suite.audio.iter().chain([&Audio::new([], 16_000), &Audio::new([0.0; 100], 0), &Audio::new([f32::NAN; 600], 16_000)]) {
        all.push(called(stt.transcribe(cx, SttRequest::new(recording.clone()))).await);
        let opened = caught(async { stt.open(&SttOptions::new(recording.rate)) }).await;
        all.push(piped(opened, recording.samples.chunks(FRAME), |event| json!(event)).await);
    }
    all.push(called(stt.transcribe(cx, SttRequest::new(suite.audio[0].clone()).language("tlh".into()))).await);
    json!(all)
}

async fn tts_calls(suite: &Conformance, cx: &CallCx, tts: &dyn Tts) -> Value {
    let show = |chunk: AudioChunk| audio(&chunk.audio);
    let mut all = vec![called(tts.voices(cx)).await];
    for (options, texts) in [
        (TtsOptions::default(), suite.texts.clone()),
        (TtsOptions::default(), Vec::new()),
        (TtsOptions::default(), vec![" \n".to_owned()]),
        (TtsOptions::default().voice("no such voice".into()), vec!["Hello.".to_owned()]),
        (TtsOptions::default().speed(1000.0), vec!["Hello.".to_owned()]),
    ] {
        let opened = caught(async { tts.open(&options) }).await;
        all.push(piped(opened, texts.iter().map(String::as_str), show).await);
    }
    json!(all)
}

async fn command_calls(cx: &CallCx, command: &dyn Command) -> Value {
    let mut all = Vec::new();
    for args in [vec![], vec!["3".to_owned(), "two words".to_owned()]] {
        let lines = Arc::new(Lines::default());
        let result = called(command.run(cx, CommandRequest::new(args), Output::new(lines.clone()))).await;
        let lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.push(json!({ "result": result, "lines": lines }));
    }
    json!(all)
}

async fn channel_calls(suite: &Conformance, cx: &CallCx, channel: &dyn Channel) -> Value {
    let taken = Arc::new(Taken {
        wanted: suite.channel_messages,
        count: AtomicUsize::new(0),
        token: CancelToken::new(),
        messages: Mutex::default(),
    });
    if suite.channel_messages == 0 {
        taken.token.cancel();
    }
    let listening = cx.with_cancel(taken.token.clone());
    let ran = called(channel.run(&listening, Inbox::new(Arc::new(TakenBy(taken.clone()))))).await;
    let messages = taken.messages.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let sent = caught(channel.send(cx, Outbound::new("chat", "first").idempotency_key("k1".into()))).await;
    let again = called(channel.send(cx, Outbound::new("chat", "first").idempotency_key("k1".into()))).await;
    let message = sent.clone().unwrap_or_else(|_| MessageRef::new("chat", "0"));
    let edited = called(channel.edit(cx, message, Outbound::new("chat", "second"))).await;
    let typing = called(channel.typing(cx, "chat")).await;
    let opened = caught(async { channel.stream("chat") }).await;
    let streamed = piped(opened, ["in ", "pieces"], |message| json!(message)).await;
    json!({ "run": ran, "inbox": messages, "sent": outcome(sent), "again": again, "edited": edited, "typing": typing, "streamed": streamed })
}

async fn endpoint_calls(cx: &CallCx, endpoint: &dyn HttpEndpoint) -> Value {
    let get = HttpRequest::new("GET", "/hooks/x?a=1").header("X-Test", "1");
    let post = HttpRequest::new("POST", "/hooks/x").body(Bytes::from_static(b"\x00\xffraw"));
    json!([called(endpoint.handle(cx, get)).await, called(endpoint.handle(cx, post)).await])
}

/// A sample of what happens at a hook.
pub(crate) fn hook_event(hook: Hook) -> Option<HookEvent> {
    let session = || "s1".to_owned();
    let call = || ToolCall::new("c1", "clock", json!({ "zeta": 1, "alpha": [0.1] }));
    Some(match hook {
        Hook::BeforeAgentRun => HookEvent::before_agent_run(session(), "Hello."),
        Hook::AfterAgentRun => HookEvent::after_agent_run(session(), "Hi."),
        Hook::BeforeMessageSend => HookEvent::before_message_send("c", Outbound::new("chat", "Hi.")),
        Hook::AfterMessageReceive => HookEvent::after_message_receive("c", Inbound::new("chat", "ann", "1", "Hello.")),
        Hook::BeforeToolExecute => HookEvent::before_tool_execute(session(), call()),
        Hook::AfterToolExecute => HookEvent::after_tool_execute(session(), call(), ToolOutput::text("noon")),
        Hook::OnSessionCreate => HookEvent::on_session_create(session()),
        Hook::OnSessionEnd => HookEvent::on_session_end(session()),
        Hook::OnGatewayStart => HookEvent::on_gateway_start(),
        Hook::OnGatewayShutdown => HookEvent::on_gateway_shutdown(),
        Hook::OnClientConnect => HookEvent::on_client_connect("c1"),
        Hook::OnClientDisconnect => HookEvent::on_client_disconnect("c1"),
        _ => return None,
    })
}

#[derive(Default)]
struct Lines(Mutex<Vec<(&'static str, String)>>);

impl OutputSink for Lines {
    fn line(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(("line", text.to_owned()));
    }

    fn note(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(("note", text.to_owned()));
    }
}

/// An inbox that cancels its channel once it has what it wanted.
struct Taken {
    wanted: usize,
    count: AtomicUsize,
    token: CancelToken,
    messages: Mutex<Vec<Inbound>>,
}

struct TakenBy(Arc<Taken>);

impl InboxSink for TakenBy {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, ApiResult<()>> {
        let taken = self.0.clone();
        Box::pin(async move {
            taken.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            if taken.count.fetch_add(1, Ordering::SeqCst) + 1 >= taken.wanted {
                taken.token.cancel();
            }
            Ok(())
        })
    }
}
