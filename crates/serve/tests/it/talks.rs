//! What people say and are told: vetoes, errors, commands, voice notes, conversations.

use std::sync::{Arc, Mutex};

use bespoke_plugin_api::{
    Attachment, CallCx, ChannelSpec, Code, Command, CommandRequest, CommandSpec, Contribution, Error, Hook, HookEvent, HookReply, HookSpec,
    Inbound, Output, Result, async_trait, serde_json::json,
};
use futures_util::stream;

use crate::kit::{Served, World, agent, config, echo, hooks, host_of, mind, place, plug};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_a_message_says_why_to_whoever_wrote_it() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let specs = [Hook::AfterMessageReceive, Hook::BeforeAgentRun, Hook::BeforeMessageSend].map(|hook| HookSpec::new(hook.name(), hook));
    let guard = hooks("guard", specs.to_vec(), |event| {
        let text = match &event {
            HookEvent::AfterMessageReceive { message, .. } => message.text.clone(),
            HookEvent::BeforeAgentRun { input, .. } => input.clone(),
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
    world.until(|_| served.status().outbox == 0).await;
    // What was said was said; it only did not leave.
    assert_eq!(served.said("wire", "a"), ["fine", "re fine", "say before_message_send", "re say before_message_send"]);
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
