//! The wire, pinned: a change of these texts is a change of the protocol.

mod line;
mod page;

use bespoke_plugin_api::{
    Attachment, Audio, AudioChunk, CallCx, CancelToken, ChatDelta, ChatRequest, Code, CommandRequest, Embeddings, Error, Event,
    FinishReason, Hook, HookEvent, HookReply, HookSpec, HttpRequest, Inbound, Level, Message, OnFailure, Outbound, Part, Reload, State,
    SttEvent, SttRequest, Target, Timestamp, ToolOutput, ToolRequest, ToolSpec, Usage, VadEvent, VadOptions, serde_json::json,
};
use bespoke_protocol::*;
use bytes::Bytes;
use expect_test::{Expect, expect};

/// Head and blob of the one frame in `bytes`.
fn shown(bytes: &[u8]) -> String {
    let (frame, len) = parse(bytes).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    let blob: String = frame.blob.iter().map(|b| format!("{b:02x}")).collect();
    format!("{} {} {} [{blob}]", frame.kind.name(), frame.id, std::str::from_utf8(frame.head).unwrap())
}

fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Pins a body and checks that it comes back equal.
fn body<T: Body + PartialEq + std::fmt::Debug>(value: &T, golden: Expect) {
    let bytes = frame(|out| put_body(out, Kind::EVENT, 1, value).unwrap());
    golden.assert_eq(&shown(&bytes));
    assert_eq!(&read_body::<T>(&parse(&bytes).unwrap().unwrap().0).unwrap(), value);
}

#[test]
fn calls() {
    let cx = CallCx::new().nested("agent").unwrap().with_deadline(Timestamp(5)).with_session("s1").with_trace(7);
    let cx = CxHead::of(&cx.quieting(Hook::BeforeAgentRun));
    let request = ToolRequest::new(json!({ "zeta": 1, "alpha": 0.1 }));
    let bytes = frame(|out| put_call(out, Kind::CALL, 3, method::TOOL_CALL, "clock", &cx, &request).unwrap());
    expect![[r#"CALL 3 {"method":"tool.call","name":"clock","cx":{"deadline":5,"session":"s1","caller":"agent","trace":7,"depth":1,"quiet":["before_agent_run"]},"args":{"args":{"zeta":1,"alpha":0.1}}} []"#]].assert_eq(&shown(&bytes));
    let (got, _) = parse(&bytes).unwrap().unwrap();
    let route = Route::read(&got).unwrap();
    assert_eq!((route.method.as_str(), route.name.as_str(), &route.cx), (method::TOOL_CALL, "clock", &cx));
    assert_eq!(read_args::<ToolRequest>(&got).unwrap(), request);

    let back = route.cx.to_cx(CancelToken::new()).unwrap();
    assert_eq!(CxHead::of(&back), cx);
    assert!(!back.fires(Hook::BeforeAgentRun) && back.fires(Hook::AfterAgentRun));

    let bytes =
        frame(|out| put_call(out, Kind::OPEN, 4, method::VAD_OPEN, "silero", &CxHead::default(), &VadOptions::new(16_000)).unwrap());
    expect![[r#"OPEN 4 {"method":"vad.open","name":"silero","args":{"sample_rate":16000}} []"#]].assert_eq(&shown(&bytes));
}

#[test]
fn replies_and_ends() {
    let ok = frame(|out| put_reply(out, Kind::REPLY, 1, &Ok(ToolOutput::text("hi"))));
    expect![[r#"REPLY 1 {"ok":{"content":[{"type":"text","text":"hi"}]}} []"#]].assert_eq(&shown(&ok));
    let unit = frame(|out| put_reply(out, Kind::REPLY, 1, &Ok(())));
    expect![[r#"REPLY 1 {"ok":null} []"#]].assert_eq(&shown(&unit));
    read_reply::<()>(&parse(&unit).unwrap().unwrap().0).unwrap();
    assert_eq!(read_reply::<Option<State>>(&parse(&unit).unwrap().unwrap().0).unwrap(), None);

    let error = Error::new(Code::MODEL_NOT_FOUND, "m.onnx is missing").with_help("bespoke models").retryable();
    let err = frame(|out| put_reply::<()>(out, Kind::REPLY, 1, &Err(error.clone())));
    expect![[r#"REPLY 1 {"err":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"m.onnx is missing","retryable":true,"help":"bespoke models"}} []"#]]
        .assert_eq(&shown(&err));
    assert_eq!(read_reply::<()>(&parse(&err).unwrap().unwrap().0).unwrap_err(), error);

    let end = frame(|out| put_end(out, 2, &Err(Error::cancelled())));
    expect![[r#"END 2 {"code":-32800,"kind":"CANCELLED","message":"cancelled by the caller"} []"#]].assert_eq(&shown(&end));
    assert_eq!(read_end(&parse(&end).unwrap().unwrap().0).unwrap_err(), Error::cancelled());
    read_end(&parse(&frame(|out| put_end(out, 2, &Ok(())))).unwrap().unwrap().0).unwrap();
}

/// A host call that answers with a head and then with items, frame by frame.
#[test]
fn a_streamed_host_call() {
    let cx = CxHead::default();
    let request = HttpRequest::new("GET", "https://example.test/");
    let head = HttpHead { status: 200, headers: vec![("content-type".into(), "text/plain".into())] };
    let frames = [
        frame(|out| put_call(out, Kind::HOST_CALL, 9, Http::METHOD, "", &cx, &request).unwrap()),
        frame(|out| put_answer(out, Kind::HOST_REPLY, 9, &head).unwrap()),
        frame(|out| put_body(out, Kind::EVENT, 9, &Bytes::from_static(b"hi")).unwrap()),
        frame(|out| put_credit(out, flag::HOST_CALL, 9, BODY_WINDOW / 2)),
        frame(|out| put_end(out, 9, &Ok(()))),
    ];
    expect![[r#"
        HOST_CALL 9 {"method":"host.http","args":{"method":"GET","url":"https://example.test/","headers":[],"body":[]}} []
        HOST_REPLY 9 {"ok":{"status":200,"headers":[["content-type","text/plain"]]}} []
        EVENT 9 [] [6869]
        CREDIT 9  [08000000]
        END 9  []
    "#]]
    .assert_eq(&frames.iter().map(|bytes| shown(bytes) + "\n").collect::<String>());
    assert_eq!(read_reply::<HttpHead>(&parse(&frames[1]).unwrap().unwrap().0).unwrap(), head);
    assert_eq!(read_body::<Bytes>(&parse(&frames[2]).unwrap().unwrap().0).unwrap(), "hi");
}

#[test]
fn hellos_tolerate_what_is_newer() {
    let hello = GuestHello {
        protocol: 1,
        oldest: 1,
        plugin: "clock".into(),
        version: "0.1.0".into(),
        specs: vec![bespoke_plugin_api::Spec::Tool(ToolSpec::new("clock", "Tells the time."))],
        features: Vec::new(),
        max_payload: DEFAULT_PAYLOAD,
    };
    let bytes = frame(|out| put_json(out, Kind::HELLO, 0, &hello).unwrap());
    expect![[r#"HELLO 0 {"protocol":1,"oldest":1,"plugin":"clock","version":"0.1.0","specs":[{"kind":"tool","spec":{"name":"clock","description":"Tells the time.","input_schema":{"type":"object","properties":{},"additionalProperties":false}}}]} []"#]].assert_eq(&shown(&bytes));

    let newer = json!({
        "protocol": 9, "oldest": 1, "plugin": "p", "version": "2.0.0", "colour": "blue",
        "specs": [
            { "kind": "oracle", "spec": { "name": "x" } },
            { "kind": "hook", "spec": { "name": "h", "hook": "before_dreaming", "priority": 0, "timeout_ms": 9, "on_failure": "open", "observer": false } },
            { "kind": "hook", "spec": { "name": "k", "hook": "on_gateway_start", "priority": 0, "timeout_ms": 9, "on_failure": "shrug", "observer": false } },
            { "kind": "tool", "spec": 7 },
            { "kind": "vad", "spec": { "name": "v", "stripes": 3 } },
        ],
    });
    let read: GuestHello = bespoke_plugin_api::serde_json::from_value(newer).unwrap();
    assert_eq!(read.specs.iter().map(bespoke_plugin_api::Spec::name).collect::<Vec<_>>(), ["k", "v"]);
    let bespoke_plugin_api::Spec::Hook(hook) = &read.specs[0] else { panic!("{read:?}") };
    assert_eq!(hook.on_failure, OnFailure::Closed);
    assert_eq!(agree(9, 1).unwrap(), 1);
    assert_eq!(agree(9, 2).unwrap_err().code(), Code::LOAD_FAILED);
    assert!(agree(0, 0).unwrap_err().help().unwrap().contains("plugin"));
}

#[test]
fn setup_and_vitals() {
    let setup = Setup {
        config: json!({ "b": 1, "a": 2 }),
        data_dir: Some("/data".into()),
        cpu_budget: 2,
        models: [
            ("a.bin".to_owned(), Lookup::Found("/m/a.bin".into())),
            ("b.bin".to_owned(), Lookup::Error(Error::new(Code::MODEL_NOT_FOUND, "no"))),
        ]
        .into(),
        runtimes: [].into(),
    };
    body(
        &setup,
        expect![[
            r#"EVENT 1 {"config":{"b":1,"a":2},"data_dir":"/data","cpu_budget":2,"models":{"a.bin":{"found":"/m/a.bin"},"b.bin":{"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no"}}}} []"#
        ]],
    );
    let vitals =
        Vitals { health: bespoke_plugin_api::Health::Degraded("slow".into()), facts: [("engine".to_owned(), "ort".to_owned())].into() };
    body(&vitals, expect![[r#"EVENT 1 {"health":{"status":"degraded","reason":"slow"},"facts":{"engine":"ort"}} []"#]]);
}

#[test]
fn bulk_is_raw() {
    body(
        &SttRequest::new(Audio::new([0.5_f32, -1.0], 16_000)),
        expect![[r#"EVENT 1 {"audio":{"samples":[],"rate":16000}} [0000003f000080bf]"#]],
    );
    body(&AudioChunk::new(Audio::new([1.0_f32], 8_000)), expect![[r#"EVENT 1 {"audio":{"samples":[],"rate":8000}} [0000803f]"#]]);
    body(
        &HttpRequest::new("POST", "/x").body(Bytes::from_static(b"\x00\xff")),
        expect![[r#"EVENT 1 {"method":"POST","url":"/x","headers":[],"body":[]} [00ff]"#]],
    );
    body(&Bytes::from_static(b"<p>"), expect![[r#"EVENT 1 [] [3c703e]"#]]);
    body(&Some(State::new(3, &b"ab"[..])), expect![[r#"EVENT 1 {"version":3,"bytes":[]} [6162]"#]]);
    body(&StoreArgs { key: "k".into(), value: Some(Bytes::new()) }, expect![[r#"EVENT 1 {"key":"k","value":[]} []"#]]);
    body(&StoreArgs { key: "k".into(), value: None }, expect![[r#"EVENT 1 {"key":"k","value":null} []"#]]);
    body(
        &Embeddings::new(vec![vec![1.0], vec![], vec![0.5, 2.0]]),
        expect![[r#"EVENT 1 {"vectors":[[],[],[]]} [010000000000803f00000000020000000000003f00000040]"#]],
    );
    let mut output = ToolOutput::text("t");
    output.content.push(Part::blob("image/png", Bytes::from_static(b"\x89P")));
    body(
        &output,
        expect![[r#"EVENT 1 {"content":[{"type":"text","text":"t"},{"type":"blob","mime":"image/png","bytes":[]}]} [020000008950]"#]],
    );
}

#[test]
fn files_travel_behind_their_message() {
    let files = || {
        vec![
            Attachment::voice("audio/ogg", &b"Og"[..]).name("n.ogg".into()),
            Attachment::new("image/png", Bytes::new()),
            Attachment::new("a/b", &b"\xff"[..]),
        ]
    };
    let message = Inbound::new("c", "ann", "1", "t").sender_name("Ann".into()).attachments(files());
    body(
        &message,
        expect![[
            r#"EVENT 1 {"chat":"c","sender":"ann","id":"1","text":"t","sender_name":"Ann","attachments":[{"name":"n.ogg","mime":"audio/ogg","voice":true,"size":2},{"mime":"image/png","voice":false,"size":0},{"mime":"a/b","voice":false,"size":1}]} [020000004f670000000001000000ff]"#
        ]],
    );
    body(
        &AcceptArgs { call: 3, message },
        expect![[
            r#"EVENT 1 {"call":3,"message":{"chat":"c","sender":"ann","id":"1","text":"t","sender_name":"Ann","attachments":[{"name":"n.ogg","mime":"audio/ogg","voice":true,"size":2},{"mime":"image/png","voice":false,"size":0},{"mime":"a/b","voice":false,"size":1}]}} [020000004f670000000001000000ff]"#
        ]],
    );
    let sent = || Outbound::new("c", "t").idempotency_key("k".into()).reply_to("1".into()).attachments(files());
    body(
        &sent(),
        expect![[
            r#"EVENT 1 {"chat":"c","text":"t","idempotency_key":"k","reply_to":"1","attachments":[{"name":"n.ogg","mime":"audio/ogg","voice":true,"size":2},{"mime":"image/png","voice":false,"size":0},{"mime":"a/b","voice":false,"size":1}]} [020000004f670000000001000000ff]"#
        ]],
    );
    body(
        &ChannelEdit { message: bespoke_plugin_api::MessageRef::new("c", "1"), new: sent() },
        expect![[
            r#"EVENT 1 {"message":{"chat":"c","id":"1"},"new":{"chat":"c","text":"t","idempotency_key":"k","reply_to":"1","attachments":[{"name":"n.ogg","mime":"audio/ogg","voice":true,"size":2},{"mime":"image/png","voice":false,"size":0},{"mime":"a/b","voice":false,"size":1}]}} [020000004f670000000001000000ff]"#
        ]],
    );
    body(&Inbound::new("c", "ann", "1", "t"), expect![[r#"EVENT 1 {"chat":"c","sender":"ann","id":"1","text":"t"} []"#]]);
    // Hooks see the head of it alone.
    let light = sent().attachments(files().iter().map(Attachment::light).collect());
    body(
        &HookEvent::before_message_send("chat", light),
        expect![[
            r#"EVENT 1 {"hook":"before_message_send","channel":"chat","message":{"chat":"c","text":"t","idempotency_key":"k","reply_to":"1","attachments":[{"name":"n.ogg","mime":"audio/ogg","voice":true,"size":2},{"mime":"image/png","voice":false,"size":0},{"mime":"a/b","voice":false,"size":1}]}} []"#
        ]],
    );

    for blob in [&[1, 0, 0][..], &[1, 0, 0, 0], &[0; 13], &[0xff; 12]] {
        let head = head_of(&sent());
        let frame = Frame { kind: Kind::EVENT, flags: 0, id: 1, head: &head, blob };
        assert_eq!(read_body::<Outbound>(&frame).unwrap_err().code(), Code::INVALID_PARAMS, "{blob:?}");
    }
}

/// The head of a body as it is written.
fn head_of<T: Body>(value: &T) -> Vec<u8> {
    let bytes = frame(|out| put_body(out, Kind::EVENT, 1, value).unwrap());
    parse(&bytes).unwrap().unwrap().0.head.to_vec()
}

#[test]
fn what_happened_and_who_runs_a_command() {
    let event = Event::new("workflow_started", 7, Timestamp(9), Some("voice".into()), json!({ "workflow": "w" }));
    body(
        &HookEvent::on_event(event),
        expect![[
            r#"EVENT 1 {"hook":"on_event","event":{"topic":"workflow_started","seq":7,"at":9,"source":"voice","payload":{"workflow":"w"}}} []"#
        ]],
    );
    let spec = bespoke_plugin_api::Spec::Hook(HookSpec::new("watch", Hook::OnEvent).topics(["a.", "b"]));
    expect![[r#"{"kind":"hook","spec":{"name":"watch","hook":"on_event","priority":0,"timeout_ms":5000,"on_failure":"open","observer":false,"topics":["a.","b"]}}"#]].assert_eq(&bespoke_plugin_api::serde_json::to_string(&spec).unwrap());
    body(
        &CommandRequest::new(vec!["a".into()]).user("telegram:7".into()).authenticated(false),
        expect![[r#"EVENT 1 {"args":["a"],"user":"telegram:7","authenticated":false} []"#]],
    );
    // A peer that does not say who runs it has not said that they have a login.
    let frame = Frame { kind: Kind::EVENT, flags: 0, id: 1, head: br#"{"args":[]}"#, blob: &[] };
    assert_eq!(read_body::<CommandRequest>(&frame).unwrap(), CommandRequest::new(vec![]).authenticated(false));
}

#[test]
fn a_peer_without_blobs_leaves_bulk_in_the_head() {
    let frame = Frame { kind: Kind::EVENT, flags: 0, id: 1, head: br#"{"audio":{"samples":[0.5],"rate":8000}}"#, blob: &[] };
    assert_eq!(read_body::<AudioChunk>(&frame).unwrap().audio.samples[..], [0.5]);
}

#[test]
fn a_blob_that_does_not_fit_is_an_error() {
    for blob in [&[1, 0, 0][..], &[1, 0, 0, 0, 9], &[0xff, 0xff, 0xff, 0xff, 1], &[0, 0, 0, 0, 1]] {
        let frame = Frame { kind: Kind::EVENT, flags: 0, id: 1, head: br#"{"vectors":[[]]}"#, blob };
        assert_eq!(read_body::<Embeddings>(&frame).unwrap_err().code(), Code::INVALID_PARAMS, "{blob:?}");
    }
}

#[test]
fn events_and_requests() {
    body(&VadEvent::window(512, 0.1, 60), expect![[r#"EVENT 1 {"type":"window","at":512,"probability":0.1,"elapsed_us":60} []"#]]);
    body(
        &ChatDelta::finish(FinishReason::ToolCalls, Usage::new(3, 1)),
        expect![[
            r#"EVENT 1 {"type":"finish","reason":"tool_calls","usage":{"prompt_tokens":3,"cached_tokens":0,"completion_tokens":1}} []"#
        ]],
    );
    body(
        &ChatRequest::new(vec![Message::user("hi")]).temperature(0.7),
        expect![[r#"EVENT 1 {"messages":[{"role":"user","text":"hi"}],"tool_choice":"auto","temperature":0.7} []"#]],
    );
    body(
        &HookReply::replace(HookEvent::before_agent_run("s", "i")),
        expect![[r#"EVENT 1 {"reply":"replace","event":{"hook":"before_agent_run","session":"s","input":"i"}} []"#]],
    );
    body(
        &HostCallArgs { call: Some(3), target: Target::new("tool", "clock"), args: json!({}) },
        expect![[r#"EVENT 1 {"call":3,"target":{"kind":"tool","name":"clock"},"args":{}} []"#]],
    );
    body(
        &HostCallArgs { call: None, target: Target::new("tool", "clock"), args: json!({}) },
        expect![[r#"EVENT 1 {"target":{"kind":"tool","name":"clock"},"args":{}} []"#]],
    );
    body(
        &ChannelEdit { message: bespoke_plugin_api::MessageRef::new("c", "1"), new: Outbound::new("c", "t") },
        expect![[r#"EVENT 1 {"message":{"chat":"c","id":"1"},"new":{"chat":"c","text":"t"}} []"#]],
    );
}

/// What a newer peer says in a new way is passed over, not an error.
#[test]
fn unknown_variants_are_read_as_such() {
    fn read<T: Body>(head: &str, blob: &[u8]) -> T {
        read_body(&Frame { kind: Kind::EVENT, flags: 0, id: 1, head: head.as_bytes(), blob }).unwrap()
    }
    let newer = r#"{"type":"smell","at":[1,{"deep":null}]}"#;
    assert_eq!(read::<ChatDelta>(newer, &[]), ChatDelta::Unknown);
    assert_eq!(read::<VadEvent>(newer, &[]), VadEvent::Unknown);
    assert_eq!(read::<SttEvent>(newer, &[]), SttEvent::Unknown);
    assert_eq!(read::<HookReply>(r#"{"reply":"postpone","until":3}"#, &[]), HookReply::Unknown);
    assert_eq!(read::<ChatDelta>(r#"{"type":"finish","reason":"bored"}"#, &[]), ChatDelta::finish(FinishReason::Unknown, None));
    assert_eq!(read::<Reload>(r#""postponed""#, &[]), Reload::Restart);
    assert_eq!(read::<Reload>(r#""restart""#, &[]), Reload::Restart);
    assert_eq!(read::<Reload>(r#""applied""#, &[]), Reload::Applied);
    for (word, level) in [("debug", Level::Debug), ("error", Level::Error), ("whisper", Level::Info)] {
        let log: LogHead = bespoke_plugin_api::serde_json::from_value(json!({ "level": word, "line": "" })).unwrap();
        assert_eq!(log.level, level);
    }

    // The bulk of an unknown part stands behind that of the known ones.
    let head = r#"{"content":[{"type":"smell","bytes":[]},{"type":"blob","mime":"m","bytes":[]},{"type":"text","text":"t"}]}"#;
    let output: ToolOutput = read(head, &[1, 0, 0, 0, 9, 1, 0, 0, 0, 7]);
    assert_eq!(output.content, [Part::Unknown, Part::blob("m", vec![9]), Part::text("t")]);
    assert_eq!(output.to_text(), "t");

    body(&ChatDelta::Unknown, expect![[r#"EVENT 1 {"type":"unknown"} []"#]]);
    body(&HookReply::Unknown, expect![[r#"EVENT 1 {"reply":"unknown"} []"#]]);
}

/// JSON keeps every finite f32 and f64: an internally tagged enum reads its numbers as f64 first, a struct directly.
#[test]
fn numbers_in_heads_arrive_bit_equal() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..40_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (single, double) = (f32::from_bits(state as u32), f64::from_bits(state));
        if single.is_finite() {
            let event = VadEvent::window(state, single, 0);
            let bytes = frame(|out| put_body(out, Kind::EVENT, 1, &event).unwrap());
            let VadEvent::Window { at, probability, .. } = read_body(&parse(&bytes).unwrap().unwrap().0).unwrap() else { panic!() };
            assert_eq!((at, probability.to_bits()), (state, single.to_bits()));
            let request = ChatRequest::new(vec![]).temperature(single);
            let bytes = frame(|out| put_body(out, Kind::EVENT, 1, &request).unwrap());
            let back: ChatRequest = read_body(&parse(&bytes).unwrap().unwrap().0).unwrap();
            assert_eq!(back.temperature.unwrap().to_bits(), single.to_bits());
        }
        if double.is_finite() {
            let bytes = frame(|out| put_body(out, Kind::EVENT, 1, &json!(double)).unwrap());
            let back: bespoke_plugin_api::serde_json::Value = read_body(&parse(&bytes).unwrap().unwrap().0).unwrap();
            assert_eq!(back.as_f64().unwrap().to_bits(), double.to_bits());
        }
    }
}

#[test]
fn an_answer_that_is_too_long_becomes_an_error() {
    let bytes = frame(|out| put_reply(out, Kind::REPLY, 1, &Ok(ToolOutput::text("x".repeat(MAX_FRAME)))));
    let (got, _) = parse(&bytes).unwrap().unwrap();
    assert_eq!(read_reply::<ToolOutput>(&got).unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
}

#[test]
fn panics_read_alike() {
    let payload = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new("boom"))).unwrap_err();
    assert_eq!(panicked(&*payload).message(), "panicked: boom");
}

#[test]
fn numbers_that_json_would_drop_are_refused() {
    let request = ChatRequest::new(vec![]).temperature(f32::NAN);
    let mut out = Vec::new();
    let refused = put_call(&mut out, Kind::CALL, 1, method::PROVIDER_CHAT, "p", &CxHead::default(), &request).unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::INVALID_PARAMS, "temperature is NaN"));
    assert!(out.is_empty());

    let refused = put_body(&mut out, Kind::EVENT, 1, &VadEvent::window(512, f32::INFINITY, 0)).unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::INVALID_PARAMS, "probability is inf"));
    assert!(out.is_empty());

    let reply = frame(|out| put_reply(out, Kind::REPLY, 1, &Ok(request)));
    expect![[r#"REPLY 1 {"err":{"code":-32602,"kind":"INVALID_PARAMS","message":"temperature is NaN"}} []"#]].assert_eq(&shown(&reply));
}
