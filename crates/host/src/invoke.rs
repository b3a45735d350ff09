//! Calls by hand: a method of a plugin by name, arguments and answer in JSON, whatever its tier. For command lines and other programs;
//! the program itself calls contracts through their slots.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bespoke_plugin_api::{
    Accelerator, Audio, AudioChunk, CallCx, Channel, ChatDelta, ChatRequest, Code, Command, CommandRequest, Contract, Duplex, EmbedRequest,
    Embedder, Error, HookEvent, HookHandler, HttpEndpoint, HttpRequest, Kind, Message, Outbound, Output, OutputSink, Provider, Result, Stt,
    SttRequest, Tool, ToolCall, Tts, TtsOptions, Vad, VadEvent, VadOptions, serde::de::DeserializeOwned,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Host, Slot, candidate::State, clock, commands, generation::Generation, plugin::PluginCell, slot::timed_out};

/// Methods of a kind, each with the arguments that it takes, for who looks them up.
const METHODS: &[(Kind, &[(&str, &str)])] = &[
    (Kind::Accelerator, &[("devices", "{}")]),
    (Kind::Channel, &[("send", r#"{"chat": "…", "text": "…"}"#)]),
    (Kind::Command, &[("run", r#"{"args": ["…"]}"#)]),
    (Kind::Embedder, &[("embed", r#"{"texts": ["…"]}"#)]),
    (Kind::Hook, &[("on", r#"{"event": {…}}"#)]),
    (Kind::Http, &[("handle", r#"{"method": "GET", "url": "/"}"#)]),
    (
        Kind::Provider,
        &[("models", "{}"), ("chat", r#"{"messages": [{"role": "user", "content": "…"}]}"#), ("complete", r#"{"prompt": "…"}"#)],
    ),
    (Kind::Stt, &[("transcribe", r#"{"audio": {"base64": "…"}, "format": "s16le", "sample_rate": 16000}"#)]),
    (Kind::Tool, &[("call", TOOL)]),
    (Kind::Tts, &[("voices", "{}"), ("synthesize", r#"{"text": "…"}"#)]),
    (Kind::Vad, &[("detect", r#"{"audio": {"base64": "…"}, "format": "s16le", "sample_rate": 16000}"#)]),
];

/// Most bytes that one answer carries, as they are kept here: five minutes of samples at 24 kHz, and little enough for one message.
const MOST_BYTES: usize = 32 << 20;

/// Stands for the arguments of a tool whose schema is not known yet.
const TOOL: &str = "{…}";
/// So many arguments of a tool are shown.
const SHOWN_ARGUMENTS: usize = 8;

impl Host {
    /// Calls a method of a plugin by name, whatever its tier: one that the plugin itself has by that name, the name of a tool, or a
    /// method of a contract, alone (`synthesize`) or behind its kind or name (`tts.synthesize`, `tts/synthesize`). Bytes travel as
    /// `{ "base64": "…" }`, audio as 16-bit little-endian samples (`s16le`), one channel. A plugin that rests is started.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `NOT_READY`; `METHOD_NOT_FOUND`, naming the methods that there are; what the call says.
    pub async fn invoke(&self, cx: &CallCx, id: &str, method: &str, args: Value) -> Result<Value> {
        let plugin = self.known(id)?;
        let (of, name) = match method.rsplit_once(['.', '/']) {
            Some((of, name)) => (Some(of), name),
            None => (None, method),
        };
        let provided = self.provided(&plugin);
        // A tool is a method of its plugin.
        if let Some((_, tool)) = provided.iter().find(|(kind, own)| *kind == Kind::Tool && own == method) {
            return self.invoke_contract(cx, Kind::Tool, tool, "call", args).await;
        }
        let fits = |(kind, own): &&(Kind, String)| {
            of.is_none_or(|of| of == kind.name() || of == own) && methods_of(*kind).iter().any(|(known, _)| *known == name)
        };
        let contract = provided.iter().find(fits);
        // What acts on the world is called through its contract, with the hooks and checks around it. What gives a value is the plugin's
        // own method first, if it has one of this name: that takes more, and says more, than the contract does.
        if !contract.is_some_and(|(kind, _)| acts(*kind)) {
            match own_method(cx, &plugin, name, args.clone(), limit_of(cx, &plugin)).await {
                Err(error) if error.code() == Code::METHOD_NOT_FOUND => {}
                answered => return answered.map_err(|error| error.with_plugin(id)),
            }
        }
        match contract {
            Some((kind, own)) => self.invoke_contract(cx, *kind, own, name, args).await,
            None => {
                let known = self.methods(id).into_iter().map(|(method, _)| method).collect::<Vec<_>>().join(", ");
                let error = Error::new(Code::METHOD_NOT_FOUND, format!("no method `{method}`; there is {known}"));
                Err(error.with_plugin(id).with_help(format!("bespoke plugin info {id}")))
            }
        }
    }

    /// The methods that [`invoke`](Self::invoke) takes for a plugin, beside those that it has itself, and the arguments of each.
    pub fn methods(&self, id: &str) -> Vec<(String, String)> {
        let Ok(plugin) = self.known(id) else { return Vec::new() };
        let mut methods: Vec<(String, String)> = Vec::new();
        for (kind, name) in self.provided(&plugin) {
            if kind == Kind::Tool {
                let known = self.registry().get::<dyn Tool>(&name);
                let args = known.map_or_else(|| TOOL.to_owned(), |tool| sample(&tool.spec().input_schema).to_string());
                methods.push((name, args));
                continue;
            }
            for (method, args) in methods_of(kind) {
                let method = format!("{kind}.{method}");
                if !methods.iter().any(|(known, _)| *known == method) {
                    methods.push((method, (*args).to_owned()));
                }
            }
        }
        methods
    }

    /// The methods that a plugin has itself, by name, beside what it contributes. One that rests is started.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`; `NOT_READY`; when it does not answer in time.
    pub async fn own_methods(&self, id: &str) -> Result<Vec<String>> {
        let plugin = self.known(id)?;
        let call = async {
            let generation = inside(&plugin).await?;
            let life = generation.generation.life().ok_or_else(|| plugin.not_ready())?;
            life.methods().await
        };
        let limit = plugin.call_limit();
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out(limit))).map_err(|error| error.with_plugin(id))
    }

    /// What a plugin contributes now, or would.
    fn provided(&self, plugin: &PluginCell) -> Vec<(Kind, String)> {
        let served = Kind::ALL.iter().flat_map(|kind| self.registry().names(*kind).into_iter().map(|name| (*kind, name)));
        let mut provided: Vec<_> =
            served.filter(|(kind, name)| self.inner().services.registry.owner(*kind, name).as_deref() == Some(plugin.id())).collect();
        if provided.is_empty() {
            let declared = plugin.manifest.iter().flat_map(|m| &m.provides);
            provided = declared.filter_map(|p| Some((p.kind, p.name.clone()?))).collect();
        }
        provided
    }

    async fn invoke_contract(&self, cx: &CallCx, kind: Kind, name: &str, method: &str, args: Value) -> Result<Value> {
        let services = &self.inner().services;
        match (kind, method) {
            (Kind::Tool, "call") => {
                let (_, output) = self.call_tool(cx, ToolCall::new("", name, args)).await?;
                Ok(serde_json::to_value(output)?)
            }
            (Kind::Provider, "models") => {
                none(args)?;
                let models = self.find::<dyn Provider>(name)?.call_apart(cx, |p, cx| async move { p.models(&cx).await }).await?;
                Ok(serde_json::to_value(models)?)
            }
            (Kind::Provider, "chat") => self.chat(cx, name, read(args)?).await,
            (Kind::Provider, "complete") => {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Complete {
                    prompt: String,
                    max_tokens: Option<u32>,
                    temperature: Option<f32>,
                }
                let asked: Complete = read(args)?;
                let mut request = ChatRequest::new(vec![Message::user(asked.prompt)]);
                (request.max_tokens, request.temperature) = (asked.max_tokens, asked.temperature);
                Ok(self.chat(cx, name, request).await?["text"].take())
            }
            (Kind::Tts, "voices") => {
                none(args)?;
                let voices = self.find::<dyn Tts>(name)?.call_apart(cx, |tts, cx| async move { tts.voices(&cx).await }).await?;
                Ok(serde_json::to_value(voices)?)
            }
            (Kind::Tts, "synthesize") => {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Synthesize {
                    text: String,
                    #[serde(alias = "voice_id")]
                    voice: Option<String>,
                    speed: Option<f32>,
                }
                let asked: Synthesize = read(args)?;
                let mut options = TtsOptions::default();
                (options.voice, options.speed) = (asked.voice, asked.speed);
                let slot = self.awake::<dyn Tts>(cx, name).await?;
                let limit = slot.cell().call_limit();
                let mut stream = slot.enter(|tts| tts.open(&options))?;
                let chunks =
                    collect::<str, AudioChunk>(&mut stream, std::iter::once(asked.text.as_str()), |chunk| chunk.audio.samples.len() * 4);
                let chunks = tokio::time::timeout(limit, chunks).await.unwrap_or_else(|_| Err(timed_out(limit)))?;
                let rate = chunks.first().map_or(0, |chunk| chunk.audio.rate);
                said(&chunks.iter().flat_map(|chunk| chunk.audio.samples.iter().copied()).collect::<Vec<f32>>(), rate)
            }
            (Kind::Stt, "transcribe") => {
                let heard: Heard = read(args)?;
                let mut request = SttRequest::new(heard.audio()?);
                request.language = heard.language;
                let transcript =
                    self.find::<dyn Stt>(name)?.call_apart(cx, |stt, cx| async move { stt.transcribe(&cx, request).await }).await?;
                Ok(serde_json::to_value(transcript)?)
            }
            (Kind::Vad, "detect") => {
                let audio = read::<Heard>(args)?.audio()?;
                let slot = self.awake::<dyn Vad>(cx, name).await?;
                let limit = slot.cell().call_limit();
                let mut stream = slot.enter(|vad| vad.open(&VadOptions::new(audio.rate)))?;
                // Half a second at a time: no more than a detector is given at once anywhere.
                let pieces = audio.samples.chunks((audio.rate as usize / 2).max(1));
                let events = collect::<[f32], VadEvent>(&mut stream, pieces, |_| size_of::<VadEvent>());
                let events = tokio::time::timeout(limit, events).await.unwrap_or_else(|_| Err(timed_out(limit)))?;
                let events: Vec<_> = events.into_iter().filter(|event| !matches!(event, VadEvent::Window { .. })).collect();
                Ok(json!({ "events": events }))
            }
            (Kind::Embedder, "embed") => {
                let request: EmbedRequest = read(args)?;
                let slot = self.find::<dyn Embedder>(name)?;
                let vectors = slot.call_apart(cx, |embedder, cx| async move { embedder.embed(&cx, request).await }).await?;
                Ok(serde_json::to_value(vectors)?)
            }
            (Kind::Command, "run") => {
                let request: CommandRequest = read(args)?;
                // Whoever calls by hand is the owner of the home, whatever name the command has.
                let request = CommandRequest::new(commands::cleaned(request.args)?);
                let lines = Arc::new(Lines::default());
                let out = Output::new(lines.clone());
                let slot = self.find::<dyn Command>(name)?;
                let code = slot.call_apart(cx, |command, cx| async move { command.run(&cx, request, out).await }).await?;
                let mut said = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (lines, notes) = (std::mem::take(&mut said.0), std::mem::take(&mut said.1));
                Ok(json!({ "exit_code": code, "lines": lines, "notes": notes }))
            }
            (Kind::Hook, "on") => {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct On {
                    event: HookEvent,
                }
                let On { event } = read(args)?;
                let slot = services.find::<dyn HookHandler>(name)?;
                let reply = slot.call_apart(cx, |handler, cx| async move { handler.on(&cx, &event).await }).await?;
                Ok(serde_json::to_value(reply)?)
            }
            (Kind::Channel, "send") => {
                let message: Outbound = read(args)?;
                let slot = self.find::<dyn Channel>(name)?;
                let sent = slot.call_apart(cx, |channel, cx| async move { channel.send(&cx, message).await }).await?;
                Ok(serde_json::to_value(sent)?)
            }
            (Kind::Http, "handle") => {
                let request: HttpRequest = read(args)?;
                let slot = self.find::<dyn HttpEndpoint>(name)?;
                let answer = slot.call_apart(cx, |endpoint, cx| async move { endpoint.handle(&cx, request).await }).await?;
                let body = json!({ "base64": BASE64_STANDARD.encode(&answer.body) });
                Ok(json!({ "status": answer.status, "headers": answer.headers, "body": body }))
            }
            (Kind::Accelerator, "devices") => {
                none(args)?;
                let slot = self.find::<dyn Accelerator>(name)?;
                let devices = slot.call_apart(cx, |accelerator, cx| async move { accelerator.devices(&cx).await }).await?;
                Ok(serde_json::to_value(devices)?)
            }
            (kind, method) => Err(Error::unsupported(&format!("{kind}.{method}"))),
        }
    }

    async fn chat(&self, cx: &CallCx, name: &str, request: ChatRequest) -> Result<Value> {
        use futures_util::StreamExt;

        let slot = self.find::<dyn Provider>(name)?;
        let limit = slot.cell().call_limit();
        let mut stream = slot.call_leased(cx, |provider, cx| async move { provider.chat(&cx, request).await }).await?;
        let read = async {
            let (mut text, mut calls, mut finish, mut room) = (String::new(), Vec::new(), Value::Null, Room(MOST_BYTES));
            while let Some(delta) = stream.next().await {
                match delta? {
                    ChatDelta::Text { text: more, .. } => {
                        room.take(more.len())?;
                        text.push_str(&more);
                    }
                    ChatDelta::ToolCall { call, .. } => {
                        room.take(call.name.len() + call.args.to_string().len())?;
                        calls.push(call);
                    }
                    ChatDelta::Finish { reason, usage, .. } => finish = json!({ "reason": reason, "usage": usage }),
                    _ => {}
                }
            }
            Ok(json!({ "text": text, "tool_calls": calls, "finish": finish }))
        };
        tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(timed_out(limit)))
    }

    /// A slot that serves now: what is opened cannot wait.
    async fn awake<T: Contract + ?Sized + 'static>(&self, cx: &CallCx, name: &str) -> Result<Slot<T>> {
        let slot = self.find::<T>(name)?;
        slot.lease_ready(cx).await?;
        Ok(slot)
    }
}

/// Counted in, so that the generation is not stopped under the call.
struct Inside {
    generation: Arc<Generation>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.generation.leave();
    }
}

/// The generation that serves, or the next one when it is just being replaced.
/// The plugin's own word, in bounded time.
pub(crate) async fn own_method(cx: &CallCx, plugin: &Arc<PluginCell>, method: &str, args: Value, limit: Duration) -> Result<Value> {
    let call = async {
        let generation = inside(plugin).await?;
        let life = generation.generation.life().ok_or_else(|| plugin.not_ready())?;
        life.invoke(cx, method, args).await
    };
    let begun = plugin.metrics().begin();
    let answered = tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(timed_out(limit)));
    // A name that it does not have is no failure of its.
    plugin.metrics().end(begun, answered.as_ref().is_err_and(|error| error.code() != Code::METHOD_NOT_FOUND));
    answered
}

fn limit_of(cx: &CallCx, plugin: &PluginCell) -> Duration {
    cx.deadline().map_or(plugin.call_limit(), |at| clock::now().until(at).min(plugin.call_limit()))
}

async fn inside(plugin: &Arc<PluginCell>) -> Result<Inside> {
    loop {
        plugin.wake();
        plugin.started().await;
        let swaps = plugin.swaps();
        match plugin.generation.load_full() {
            Some(generation) if generation.enter() => return Ok(Inside { generation }),
            _ if plugin.state() == State::Starting || plugin.rests() || plugin.swaps() != swaps => tokio::task::yield_now().await,
            Some(_) if plugin.state() == State::Ready => tokio::task::yield_now().await,
            _ => return Err(plugin.not_ready()),
        }
    }
}

/// Whether calls of a kind do something, other than answer.
fn acts(kind: Kind) -> bool {
    !matches!(kind, Kind::Accelerator | Kind::Embedder | Kind::Provider | Kind::Stt | Kind::Tts | Kind::Vad)
}

fn methods_of(kind: Kind) -> &'static [(&'static str, &'static str)] {
    METHODS.iter().find(|(of, _)| *of == kind).map_or(&[], |(_, methods)| methods)
}

/// Arguments that fit a schema, as short as they can be: what is required, each by its default, its first choice, or a value of its type.
/// Where nothing is required, what may be said.
fn sample(schema: &Value) -> Value {
    let Some(properties) = schema["properties"].as_object() else { return json!({}) };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let shown = properties.iter().filter(|(name, _)| required.is_empty() || required.contains(&name.as_str()));
    shown.take(SHOWN_ARGUMENTS).map(|(name, of)| (name.clone(), value_of(of))).collect()
}

fn value_of(schema: &Value) -> Value {
    let given = ["default", "const"].iter().map(|key| &schema[key]).chain([&schema["enum"][0], &schema["examples"][0]]);
    if let Some(given) = given.into_iter().find(|given| !given.is_null()) {
        return given.clone();
    }
    let of = &schema["type"];
    match of.as_str().or_else(|| of[0].as_str()) {
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(false),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("…"),
    }
}

/// Arguments as a type; none at all count as an empty object.
fn read<T: DeserializeOwned>(args: Value) -> Result<T> {
    let args = if args.is_null() { json!({}) } else { args };
    serde_json::from_value(args).map_err(|e| Error::invalid_params(format!("arguments: {e}")))
}

fn none(args: Value) -> Result<()> {
    match args {
        Value::Null => Ok(()),
        Value::Object(fields) if fields.is_empty() => Ok(()),
        _ => Err(Error::invalid_params("arguments: this method takes none")),
    }
}

/// Bytes in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes64 {
    base64: String,
}

/// Audio in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Heard {
    audio: Bytes64,
    #[serde(default)]
    format: Format,
    #[serde(default = "usual_rate")]
    sample_rate: u32,
    language: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    S16le,
    F32le,
}

fn usual_rate() -> u32 {
    16_000
}

impl Heard {
    fn audio(&self) -> Result<Audio> {
        let bytes = BASE64_STANDARD.decode(&self.audio.base64).map_err(|e| Error::new(Code::STT_AUDIO_INVALID, format!("audio: {e}")))?;
        if !(4_000..=192_000).contains(&self.sample_rate) {
            return Err(Error::new(Code::STT_AUDIO_INVALID, format!("sample_rate: {} is not 4000–192000", self.sample_rate)));
        }
        let cut = |rest: &[u8]| Error::new(Code::STT_AUDIO_INVALID, format!("audio: the last {} bytes are no whole sample", rest.len()));
        let samples: Vec<f32> = match self.format {
            Format::S16le => match bytes.as_chunks::<2>() {
                (whole, []) => whole.iter().map(|b| f32::from(i16::from_le_bytes(*b)) / 32_768.0).collect(),
                (_, rest) => return Err(cut(rest)),
            },
            Format::F32le => match bytes.as_chunks::<4>() {
                (whole, []) => whole.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                (_, rest) => return Err(cut(rest)),
            },
        };
        Ok(Audio::new(samples, self.sample_rate))
    }
}

fn said(samples: &[f32], rate: u32) -> Result<Value> {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of 16 bits")]
    let bytes: Vec<u8> = samples.iter().flat_map(|s| ((s * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16).to_le_bytes()).collect();
    let ms = if rate == 0 { 0 } else { samples.len() as u64 * 1000 / u64::from(rate) };
    Ok(
        json!({ "audio": { "base64": BASE64_STANDARD.encode(bytes) }, "format": "s16le", "channels": 1, "sample_rate": rate, "duration_ms": ms }),
    )
}

/// All that a stream answers to an input. Waits where the stream has no room, and takes what it says meanwhile.
async fn collect<'i, I: ?Sized + 'i, O>(
    stream: &mut (dyn Duplex<I, O> + '_),
    input: impl Iterator<Item = &'i I>,
    size: impl Fn(&O) -> usize,
) -> Result<Vec<O>> {
    let (mut events, mut room) = (Vec::new(), Room(MOST_BYTES));
    for item in input {
        poll_fn(|cx| {
            while let Poll::Ready(Some(event)) = stream.poll_next(cx) {
                match event.and_then(|event| room.take(size(&event)).map(|()| event)) {
                    Ok(event) => events.push(event),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            stream.poll_ready(cx)
        })
        .await?;
        stream.push(item)?;
    }
    stream.finish()?;
    while let Some(event) = poll_fn(|cx| stream.poll_next(cx)).await {
        let event = event?;
        room.take(size(&event))?;
        events.push(event);
    }
    Ok(events)
}

/// How much an answer may still grow.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> Result<()> {
        let over =
            || Error::new(Code::RESOURCE_EXHAUSTED, format!("the answer is over the {MOST_BYTES} bytes that a call by hand may give"));
        self.0 = self.0.checked_sub(bytes).ok_or_else(over)?;
        Ok(())
    }
}

/// What a command says, as long as there is room for it.
struct Lines(Mutex<(Vec<String>, Vec<String>, Room)>);

impl Default for Lines {
    fn default() -> Self {
        Lines(Mutex::new((Vec::new(), Vec::new(), Room(MOST_BYTES))))
    }
}

impl OutputSink for Lines {
    fn line(&self, text: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.2.take(text.len() + size_of::<String>()).is_ok() {
            said.0.push(text.to_owned());
        }
    }

    fn note(&self, text: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.2.take(text.len() + size_of::<String>()).is_ok() {
            said.1.push(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_method_that_is_listed_can_be_called() {
        let host = Host::builder().build().unwrap();
        let told = |kind, method| {
            let host = &host;
            async move { host.invoke_contract(&CallCx::new(), kind, "nobody", method, json!({})).await.unwrap_err() }
        };
        let unknown = told(Kind::Tool, "nonsense").await.code();
        for (kind, methods) in METHODS {
            for (method, _) in *methods {
                assert_ne!(told(*kind, method).await.code(), unknown, "{kind}.{method}");
            }
        }
        assert!(Kind::ALL.iter().all(|kind| !methods_of(*kind).is_empty()));
    }
}
