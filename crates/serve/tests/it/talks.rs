//! What people say and are told: vetoes, errors, commands, voice notes, conversations.

use std::sync::{Arc, Mutex, atomic::Ordering};

use bespoke_plugin_api::{
    Attachment, CallCx, ChannelSpec, Code, Command, CommandRequest, CommandSpec, Contribution, Error, Hook, HookEvent, HookReply, HookSpec,
    Inbound, Output, Result, Stt, SttRequest, SttSpec, Transcript, async_trait, serde_json::json,
};
use futures_util::stream;

use crate::kit::{Gate, Served, World, agent, config, echo, hooks, host_of, mind, place, plug};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_a_message_says_why_to_whoever_wrote_it() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let on = [Hook::AfterMessageReceive, Hook::BeforeAgentRun, Hook::AfterAgentRun, Hook::BeforeMessageSend];
    let specs = on.map(|hook| HookSpec::new(hook.name(), hook));
    let guard = hooks("guard", specs.to_vec(), |event| {
        let text = match &event {
            HookEvent::AfterMessageReceive { message, .. } => message.text.clone(),
            HookEvent::BeforeAgentRun { input, .. } => input.clone(),
            HookEvent::AfterAgentRun { output, .. } => output.clone(),
            HookEvent::BeforeMessageSend { message, .. } => message.text.clone(),
            _ => return Ok(HookReply::Continue),
        };
        Ok(if text.contains(event.hook().name()) { HookReply::veto("not here") } else { HookReply::Continue })
    });
    let served = Served::over(&path, config(json!({})), vec![world.plug(), echo(), guard]).await;
    let written = ["after_message_receive", "before_agent_run", "fine", "say before_message_send"];
    for (n, text) in written.iter().enumerate() {
        world.write("a", &format!("{n}"), text);
    }
    let told = [
        "Your message was stopped by guard: not here",
        "Your message was stopped by guard: not here",
        "re fine",
        "The answer was stopped by guard: not here",
    ];
    world.until_read("a", &told).await;
    world.write("b", "1", "say after_agent_run");
    world.until_read("b", &["Your message was stopped by guard: not here"]).await;
    world.until(|_| served.status().outbox == 0).await;
    // What was said was said; it only did not leave.
    assert_eq!(served.said("wire", "a"), ["fine", "re fine", "say before_message_send", "re say before_message_send"]);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_guard_that_cannot_be_asked_people_read_that_and_owners_why() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let on = [Hook::AfterMessageReceive, Hook::BeforeAgentRun, Hook::BeforeMessageSend];
    let specs = on.map(|hook| HookSpec::new(hook.name(), hook).fail_closed());
    let guard = hooks("guard", specs.to_vec(), |event| {
        let text = match &event {
            HookEvent::AfterMessageReceive { message, .. } => message.text.clone(),
            HookEvent::BeforeAgentRun { input, .. } => input.clone(),
            HookEvent::BeforeMessageSend { message, .. } => message.text.clone(),
            _ => return Ok(HookReply::Continue),
        };
        if text.contains(event.hook().name()) { Err(Error::internal("the socket of the guard is gone")) } else { Ok(HookReply::Continue) }
    });
    let owners = config(json!({ "owners": ["wire:owner"] }));
    let served = Served::over(&path, owners, vec![world.plug(), echo(), guard]).await;
    for (chat, who) in [("a", "stranger"), ("b", "owner")] {
        for (n, text) in ["after_message_receive", "before_agent_run", "say before_message_send"].iter().enumerate() {
            world.write_message(Inbound::new(chat, who, format!("{chat}{n}"), *text));
        }
    }
    let plain = "What looks after messages here does not answer. Please try again later.";
    let yours = format!("Your message was stopped. {plain}");
    world.until_read("a", &[&yours, &yours, &format!("The answer was stopped. {plain}")]).await;
    world.until(|world| world.sent().iter().filter(|sent| sent.chat == "b").count() == 3).await;
    for sent in world.sent().iter().filter(|sent| sent.chat == "b") {
        assert!(sent.text.contains("guard") && sent.text.contains("the socket of the guard is gone"), "{}", sent.text);
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_becomes_one_short_message_and_the_conversation_goes_on() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let moody = mind(|asked| match asked.as_str() {
        "fail" => Box::pin(stream::iter([Err(Error::new(Code::LLM_RATE_LIMITED, format!("too {} much", "x".repeat(400))))])),
        "panic" => panic!("on purpose"),
        "silence" => crate::kit::says("  "),
        _ => crate::kit::says(&format!("re {asked}")),
    });
    let served = Served::over(&path, config(json!({})), vec![world.plug(), moody]).await;
    for (n, text) in ["fail", "panic", "silence", "fine", ""].iter().enumerate() {
        world.write("a", &format!("{n}"), text);
    }
    world.until(|world| world.sent().len() >= 4).await;
    world.until(|_| served.status().waiting == 0 && served.status().outbox == 0).await;
    let read = world.read("a");
    let busy = "I could not answer. I am asked too much right now. Please try again in a while.";
    assert_eq!(read, [busy, "I could not answer. Please try again later.", "The model gave no answer.", "re fine"]);
    assert_eq!(served.said("wire", "a"), ["silence", "  ", "fine", "re fine"]);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_takes_its_time_to_a_limit() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let never = mind(|_| crate::kit::says_after("well", std::future::pending()));
    let served = Served::over(&path, config(json!({ "turn_timeout_ms": 30 })), vec![world.plug(), never]).await;
    world.write("a", "1", "hello");
    world.until_read("a", &["I could not answer in time."]).await;
    served.end().await;
}

struct Weather;

#[async_trait]
impl Command for Weather {
    async fn run(&self, _: &CallCx, request: CommandRequest, out: Output) -> Result<i32> {
        if request.args == ["storm"] {
            return Err(Error::internal("the mast is broken"));
        }
        out.line(&format!("{} asks for {}", request.user, request.args.join("|")));
        Ok(i32::from(request.args.is_empty()))
    }
}

fn commands() -> bespoke_host::Candidate {
    plug("meteo", "", || {
        vec![
            Contribution::Command(CommandSpec::new("rain-check", "Says whether it rains.").require_auth(false), Arc::new(Weather)),
            Contribution::Command(CommandSpec::new("seed-clouds", "Makes it rain."), Arc::new(Weather)),
        ]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_and_those_for_owners_only_for_owners() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let served = Served::over(&path, config(json!({ "owners": ["wire:bob"] })), vec![world.plug(), echo(), commands()]).await;
    let written = [
        ("ann", "/help"),
        ("ann", "/rain_check@bot Paris \"New York\""),
        ("ann", "/rain-check"),
        ("ann", "/rain-check storm"),
        ("ann", "/seed-clouds now"),
        ("bob", "/seed-clouds now"),
        ("ann", "/nothing"),
        ("ann", "/usr/bin"),
    ];
    for (n, (who, text)) in written.iter().enumerate() {
        world.write_message(Inbound::new("a", *who, format!("{n}"), *text));
    }
    let told = [
        "/new begins a new conversation\n/help shows this\n/rain-check: Says whether it rains.",
        "wire:ann asks for Paris|New York",
        "wire:ann asks for \n/rain-check ended with the code 1.",
        "/rain-check failed.",
        "/seed-clouds is for people who have a login here.",
        "wire:bob asks for now",
        "There is no command /nothing. /help shows those that there are.",
        "re /usr/bin",
    ];
    world.until_read("a", &told).await;
    assert_eq!(served.said("wire", "a"), ["/usr/bin", "re /usr/bin"], "commands are no part of a conversation");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_on_until_it_is_renewed() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = told.clone();
    let specs = [Hook::OnSessionCreate, Hook::OnSessionEnd, Hook::OnGatewayStart, Hook::OnGatewayShutdown];
    let specs: Vec<_> = specs.into_iter().map(|hook| HookSpec::new(hook.name(), hook).observer()).collect();
    let notes = move || {
        let noted = noted.clone();
        hooks("notes", specs.clone(), move |event| {
            noted.lock().unwrap().push(event.hook().name().to_owned());
            Ok(HookReply::Continue)
        })
    };
    let served = Served::over(&path, config(json!({})), vec![world.plug(), echo(), notes()]).await;
    for (n, text) in ["/new", "one", "two"].iter().enumerate() {
        world.write("a", &format!("{n}"), text);
    }
    world.until_read("a", &["A new conversation begins; nothing was said in this one yet.", "re one", "re two"]).await;
    served.end().await;
    let served = Served::over(&path, config(json!({})), vec![world.plug(), echo(), notes()]).await;
    for (n, text) in ["three", "/new", "four"].iter().enumerate() {
        world.write("a", &format!("again {n}"), text);
    }
    world.until(|world| world.sent().len() == 6).await;
    assert_eq!(world.read("a")[3..], ["re three", "A new conversation begins.", "re four"]);
    let sessions = served.state.list(&bespoke_state::Filter::default().channel("wire").chat("a"), 9, 0).unwrap();
    assert_eq!(sessions.iter().map(|s| (s.length, s.provider.as_deref())).collect::<Vec<_>>(), [(2, Some("mind")), (6, Some("mind"))]);
    served.end().await;
    let expected = [
        "on_gateway_start",
        "on_session_create",
        "on_gateway_shutdown",
        "on_gateway_start",
        "on_session_end",
        "on_session_create",
        "on_gateway_shutdown",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_who_continues_the_conversation_or_deletes_it_loses_no_answer() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let state: Arc<Mutex<Option<bespoke_state::State>>> = Arc::default();
    let meddler = state.clone();
    let asked_for: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = asked_for.clone();
    // Between the question and the answer, once each.
    let meddled = mind(move |asked| {
        let first = !heard.lock().unwrap().contains(&asked);
        heard.lock().unwrap().push(asked.clone());
        let state = meddler.lock().unwrap().clone().unwrap();
        if let (true, Some(session)) = (first, state.latest("wire", Some("a")).unwrap()) {
            if asked == "continued" {
                let journal = state.journal(&session.id).unwrap();
                journal.append(&session.id, session.length as usize, &bespoke_plugin_api::Message::user("from elsewhere")).unwrap();
            }
            if asked == "deleted" {
                state.delete(&[session.id]).unwrap();
            }
        }
        crate::kit::says(&format!("re {asked}"))
    });
    let served = Served::over(&path, config(json!({})), vec![world.plug(), meddled]).await;
    *state.lock().unwrap() = Some(served.state.clone());
    for (n, text) in ["one", "continued", "deleted"].iter().enumerate() {
        world.write("a", &format!("{n}"), text);
    }
    world.until_read("a", &["re one", "re continued", "re deleted"]).await;
    assert_eq!(*asked_for.lock().unwrap(), ["one", "continued", "continued", "deleted", "deleted"]);
    assert_eq!(served.said("wire", "a"), ["deleted", "re deleted"]);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_note_without_ears_is_told_and_files_are_mentioned() {
    let (_folder, path) = place();
    let world = World::new(ChannelSpec::new("wire").idempotent(true).attachments(true));
    let served = Served::over(&path, config(json!({})), vec![world.plug(), echo()]).await;
    let note = Attachment::voice("audio/ogg", vec![1, 2, 3]);
    world.write_message(Inbound::new("a", "ann", "1", "").attachments(vec![note.clone()]));
    world.write_message(Inbound::new("a", "ann", "2", "and this").attachments(vec![note]));
    let file = Attachment::new("image/png", vec![0; 7]).name("cat.png".to_owned());
    world.write_message(Inbound::new("a", "ann", "3", "look").attachments(vec![file]));
    let told = [
        "I cannot hear voice messages here. Please write to me.",
        "re and this",
        "re look\n[A file came with this message: cat.png, image/png, 7 bytes]",
    ];
    world.until_read("a", &told).await;
    served.end().await;
}

/// A second of noise, then half a second of silence, as WAV.
fn recording() -> Vec<u8> {
    let samples: Vec<i16> = (0..24_000)
        .map(|n| {
            if n >= 16_000 {
                0
            } else if n % 40 < 20 {
                30_000
            } else {
                -30_000
            }
        })
        .collect();
    let bytes = 2 * samples.len() as u32;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(16_000_u32.to_le_bytes());
    wav.extend(32_000_u32.to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(bytes.to_le_bytes());
    wav.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    wav
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_note_is_heard_and_answered_aloud_where_files_are_taken() {
    for attachments in [true, false] {
        let (_folder, path) = place();
        let world = World::new(ChannelSpec::new("wire").idempotent(true).attachments(attachments));
        let tables = "[plugins.wire]\n[plugins.fake]\ntranscripts = ['what is the time', '']\n";
        let host = host_of(tables, vec![world.plug(), echo(), (&bespoke_fake::BESPOKE_PLUGIN).into()]).await;
        let engines = bespoke_plugin_api::serde_json::from_value(json!({ "vad": ["fake"], "stt": ["fake"], "tts": ["fake"] })).unwrap();
        let notes = bespoke_voice::Notes::new(bespoke_voice::Voice::new(agent(&host), engines).unwrap());
        let served = Served::on(&path, config(json!({})), host, Some(notes)).await;
        for (id, data) in [("1", recording()), ("2", b"no sound".to_vec()), ("3", recording())] {
            world.write_message(Inbound::new("a", "ann", id, "").attachments(vec![Attachment::voice("audio/wav", data)]));
        }
        world.until(|world| world.sent().len() == 3).await;
        let read = world.read("a");
        assert_eq!(read[0], "re what is the time");
        assert_eq!(read[1], "I could not hear your voice message. Please write to me.");
        assert_eq!(read[2], "I heard nothing in your voice message.");
        let files: Vec<_> = world.sent().iter().map(|sent| sent.files).collect();
        assert_eq!(files, if attachments { [1, 0, 0] } else { [0, 0, 0] });
        served.end().await;
    }
}

/// Ears that hear when they are let.
struct Slow(Gate);

#[async_trait]
impl Stt for Slow {
    async fn transcribe(&self, _: &CallCx, _: SttRequest) -> Result<Transcript> {
        self.0.opened().await;
        Ok(Transcript::new("what is the time"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_sees_that_somebody_is_at_it() {
    let (_folder, path) = place();
    let world = World::new(ChannelSpec::new("wire").idempotent(true).typing(true));
    let gate = Gate::default();
    let slow = gate.clone();
    let ears = plug("ears", "", move || vec![Contribution::Stt(SttSpec::new("ears"), Arc::new(Slow(slow.clone())))]);
    let host = host_of(
        "[plugins.wire]\n[plugins.ears]\n[plugins.fake]\n",
        vec![world.plug(), echo(), ears, (&bespoke_fake::BESPOKE_PLUGIN).into()],
    )
    .await;
    let engines = bespoke_plugin_api::serde_json::from_value(json!({ "vad": ["fake"], "stt": ["ears"], "tts": ["fake"] })).unwrap();
    let notes = bespoke_voice::Notes::new(bespoke_voice::Voice::new(agent(&host), engines).unwrap());
    let served = Served::on(&path, config(json!({})), host, Some(notes)).await;
    world.write_message(Inbound::new("a", "ann", "1", "").attachments(vec![Attachment::voice("audio/wav", recording())]));
    // Nothing is heard yet.
    world.until(|world| world.typed.load(Ordering::SeqCst) > 0).await;
    gate.open();
    world.until_read("a", &["re what is the time"]).await;
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_are_told_why_something_failed_and_everybody_else_that_it_did() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let broken = mind(|_| Box::pin(stream::iter([Err(Error::internal("/srv/of/the/operator: no such file; try: bespoke doctor"))])));
    let host = crate::kit::host(vec![world.plug(), broken, commands()]).await;
    let _listener = host.events().subscribe("message_", None);
    let served = Served::on(&path, config(json!({ "owners": ["wire:bob"] })), host, None).await;
    for (n, (who, text)) in [("ann", "hi"), ("bob", "hi"), ("ann", "/rain-check storm"), ("bob", "/rain-check storm")].iter().enumerate() {
        world.write_message(Inbound::new("a", *who, format!("{n}"), *text));
    }
    let told = [
        "I could not answer. Please try again later.",
        "I could not answer: /srv/of/the/operator: no such file; try: bespoke doctor",
        "/rain-check failed.",
        "/rain-check failed: the mast is broken",
    ];
    world.until_read("a", &told).await;
    let failed = served.host.events().history("message_failed", 0);
    let told: Vec<_> = failed.iter().map(|e| (e.payload["what"].as_str().unwrap(), e.payload["reason"].as_str().unwrap())).collect();
    let why = ("answered", "/srv/of/the/operator: no such file; try: bespoke doctor");
    let storm = ("answered", "/rain-check: the mast is broken");
    assert_eq!(told, [why, why, storm, storm]);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_of_messages_and_of_conversations_and_nothing_that_was_said() {
    let (_folder, path) = place();
    let world = World::new(ChannelSpec::new("wire").idempotent(true).attachments(true));
    let moody = || {
        mind(|asked| match asked.as_str() {
            "SECRET fails" => Box::pin(stream::iter([Err(Error::internal("no"))])),
            _ => crate::kit::says("SECRET answer"),
        })
    };
    let mut lines = Vec::new();
    let mut known = std::collections::HashMap::new();
    let rounds: [&[&str]; 2] = [&["SECRET fails"], &["SECRET fails", "SECRET question", "/new", "/new"]];
    for (round, texts) in rounds.into_iter().enumerate() {
        let host = crate::kit::host(vec![world.plug(), moody()]).await;
        let _listener = host.events().subscribe("", None);
        let served = Served::on(&path, config(json!({})), host, None).await;
        for (n, text) in texts.iter().enumerate() {
            let file = Attachment::new("image/png", vec![0; 7]).name("SECRET.png".to_owned());
            let files = if *text == "SECRET question" { vec![file] } else { vec![] };
            let before = world.sent().len();
            world.write_message(Inbound::new("a", "ann", format!("{round} {n}"), *text).attachments(files));
            world.until(|world| world.sent().len() > before && served.status().outbox == 0).await;
        }
        let events = served.host.events().history("", 0).into_iter();
        for mut event in events.filter(|event| event.topic.starts_with("message_") || event.topic.starts_with("session_")) {
            if let Some(session) = event.payload["session"].as_str() {
                let number = known.len() + 1;
                event.payload["session"] = json!(*known.entry(session.to_owned()).or_insert(number));
            }
            lines.push(format!("{} {}", event.topic, event.payload));
        }
        served.end().await;
    }
    let (sorry, size) = (43, "SECRET question".len() + 7);
    let of = |topic: &str, session: &str, kind: &str, size: usize| {
        format!("{topic} {{\"channel\":\"wire\",\"chat\":\"a\",\"session\":{session},\"kind\":\"{kind}\",\"size\":{size}}}")
    };
    let (received, sent) = ("message_received", "message_sent");
    let failed =
        r#"message_failed {"channel":"wire","chat":"a","session":1,"what":"answered","code":"INTERNAL_ERROR","reason":"no"}"#.to_owned();
    let expected = [
        of(received, "null", "text", 12),
        r#"session_created {"session":1}"#.into(),
        failed.clone(),
        of(sent, "1", "text", sorry),
        // After a restart it is not told again, though nothing was said in it yet.
        of(received, "1", "text", 12),
        failed,
        of(sent, "1", "text", sorry),
        of(received, "1", "files", size),
        of(sent, "1", "text", 13),
        of(received, "1", "text", 4),
        r#"session_ended {"session":1}"#.into(),
        of(sent, "null", "text", "A new conversation begins.".len()),
        of(received, "null", "text", 4),
        of(sent, "null", "text", "A new conversation begins; nothing was said in this one yet.".len()),
    ];
    assert_eq!(lines, expected);
    assert!(!lines.concat().contains("SECRET"));
}
