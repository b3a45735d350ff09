//! Letters: what comes in is taken once, what leaves does so in order, and an answer is all or nothing.

use std::time::Duration;

use bespoke_agent::Journal;
use bespoke_plugin_api::{
    Attachment, Inbound, Message, Outbound, Timestamp, ToolCall, Usage,
    serde_json::{self, json},
};
use bespoke_state::{Concluded, Ending, Letter, LetterState, Meta, State, StateError, Taken, Trouble};

use crate::kit::{number, opened, place, raw, said};

const WIRE: &str = "wire";

fn inbound(chat: &str, id: &str) -> Inbound {
    Inbound::new(chat, "ann", id, format!("text {id}"))
}

fn begun(state: &State, chat: &str, id: &str) -> Taken {
    assert!(state.take_in(WIRE, &inbound(chat, id)).unwrap());
    state.begin(WIRE, chat).unwrap().unwrap()
}

fn ending(letters: &[&str], chat: &str, direct: bool) -> Ending<'static> {
    let mut ending = Ending::default();
    ending.letters = letters.iter().map(|text| Outbound::new(chat, *text)).collect();
    ending.direct = direct;
    ending
}

/// A message of a chat is answered with these letters.
fn answered(state: &State, chat: &str, id: &str, letters: &[&str], direct: bool) -> Concluded {
    let taken = begun(state, chat, id);
    state.conclude(taken.id, WIRE, chat, ending(letters, chat, direct)).unwrap()
}

/// The session of the chat `a`, and whether it is empty.
fn current(state: &State) -> (Option<String>, bool) {
    let current = state.current(WIRE, "a").unwrap();
    (current.as_ref().map(|c| c.session.clone()), current.is_some_and(|c| c.is_empty))
}

fn texts(letters: &[Letter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.message.text.as_str()).collect()
}

#[test]
fn a_message_is_taken_once_and_comes_back_as_it_was() {
    let (_folder, state) = opened();
    let files = vec![Attachment::voice("audio/ogg", vec![1, 2, 3]), Attachment::new("text/plain", vec![7; 9]).name("a.txt".into())];
    let message = inbound("a", "1").sender_name("Ann".into()).attachments(files);
    assert!(state.take_in(WIRE, &message).unwrap());
    assert!(!state.take_in(WIRE, &inbound("a", "1")).unwrap(), "the same again");
    for (channel, other) in [("other", inbound("a", "1")), (WIRE, inbound("b", "1")), (WIRE, inbound("a", "2"))] {
        assert!(state.take_in(channel, &other).unwrap(), "{channel} {other:?}");
    }
    assert_eq!((state.chats_waiting(WIRE).unwrap(), state.inbox_length().unwrap()), (vec!["a".to_owned(), "b".to_owned()], 4));
    let taken = state.begin(WIRE, "a").unwrap().unwrap();
    assert_eq!((taken.message, taken.attempts), (message, 1));
    assert_eq!(state.begin(WIRE, "a").unwrap().unwrap().attempts, 2);
    state.release(taken.id).unwrap();
    assert_eq!(state.begin(WIRE, "a").unwrap().unwrap().attempts, 2);
    assert!(state.conclude(taken.id, WIRE, "a", Ending::default()).unwrap().more);
    assert!(!state.take_in(WIRE, &inbound("a", "1")).unwrap(), "also when it was answered");
    assert_eq!(state.begin(WIRE, "nobody").unwrap(), None);
}

#[test]
fn a_message_is_concluded_once() {
    let (_folder, state) = opened();
    let taken = begun(&state, "a", "1");
    for _ in 0..3 {
        state.conclude(taken.id, WIRE, "a", ending(&["one"], "a", false)).unwrap();
    }
    assert_eq!(texts(&state.next_letters(WIRE, 9).unwrap().letters), ["one"]);
}

#[test]
fn letters_leave_in_order_in_each_chat() {
    let (_folder, state) = opened();
    let first = answered(&state, "a", "1", &["a1", "a2"], true).letter.unwrap();
    assert_eq!((first.message.text.as_str(), first.attempts, first.unsure), ("a1", 1, false));
    assert_eq!(answered(&state, "a", "2", &["a3"], true).letter, None, "an older one is being sent");
    assert!(answered(&state, "b", "1", &["b1"], false).letter.is_none());
    assert_eq!(texts(&state.next_letters(WIRE, 9).unwrap().letters), ["b1"]);
    assert_eq!(state.next_letter_in(WIRE).unwrap(), None, "none waits for anything but another one");
    assert!(state.sent(first.id, WIRE, "a").unwrap());
    assert_eq!(state.next_letter_in(WIRE).unwrap(), Some(Duration::ZERO));
    let second = state.next_letters(WIRE, 9).unwrap().letters.remove(0);
    assert_eq!(second.message.text, "a2");
    assert_ne!(second.message.idempotency_key, first.message.idempotency_key);
    // Whatever keeps it, keeps those after it.
    state.not_sent(second.id, &Trouble::again_in("no line", Duration::from_secs(60))).unwrap();
    assert!(state.next_letters(WIRE, 9).unwrap().letters.is_empty());
    assert!(state.next_letter_in(WIRE).unwrap().is_some_and(|left| left > Duration::from_secs(30)));
    state.not_sent(second.id, &Trouble::dead("no such chat")).unwrap();
    assert_eq!(texts(&state.next_letters(WIRE, 9).unwrap().letters), ["a3"]);
    let dead: Vec<_> = state.letters(0, 9).unwrap().into_iter().filter(|letter| letter.state == LetterState::Dead).collect();
    assert_eq!(
        (dead[0].message.as_ref().unwrap().text.as_str(), dead[0].error.as_deref(), dead[0].attempts),
        ("a2", Some("no such chat"), 1)
    );
    assert_eq!(state.outbox_length().unwrap(), (2, 1), "a3 and b1 are being sent");
    assert_eq!(state.resend_letters(Some(&[second.id])).unwrap(), [second.id]);
    let again = state.next_letters(WIRE, 9).unwrap().letters.remove(0);
    assert_eq!((again.message, again.attempts), (second.message, 1), "with its key");
}

#[test]
fn what_was_being_sent_when_a_program_ended_is_sent_again_and_marked() {
    let (_folder, state) = opened();
    let letter = answered(&state, "a", "1", &["one"], true).letter.unwrap();
    assert_eq!((state.recover_letters().unwrap(), state.recover_letters().unwrap()), (1, 0));
    let again = state.next_letters(WIRE, 9).unwrap().letters.remove(0);
    assert_eq!((again.message, again.unsure, again.attempts), (letter.message, true, 2));
    let mut trouble = Trouble::again_in("its plugin does not run", Duration::ZERO);
    trouble.counts = false;
    state.not_sent(again.id, &trouble).unwrap();
    assert_eq!(state.next_letters(WIRE, 9).unwrap().letters[0].attempts, 2);
}

#[test]
fn a_draft_becomes_the_answer() {
    let (_folder, state) = opened();
    let taken = begun(&state, "a", "1");
    let draft = state.draft(taken.id, WIRE, &Outbound::new("a", "I thi")).unwrap().unwrap();
    assert!(state.next_letters(WIRE, 9).unwrap().letters.is_empty(), "it is whoever writes it who sends it");
    state.shown(draft.id, "m1").unwrap();
    // As a program after a crash finds it.
    assert_eq!(state.draft(taken.id, WIRE, &Outbound::new("a", "other")).unwrap().unwrap().shown.as_deref(), Some("m1"));
    let letter = state.conclude(taken.id, WIRE, "a", ending(&["I think so.", "And more."], "a", true)).unwrap().letter.unwrap();
    assert_eq!((letter.id, letter.shown.as_deref(), letter.message.text.as_str()), (draft.id, Some("m1"), "I think so."));
    assert_eq!((letter.message.idempotency_key.clone(), letter.unsure), (draft.message.idempotency_key, false));
    let mut trouble = Trouble::again_in("too old", Duration::ZERO);
    trouble.unshow = true;
    state.not_sent(letter.id, &trouble).unwrap();
    let anew = state.next_letters(WIRE, 9).unwrap().letters.remove(0);
    assert_eq!((anew.id, anew.shown), (letter.id, None));
    assert_ne!(anew.message.idempotency_key, letter.message.idempotency_key);
}

#[test]
fn a_draft_of_which_nobody_knows_whether_it_was_sent_is_marked() {
    let (_folder, state) = opened();
    let taken = begun(&state, "a", "1");
    let draft = |text: &str| state.draft(taken.id, WIRE, &Outbound::new("a", text)).unwrap().unwrap();
    assert!(!draft("I").unsure);
    assert!(draft("I").unsure, "the time before came to no end");
    state.draft_failed(draft("I").id).unwrap();
    let concluded = state.conclude(taken.id, WIRE, "a", ending(&["I think so."], "a", false)).unwrap();
    assert_eq!(concluded.letter, None);
    assert!(state.next_letters(WIRE, 9).unwrap().letters[0].unsure, "once it was so, it stays so");
    let taken = begun(&state, "a", "2");
    assert_eq!(state.draft(taken.id, WIRE, &Outbound::new("a", "I")).unwrap(), None, "an older letter is to leave first");
    // One that is not needed in the end is gone.
    let taken = begun(&state, "b", "1");
    state.draft(taken.id, WIRE, &Outbound::new("b", "I")).unwrap().unwrap();
    state.conclude(taken.id, WIRE, "b", Ending::default()).unwrap();
    assert_eq!(state.outbox_length().unwrap(), (1, 0));
}

#[test]
fn what_is_said_is_stored_with_the_answer_and_not_before() {
    let (_folder, state) = opened();
    let taken = begun(&state, "a", "1");
    let (session, talk) = state.talk(WIRE, "a", 3_000).unwrap();
    let id = session.id().to_owned();
    talk.append(&id, 0, &Message::user("hello")).unwrap();
    talk.append(&id, 1, &Message::assistant("hi")).unwrap();
    talk.spent(&id, Usage::new(5, 7)).unwrap();
    assert!(talk.append(&id, 9, &Message::user("out of order")).is_err());
    assert_eq!((state.show(&id).unwrap().messages.len(), current(&state)), (0, (Some(id.clone()), true)));
    let mut end = ending(&["hi"], "a", false);
    (end.talk, end.by) = (Some(&*talk), Some(("p", "m")));
    state.conclude(taken.id, WIRE, "a", end).unwrap();
    let kept = state.show(&id).unwrap();
    assert_eq!((kept.messages.len(), kept.summary.usage, kept.summary.title.as_str()), (2, Usage::new(5, 7), "hello"));
    assert_eq!((kept.summary.provider.as_deref(), kept.summary.channel.as_deref()), (Some("p"), Some(WIRE)));
    assert_eq!(current(&state), (Some(id.clone()), false));
    // The next message goes on with it, until it is renewed.
    assert_eq!(state.talk(WIRE, "a", 3_000).unwrap().0.messages().len(), 2);
    let taken = begun(&state, "a", "2");
    let mut end = Ending::default();
    end.renew = true;
    state.conclude(taken.id, WIRE, "a", end).unwrap();
    assert_ne!(state.talk(WIRE, "a", 3_000).unwrap().0.id(), id);
    state.check().unwrap();
}

#[test]
fn only_as_much_of_a_conversation_is_read_as_a_model_is_shown() {
    let (_folder, state) = opened();
    let call = || ToolCall::new("c", "clock", json!({}));
    let turn = |n: usize| {
        [
            Message::user(format!("question {n:04} {}", "x".repeat(386))),
            Message::assistant("").tool_calls(vec![call()]),
            Message::tool("c", "noon"),
            Message::assistant("noon"),
        ]
    };
    let messages: Vec<_> = (0..100).flat_map(turn).collect();
    said(&state, &Meta::default().channel(WIRE).chat("a"), &messages);
    raw(state.path()).execute("INSERT INTO chats SELECT 'wire', 'a', key FROM sessions", []).unwrap();
    for (tokens, turns) in [(0, 1), (1, 1), (250, 3), (1_000_000, 100)] {
        let (session, _) = state.talk(WIRE, "a", tokens).unwrap();
        assert_eq!(session.messages(), &messages[400 - 4 * turns..], "{tokens}");
    }
    // What is said goes to the end of the whole, and what is taken back goes back to where it was.
    let taken = begun(&state, "a", "1");
    let (session, talk) = state.talk(WIRE, "a", 0).unwrap();
    talk.append(session.id(), 4, &Message::user("more")).unwrap();
    talk.append(session.id(), 5, &Message::assistant("taken back")).unwrap();
    talk.truncate(session.id(), 5).unwrap();
    talk.append(session.id(), 5, &Message::assistant("and more")).unwrap();
    let mut end = Ending::default();
    end.talk = Some(&talk);
    state.conclude(taken.id, WIRE, "a", end).unwrap();
    assert_eq!(state.show(session.id()).unwrap().messages.len(), 402);
    let taken = begun(&state, "a", "2");
    talk.truncate(session.id(), 3).unwrap();
    let mut end = Ending::default();
    end.talk = Some(&talk);
    state.conclude(taken.id, WIRE, "a", end).unwrap();
    let kept: Vec<_> = state.show(session.id()).unwrap().messages.into_iter().map(|(_, message)| message).collect();
    assert_eq!(kept, messages[..399]);
    state.check().unwrap();
}

#[test]
fn an_answer_in_a_conversation_that_somebody_else_continued_is_no_answer() {
    let (_folder, state) = opened();
    let taken = begun(&state, "a", "1");
    let (session, talk) = state.talk(WIRE, "a", 3_000).unwrap();
    state.journal(session.id()).unwrap().append(session.id(), 0, &Message::user("from elsewhere")).unwrap();
    talk.append(session.id(), 0, &Message::user("hello")).unwrap();
    let mut end = ending(&["hi"], "a", true);
    end.talk = Some(&talk);
    let error = state.conclude(taken.id, WIRE, "a", end).unwrap_err();
    assert!(matches!(error, StateError::Continued { .. }), "{error}");
    assert_eq!((state.inbox_length().unwrap(), state.outbox_length().unwrap()), (1, (0, 0)), "nothing of it");
    // With the conversation it goes from its chat.
    state.delete(&[session.id()]).unwrap();
    assert_eq!(number(&raw(state.path()), "SELECT count(*) FROM chats WHERE session IS NULL"), 1);
    assert_ne!(state.talk(WIRE, "a", 3_000).unwrap().0.id(), session.id());
}

/// What the outbox has: number, state, text, and why.
fn kept(state: &State) -> Vec<(i64, LetterState, Option<String>, Option<String>)> {
    let letters = state.letters(0, 99).unwrap();
    letters.into_iter().map(|letter| (letter.id, letter.state, letter.message.map(|message| message.text), letter.error)).collect()
}

#[test]
fn a_letter_that_cannot_be_read_is_dead_and_keeps_nobody_waiting() {
    let (_folder, state) = opened();
    for (chat, id, text) in [("a", "1", "a1"), ("a", "2", "a2"), ("b", "1", "b1"), ("c", "1", "c1")] {
        answered(&state, chat, id, &[text], false);
    }
    let connection = raw(state.path());
    connection.execute("UPDATE outbox SET body = '{\"text\": \"SECRET' WHERE id = 1", []).unwrap();
    connection.execute("UPDATE outbox SET files = x'00' WHERE id = 3", []).unwrap();
    let due = state.next_letters(WIRE, 9).unwrap();
    assert_eq!(texts(&due.letters), ["c1"]);
    let told: Vec<_> = due.unreadable.iter().map(|u| (u.id, u.chat.as_str(), u.error.as_str())).collect();
    assert_eq!(told, [(1, "a", "letter 1 cannot be read"), (3, "b", "letter 3 cannot be read")]);
    // The next one of the chat leaves.
    assert_eq!(texts(&state.next_letters(WIRE, 9).unwrap().letters), ["a2"]);
    assert_eq!(state.outbox_length().unwrap(), (2, 2));
    assert_eq!(kept(&state)[0], (1, LetterState::Dead, None, Some("letter 1 cannot be read".into())));
    let error = state.resend_letters(Some(&[1])).unwrap_err();
    assert!(matches!(error, StateError::UnreadableLetter { id: 1 }), "{error}");
    assert_eq!(state.drop_letters(Some(&[1])).unwrap(), [1]);
}

#[test]
fn a_message_that_cannot_be_read_is_set_aside_and_the_next_one_is_begun() {
    let (_folder, state) = opened();
    for id in ["1", "2"] {
        assert!(state.take_in(WIRE, &inbound("a", id)).unwrap());
    }
    raw(state.path()).execute("UPDATE inbox SET body = 'SECRET ' || body WHERE id = 1", []).unwrap();
    let taken = state.begin(WIRE, "a").unwrap().unwrap();
    assert_eq!((taken.id, taken.damage.as_deref()), (1, Some("message 1 came in and cannot be read")));
    let mut sorry = ending(&["again, please"], "a", true);
    sorry.aside = taken.damage.as_deref();
    let concluded = state.conclude(taken.id, WIRE, "a", sorry).unwrap();
    assert_eq!((concluded.letter.unwrap().message.text.as_str(), concluded.more), ("again, please", true));
    assert_eq!(state.begin(WIRE, "a").unwrap().unwrap().message, inbound("a", "2"));
    // It is there for whoever can make something of it, and is nothing that could be sent.
    let dead: String = raw(state.path()).query_row("SELECT body FROM outbox WHERE state = 'dead'", [], |row| row.get(0)).unwrap();
    assert!(serde_json::from_str::<String>(&dead).unwrap().starts_with("SECRET {"), "{dead}");
    let dead = kept(&state).into_iter().find(|letter| letter.1 == LetterState::Dead).unwrap();
    assert_eq!((dead.2, dead.3), (None, taken.damage));
    assert_eq!(state.resend_letters(None).unwrap(), [0; 0]);
}

#[test]
fn letters_that_wait_are_seen_sent_now_and_forgotten() {
    let (_folder, state) = opened();
    for n in 0..3 {
        answered(&state, "a", &n.to_string(), &[&format!("a{n}")], false);
    }
    answered(&state, "b", "1", &["b1"], true);
    let later = Trouble::again_in("no line", Duration::from_secs(600));
    let first = state.next_letters(WIRE, 9).unwrap().letters.remove(0);
    state.not_sent(first.id, &later).unwrap();
    let letters = state.letters(0, 9).unwrap();
    let told = |n: usize| {
        let letter = &letters[n];
        (letter.state, letter.attempts, letter.error.as_deref(), letter.next.is_some(), letter.behind)
    };
    assert_eq!(told(0), (LetterState::Waiting, 1, Some("no line"), true, None));
    assert_eq!(told(1), (LetterState::Waiting, 0, None, false, Some(letters[0].id)));
    assert_eq!(told(2), (LetterState::Waiting, 0, None, false, Some(letters[0].id)));
    assert_eq!(told(3), (LetterState::Sending, 1, None, false, None));
    assert_eq!(state.kept_letter(letters[1].id).unwrap().as_ref(), Some(&letters[1]));
    let under_way = || state.letters_under_way(&letters.iter().map(|letter| letter.id).collect::<Vec<_>>()).unwrap();
    assert_eq!(under_way(), 1, "the others wait for a pause");
    assert_eq!(state.letters(letters[0].id, 2).unwrap(), letters[1..3], "a page");
    let json = serde_json::to_value(&letters[0]).unwrap();
    assert_eq!(
        (&json["state"], &json["message"]["text"], &json["channel"], &json["chat"]),
        (&json!("waiting"), &json!("a0"), &json!(WIRE), &json!("a"))
    );
    assert!(json["next"].as_str().unwrap().ends_with('Z'), "{json}");
    let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    // All or none, and none that leaves already.
    assert!(matches!(state.resend_letters(Some(&[ids[0], 99])).unwrap_err(), StateError::NoLetter { ids } if ids == [99]));
    let error = state.drop_letters(Some(&[98, ids[0], 99])).unwrap_err().to_string();
    assert_eq!(error, "no messages of numbers 98, 99 are to leave; nothing was changed");
    assert!(matches!(state.drop_letters(Some(&[ids[0], ids[3]])).unwrap_err(), StateError::LetterLeaves { id } if id == ids[3]));
    assert!(state.next_letters(WIRE, 9).unwrap().letters.is_empty());
    assert_eq!(state.letters(0, 9).unwrap().len(), 4);
    // One that is not the first of its chat brings those before it along: they leave in order.
    assert_eq!(state.resend_letters(Some(&[ids[1]])).unwrap(), [ids[1]]);
    assert_eq!(under_way(), 4);
    let first = state.kept_letter(ids[0]).unwrap().unwrap();
    assert_eq!((first.next, first.behind), (Some(first.created), None), "it is due");
    let again = state.next_letters(WIRE, 9).unwrap().letters.remove(0);
    assert_eq!((again.id, again.attempts), (ids[0], 2));
    state.not_sent(again.id, &later).unwrap();
    assert_eq!(state.drop_letters(Some(&[ids[0]])).unwrap(), [ids[0]]);
    assert_eq!(texts(&state.next_letters(WIRE, 9).unwrap().letters), ["a1"], "nothing stands before it");
    assert_eq!(state.drop_letters(None).unwrap(), [ids[2]], "what is being sent stays");
    state.check().unwrap();
}

#[test]
fn dead_letters_are_forgotten_when_they_are_old_and_others_are_not() {
    let (_folder, state) = opened();
    for chat in ["old", "new", "waits"] {
        answered(&state, chat, "1", &[chat], false);
    }
    for letter in state.next_letters(WIRE, 2).unwrap().letters {
        state.not_sent(letter.id, &Trouble::dead("gone")).unwrap();
    }
    raw(state.path()).execute("UPDATE outbox SET created = 1000 WHERE chat IN ('old', 'waits')", []).unwrap();
    assert_eq!((state.forget_dead(Timestamp(1000)).unwrap(), state.forget_dead(Timestamp(1001)).unwrap()), (0, 1));
    assert_eq!(state.outbox_length().unwrap(), (1, 1));
}

#[test]
fn that_a_conversation_begins_is_told_once_whatever_becomes_of_its_first_turn() {
    let (_folder, state) = opened();
    let (session, talk) = state.talk(WIRE, "a", 3_000).unwrap();
    assert!(!state.current(WIRE, "a").unwrap().unwrap().announced);
    talk.announced(session.id()).unwrap();
    let again = State::open(state.path()).unwrap();
    let current = again.current(WIRE, "a").unwrap().unwrap();
    assert_eq!((current.session.as_str(), current.announced, current.is_empty), (session.id(), true, true));
    // Of a file from before, those in which something was said.
    let (_folder, path) = place();
    let connection = raw(&path);
    for step in ["1-sessions", "2-values", "3-letters", "4-events", "5-usage"] {
        let file = format!("{}/src/schema/{step}.sql", env!("CARGO_MANIFEST_DIR"));
        connection.execute_batch(&std::fs::read_to_string(file).unwrap()).unwrap();
    }
    connection
        .execute_batch(
            "PRAGMA user_version = 5;
             INSERT INTO sessions (id, created, updated, length, writer) VALUES ('said', 0, 0, 0, 'p'), ('empty', 0, 0, 0, 'p');
             UPDATE sessions SET length = 1 WHERE id = 'said';
             INSERT INTO messages (session, seq, role, text, created) VALUES (1, 0, 'user', 'from before', 0);",
        )
        .unwrap();
    State::open(&path).unwrap().check().unwrap();
    assert_eq!(number(&connection, "SELECT count(*) FROM sessions WHERE announced"), 1);
    assert_eq!(number(&connection, "SELECT announced FROM sessions WHERE id = 'said'"), 1);
}
