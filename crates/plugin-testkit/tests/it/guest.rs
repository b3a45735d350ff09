//! The guest core against hosts that are early, late, rude or broken.

use std::sync::Arc;

use bespoke_plugin_api::{Code, Error, Timestamp, ToolRequest, VadOptions};
use bespoke_plugin_guest::{Core, Platform};
use bespoke_protocol::{
    BODY_WINDOW, CxHead, DEFAULT_PAYLOAD, Frame, GoodbyeHead, GuestHello, HostHello, HttpHead, InvokeArgs, Kind, Nothing, Setup, flag,
    line::Side, method, parse, put_answer, put_body, put_call, put_json, put_plain, put_reply, put_samples_frame, read_body, read_end,
    read_reply,
};
use bytes::Bytes;
use serde_json::json;

use crate::world::WORLD;

struct Bare;

impl Platform for Bare {
    fn now(&self) -> Timestamp {
        Timestamp(5)
    }
}

/// Kind, id, head and blob of a frame.
type Owned = (Kind, u32, Vec<u8>, Vec<u8>);

struct Host(Core);

impl Host {
    fn new() -> Self {
        Host(Core::new(&WORLD, Arc::new(Bare)))
    }

    fn started() -> Self {
        let mut host = Host::new();
        let setup = Setup { config: json!({}), data_dir: None, cpu_budget: 1, models: Default::default(), runtimes: Default::default() };
        host.say(|out| put_call(out, Kind::CALL, 1, method::START, "", &CxHead::default(), &setup).unwrap());
        host
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Vec<Owned> {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.bytes(&bytes).unwrap()
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Vec<Owned>, Error> {
        let mut out = Vec::new();
        let mut more = self.0.step(bytes, &mut out)?;
        while more {
            more = self.0.step(&[], &mut out)?;
        }
        Ok(frames(&out))
    }
}

fn frames(mut bytes: &[u8]) -> Vec<Owned> {
    let mut all = Vec::new();
    while let Some((f, len)) = parse(bytes).unwrap() {
        all.push((f.kind, f.id, f.head.to_vec(), f.blob.to_vec()));
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty());
    all
}

fn seen((kind, id, head, blob): &Owned) -> Frame<'_> {
    Frame { kind: *kind, flags: 0, id: *id, head, blob }
}

fn error(frame: &Owned) -> Code {
    match frame.0 {
        Kind::END => read_end(&seen(frame)).unwrap_err().code(),
        _ => read_reply::<()>(&seen(frame)).unwrap_err().code(),
    }
}

#[test]
fn describes_itself_before_it_is_started() {
    let hello = HostHello { protocol: 1, oldest: 1, host: "test".into(), features: Vec::new(), max_payload: DEFAULT_PAYLOAD };
    let said = Host::new().say(|out| put_json(out, Kind::HELLO, 0, &hello).unwrap());
    let hello: GuestHello = serde_json::from_slice(&said[0].2).unwrap();
    assert_eq!((hello.plugin.as_str(), hello.specs.len()), ("world", 3));

    let newer = HostHello { protocol: 9, oldest: 9, host: "test".into(), features: Vec::new(), max_payload: DEFAULT_PAYLOAD };
    let said = Host::new().say(|out| put_json(out, Kind::HELLO, 0, &newer).unwrap());
    assert_eq!((said[0].0, error(&said[0])), (Kind::REPLY, Code::LOAD_FAILED));
}

#[test]
fn answers_what_cannot_be_done_with_the_right_code() {
    let mut host = Host::new();
    let call = |out: &mut Vec<u8>, id, method, name| {
        put_call(out, Kind::CALL, id, method, name, &CxHead::default(), &ToolRequest::new(json!({ "sleep": null }))).unwrap();
    };
    let early = host.say(|out| call(out, 1, method::TOOL_CALL, "world"));
    assert_eq!(error(&early[0]), Code::NOT_READY);

    let mut host = Host::started();
    for (method, name, code) in [
        (method::TOOL_CALL, "nobody", Code::PLUGIN_NOT_FOUND),
        ("tool.divine", "world", Code::METHOD_NOT_FOUND),
        (method::RECONFIGURE, "", Code::INVALID_PARAMS),
        (method::PROVIDER_CHAT, "endless", Code::INVALID_PARAMS),
        (method::START, "", Code::INVALID_PARAMS),
    ] {
        let said = host.say(|out| call(out, 2, method, name));
        assert_eq!(error(&said[0]), code, "{method}");
    }
    let said = host.say(|out| put_call(out, Kind::OPEN, 3, method::VAD_OPEN, "nobody", &CxHead::default(), &VadOptions::new(1)).unwrap());
    assert_eq!((said[0].0, error(&said[0])), (Kind::END, Code::PLUGIN_NOT_FOUND));
    let said = host.say(|out| put_json(out, Kind::CALL, 4, &json!(17)).unwrap());
    assert_eq!(error(&said[0]), Code::INVALID_REQUEST);
    let deep = CxHead { depth: 200, ..CxHead::default() };
    let said = host.say(|out| put_call(out, Kind::CALL, 5, method::TOOL_CALL, "world", &deep, &ToolRequest::new(json!({}))).unwrap());
    assert_eq!(error(&said[0]), Code::RESOURCE_EXHAUSTED);
}

#[test]
fn a_second_start_and_a_number_in_use_are_refused() {
    let mut host = Host::started();
    let setup = Setup { config: json!({}), data_dir: None, cpu_budget: 1, models: Default::default(), runtimes: Default::default() };
    let said = host.say(|out| put_call(out, Kind::CALL, 2, method::START, "", &CxHead::default(), &setup).unwrap());
    assert_eq!(error(&said[0]), Code::ALREADY_LOADED);
    let waits = |out: &mut Vec<u8>| {
        put_call(out, Kind::CALL, 3, method::TOOL_CALL, "world", &CxHead::default(), &ToolRequest::new(json!({ "sleep": null }))).unwrap();
    };
    assert_eq!(host.say(waits)[0].0, Kind::HOST_CALL);
    assert_eq!(error(&host.say(waits)[0]), Code::INVALID_REQUEST);
    assert_eq!(host.0.active(), 1);
}

#[test]
fn an_abandoned_call_is_dropped_without_a_word_and_its_host_call_cancelled() {
    let mut host = Host::started();
    let said = host.say(|out| {
        put_call(out, Kind::CALL, 3, method::TOOL_CALL, "world", &CxHead::default(), &ToolRequest::new(json!({ "sleep": null }))).unwrap();
    });
    let waiting = said[0].1;
    let said = host.say(|out| put_plain(out, Kind::CANCEL, flag::ABANDONED, 3));
    assert_eq!(said.iter().map(|f| (f.0, f.1)).collect::<Vec<_>>(), [(Kind::CANCEL, waiting)]);
    assert_eq!(host.0.active(), 0);
}

#[test]
fn frames_for_nobody_and_of_unknown_kinds_are_passed_over() {
    let mut host = Host::started();
    let said = host.say(|out| {
        for kind in [
            Kind::CANCEL,
            Kind::RESET,
            Kind::CREDIT,
            Kind::DATA,
            Kind::FINISH,
            Kind::HOST_REPLY,
            Kind::EVENT,
            Kind::END,
            Kind(31),
            Kind(250),
        ] {
            put_plain(out, kind, 0xff, 99);
        }
    });
    assert!(said.is_empty(), "{said:?}");
    let alive = host.say(|out| put_call(out, Kind::CALL, 2, method::VITALS, "", &CxHead::default(), &Nothing {}).unwrap());
    assert_eq!(alive[0].0, Kind::REPLY);
}

#[test]
fn input_that_is_no_input_ends_its_stream_alone() {
    let mut host = Host::started();
    host.say(|out| {
        put_call(out, Kind::CALL, 2, method::TOOL_CALL, "world", &CxHead::default(), &ToolRequest::new(json!({ "open_gate": null })))
            .unwrap()
    });
    let said = host.say(|out| {
        put_call(out, Kind::OPEN, 3, method::VAD_OPEN, "gated", &CxHead::default(), &VadOptions::new(1)).unwrap();
        put_samples_frame(out, 3, &[0.0]).unwrap();
        let half = Frame { kind: Kind::DATA, flags: 0, id: 3, head: &[], blob: &[1, 2, 3] };
        bespoke_protocol::put_bytes_frame(out, half.id, half.blob).unwrap();
    });
    assert_eq!(said.iter().map(|f| f.0).collect::<Vec<_>>(), [Kind::EVENT, Kind::END]);
    assert!(read_body::<bespoke_plugin_api::VadEvent>(&seen(&said[0])).is_ok());
    assert_eq!(error(&said[1]), Code::INVALID_PARAMS);
    assert_eq!(host.0.active(), 0);
}

#[test]
fn a_host_without_credit_is_cut_off() {
    let mut host = Host::started();
    let frame = vec![0.0; 1 << 20];
    host.say(|out| put_call(out, Kind::OPEN, 3, method::VAD_OPEN, "gated", &CxHead::default(), &VadOptions::new(1)).unwrap());
    let said = host.say(|out| {
        for _ in 0..3 {
            put_samples_frame(out, 3, &frame).unwrap();
        }
    });
    assert_eq!(error(&said[0]), Code::RESOURCE_EXHAUSTED);
}

/// An answer with items, from a host that knows neither order nor credit.
#[test]
fn a_rude_answer_to_a_streamed_host_call_ends_it_alone() {
    let call = |host: &mut Host, id, args| {
        host.say(|out| put_call(out, Kind::CALL, id, method::TOOL_CALL, "world", &CxHead::default(), &ToolRequest::new(args)).unwrap())
    };
    let head = HttpHead { status: 200, headers: vec![] };
    let shown = |said: &[Owned]| said.iter().map(|f| (f.0, f.1)).collect::<Vec<_>>();

    // More than there was credit for: what had room is read, then the error, and the host is told to stop nothing.
    let mut host = Host::started();
    let asked = call(&mut host, 2, json!({ "begin": "https://example.test/" }))[0].1;
    let said = host.say(|out| {
        put_answer(out, Kind::HOST_REPLY, asked, &head).unwrap();
        for _ in 0..BODY_WINDOW * 2 {
            put_body(out, Kind::EVENT, asked, &Bytes::from_static(b"x")).unwrap();
        }
    });
    assert_eq!(shown(&said), [(Kind::REPLY, 2)]);
    let said = call(&mut host, 3, json!({ "rest": null }));
    let refused = said.iter().find(|f| f.0 == Kind::REPLY).unwrap();
    assert_eq!(error(refused), Code::RESOURCE_EXHAUSTED);

    // An item before the head.
    let asked = call(&mut host, 4, json!({ "begin": "https://example.test/" }))[0].1;
    let said = host.say(|out| put_body(out, Kind::EVENT, asked, &Bytes::from_static(b"x")).unwrap());
    assert_eq!(shown(&said), [(Kind::CANCEL, asked), (Kind::REPLY, 4)]);
    assert_eq!(error(&said[1]), Code::INVALID_REQUEST);

    // A head that is none: the host goes on, so it is told to stop. A refusal is its last word.
    let asked = call(&mut host, 5, json!({ "begin": "https://example.test/" }))[0].1;
    let said = host.say(|out| put_answer(out, Kind::HOST_REPLY, asked, &json!(7)).unwrap());
    assert_eq!(shown(&said), [(Kind::CANCEL, asked), (Kind::REPLY, 5)]);
    let asked = call(&mut host, 6, json!({ "begin": "https://example.test/" }))[0].1;
    let said = host.say(|out| put_reply::<HttpHead>(out, Kind::HOST_REPLY, asked, &Err(Error::cancelled())));
    assert_eq!((shown(&said), error(&said[0])), (vec![(Kind::REPLY, 6)], Code::CANCELLED));
    assert_eq!(host.0.active(), 0);
}

#[test]
fn bytes_may_be_cut_anywhere_and_garbage_ends_the_link() {
    let mut host = Host::started();
    let mut bytes = Vec::new();
    put_call(&mut bytes, Kind::CALL, 2, method::VITALS, "", &CxHead::default(), &Nothing {}).unwrap();
    let mut said = Vec::new();
    for byte in &bytes {
        said.extend(host.bytes(&[*byte]).unwrap());
    }
    assert_eq!(said.len(), 1);
    assert_eq!(host.bytes(b"Traceback (most recent call last):").unwrap_err().code(), Code::PARSE_ERROR);
    assert!(host.bytes(&bytes).is_err());
}

#[test]
fn a_ping_is_answered_while_tasks_are_busy_and_a_goodbye_is_kept_for_the_driver() {
    let mut host = Host::started();
    let busy = host.say(|out| {
        let wait = ToolRequest::new(json!({ "sleep": 1_000_000 }));
        put_call(out, Kind::CALL, 5, method::TOOL_CALL, "world", &CxHead::default(), &wait).unwrap();
        put_plain(out, Kind::PING, 0, 41);
    });
    assert!(busy.iter().any(|f| (f.0, f.1) == (Kind::PONG, 41)), "{busy:?}");
    assert!(!busy.iter().any(|f| f.0 == Kind::REPLY), "{busy:?}");
    assert_eq!(host.0.goodbye(), None);
    host.say(|out| put_json(out, Kind::GOODBYE, 0, &GoodbyeHead { reason: "enough".into() }).unwrap());
    assert_eq!(host.0.goodbye(), Some("enough"));
}

#[test]
fn a_method_that_the_plugin_does_not_know_is_not_found() {
    let args = InvokeArgs { method: "get_voices".into(), args: json!({}) };
    let said = Host::started().say(|out| put_call(out, Kind::CALL, 5, method::INVOKE, "", &CxHead::default(), &args).unwrap());
    let refused = read_reply::<serde_json::Value>(&seen(&said[0])).unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::METHOD_NOT_FOUND, "get_voices is not supported"));
}

/// What did not travel is told at both ends: here, to whom the guest would have answered, and to what waits inside it.
#[test]
fn what_could_not_be_delivered_is_told() {
    let error = || Error::new(Code::RESOURCE_EXHAUSTED, "too long");
    let mut host = Host::started();
    let told = |host: &mut Host, side, kind, id| {
        host.0.undelivered(side, kind, id, &error());
        host.bytes(&[]).unwrap()
    };
    let table = [
        (Side::Guest, Kind::REPLY, Some(Kind::REPLY)),
        (Side::Guest, Kind::EVENT, Some(Kind::END)),
        (Side::Host, Kind::CALL, Some(Kind::REPLY)),
        (Side::Host, Kind::OPEN, Some(Kind::END)),
        (Side::Host, Kind::DATA, Some(Kind::END)),
        (Side::Guest, Kind::LOG, None),
        (Side::Guest, Kind::HOST_CALL, None),
        (Side::Host, Kind::CREDIT, None),
    ];
    for (side, kind, answer) in table {
        let said = told(&mut host, side, kind, 77);
        assert_eq!(
            said.iter().map(|f| (f.0, f.1)).collect::<Vec<_>>(),
            answer.map(|k| (k, 77)).into_iter().collect::<Vec<_>>(),
            "{kind:?}"
        );
        if let Some(first) = said.first() {
            assert_eq!(self::error(first), Code::RESOURCE_EXHAUSTED);
        }
    }
    // A host call of the plugin: its future ends, so the tool answers.
    let asked = host.say(|out| {
        let load = ToolRequest::new(json!({ "secret": "key" }));
        put_call(out, Kind::CALL, 5, method::TOOL_CALL, "world", &CxHead::default(), &load).unwrap();
    });
    let (kind, id) = (asked[0].0, asked[0].1);
    assert_eq!(kind, Kind::HOST_CALL);
    let said = told(&mut host, Side::Guest, Kind::HOST_CALL, id);
    assert!(said.iter().any(|f| (f.0, f.1) == (Kind::REPLY, 5)), "{said:?}");
}
