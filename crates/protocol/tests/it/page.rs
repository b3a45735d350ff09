//! docs/protocol.md and the code are one: what stands between its markers is made from the types here, and every kind, method and
//! code stands in both. `UPDATE_EXPECT=1` writes the page anew.

use std::{collections::BTreeSet, path::PathBuf};

use bespoke_plugin_api::{
    Audio, AudioChunk, CallCx, ChatDelta, ChatRequest, Code, CommandRequest, Device, EmbedRequest, Embeddings, Event, FinishReason, Health,
    HookEvent, HookReply, HttpRequest, HttpResponse, Inbound, Message, MessageRef, ModelInfo, Outbound, Reload, Spec, State, SttEvent,
    SttOptions, SttRequest, Target, Timestamp, ToolOutput, ToolRequest, ToolSpec, Transcript, TtsOptions, Usage, VadEvent, VadOptions,
    Voice, serde_json::json,
};
use bespoke_protocol::{
    line::{LineWriter, Side},
    *,
};
use bytes::Bytes;

const BEGIN: &str = "<!-- messages: written by the tests of crates/protocol -->\n";
const END: &str = "<!-- end of messages -->\n";

/// The page, section by section.
#[derive(Default)]
struct Page {
    text: String,
    methods: BTreeSet<String>,
}

impl Page {
    fn section(&mut self, title: &str, about: &str) {
        self.text += &format!("\n### {title}\n");
        if !about.is_empty() {
            self.text += &format!("\n{about}\n");
        }
    }

    /// A method, and lines that are said.
    fn method(&mut self, method: &str, about: &str, lines: &[(Side, Vec<u8>)]) {
        self.methods.insert(method.to_owned());
        self.text += &format!("\n`{method}`: {about}\n\n```text\n");
        for (of, frames) in lines {
            let arrow = if *of == Side::Host { "→" } else { "←" };
            let writer = LineWriter::new(*of).blobs(true);
            Reassembler::new()
                .feed(frames, |frame| {
                    let mut line = Vec::new();
                    writer.put(&frame, &mut line).unwrap();
                    let end = line.iter().position(|b| *b == b'\n').unwrap();
                    self.text += &format!("{arrow} {}", std::str::from_utf8(&line[..end]).unwrap());
                    if line.len() > end + 1 {
                        self.text += &format!(" ⏎ {} bytes", line.len() - end - 2);
                    }
                    self.text += "\n";
                })
                .unwrap();
        }
        self.text += "```\n";
    }

    /// A call of the host and its answer.
    fn call<A: Body, R: Body>(&mut self, method: &str, about: &str, name: &str, args: &A, answer: &R) {
        self.method(method, about, &[(Side::Host, call(Kind::CALL, method, name, args)), (Side::Guest, answered(Kind::REPLY, answer))]);
    }

    /// A call of the plugin and its answer.
    fn host_call<A: Body, R: Body>(&mut self, method: &str, about: &str, args: &A, answer: &R) {
        let lines = [(Side::Guest, call(Kind::HOST_CALL, method, "", args)), (Side::Host, answered(Kind::HOST_REPLY, answer))];
        self.method(method, about, &lines);
    }

    /// A stream with input.
    fn duplex<A: Body, O: Body>(&mut self, method: &str, about: &str, name: &str, args: &A, input: &[u8], events: &[O]) {
        let mut from = call(Kind::OPEN, method, name, args);
        put_bytes_frame(&mut from, 7, input).unwrap();
        put_plain(&mut from, Kind::FINISH, 0, 7);
        self.method(method, about, &[(Side::Host, from), (Side::Guest, streamed(events))]);
    }
}

fn call<A: Body>(kind: Kind, method: &str, name: &str, args: &A) -> Vec<u8> {
    let mut out = Vec::new();
    put_call(&mut out, kind, 7, method, name, &CxHead::default(), args).unwrap();
    out
}

fn answered<R: Body>(kind: Kind, answer: &R) -> Vec<u8> {
    let mut out = Vec::new();
    put_answer(&mut out, kind, 7, answer).unwrap();
    out
}

fn streamed<O: Body>(events: &[O]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        put_body(&mut out, Kind::EVENT, 7, event).unwrap();
    }
    put_end(&mut out, 7, &Ok(()));
    out
}

fn samples(n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_samples(&mut out, &vec![0.0; n]);
    out
}

fn messages() -> Page {
    let mut page = Page::default();
    let p = &mut page;
    let audio = || Audio::new(vec![0.0; 160], 16_000);
    let vitals = Vitals { health: Health::Ok, facts: [("engine".to_owned(), "ort".to_owned())].into() };

    p.section("The plugin itself", "Without `name`. A plugin that does not know one of them, but for `plugin.start`, answers −32601.");
    let setup = Setup { config: json!({ "voice": "eva" }), data_dir: Some("/data/p".into()), cpu_budget: 2, models: [].into() };
    p.call(method::START, "makes the one instance; once. `models` says of each file of the manifest `{\"path\": …}` or `{\"error\": …}`. The answer is its vitals.", "", &setup, &vitals);
    p.call(
        method::RECONFIGURE,
        "a new configuration: `\"applied\"`, or `\"restart\"` when it needs a new instance.",
        "",
        &json!({ "voice": "tom" }),
        &Reload::Applied,
    );
    p.call(
        method::CAPTURE_STATE,
        "what the next instance needs; `null` for nothing.",
        "",
        &Nothing {},
        &Some(State::new(1, Bytes::from_static(b"[3,4]"))),
    );
    p.call(
        method::RESTORE_STATE,
        "goes on from it. An unknown version is an error.",
        "",
        &State::new(1, Bytes::from_static(b"[3,4]")),
        &(),
    );
    p.call(method::SHUTDOWN, "ends the instance. `$/goodbye` follows its answer.", "", &Nothing {}, &());
    p.call(
        method::VITALS,
        "health (`ok`, `degraded`, `failed`, `unknown`) and facts. A plugin may say `$/vitals` unasked.",
        "",
        &Nothing {},
        &vitals,
    );
    let invoke = InvokeArgs { method: "get_voices".into(), args: json!({}) };
    p.call(method::INVOKE, "a method by the plugin's own name, beside its contributions.", "", &invoke, &json!(["eva"]));

    p.section("tool", "");
    let mut request = Vec::new();
    let cx = CallCx::new().with_deadline(Timestamp(1_790_000_000_000_000)).with_session("s1");
    put_call(&mut request, Kind::CALL, 7, method::TOOL_CALL, "clock", &CxHead::of(&cx), &ToolRequest::new(json!({ "zone": "UTC" })))
        .unwrap();
    let mut said = Vec::new();
    put_json(&mut said, Kind::PROGRESS, 7, &json!({ "done": 0.5 })).unwrap();
    said.extend(answered(Kind::REPLY, &ToolOutput::text("12:00")));
    p.method(
        method::TOOL_CALL,
        "arguments that fit the tool's schema; the answer is a list of parts. A part `blob` has its bytes behind the line, each with its length as u32.",
        &[(Side::Host, request), (Side::Guest, said)],
    );

    p.section("provider", "");
    p.call(method::PROVIDER_MODELS, "the models that can be asked for.", "smol", &Nothing {}, &vec![ModelInfo::new("smol", 8192)]);
    let chat = ChatRequest::new(vec![Message::user("Hello")]).temperature(0.5);
    let mut said = answered(Kind::REPLY, &());
    said.extend(streamed(&[ChatDelta::text("Hi."), ChatDelta::finish(FinishReason::Stop, Usage::new(9, 2))]));
    p.method(
        method::PROVIDER_CHAT,
        "the answer `null` says that the stream is open; its deltas are events under the id of the call.",
        &[(Side::Host, call(Kind::CALL, method::PROVIDER_CHAT, "smol", &chat)), (Side::Guest, said)],
    );

    p.section("stt", "Audio is mono f32, little endian, behind the line.");
    p.call(method::STT_TRANSCRIBE, "one recording.", "moonshine", &SttRequest::new(audio()), &Transcript::new("hello"));
    p.duplex(
        method::STT_OPEN,
        "samples in, transcripts out.",
        "moonshine",
        &SttOptions::new(16_000),
        &samples(160),
        &[SttEvent::interim(80, "hel"), SttEvent::finished(160, Transcript::new("hello"))],
    );

    p.section("tts", "");
    p.call(method::TTS_VOICES, "the voices.", "flite", &Nothing {}, &vec![Voice::new("slt", "en")]);
    p.duplex(
        method::TTS_OPEN,
        "text in, as it is written; audio out.",
        "flite",
        &TtsOptions::default(),
        b"Hello there.",
        &[AudioChunk::new(audio())],
    );

    p.section("vad", "");
    let events = [VadEvent::window(160, 0.98, 60), VadEvent::speech_start(160, 0), VadEvent::speech_end(480, 320)];
    p.duplex(
        method::VAD_OPEN,
        "samples in, windows and edges of speech out; positions are samples.",
        "silero",
        &VadOptions::new(16_000),
        &samples(160),
        &events,
    );

    p.section("embedder", "");
    p.call(
        method::EMBEDDER_EMBED,
        "a vector a text. The blob is, for each, its length as u32 and its numbers as f32.",
        "small",
        &EmbedRequest::new(vec!["hello".into()]),
        &Embeddings::new(vec![vec![0.5, -0.5]]),
    );

    p.section("command", "");
    let mut said = Vec::new();
    put_json(&mut said, Kind::OUTPUT, 7, &OutputHead::Line("42".into())).unwrap();
    put_json(&mut said, Kind::OUTPUT, 7, &OutputHead::Note("took a while".into())).unwrap();
    said.extend(answered(Kind::REPLY, &0));
    p.method(
        method::COMMAND_RUN,
        "its lines, then its exit code.",
        &[(Side::Host, call(Kind::CALL, method::COMMAND_RUN, "count", &CommandRequest::new(vec!["all".into()]))), (Side::Guest, said)],
    );

    p.section("hook", "");
    p.call(
        method::HOOK_ON,
        "`continue`, `replace` with an event of the same hook, or `veto` with a reason.",
        "guard",
        &HookEvent::before_agent_run("s1", "delete everything"),
        &HookReply::veto("not today"),
    );

    p.section("channel", "");
    let accept = AcceptArgs { call: 6, message: Inbound::new("c1", "ann", "m1", "Hello") };
    p.method(
        method::CHANNEL_RUN,
        "runs until it is cancelled; each message that comes is a call of the host, `inbox.accept`.",
        &[(Side::Host, call(Kind::CALL, method::CHANNEL_RUN, "chat", &Nothing {})), (Side::Guest, answered(Kind::REPLY, &()))],
    );
    p.host_call(method::HOST_ACCEPT, "a message for the agent; `call` is the id of `channel.run`.", &accept, &());
    p.call(method::CHANNEL_SEND, "sends a message.", "chat", &Outbound::new("c1", "Hi."), &MessageRef::new("c1", "m2"));
    p.call(
        method::CHANNEL_EDIT,
        "changes one that was sent.",
        "chat",
        &ChannelEdit { message: MessageRef::new("c1", "m2"), new: Outbound::new("c1", "Hi!") },
        &(),
    );
    p.call(method::CHANNEL_TYPING, "shows that something comes.", "chat", &ChatArgs { chat: "c1".into() }, &());
    p.duplex(
        method::CHANNEL_STREAM,
        "a message piece by piece; one reference out.",
        "chat",
        &ChatArgs { chat: "c1".into() },
        b"Hi",
        &[MessageRef::new("c1", "m3")],
    );

    p.section("http endpoint, accelerator", "");
    p.call(
        method::HTTP_HANDLE,
        "a request to the gateway; bodies stand behind the lines.",
        "hooks",
        &HttpRequest::new("POST", "/hooks/x").body(Bytes::from_static(b"{}")),
        &HttpResponse::new(204),
    );
    p.call(
        method::ACCELERATOR_DEVICES,
        "what it can compute on.",
        "cuda",
        &Nothing {},
        &vec![Device::new(0, "NVIDIA T4").memory(16 << 30)],
    );

    p.section("What a plugin asks its host for", "Each under its permission; a refusal is −32053.");
    p.host_call(method::HOST_SLEEP, "time, in microseconds.", &SleepArgs { us: 250_000 }, &());
    let mut answer = answered(Kind::HOST_REPLY, &HttpHead { status: 200, headers: vec![("content-type".into(), "text/plain".into())] });
    answer.extend(streamed(&[Bytes::from_static(b"hello")]));
    p.method(
        method::HOST_HTTP,
        "status and headers, then the body in pieces under credit.",
        &[
            (Side::Guest, call(Kind::HOST_CALL, method::HOST_HTTP, "", &HttpRequest::new("GET", "https://example.com/"))),
            (Side::Host, answer),
        ],
    );
    p.host_call(
        method::HOST_CALL,
        "a contribution of another plugin; `call` is the id of the call that it is made under.",
        &HostCallArgs { call: Some(3), target: Target::new("tool", "clock"), args: json!({}) },
        &json!({ "content": [{ "type": "text", "text": "12:00" }] }),
    );
    let specs = vec![Spec::Tool(ToolSpec::new("late", "Came later."))];
    p.host_call(method::HOST_PUBLISH, "the contributions beside those of the hello: all of them, each time.", &PublishArgs { specs }, &());
    p.host_call(
        method::HOST_EMIT,
        "an event; the host puts the plugin's id before the topic.",
        &EmitArgs { topic: "done".into(), payload: json!(1) },
        &(),
    );
    let mut answer = answered(Kind::HOST_REPLY, &());
    answer.extend(streamed(&[] as &[Event]));
    p.method(
        method::HOST_SUBSCRIBE,
        "events by prefix of their topic, under credit, until the call is cancelled.",
        &[(Side::Guest, call(Kind::HOST_CALL, method::HOST_SUBSCRIBE, "", &"clock/".to_owned())), (Side::Host, answer)],
    );
    p.host_call(method::HOST_SECRET, "a secret of its own.", &"token".to_owned(), &"…".to_owned());
    p.host_call(
        method::HOST_LOAD,
        "what it has stored; `null` when there is nothing.",
        &"key".to_owned(),
        &Some(Bytes::from_static(b"value")),
    );
    p.host_call(
        method::HOST_STORE,
        "stores; without `value`, removes.",
        &StoreArgs { key: "key".into(), value: Some(Bytes::from_static(b"value")) },
        &(),
    );
    p.host_call(method::HOST_REPORT_HEALTH, "how it does, when a slow check has found out.", &Health::Degraded("slow".into()), &());
    page
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md")
}

#[test]
fn the_page_shows_every_method_as_it_is_written() {
    let made = messages();
    let known: BTreeSet<String> = method::ALL.iter().map(|m| (*m).to_owned()).collect();
    assert_eq!(made.methods, known, "a method without an example, or an example without a method");

    let page = std::fs::read_to_string(path()).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has lost its marker");
    let (shown, after) = rest.split_once(END).expect("the page has lost its second marker");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path(), format!("{before}{BEGIN}{}\n{END}{after}", made.text)).unwrap();
    } else {
        assert!(shown.trim() == made.text.trim(), "docs/protocol.md is not what is written: run with UPDATE_EXPECT=1");
    }
}

/// Rows of a table whose cells are code, by the number of the cell.
fn cells(page: &str, of: impl Fn(&[&str]) -> Option<String>) -> BTreeSet<String> {
    page.lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(|line| of(&line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()))
        .collect()
}

#[test]
fn the_page_names_every_kind_of_frame() {
    let page = std::fs::read_to_string(path()).unwrap();
    let (_, pipe) = page.split_once("## Over a pipe").unwrap();
    // The last cell of the table of lines; rows may name more than one.
    let shown: BTreeSet<String> = pipe
        .lines()
        .filter(|line| line.starts_with("| `{\"jsonrpc\""))
        .filter_map(|line| line.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').filter(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_uppercase() || c == '_')))
        .map(str::to_owned)
        .collect();
    let known: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(shown, known);
}

#[test]
fn the_page_names_every_code() {
    let page = std::fs::read_to_string(path()).unwrap();
    let shown = cells(&page, |cells| match cells {
        [number, kind, condition] if !condition.is_empty() => {
            let number: i32 = number.replace('−', "-").parse().ok()?;
            Some(format!("{number} {}", kind.trim_matches('`')))
        }
        _ => None,
    });
    let known: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{} {}", code.value(), code.name())).collect();
    assert_eq!(shown, known);
}
