//! A conversation that is kept while it is held: what the journal is told, and what becomes of a turn when it cannot keep up.

use std::{
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use bespoke_agent::{Agent, Journal, Session};
use bespoke_host::Candidate;
use bespoke_plugin_api::{CallCx, CancelToken, Code, Error, Hook, HookReply, HookSpec, Message, Result, ToolCall, Usage, serde_json::json};
use expect_test::expect;

use crate::kit::{Brain, Step, agent, config, hook, lines, plain, plug, says, tool, turn, turn_with};

/// A journal in memory that refuses what it is told to refuse. As one on a disk it takes a message only at its end.
#[derive(Default)]
struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    messages: Vec<Message>,
    spent: Usage,
    /// One line for each that was asked of it.
    asked: Vec<String>,
    /// Numbers of what is refused, from 0.
    refused: Vec<usize>,
    /// Whether nothing is taken any more.
    full: bool,
    /// Whether its beginning was told.
    announced: bool,
}

impl Book {
    /// One that refuses these.
    fn refusing(refused: &[usize]) -> Arc<Self> {
        Arc::new(Book(Mutex::new(Pages { refused: refused.to_vec(), ..Pages::default() })))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    /// Writes down what is asked, and whether it is done.
    fn take(&self, what: String) -> Result<MutexGuard<'_, Pages>> {
        let mut pages = self.pages();
        let refused = pages.full || pages.refused.contains(&pages.asked.len());
        pages.asked.push(if refused { format!("{what}: refused") } else { what });
        if refused { Err(Error::new(Code::RESOURCE_EXHAUSTED, "the disk is full")) } else { Ok(pages) }
    }

    /// A session that is kept here, with what is here already.
    fn session(self: &Arc<Self>) -> Session {
        let pages = self.pages();
        let (messages, spent) = (pages.messages.clone(), pages.spent);
        drop(pages);
        Session::kept("s", messages, spent, self.clone())
    }

    fn text(&self) -> String {
        lines(&self.pages().messages)
    }

    fn asked(&self) -> String {
        std::mem::take(&mut self.pages().asked).join("\n")
    }
}

impl Journal for Book {
    fn announced(&self, _: &str) -> Result<()> {
        self.pages().announced = true;
        Ok(())
    }

    fn append(&self, session: &str, at: usize, message: &Message) -> Result<()> {
        assert_eq!(session, "s");
        let mut pages = self.take(format!("{at} {}", lines(std::slice::from_ref(message)).trim_end()))?;
        assert_eq!(at, pages.messages.len(), "a message in the place of another, or after none");
        pages.messages.push(message.clone());
        Ok(())
    }

    fn truncate(&self, session: &str, at: usize) -> Result<()> {
        assert_eq!(session, "s");
        let mut pages = self.take(format!("{at} and later: forgotten"))?;
        assert!(at < pages.messages.len(), "there is nothing to forget");
        pages.messages.truncate(at);
        Ok(())
    }

    fn spent(&self, session: &str, usage: Usage) -> Result<()> {
        assert_eq!(session, "s");
        let mut pages = self.take(format!("spent {}", usage.total()))?;
        pages.spent = pages.spent.plus(usage);
        Ok(())
    }
}

/// A model that asks for two tools and then answers, in each of four turns. Nothing is shown before the answer.
fn two_tools() -> [Candidate; 2] {
    let asks = [Step::Call("1", "clock", json!({})), Step::Call("2", "dice", json!({})), Step::Count(5, 1)];
    let answers = [Step::Say("Six at noon."), Step::Count(7, 1)];
    let brain = Brain::new("brain", std::array::from_fn::<_, 8, _>(|n| if n % 2 == 0 { &asks[..] } else { &answers[..] }));
    [brain.plug(), plug("tools", [says("clock", "noon"), says("dice", "six")])]
}

#[tokio::test(start_paused = true)]
async fn each_message_is_kept_as_soon_as_it_is_complete() {
    let book = Book::refusing(&[]);
    let mut session = book.session();
    let agent = agent(plain(), two_tools()).await;
    assert_eq!(turn(&agent, &mut session, "hi").await.text(), "Six at noon.");
    expect![[r#"
        0 user: hi
        spent 6
        1 assistant: [1 clock {}] [2 dice {}]
        2 tool 1: noon
        3 tool 2: six
        spent 8
        4 assistant: Six at noon."#]]
    .assert_eq(&book.asked());
    assert_eq!(lines(session.messages()), book.text());
    assert_eq!((session.usage(), book.pages().spent), (Usage::new(12, 2), Usage::new(12, 2)));
    // Who comes later finds what was said.
    assert_eq!(book.session(), session);
}

/// A turn ends with the first refusal, whatever it was of; the conversation is then as before, here and there, and goes on.
#[tokio::test(start_paused = true)]
async fn whatever_cannot_be_kept_ends_the_turn_and_leaves_no_trace_of_it() {
    let other = Brain::new("other", []);
    for refused in 0..7 {
        // The second turn; the first one asks for seven things.
        let book = Book::refusing(&[7 + refused]);
        let mut session = book.session();
        let plugins = two_tools().into_iter().chain([other.plug()]);
        let agent = agent(config(json!({ "provider": ["brain", "other"], "system": "" })), plugins).await;
        turn(&agent, &mut session, "hi").await.result.unwrap();
        assert_eq!(book.pages().asked.len(), 7);
        let before = session.clone();
        let told = turn(&agent, &mut session, "again").await;
        assert_eq!(told.error(), "RESOURCE_EXHAUSTED the disk is full", "{refused}");
        assert!(!told.events.contains('!'), "no other provider can help it: {}", told.events);
        assert_eq!((&session, &book.text()), (&before, &lines(before.messages())), "{refused}");
        // The turn after it is as any other.
        turn(&agent, &mut session, "again").await.result.unwrap();
        assert_eq!(lines(session.messages()), book.text());
        assert_eq!(session.messages().iter().filter(|m| m.text == "again").count(), 1);
    }
    assert_eq!(other.requests().len(), 0);
}

/// The journal is behind until it can follow, and nothing is kept in the place of something else.
#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_forget_is_asked_again_before_anything_is_added() {
    for refused in 0..7 {
        // What is asked for after the refusal is to forget the turn.
        let book = Book::refusing(&[7 + refused, 8 + refused, 9 + refused]);
        let mut session = book.session();
        let agent = agent(plain(), two_tools()).await;
        turn(&agent, &mut session, "hi").await.result.unwrap();
        let before = session.clone();
        let mut refusals = 0;
        while turn(&agent, &mut session, "again").await.result.is_err() {
            assert_eq!(session, before, "{refused}");
            refusals += 1;
            assert!(refusals <= 3, "{}", book.asked());
        }
        assert_eq!(lines(session.messages()), book.text());
        assert_eq!(session.messages().iter().filter(|m| m.text == "again").count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_takes_nothing_at_all_stops_every_turn_and_breaks_none() {
    let book = Book::refusing(&[]);
    let mut session = book.session();
    let agent = agent(plain(), two_tools()).await;
    turn(&agent, &mut session, "hi").await.result.unwrap();
    let before = session.clone();
    book.pages().full = true;
    for _ in 0..3 {
        assert_eq!(turn(&agent, &mut session, "again").await.code(), Code::RESOURCE_EXHAUSTED);
        assert_eq!(session, before);
    }
    // What was asked for is told as it is: nothing is forgotten here that is not forgotten there.
    assert_eq!(session.clear().unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(session.undo().unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(session, before);
    book.pages().full = false;
    assert_eq!(session.undo().unwrap().as_deref(), Some("hi"));
    assert_eq!((session.messages(), book.text().as_str()), (&[][..], ""));
    assert_eq!(session.undo().unwrap(), None);
    turn(&agent, &mut session, "anew").await.result.unwrap();
    session.clear().unwrap();
    session.clear().unwrap();
    assert_eq!(book.text(), "");
}

/// A round in which the first of three tools hangs; the others have answered.
async fn cut_off(book: &Arc<Book>) -> Session {
    let calls = ["1", "2", "3"].map(|id| Step::Call(id, if id == "1" { "wait" } else { "done" }, json!({ "n": id })));
    let cancel = CancelToken::new();
    let token = cancel.clone();
    let wait = tool("wait", move |_, _| {
        let token = token.clone();
        async move {
            // What runs beside it is heard before.
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            token.cancel();
            pending().await
        }
    });
    let agent = agent(plain(), [Brain::new("brain", [&calls]).plug(), plug("tools", [wait, says("done", "sent")])]).await;
    let mut session = book.session();
    let told = turn_with(&agent, &CallCx::new().with_cancel(cancel), &mut session, "hi").await;
    assert_eq!(told.code(), Code::CANCELLED);
    assert_eq!(told.events.matches("< done").count(), 2, "{}", told.events);
    session
}

#[tokio::test(start_paused = true)]
async fn a_round_that_is_cut_off_is_kept_without_the_calls_that_never_answered() {
    let book = Book::refusing(&[]);
    let session = cut_off(&book).await;
    expect![[r#"
        0 user: hi
        spent 32
        1 assistant: [1 wait {"n":"1"}] [2 done {"n":"2"}] [3 done {"n":"3"}]
        1 and later: forgotten
        1 assistant: [2 done {"n":"2"}] [3 done {"n":"3"}]
        2 tool 2: sent
        3 tool 3: sent"#]]
    .assert_eq(&book.asked());
    assert_eq!(lines(session.messages()), book.text());
    expect![[r#"
        user: hi
        assistant: [2 done {"n":"2"}] [3 done {"n":"3"}]
        tool 2: sent
        tool 3: sent
    "#]]
    .assert_eq(&book.text());
}

/// Here the conversation is in order whatever the journal says, and there as soon as it can be.
#[tokio::test(start_paused = true)]
async fn a_round_that_is_cut_off_and_cannot_be_kept_is_kept_later() {
    let whole = lines(cut_off(&Book::refusing(&[])).await.messages());
    // The user's words, what the round costs, and the calls are asked first: here it ends already.
    for refused in 3..7 {
        let book = Book::refusing(&[refused]);
        let mut session = cut_off(&book).await;
        assert_eq!(lines(session.messages()), whole, "{refused}");
        let agent = agent(plain(), [Brain::new("brain", []).plug()]).await;
        turn(&agent, &mut session, "go on").await.result.unwrap();
        assert_eq!(book.text(), format!("{whole}user: go on\nassistant: Ok.\n"), "{refused}");
    }
}

/// What a program leaves that died between a call and its answer.
#[tokio::test(start_paused = true)]
async fn a_conversation_that_was_left_in_the_middle_of_a_round_goes_on_without_the_open_calls() {
    let call = |id: &str| ToolCall::new(id, "clock", json!({}));
    let round = |text: &str, ids: &[&str]| Message::assistant(text).tool_calls(ids.iter().map(|id| call(id)).collect());
    let user = Message::user("hi");
    for (left, resumed) in [
        (vec![user.clone(), round("", &["1"])], "user: hi\n"),
        (vec![user.clone(), round("Wait. ", &["1"])], "user: hi\nassistant: Wait. \n"),
        (vec![user.clone(), round("", &["1", "2"]), Message::tool("2", "six")], "user: hi\nassistant: [2 clock {}]\ntool 2: six\n"),
        (vec![user.clone(), round("", &["1"]), Message::tool("1", "noon")], "user: hi\nassistant: [1 clock {}]\ntool 1: noon\n"),
        (
            vec![user.clone(), round("", &["1"]), Message::tool("1", "noon"), round("", &["1"])],
            "user: hi\nassistant: [1 clock {}]\ntool 1: noon\n",
        ),
        (vec![user.clone()], "user: hi\n"),
        (vec![], ""),
    ] {
        for refused in [vec![], vec![0], vec![1]] {
            let book = Book::refusing(&refused);
            book.pages().messages = left.clone();
            let mut session = book.session();
            assert_eq!(lines(session.messages()), resumed);
            let brain = Brain::new("brain", []);
            let agent = agent(config(json!({ "system": "" })), [brain.plug()]).await;
            if turn(&agent, &mut session, "go on").await.result.is_err() {
                assert_eq!(lines(session.messages()), resumed);
                turn(&agent, &mut session, "go on").await.result.unwrap();
            }
            assert_eq!(brain.read(), format!("{resumed}user: go on\n"));
            assert_eq!((lines(session.messages()), book.text()), (brain.read() + "assistant: Ok.\n", brain.read() + "assistant: Ok.\n"));
        }
    }
}

/// Hooks were told of the beginning when it began; the end is told once.
#[tokio::test(start_paused = true)]
async fn a_conversation_that_is_gone_on_with_does_not_begin_again() {
    let seen = crate::kit::Journal::default();
    let notes = |place: Hook| {
        let seen = seen.clone();
        hook(HookSpec::new(place.name(), place), move |_, _| {
            seen.note(place.name());
            async { Ok(HookReply::Continue) }
        })
    };
    let watch = plug("watch", [notes(Hook::OnSessionCreate), notes(Hook::OnSessionEnd)]);
    let agent: Agent = agent(plain(), [Brain::new("brain", []).plug(), watch]).await;
    let book = Book::refusing(&[]);
    let mut session = book.session();
    turn(&agent, &mut session, "hi").await.result.unwrap();
    drop(session);
    let mut session = book.session();
    turn(&agent, &mut session, "hi").await.result.unwrap();
    agent.end(&CallCx::new(), session).await;
    assert_eq!(seen.text(), "on_session_create\non_session_end");
}

/// Also when its first turn fails: whoever keeps the conversation knows that it was told.
#[tokio::test(start_paused = true)]
async fn a_conversation_begins_once_also_when_nothing_comes_of_its_first_turn() {
    let seen = crate::kit::Journal::default();
    let (begun, stops) = (seen.clone(), Arc::new(Mutex::new(true)));
    let begins = hook(HookSpec::new("begins", Hook::OnSessionCreate), move |_, _| {
        begun.note("on_session_create");
        async { Ok(HookReply::Continue) }
    });
    let stop = stops.clone();
    let guard = hook(HookSpec::new("guard", Hook::BeforeAgentRun), move |_, _| {
        let stops = *stop.lock().unwrap();
        async move { Ok(if stops { HookReply::veto("not yet") } else { HookReply::Continue }) }
    });
    let agent: Agent = agent(plain(), [Brain::new("brain", []).plug(), plug("watch", [begins, guard])]).await;
    let _listener = agent.host().events().subscribe("session_", None);
    let book = Book::refusing(&[]);
    for announced in [false, true, true] {
        assert_eq!(book.pages().announced, announced);
        let mut session = book.session().announced(announced);
        turn(&agent, &mut session, "hi").await.error();
    }
    *stops.lock().unwrap() = false;
    let mut session = book.session().announced(true);
    turn(&agent, &mut session, "hi").await.result.unwrap();
    agent.tell_end(&CallCx::new(), session.id()).await;
    assert_eq!(seen.text(), "on_session_create");
    let told: Vec<_> = agent.host().events().history("session_", 0).into_iter().map(|event| event.topic).collect();
    assert_eq!(told, ["session_created", "session_ended"]);
}
