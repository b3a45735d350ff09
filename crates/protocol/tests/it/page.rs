//! docs/protocol.md and the code are one: what stands between its markers is made from the types here, and every kind, method and
//! code stands in both. `UPDATE_EXPECT=1` writes the page anew.

use std::{collections::BTreeSet, path::PathBuf};

use bespoke_plugin_api::{
    AcceleratorSpec, Attachment, Audio, AudioChunk, CallCx, ChannelSpec, ChatDelta, ChatRequest, Code, CommandRequest, CommandSpec, Device,
    EmbedRequest, EmbedderSpec, Embeddings, EndpointSpec, Event, FinishReason, Health, Hook, HookEvent, HookReply, HookSpec, HttpRequest,
    HttpResponse, Inbound, Message, MessageRef, ModelInfo, Outbound, Part, ProviderSpec, Reload, Spec, State, SttEvent, SttOptions,
    SttRequest, SttSpec, Target, Timestamp, ToolOutput, ToolRequest, ToolSpec, Transcript, TtsOptions, TtsSpec, Usage, VadEvent,
    VadOptions, VadSpec, Voice,
    serde_json::{self, json},
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

    /// A spec of every kind, as it stands in the hello.
    fn specs(&mut self) {
        let all = specs();
        let kinds: BTreeSet<_> = all.iter().map(Spec::kind).collect();
        assert_eq!(kinds, bespoke_plugin_api::Kind::ALL.iter().copied().collect(), "a kind without an example");
        self.text += "\nOf each kind, one. All members must be there, but for `topics`, `streams`, `idempotent` and `attachments`; unknown ones are passed over. So is a spec that cannot be read, and\nthen \
                      the plugin lacks what its manifest declares: −32010.\n\n| in `specs` | |\n|---|---|\n";
        for spec in all {
            let about = match spec.kind() {
                bespoke_plugin_api::Kind::Channel => {
                    "which of `channel.edit`, `channel.typing` and `channel.stream` work; whether a message that is sent again with the same `idempotency_key` arrives once; whether files are delivered"
                }
                bespoke_plugin_api::Kind::Tool => "what the model reads, and a JSON Schema of the arguments, an object",
                bespoke_plugin_api::Kind::Provider => "its name in `agent.provider`",
                bespoke_plugin_api::Kind::Stt => {
                    "its name in `voice.stt`; languages as BCP 47 tags, `[]` for any; whether `stt.open` works"
                }
                bespoke_plugin_api::Kind::Tts => "its name in `voice.tts`; the rate of what it makes, in Hz",
                bespoke_plugin_api::Kind::Vad => "its name in `voice.vad`",
                bespoke_plugin_api::Kind::Embedder => "the length of a vector",
                bespoke_plugin_api::Kind::Command => {
                    "the verb, a line about it, how it is called, and whether only a user with a login may"
                }
                bespoke_plugin_api::Kind::Hook => {
                    "one place; higher priorities run first; `on_failure` is `open` or `closed`; an observer only looks, beside others. `on_event` may say in `topics` what the topics of events begin with that it hears"
                }
                bespoke_plugin_api::Kind::Http => "the last part of its path, `/hooks/<plugin>/<name>`; most bytes of a body",
                bespoke_plugin_api::Kind::Accelerator => "its name",
                kind => panic!("a kind without words: {kind:?}"),
            };
            let text = serde_json::to_string(&spec).unwrap();
            self.text += &format!("| `{text}` | {about} |\n");
        }
    }

    /// A method, and lines that are said.
    fn method(&mut self, method: &str, about: &str, lines: &[(Side, Vec<u8>)]) {
        self.methods.insert(method.to_owned());
        self.lines(&format!("`{method}`: {about}"), lines);
    }

    /// Another answer to the method before it.
    fn answer<R: Body>(&mut self, about: &str, answer: &R) {
        self.lines(about, &[(Side::Guest, answered(Kind::REPLY, answer))]);
    }

    fn lines(&mut self, about: &str, lines: &[(Side, Vec<u8>)]) {
        if !about.is_empty() {
            self.text += &format!("\n{about}\n");
        }
        self.text += "\n```text\n";
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

fn specs() -> Vec<Spec> {
    let zone = json!({ "type": "object", "properties": { "zone": { "type": "string" } }, "additionalProperties": false });
    vec![
        Spec::Tool(ToolSpec::new("clock", "Tells the time.").input(zone)),
        Spec::Provider(ProviderSpec::new("smol")),
        Spec::Stt(SttSpec::new("moonshine").languages(vec!["en".into()]).streaming(true)),
        Spec::Tts(TtsSpec::new("flite", 16_000)),
        Spec::Vad(VadSpec::new("silero")),
        Spec::Embedder(EmbedderSpec::new("small", 384)),
        Spec::Command(CommandSpec::new("count", "Counts what there is.").usage("count [WHAT]".into()).require_auth(false)),
        Spec::Hook(HookSpec::new("guard", Hook::BeforeAgentRun).priority(10).fail_closed()),
        Spec::Hook(HookSpec::new("watch", Hook::OnEvent).topics(["clock.", "workflow_"])),
        Spec::Channel(ChannelSpec::new("chat").edits(true).typing(true).streams(true).idempotent(true).attachments(true)),
        Spec::Http(EndpointSpec::new("hooks")),
        Spec::Accelerator(AcceleratorSpec::new("cuda")),
    ]
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

    p.section(
        "The hello",
        "The first line each way. `specs` is what the plugin contributes: for each, its kind and what is known of it before it starts.",
    );
    let mut asked = Vec::new();
    let host = HostHello {
        protocol: PROTOCOL,
        oldest: OLDEST_PROTOCOL,
        host: "bespoke/0.1.0".into(),
        features: vec!["blob".into()],
        max_payload: DEFAULT_PAYLOAD,
    };
    put_json(&mut asked, Kind::HELLO, 0, &host).unwrap();
    let mut said = Vec::new();
    let guest = GuestHello {
        protocol: PROTOCOL,
        oldest: OLDEST_PROTOCOL,
        plugin: "clock".into(),
        version: "0.1.0".into(),
        specs: vec![Spec::Tool(ToolSpec::new("clock", "Tells the time."))],
        features: Vec::new(),
        max_payload: DEFAULT_PAYLOAD,
    };
    put_json(&mut said, Kind::HELLO, 0, &guest).unwrap();
    p.method("hello", "who is there.", &[(Side::Host, asked), (Side::Guest, said)]);
    p.methods.remove("hello");
    p.specs();

    p.section("The plugin itself", "Without `name`. A plugin that does not know one of them, but for `plugin.start`, answers −32601.");
    let setup = Setup {
        config: json!({ "voice": "eva" }),
        data_dir: Some("/data/p".into()),
        cpu_budget: 2,
        models: [].into(),
        runtimes: [].into(),
    };
    p.call(method::START, "makes the one instance; once. `models` says of each file of the manifest, and `runtimes` of each native runtime, `{\"found\": …}` or `{\"error\": …}`. The answer is its vitals.", "", &setup, &vitals);
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
        "health (`ok`, `unknown`, or with a `reason` `degraded` and `failed`) and facts, whose values are texts. A plugin may say `$/vitals` unasked.",
        "",
        &Nothing {},
        &vitals,
    );
    let invoke = InvokeArgs { method: "get_voices".into(), args: json!({}) };
    p.call(method::INVOKE, "a method by the plugin's own name, beside its contributions. `args` are its arguments by name, or a list of them in order, as a method is told of an event (docs/events.md).", "", &invoke, &json!(["eva"]));
    p.call(method::METHODS, "the methods that it has so.", "", &Nothing {}, &vec!["get_voices".to_owned()]);

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
        "`args.args` is what the model wrote, and fits the tool's schema; the answer is a list of parts. A part `blob` has its bytes behind the line, each with its length as u32.",
        &[(Side::Host, request), (Side::Guest, said)],
    );
    p.answer(
        "Beside `content`, what the model reads, it may say `data`, the same for programs. With `is_error`, the content tells the model what\nwent \
         wrong, so that it can try again; an `error` is for what the model cannot mend. Both may be left out:",
        &ToolOutput::text("12:00").with_data(json!({ "hour": 12 })),
    );
    p.answer("", &ToolOutput::error("there is no zone `UTX`"));
    let mut picture = ToolOutput::text("The clock:");
    picture.content.push(Part::blob("image/png", Bytes::from_static(&[0; 67])));
    p.answer("", &picture);

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
        "`continue`, `replace` with an event of the same hook, or `veto` with a reason. A handler with `on_failure` `closed` is a guard: as\nlong \
         as its plugin is switched on, one that fails, is late, or whose process is gone says no.",
        "guard",
        &HookEvent::before_agent_run("s1", "delete everything"),
        &HookReply::veto("not today"),
    );
    let event = Event::new("workflow_started", 12, Timestamp(1_790_000_000_000_000), None, json!({ "workflow": "w1" }));
    p.lines(
        "A handler of `on_event` is told what happened; the next one comes when it has answered, and what it answers is ignored:",
        &[
            (Side::Host, call(Kind::CALL, method::HOOK_ON, "watch", &HookEvent::on_event(event))),
            (Side::Guest, answered(Kind::REPLY, &HookReply::Continue)),
        ],
    );

    p.section(
        "channel",
        "Of each of `attachments`, `mime`, `voice` and `size` must be there. Their bytes stand behind the line, each with its length as u32.",
    );
    let note = Attachment::voice("audio/ogg", vec![0; 96]).name("note.ogg".into());
    let message = Inbound::new("c1", "ann", "m1", "Hello").sender_name("Ann".into()).attachments(vec![note]);
    let accept = AcceptArgs { call: 6, message };
    p.method(
        method::CHANNEL_RUN,
        "runs until it is cancelled; each message that comes is a call of the host, `inbox.accept`.",
        &[(Side::Host, call(Kind::CALL, method::CHANNEL_RUN, "chat", &Nothing {})), (Side::Guest, answered(Kind::REPLY, &()))],
    );
    p.host_call(method::HOST_ACCEPT, "a message for the agent; `call` is the id of `channel.run`.", &accept, &());
    p.call(
        method::CHANNEL_SEND,
        "sends a message. What a member says is as if it were not there, where the channel's spec does not promise it.",
        "chat",
        &Outbound::new("c1", "Hi.")
            .idempotency_key("k1".into())
            .reply_to("m1".into())
            .attachments(vec![Attachment::new("image/png", vec![0; 67]).name("map.png".into())]),
        &MessageRef::new("c1", "m2"),
    );
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
        "what it can compute on. Only `index` and `name` must be there; memory is in bytes, utilization in percent.",
        "cuda",
        &Nothing {},
        &vec![Device::new(0, "NVIDIA T4").memory(16 << 30).memory_free(15 << 30).utilization(3).capability("7.5")],
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
fn the_page_numbers_every_kind_of_frame() {
    let page = std::fs::read_to_string(path()).unwrap();
    let shown = cells(&page, |cells| match cells {
        [kind, number, ..] => Some(format!("{} {}", kind.trim_matches('`'), number.parse::<u8>().ok()?)),
        _ => None,
    });
    let known: BTreeSet<String> = Kind::ALL.iter().map(|kind| format!("{} {}", kind.name(), kind.0)).collect();
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
