//! Frames as lines, pinned; and what a reader makes of all that is none.

use bespoke_plugin_api::{
    Audio, AudioChunk, ChatDelta, Code, Error, Health, Level, Result, ToolOutput, ToolRequest, VadOptions, serde_json::json,
};
use bespoke_protocol::{
    line::{Incoming, LineReader, LineWriter, STRAY_LIMIT, Side, TooLong},
    *,
};
use expect_test::expect;

const CX: fn() -> CxHead = CxHead::default;

/// What a reader found, owned.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Frame(Vec<u8>),
    Stray(Vec<u8>),
    TooLong(TooLong),
}

impl From<Incoming<'_>> for Seen {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Frame(frame) => {
                let mut bytes = Vec::new();
                put_frame(&mut bytes, &frame);
                Seen::Frame(bytes)
            }
            Incoming::Stray(line) => Seen::Stray(line.to_vec()),
            Incoming::TooLong(t) => Seen::TooLong(t),
        }
    }
}

fn read(of: Side, limit: usize, pieces: &[&[u8]]) -> Vec<Seen> {
    let (mut seen, mut reader) = (Vec::new(), LineReader::new(of, limit));
    for piece in pieces {
        reader.feed(piece, |i| seen.push(i.into()));
    }
    reader.end(|i| seen.push(i.into()));
    seen
}

fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    Reassembler::new()
        .feed(bytes, |f| {
            let mut one = Vec::new();
            put_frame(&mut one, &f);
            all.push(one);
        })
        .unwrap();
    all
}

fn lines(of: Side, blobs: bool, bytes: &[u8]) -> Vec<u8> {
    let (writer, mut out) = (LineWriter::new(of).blobs(blobs), Vec::new());
    Reassembler::new().feed(bytes, |f| writer.put(&f, &mut out).unwrap()).unwrap();
    out
}

/// One frame of each kind that a side says.
fn all(of: Side) -> Vec<u8> {
    let mut out = Vec::new();
    let o = &mut out;
    let error = Error::new(Code::MODEL_NOT_FOUND, "no\nmodel").with_help("get it").retryable();
    match of {
        Side::Host => {
            let hello = HostHello { protocol: 1, oldest: 1, host: "h".into(), features: vec![line::BLOB.into()], max_payload: 1000 };
            put_json(o, Kind::HELLO, 0, &hello).unwrap();
            put_call(o, Kind::CALL, 1, method::TOOL_CALL, "clock", &CX(), &ToolRequest::new(json!({ "a": "é\n" }))).unwrap();
            put_call(o, Kind::CALL, 2, method::SHUTDOWN, "", &CX(), &Nothing {}).unwrap();
            put_plain(o, Kind::CANCEL, 0, 1);
            put_plain(o, Kind::CANCEL, flag::ABANDONED, 2);
            put_call(o, Kind::OPEN, 3, method::VAD_OPEN, "v", &CX(), &VadOptions::new(16_000)).unwrap();
            put_samples_frame(o, 3, &[0.5, -1.0]).unwrap();
            put_bytes_frame(o, 4_294_967_295, b"\n{\"jsonrpc\":\"2.0\",\n").unwrap();
            put_samples_frame(o, 3, &[]).unwrap();
            put_plain(o, Kind::FINISH, 0, 3);
            put_plain(o, Kind::RESET, 0, 3);
            put_credit(o, 0, 3, 128);
            put_answer(o, Kind::HOST_REPLY, 7, &Some(bytes::Bytes::from_static(b"stored"))).unwrap();
            put_reply::<()>(o, Kind::HOST_REPLY, 8, &Err(error.clone()));
            put_body(o, Kind::EVENT, 9, &bytes::Bytes::from_static(b"piece")).unwrap();
            put_end(o, 9, &Ok(()));
        }
        Side::Guest => {
            let hello = GuestHello {
                protocol: 1,
                oldest: 1,
                plugin: "p".into(),
                version: "0.1.0".into(),
                specs: Vec::new(),
                features: Vec::new(),
                max_payload: DEFAULT_PAYLOAD,
            };
            put_json(o, Kind::HELLO, 0, &hello).unwrap();
            put_reply::<()>(o, Kind::REPLY, 0, &Err(error.clone()));
            put_reply(o, Kind::REPLY, 1, &Ok(ToolOutput::text("hi")));
            put_reply(o, Kind::REPLY, 2, &Ok(()));
            put_reply::<()>(o, Kind::REPLY, 3, &Err(error.clone()));
            put_json(o, Kind::PROGRESS, 1, &json!({ "done": 0.5 })).unwrap();
            put_json(o, Kind::OUTPUT, 1, &OutputHead::Line("a".into())).unwrap();
            put_json(o, Kind::OUTPUT, 1, &OutputHead::Note("b".into())).unwrap();
            put_call(o, Kind::HOST_CALL, 1, method::HOST_STORE, "", &CX(), &StoreArgs { key: "k".into(), value: Some("v".into()) })
                .unwrap();
            put_plain(o, Kind::CANCEL, flag::ABANDONED, 1);
            put_credit(o, flag::HOST_CALL, 1, 8);
            put_json(o, Kind::LOG, 0, &LogHead { level: Level::Warn, line: "l".into() }).unwrap();
            put_json(o, Kind::VITALS, 0, &Vitals { health: Health::Degraded("slow".into()), ..Vitals::default() }).unwrap();
            put_body(o, Kind::EVENT, 4, &ChatDelta::text("t")).unwrap();
            put_body(o, Kind::EVENT, 5, &AudioChunk::new(Audio::new([0.25], 16_000))).unwrap();
            put_end(o, 4, &Err(error.clone()));
        }
    }
    put_plain(o, Kind::PING, 0, 6);
    put_plain(o, Kind::PONG, 0, 6);
    put_json(o, Kind::GOODBYE, 0, &GoodbyeHead { reason: "done".into() }).unwrap();
    out
}

#[test]
fn every_kind_has_its_line() {
    // Blobs are shown as dots, line ends in them too where they make no line.
    let plain = |c: char| if c == '\n' || !c.is_control() && c != char::REPLACEMENT_CHARACTER { c } else { '.' };
    let text = |of, blobs| String::from_utf8_lossy(&lines(of, blobs, &all(of))).chars().map(plain).collect::<String>();
    expect![[r#"
        {"jsonrpc":"2.0","id":0,"method":"hello","params":{"protocol":1,"oldest":1,"host":"h","features":["blob"],"max_payload":1000}}
        {"jsonrpc":"2.0","id":1,"method":"tool.call","params":{"name":"clock","args":{"args":{"a":"é\n"}}}}
        {"jsonrpc":"2.0","id":2,"method":"plugin.shutdown","params":{"args":{}}}
        {"jsonrpc":"2.0","method":"$/cancel","params":{"id":1}}
        {"jsonrpc":"2.0","method":"$/cancel","params":{"id":2,"abandoned":true}}
        {"jsonrpc":"2.0","method":"stream/open","params":{"id":3,"method":"vad.open","name":"v","args":{"sample_rate":16000}}}
        {"jsonrpc":"2.0","method":"stream/data","params":{"id":3},"blob64":"AAAAPwAAgL8="}
        {"jsonrpc":"2.0","method":"stream/data","params":{"id":4294967295},"blob64":"CnsianNvbnJwYyI6IjIuMCIsCg=="}
        {"jsonrpc":"2.0","method":"stream/data","params":{"id":3}}
        {"jsonrpc":"2.0","method":"stream/finish","params":{"id":3}}
        {"jsonrpc":"2.0","method":"stream/reset","params":{"id":3}}
        {"jsonrpc":"2.0","method":"stream/credit","params":{"id":3,"amount":128}}
        {"jsonrpc":"2.0","id":7,"result":[],"blob64":"c3RvcmVk"}
        {"jsonrpc":"2.0","id":8,"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no\nmodel","retryable":true,"help":"get it"}}
        {"jsonrpc":"2.0","method":"stream/event","params":{"id":9,"event":[]},"blob64":"cGllY2U="}
        {"jsonrpc":"2.0","method":"stream/end","params":{"id":9}}
        {"jsonrpc":"2.0","method":"$/ping","params":{"id":6}}
        {"jsonrpc":"2.0","method":"$/pong","params":{"id":6}}
        {"jsonrpc":"2.0","method":"$/goodbye","params":{"reason":"done"}}
    "#]]
    .assert_eq(&text(Side::Host, false));
    expect![[r#"
        {"jsonrpc":"2.0","id":0,"result":{"protocol":1,"oldest":1,"plugin":"p","version":"0.1.0","specs":[]}}
        {"jsonrpc":"2.0","id":0,"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no\nmodel","retryable":true,"help":"get it"}}
        {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hi"}]}}
        {"jsonrpc":"2.0","id":2,"result":null}
        {"jsonrpc":"2.0","id":3,"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no\nmodel","retryable":true,"help":"get it"}}
        {"jsonrpc":"2.0","method":"$/progress","params":{"id":1,"value":{"done":0.5}}}
        {"jsonrpc":"2.0","method":"$/output","params":{"id":1,"line":"a"}}
        {"jsonrpc":"2.0","method":"$/output","params":{"id":1,"note":"b"}}
        {"jsonrpc":"2.0","id":1,"method":"host.store","params":{"args":{"key":"k","value":[]}},"blob64":"dg=="}
        {"jsonrpc":"2.0","method":"$/cancel","params":{"id":1,"abandoned":true}}
        {"jsonrpc":"2.0","method":"stream/credit","params":{"id":1,"amount":8,"host_call":true}}
        {"jsonrpc":"2.0","method":"$/log","params":{"level":"warn","line":"l"}}
        {"jsonrpc":"2.0","method":"$/vitals","params":{"health":{"status":"degraded","reason":"slow"},"facts":{}}}
        {"jsonrpc":"2.0","method":"stream/event","params":{"id":4,"event":{"type":"text","text":"t"}}}
        {"jsonrpc":"2.0","method":"stream/event","params":{"id":5,"event":{"audio":{"samples":[],"rate":16000}}},"blob64":"AACAPg=="}
        {"jsonrpc":"2.0","method":"stream/end","params":{"id":4,"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no\nmodel","retryable":true,"help":"get it"}}}
        {"jsonrpc":"2.0","method":"$/ping","params":{"id":6}}
        {"jsonrpc":"2.0","method":"$/pong","params":{"id":6}}
        {"jsonrpc":"2.0","method":"$/goodbye","params":{"reason":"done"}}
    "#]].assert_eq(&text(Side::Guest, false));
    expect![[r#"
        {"jsonrpc":"2.0","id":0,"result":{"protocol":1,"oldest":1,"plugin":"p","version":"0.1.0","specs":[]}}
        {"jsonrpc":"2.0","id":0,"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no\nmodel","retryable":true,"help":"get it"}}
        {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hi"}]}}
        {"jsonrpc":"2.0","id":2,"result":null}
        {"jsonrpc":"2.0","id":3,"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no\nmodel","retryable":true,"help":"get it"}}
        {"jsonrpc":"2.0","method":"$/progress","params":{"id":1,"value":{"done":0.5}}}
        {"jsonrpc":"2.0","method":"$/output","params":{"id":1,"line":"a"}}
        {"jsonrpc":"2.0","method":"$/output","params":{"id":1,"note":"b"}}
        {"jsonrpc":"2.0","id":1,"method":"host.store","params":{"args":{"key":"k","value":[]}},"blob":1}
        v
        {"jsonrpc":"2.0","method":"$/cancel","params":{"id":1,"abandoned":true}}
        {"jsonrpc":"2.0","method":"stream/credit","params":{"id":1,"amount":8,"host_call":true}}
        {"jsonrpc":"2.0","method":"$/log","params":{"level":"warn","line":"l"}}
        {"jsonrpc":"2.0","method":"$/vitals","params":{"health":{"status":"degraded","reason":"slow"},"facts":{}}}
        {"jsonrpc":"2.0","method":"stream/event","params":{"id":4,"event":{"type":"text","text":"t"}}}
        {"jsonrpc":"2.0","method":"stream/event","params":{"id":5,"event":{"audio":{"samples":[],"rate":16000}}},"blob":4}
        ...>
        {"jsonrpc":"2.0","method":"stream/end","params":{"id":4,"error":{"code":-32052,"kind":"MODEL_NOT_FOUND","message":"no\nmodel","retryable":true,"help":"get it"}}}
        {"jsonrpc":"2.0","method":"$/ping","params":{"id":6}}
        {"jsonrpc":"2.0","method":"$/pong","params":{"id":6}}
        {"jsonrpc":"2.0","method":"$/goodbye","params":{"reason":"done"}}
    "#]].assert_eq(&text(Side::Guest, true));
}

#[test]
fn any_cut_gives_the_same_frames() {
    for of in [Side::Host, Side::Guest] {
        let frames = frames(&all(of)).into_iter().map(Seen::Frame).collect::<Vec<_>>();
        for blobs in [false, true] {
            let bytes = lines(of, blobs, &all(of));
            for cut in 0..=bytes.len() {
                assert_eq!(read(of, 1 << 20, &[&bytes[..cut], &bytes[cut..]]), frames, "{of:?} {blobs} {cut}");
            }
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(of, 1 << 20, &bytewise), frames);
            // Carriage returns and empty lines of a foreign writer.
            if !blobs {
                let odd = String::from_utf8(bytes).unwrap().replace('\n', "\r\n\r\n  ");
                assert_eq!(read(of, 1 << 20, &[odd.as_bytes()]), frames);
            }
        }
    }
}

fn guest(line: &str) -> Vec<Seen> {
    read(Side::Guest, 1 << 16, &[line.as_bytes()])
}

fn one(write: impl FnOnce(&mut Vec<u8>)) -> Seen {
    let mut out = Vec::new();
    write(&mut out);
    Seen::Frame(out)
}

#[test]
fn what_is_no_message_is_stray() {
    let bomb = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}", "[".repeat(50_000));
    let table = [
        "hello world",
        "{",
        "[]",
        "42",
        r#"{"jsonrpc":"2.0","id":1,"resu"#,
        r#"{"level":"info","message":"a log that went astray"}"#,
        r#"{"jsonrpc":"1.0","id":1,"result":1}"#,
        r#"{"id":1,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":"one","result":1}"#,
        r#"{"jsonrpc":"2.0","id":-1,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":4294967296,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":99999999999999999999999999999,"result":1}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":0,"method":"hello"}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"result":1}"#,
        r#"{"jsonrpc":"2.0","method":"stream/event","params":{"id":"x","event":1}}"#,
        r#"{"jsonrpc":"2.0","method":"stream/event","params":[1]}"#,
        r#"{"jsonrpc":"2.0","method":"$/output","params":{"id":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,"blob":-5}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":1,"blob":1.5}"#,
        &bomb,
    ];
    for line in table {
        let shown = line.as_bytes()[..line.len().min(STRAY_LIMIT)].to_vec();
        let pong = one(|o| put_plain(o, Kind::PONG, 0, 9));
        let next = r#"{"jsonrpc":"2.0","method":"$/pong","params":{"id":9}}"#;
        assert_eq!(guest(&format!("{line}\n{next}\n")), [Seen::Stray(shown.clone()), pong], "{line}");
        // Without a line end, when the pipe breaks off.
        assert_eq!(guest(line), [Seen::Stray(shown)], "{line}");
    }
    // What was announced behind it is nothing either, and is not read as lines.
    let line = r#"{"jsonrpc":"2.0","id":"one","result":[],"blob":5}"#;
    assert_eq!(guest(&format!("{line}\na\nb{{\n{{\n")), [Seen::Stray(line.into()), Seen::Stray(b"{".to_vec())]);
    let latin1 = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xe9\"}";
    assert_eq!(read(Side::Guest, 999, &[latin1, b"\n"]), [Seen::Stray(latin1.to_vec())]);
}

#[test]
fn what_a_newer_peer_says_is_passed_over() {
    let table = [
        r#"{"jsonrpc":"2.0","method":"$/dream","params":{"id":1}}"#,
        r#"{"jsonrpc":"2.0","method":"tool.call","params":{"args":{}}}"#,
        "{\"jsonrpc\":\"2.0\",\"method\":\"$/dream\",\"blob\":3}\nabc",
        "",
        "  ",
    ];
    for line in table {
        assert_eq!(guest(&format!("{line}\n")), [], "{line}");
    }
}

#[test]
fn foreign_writers_may_write_as_they_like() {
    let reply = |value: &serde_json::Value| one(|o| put_answer(o, Kind::REPLY, 3, value).unwrap());
    let table = [
        (r#" { "result" : {"b":1} , "id" : 3 , "jsonrpc" : "2.0" , "colour" : "blue" } "#, reply(&json!({ "b": 1 }))),
        (r#"{"jsonrpc":"2.0","id":3,"result":null}"#, reply(&json!(null))),
        (r#"{"jsonrpc":"2.0","id":3,"result":1,"error":null}"#, reply(&json!(1))),
        (r#"{"jsonrpc":"2.0","id":3,"result":1,"blob":0}"#, reply(&json!(1))),
        (r#"{"jsonrpc":"2.0","method":"$\/pong","params":{"id":3}}"#, one(|o| put_plain(o, Kind::PONG, 0, 3))),
        (r#"{"jsonrpc":"2.0","method":"stream/end","params":{"id":3,"error":null}}"#, one(|o| put_end(o, 3, &Ok(())))),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"host.load","params":{"args":"k"}}"#,
            one(|o| put_call(o, Kind::HOST_CALL, 3, method::HOST_LOAD, "", &CX(), &"k".to_owned()).unwrap()),
        ),
    ];
    for (line, frame) in table {
        assert_eq!(guest(&format!("{line}\n")), [frame], "{line}");
    }
    // The blob is wherever the member is, and whatever stands in it; a missing line end costs nothing.
    let bytes = b"{\"blob\":4,\"jsonrpc\":\"2.0\",\"id\":3,\"result\":[]}\n\n{\n\n{\"jsonrpc\":\"2.0\",\"method\":\"$/pong\",\"params\":{\"id\":9}}\n";
    let pong = one(|o| put_plain(o, Kind::PONG, 0, 9));
    let blob = one(|o| put_answer(o, Kind::REPLY, 3, &bytes::Bytes::from_static(b"\n{\n\n")).unwrap());
    assert_eq!(read(Side::Guest, 999, &[bytes]), [blob, pong]);
    // Requests without arguments, or with positions: for the contract there are none, and it says so to whoever asked.
    for params in ["", r#","params":{}"#, r#","params":[1,2]"#] {
        let seen = read(Side::Host, 999, &[format!("{{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"tool.call\"{params}}}\n").as_bytes()]);
        let [Seen::Frame(bytes)] = &seen[..] else { panic!("{seen:?}") };
        let frame = parse(bytes).unwrap().unwrap().0;
        assert_eq!((frame.kind, frame.id, Route::read(&frame).unwrap().method.as_str()), (Kind::CALL, 3, "tool.call"));
        assert_eq!(read_args::<ToolRequest>(&frame).unwrap_err().code(), Code::INVALID_PARAMS);
    }
    // Errors as other programs make them.
    for (error, code) in [(r#"{"code":4711,"message":"odd","kind":"ODD"}"#, 4711), (r#"{"code":"x"}"#, -32600), ("\"no\"", -32600)] {
        let seen = guest(&format!("{{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{error}}}\n"));
        let [Seen::Frame(bytes)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!(read_reply::<()>(&parse(bytes).unwrap().unwrap().0).unwrap_err().code().value(), code);
    }
}

/// C's `printf` and Python's `print(…, end="")` leave half a line before the next message.
#[test]
fn a_print_without_a_line_end_costs_no_message() {
    let reply = one(|o| put_answer(o, Kind::REPLY, 3, &json!(1)).unwrap());
    for print in ["loading 10%... ", "{", "{\"jsonrpc\":\"2.0\",\"id\":3,\"resu"] {
        let seen = guest(&format!("{print}{{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":1}}\n"));
        assert_eq!(seen, [Seen::Stray(print.trim().into()), reply.clone()]);
        let line = format!("{print}{{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":[],\"blob\":2}}\nhi\n");
        let blob = one(|o| put_answer(o, Kind::REPLY, 3, &bytes::Bytes::from_static(b"hi")).unwrap());
        for cut in 0..line.len() {
            let seen = read(Side::Guest, 999, &[&line.as_bytes()[..cut], &line.as_bytes()[cut..]]);
            assert_eq!(seen, [Seen::Stray(print.trim().into()), blob.clone()]);
        }
    }
}

/// What is too long is skipped, its owner is known, and what follows is read; whatever the cuts.
#[test]
fn what_is_too_long_is_named_and_skipped() {
    let long = "x".repeat(3000);
    let nested = format!("{{\"id\":7,\"blob\":5,\"method\":\"no\",\"text\":\"{{\\\"id\\\":8,{long}\"}}");
    let table = [
        (Side::Guest, format!(r#"{{"jsonrpc":"2.0","id":3,"result":{nested}}}"#), "", Some((Kind::REPLY, 3))),
        (Side::Guest, format!(r#"{{"jsonrpc":"2.0","result":{nested},"id":3}}"#), "", Some((Kind::REPLY, 3))),
        (Side::Guest, format!(r#"{{"jsonrpc":"2.0","id":0,"result":{nested}}}"#), "", Some((Kind::HELLO, 0))),
        (Side::Host, format!(r#"{{"jsonrpc":"2.0","id":3,"result":{nested},"blob":6}}"#), "a\n{}\nb", Some((Kind::HOST_REPLY, 3))),
        (Side::Host, format!(r#"{{"jsonrpc":"2.0","id":3,"method":"tool.call","params":{nested}}}"#), "", Some((Kind::CALL, 3))),
        (Side::Guest, format!(r#"{{"jsonrpc":"2.0","id":3,"method":"host.call","params":{nested}}}"#), "", Some((Kind::HOST_CALL, 3))),
        (
            Side::Guest,
            format!(r#"{{"jsonrpc":"2.0","method":"stream/event","params":{{"event":{nested},"id":3}}}}"#),
            "",
            Some((Kind::EVENT, 3)),
        ),
        (
            Side::Host,
            format!(r#"{{"jsonrpc":"2.0","method":"stream/open","params":{{"id":3,"args":{nested}}}}}"#),
            "",
            Some((Kind::OPEN, 3)),
        ),
        (Side::Host, r#"{"jsonrpc":"2.0","method":"stream/data","params":{"id":3},"blob":3000}"#.into(), &long, Some((Kind::DATA, 3))),
        (Side::Host, r#"{"jsonrpc":"2.0","blob":3000,"method":"stream/data","params":{"id":3}}"#.into(), &long, Some((Kind::DATA, 3))),
        (Side::Guest, r#"{"jsonrpc":"2.0","id":3,"result":[],"blob":3000}"#.into(), &long, Some((Kind::REPLY, 3))),
        (Side::Guest, format!("garbage {long}"), "", None),
        (Side::Guest, format!("[{nested},"), "", None),
        (Side::Guest, "[".repeat(3000), "", None),
    ];
    for (of, line, blob, expected) in table {
        let mut bytes = line.clone().into_bytes();
        bytes.push(b'\n');
        if !blob.is_empty() {
            bytes.extend_from_slice(blob.as_bytes());
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"$/pong\",\"params\":{\"id\":9}}\n");
        for cut in (0..bytes.len()).step_by(7) {
            let seen = read(of, 2048, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(seen.len(), 2, "{line} {seen:?}");
            assert_eq!(seen[1], one(|o| put_plain(o, Kind::PONG, 0, 9)));
            match (&seen[0], expected) {
                (Seen::TooLong(t), Some((kind, id))) => {
                    assert_eq!((t.kind, t.id, t.bytes, t.limit), (Some(kind), Some(id), line.len() + blob.len(), 2048));
                    assert_eq!(t.error().code(), Code::RESOURCE_EXHAUSTED);
                    assert!(t.error().message().contains("2048") && t.error().help().unwrap().contains("max_payload"));
                }
                (Seen::Stray(shown), None) => assert_eq!(shown[..], line.as_bytes()[..STRAY_LIMIT]),
                (seen, _) => panic!("{line} {seen:?}"),
            }
        }
    }
}

/// 100 MB in one line, as a fault of a plugin: the reader holds its limit and no more.
#[test]
fn an_endless_line_takes_no_memory() {
    let mut reader = LineReader::new(Side::Guest, 1 << 16);
    let mut seen = Vec::new();
    let piece = vec![b'a'; 1 << 16];
    reader.feed(b"{\"jsonrpc\":\"2.0\",\"id\":12,\"result\":\"", |i| seen.push(Seen::from(i)));
    for _ in 0..1600 {
        reader.feed(&piece, |i| seen.push(Seen::from(i)));
    }
    assert!(seen.is_empty());
    reader.feed(b"\"}\n", |i| seen.push(Seen::from(i)));
    let [Seen::TooLong(t)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((t.kind, t.id, t.bytes), (Some(Kind::REPLY), Some(12), 104_857_600 + 37));
}

/// The end of the pipe within a message is no message, and no wait.
#[test]
fn a_pipe_that_breaks_off() {
    assert!(matches!(&guest("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":[],\"blob\":10}\nabc")[..], [Seen::Stray(_)]));
    let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":\"{}", "x".repeat(1 << 17));
    assert!(matches!(&guest(&long)[..], [Seen::TooLong(TooLong { id: Some(3), .. })]));
    assert_eq!(guest("{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":1}\n \r\n").len(), 1);
}

#[test]
fn a_writer_refuses_what_is_too_long() {
    let mut frame = Vec::new();
    put_call(&mut frame, Kind::CALL, 1, method::TOOL_CALL, "t", &CX(), &ToolRequest::new(json!({ "a": "x".repeat(900) }))).unwrap();
    let (frame, _) = parse(&frame).unwrap().unwrap();
    let mut whole = Vec::new();
    LineWriter::new(Side::Host).put(&frame, &mut whole).unwrap();
    let len = whole.len() - 1;
    let mut out = b"before".to_vec();
    LineWriter::new(Side::Host).limit(len).put(&frame, &mut out).unwrap();
    assert_eq!(read(Side::Host, len, &[&out[6..]]).len(), 1);
    out.truncate(6);
    for limit in [len - 1, len - 100, 10] {
        let e = LineWriter::new(Side::Host).limit(limit).put(&frame, &mut out).unwrap_err();
        assert_eq!(e.code(), Code::RESOURCE_EXHAUSTED);
        assert!(e.message().contains(&limit.to_string()) && e.help().is_some(), "{e}");
        assert_eq!(out, b"before");
    }
    // A blob counts with its line, raw or not.
    let mut data = Vec::new();
    put_bytes_frame(&mut data, 1, &[7; 600]).unwrap();
    let (data, _) = parse(&data).unwrap().unwrap();
    for (blobs, line_ends) in [(true, 2), (false, 1)] {
        let mut bytes = Vec::new();
        LineWriter::new(Side::Host).blobs(blobs).put(&data, &mut bytes).unwrap();
        let len = bytes.len() - line_ends;
        let put = |limit| LineWriter::new(Side::Host).blobs(blobs).limit(limit).put(&data, &mut Vec::new());
        assert_eq!((put(len).is_ok(), put(len - 1).is_ok()), (true, false), "{blobs}");
        assert!(matches!(&read(Side::Host, len, &[&bytes])[..], [Seen::Frame(_)]));
        assert!(matches!(&read(Side::Host, len - 1, &[&bytes])[..], [Seen::TooLong(t)] if t.bytes == len));
    }
    // A head that is not ours does not become a line that nobody can read.
    let odd = Frame { kind: Kind::REPLY, flags: 0, id: 1, head: b"{}", blob: &[] };
    assert_eq!(LineWriter::new(Side::Guest).put(&odd, &mut out).unwrap_err().code(), Code::INTERNAL_ERROR);
}

/// A writer begins with the least that anybody can read, and takes the rest from the peer's hello.
#[test]
fn a_writer_meets_its_peer() {
    let mut chunk = Vec::new();
    put_bytes_frame(&mut chunk, 1, b"hi").unwrap();
    let chunk = parse(&chunk).unwrap().unwrap().0;
    let mut writer = LineWriter::new(Side::Guest);
    let written = |writer: &LineWriter| -> Result<String> {
        let mut out = Vec::new();
        writer.put(&chunk, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    };
    assert!(written(&writer).unwrap().contains("blob64"));
    let hello = |head: &'static str| Frame { kind: Kind::HELLO, flags: 0, id: 0, head: head.as_bytes(), blob: &[] };
    writer.meet(&hello(r#"{"protocol":1,"oldest":1,"features":["smell","blob"],"max_payload":85}"#));
    assert!(written(&writer).unwrap().ends_with("\"blob\":2}\nhi\n"));
    writer.meet(&hello(r#"{"protocol":1,"oldest":1,"features":["blob"],"max_payload":60}"#));
    assert_eq!(written(&writer).unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    writer.meet(&hello(r#"{"protocol":1,"oldest":1}"#));
    assert!(written(&writer).unwrap().contains("blob64"));
}

/// No bytes make a reader fall over: pieces of real messages, broken, shuffled and mixed with noise.
#[test]
fn noise_never_panics_and_never_hides_what_follows() {
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let corpus = [
        lines(Side::Host, true, &all(Side::Host)),
        lines(Side::Guest, false, &all(Side::Guest)),
        lines(Side::Guest, true, &all(Side::Guest)),
    ];
    let mut checked = 0;
    for round in 0..6000 {
        let of = if round % 2 == 0 { Side::Host } else { Side::Guest };
        let mut bytes = Vec::new();
        for _ in 0..random(6) {
            let from = &corpus[random(corpus.len())];
            let (a, b) = (random(from.len()), random(from.len()));
            bytes.extend_from_slice(&from[a.min(b)..a.max(b)]);
            match random(4) {
                0 => bytes.push(b'\n'),
                1 => bytes.extend((0..random(9)).map(|_| random(256) as u8)),
                _ => {}
            }
        }
        for _ in 0..random(8) {
            if !bytes.is_empty() {
                let at = random(bytes.len());
                bytes[at] = [b'"', b'{', b'}', b'\n', b'\\', b'9', 0xff][random(7)];
            }
        }
        // More line ends than any blob here has bytes: whatever was announced is over.
        bytes.extend(std::iter::repeat_n(b'\n', 400));
        let mut reader = LineReader::new(of, 300);
        let mut last = None;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random(rest.len()));
            reader.feed(piece, |_| ());
            rest = after;
        }
        reader.feed(b"{\"jsonrpc\":\"2.0\",\"method\":\"$/ping\",\"params\":{\"id\":77}}\n", |i| last = Some(Seen::from(i)));
        // A blob that was announced longer than the line ends is still being waited for, or skipped.
        let text = String::from_utf8_lossy(&bytes);
        let longest = text.split("\"blob\"").skip(1).map(|rest| {
            let digits: String = rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap_or(0)
        });
        if longest.max().unwrap_or(0) < 400 {
            assert_eq!(last, Some(one(|o| put_plain(o, Kind::PING, 0, 77))), "{text:?}");
            checked += 1;
        }
        reader.end(|_| ());
    }
    assert!(checked > 4000, "{checked}");
}
