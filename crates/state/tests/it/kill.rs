//! A program that is killed in the middle: what it has told as stored is there, whole and in order.
//!
//! The child is this test program again, told by its environment to do one of two things. Without that, the same test does
//! both by itself for a moment, to its end.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use bespoke_agent::{Agent, AgentConfig, Journal, Session};
use bespoke_host::{Config, Host, Selection};
use bespoke_plugin_api::{CallCx, Code, Message, Result, Role, ToolCall, Usage, serde_json::json};
use bespoke_state::{Filter, Meta, State};

use crate::kit::{number, place, raw};
use bespoke_fake as _;

const TALK: &str = "BESPOKE_TEST_TALK";
const MIGRATE: &str = "BESPOKE_TEST_MIGRATE";

/// More turns than a parent waits for.
const ENDLESS: usize = 30;
/// Some pages long, so that a message is not written in one piece.
const FILL: usize = 6_000;

#[test]
fn child() {
    let asked = |name: &str| std::env::var_os(name);
    match (asked(TALK), asked(MIGRATE)) {
        (Some(path), _) => talk(Path::new(&path), ENDLESS),
        (_, Some(path)) => migrate(Path::new(&path)),
        _ => {
            let (_folder, path) = place();
            talk(&path, 3);
            assert_eq!(checked(&path), 3 * 4);
            let (_folder, path) = place();
            older(&path);
            migrate(&path);
            assert_eq!(checked(&path), OLDER);
        }
    }
}

#[test]
fn a_conversation_is_intact_up_to_its_last_message_however_often_it_is_killed() {
    let mut random = Random(0x5eed);
    for _ in 0..5 {
        let (_folder, path) = place();
        let mut stored = 0;
        for run in 0..20 {
            let (mut child, mut lines) = spawned(TALK, &path);
            let mut last = None;
            for line in lines.by_ref().take(random.below(40) + 1) {
                last = Some(line);
            }
            child.kill().unwrap();
            // What was told before the kill and not read yet counts, too.
            last = lines.last().or(last);
            child.wait().unwrap();
            let told: usize = last.unwrap_or_else(|| panic!("run {run}: the child said nothing")).parse().unwrap();
            let there = checked(&path);
            assert!(there == told + 1 || there == told + 2, "run {run}: {there} messages, the last told one is number {told}");
            assert!(there > stored, "run {run}: it grows");
            // A call that was never answered is taken out by whoever resumes.
            stored = there.saturating_sub(1);
        }
    }
}

#[test]
fn a_migration_that_is_killed_leaves_the_old_file_or_the_new_one() {
    let mut layouts = Vec::new();
    for run in 0..12 {
        let (folder, path) = place();
        older(&path);
        let (mut child, mut lines) = spawned(MIGRATE, &path);
        for _ in 0..run % 4 + 1 {
            lines.next();
        }
        child.kill().unwrap();
        lines.for_each(drop);
        child.wait().unwrap();
        let layout = number(&raw(&path), "PRAGMA user_version");
        let values = number(&raw(&path), "SELECT count(*) FROM sqlite_schema WHERE name = 'plugin_values'");
        assert_eq!(values, i64::from(layout > 1), "run {run}");
        let copy = folder.path().join("state.db.v1.bak");
        if copy.exists() {
            assert_eq!(number(&raw(&copy), "SELECT count(*) FROM messages"), OLDER as i64, "run {run}: a copy is whole");
        }
        layouts.push(layout);
        assert_eq!(checked(&path), OLDER, "run {run}");
    }
    assert!(layouts.contains(&1), "some were killed before they were done: {layouts:?}");
}

#[test]
fn processes_write_side_by_side() {
    let (_folder, path) = place();
    let mut children: Vec<_> = (0..3).map(|_| spawned(TALK, &path)).collect();
    // They all resume the same conversation or begin their own; either way, nobody's messages are mixed with another's.
    let state = State::open(&path).unwrap();
    // One that finds the conversation continued by another ends without a word; whoever was first does not.
    let spoke = children.iter_mut().filter_map(|(_, lines)| lines.next()).count();
    assert!(spoke > 0);
    let own = crate::kit::said(&state, &Meta::default().channel("other"), &crate::kit::turn());
    for (child, _) in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    state.check().unwrap();
    assert_eq!(state.resume(&own).unwrap().messages(), crate::kit::turn());
    for summary in state.list(&Filter::default().channel(CHANNEL), 10, 0).unwrap() {
        whole(&state, &summary.id);
    }
}

const CHANNEL: &str = "test";

/// Talks through the agent, and tells the number of each message once it is stored.
fn talk(path: &Path, turns: usize) {
    let state = State::open(path).unwrap();
    let id = match state.latest(CHANNEL, None).unwrap() {
        Some(summary) => summary.id,
        None => state.create(&Meta::default().channel(CHANNEL)).unwrap().id().to_owned(),
    };
    // Resumed first: it may take out a call that was never answered.
    let messages = state.resume(&id).unwrap().messages().to_vec();
    let journal = Telling(state.journal(&id).unwrap());
    let mut session = Session::kept(&id, messages, Usage::default(), Arc::new(journal));

    let call = "[{ tool = { name = 'fake_echo', args = { text = 'once' } } }]";
    let replies = format!("replies = [{}]", format!("{call}, [{{ text = '{}' }}], ", fill("Done.")).repeat(turns));
    let config = Config::parse("bespoke.toml", &format!("[plugins.fake]\n{replies}\n")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let host = Host::builder().config(config).plugins(bespoke_plugin_api::compiled_in()).build().unwrap();
        host.start(Selection::All).await;
        let mut answers = AgentConfig::default();
        answers.provider = vec!["fake".into()];
        answers.tools = Some(vec!["fake_echo".into()]);
        let agent = Agent::new(host.clone(), answers).unwrap();
        for _ in 0..turns {
            let question = fill(&format!("Question {}.", session.messages().len()));
            match agent.turn(&CallCx::new(), &mut session, &question, |_| {}).await {
                Ok(_) => {}
                Err(error) if error.code() == Code::CONFLICT => break, // another process has continued the conversation
                Err(error) => panic!("{error}: {:?}", host.rows()),
            }
        }
        host.shutdown().await;
    });
}

fn fill(text: &str) -> String {
    format!("{text} {}", "x".repeat(FILL))
}

/// Tells which message is stored.
struct Telling(Arc<dyn Journal>);

impl Journal for Telling {
    fn append(&self, session: &str, at: usize, message: &Message) -> Result<()> {
        self.0.append(session, at, message)?;
        let mut stdout = io::stdout().lock();
        // A parent that has enough does not listen any more.
        let _ = writeln!(stdout, "told {at}").and_then(|()| stdout.flush());
        Ok(())
    }

    fn truncate(&self, session: &str, at: usize) -> Result<()> {
        self.0.truncate(session, at)
    }

    fn spent(&self, session: &str, usage: Usage) -> Result<()> {
        self.0.spent(session, usage)
    }
}

/// Messages of a file of layout 1.
const OLDER: usize = 2_000;

fn older(path: &Path) {
    let connection = raw(path);
    connection.execute_batch(include_str!("../../src/schema/1-sessions.sql")).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA user_version = 1;
             INSERT INTO sessions (id, channel, created, updated, length, writer) VALUES ('20200101-000000-0000', '{CHANNEL}', 0, 0, {OLDER}, 'p');
             WITH RECURSIVE n (at) AS (SELECT 0 UNION ALL SELECT at + 1 FROM n WHERE at + 1 < {OLDER})
             INSERT INTO messages (session, seq, role, text, created)
             SELECT 1, at, 'user', 'Question ' || at || '. ' || '{}', 0 FROM n;",
            "x".repeat(FILL)
        ))
        .unwrap();
}

/// Opens an older file, and tells each step as the log has it.
fn migrate(path: &Path) {
    let lines = || Prefixed;
    let subscriber = tracing_subscriber::fmt().with_writer(lines).finish();
    tracing::subscriber::with_default(subscriber, || {
        let _ = Prefixed.write(b"opening\n");
        State::open(path).unwrap();
    });
}

/// Lines for the parent, among those of the test harness.
struct Prefixed;

impl Write for Prefixed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "told {}", String::from_utf8_lossy(bytes))?;
        stdout.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the child tells, line by line.
type Lines = Box<dyn Iterator<Item = String>>;

fn spawned(what: &str, path: &Path) -> (Reaped, Lines) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--nocapture"])
        .env(what, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout: ChildStdout = child.stdout.take().unwrap();
    // The harness writes the name of the test in front of the first line.
    let told = |line: io::Result<String>| Some(line.ok()?.split_once("told ")?.1.to_owned());
    (Reaped(child), Box::new(BufReader::new(stdout).lines().filter_map(told)))
}

/// Ends its child, also when a test fails.
struct Reaped(Child);

impl std::ops::Deref for Reaped {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Reaped {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens a file after a kill; the number of messages of its conversation, each of them whole.
fn checked(path: &Path) -> usize {
    let state = State::open(path).unwrap();
    state.check().unwrap();
    let id = state.latest(CHANNEL, None).unwrap().unwrap().id;
    whole(&state, &id)
}

fn whole(state: &State, id: &str) -> usize {
    let messages: Vec<Message> = state.show(id).unwrap().messages.into_iter().map(|(_, m)| m).collect();
    for (at, message) in messages.iter().enumerate() {
        let calls = message.tool_calls.len();
        match message.role {
            Role::User => assert_eq!(message.text, fill(&format!("Question {at}."))),
            Role::Assistant if calls == 1 => assert_eq!(message.tool_calls[0], call(&message.tool_calls[0].id)),
            Role::Assistant => assert_eq!(message.text, fill("Done.")),
            _ => assert_eq!(message.tool_call_id, Some(messages[at - 1].tool_calls[0].id.clone()), "a pair"),
        }
    }
    messages.len()
}

fn call(id: &str) -> ToolCall {
    ToolCall::new(id, "fake_echo", json!({ "text": "once" }))
}

/// Enough to spread the kills, and the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
