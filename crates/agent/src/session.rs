//! A conversation and how much of it a model is shown. In memory; a journal may keep it, message by message.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bespoke_plugin_api::{Message, Result, Role, Usage};
use serde_json::Value;

/// What was said so far.
#[derive(Clone)]
pub struct Session {
    id: String,
    messages: Vec<Message>,
    usage: Usage,
    journal: Option<Arc<dyn Journal>>,
    /// How many of the messages the journal has as they are here.
    stored: usize,
    /// Whether the journal has others after those, which it could not forget yet.
    surplus: bool,
    /// Whether hooks were told that it begins.
    pub(crate) announced: bool,
}

/// Keeps conversations while they are held, so that a program that dies loses no completed message. Called between two messages
/// of a turn, so it must be quick.
pub trait Journal: Send + Sync {
    /// Message number `at` of a session, from 0, is complete. It is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be stored; the turn ends with this error.
    fn append(&self, session: &str, at: usize, message: &Message) -> Result<()>;

    /// The messages from number `at` on never were.
    ///
    /// # Errors
    /// When that cannot be stored.
    fn truncate(&self, session: &str, at: usize) -> Result<()>;

    /// It is about to be told that the session begins, which is told once: whoever goes on with it later makes it
    /// [`announced`](Session::announced), also when nothing was said in it. What keeps nothing of that needs to do nothing.
    ///
    /// # Errors
    /// When that cannot be stored; it is logged.
    fn announced(&self, _session: &str) -> Result<()> {
        Ok(())
    }

    /// One request was answered for these tokens.
    ///
    /// # Errors
    /// When that cannot be stored.
    fn spent(&self, session: &str, usage: Usage) -> Result<()>;
}

impl Session {
    /// An empty conversation.
    pub fn new(id: impl Into<String>) -> Self {
        Session { id: id.into(), messages: Vec::new(), usage: Usage::default(), journal: None, stored: 0, surplus: false, announced: false }
    }

    /// A conversation in which this was said already, kept nowhere.
    pub fn of(id: impl Into<String>, messages: Vec<Message>) -> Self {
        Session { announced: !messages.is_empty(), messages, ..Session::new(id) }
    }

    /// A conversation as a journal has it: `messages` are stored already, what comes now will be.
    pub fn kept(id: impl Into<String>, messages: Vec<Message>, usage: Usage, journal: Arc<dyn Journal>) -> Self {
        let mut session = Session { stored: messages.len(), usage, journal: Some(journal), ..Session::of(id, messages) };
        session.drop_open_calls();
        if let Err(error) = session.store() {
            tracing::warn!(session = session.id, %error, "a call that never answered stays in the stored conversation");
        }
        session
    }

    /// One whose beginning was told already if `so`, whatever was said in it.
    #[must_use]
    pub fn announced(mut self, so: bool) -> Self {
        self.announced |= so;
        self
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was said, oldest first, without the system prompt.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Tokens that its requests have cost so far, where providers count them.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Forgets what was said.
    ///
    /// # Errors
    /// When the journal cannot; then nothing is forgotten.
    pub fn clear(&mut self) -> Result<()> {
        self.truncate(0)
    }

    /// Forgets the last turn, and gives back what the user said in it; `None` when nothing was said yet.
    ///
    /// # Errors
    /// When the journal cannot; then nothing is forgotten.
    pub fn undo(&mut self) -> Result<Option<String>> {
        let Some(at) = self.messages.iter().rposition(|m| m.role == Role::User) else { return Ok(None) };
        let input = self.messages[at].text.clone();
        self.truncate(at)?;
        Ok(Some(input))
    }

    /// A copy as it was before the last turn, and what the user said in that turn: to ask again while the answer stays. A journal
    /// learns what the copy costs, but not what is said in it; [`settle`](Self::settle) ends it. `None` when nothing was said yet.
    pub fn before_last(&self) -> Option<(Session, String)> {
        let at = self.messages.iter().rposition(|m| m.role == Role::User)?;
        let journal = self.journal.clone().map(|journal| Arc::new(Costs(journal)) as Arc<dyn Journal>);
        let copy = Session {
            id: self.id.clone(),
            messages: self.messages[..at].to_vec(),
            usage: self.usage,
            journal,
            stored: at,
            surplus: false,
            announced: self.announced,
        };
        Some((copy, self.messages[at].text.clone()))
    }

    /// Counts what a copy has cost. With `take`, what was said in it takes the place of what is said here.
    ///
    /// # Errors
    /// When the journal cannot store that; it is asked again with the next message.
    pub fn settle(&mut self, copy: Session, take: bool) -> Result<()> {
        self.usage = copy.usage;
        self.announced |= copy.announced;
        if !take {
            return Ok(());
        }
        let same = self.messages.iter().zip(&copy.messages).take_while(|(a, b)| a == b).count();
        self.forget(same);
        self.messages.extend_from_slice(&copy.messages[same..]);
        self.store()
    }

    /// One message more. Where the journal refuses it, the turn ends and takes it back.
    fn push(&mut self, message: Message) -> Result<()> {
        self.messages.push(message);
        self.store()
    }

    /// The messages from number `at` on are forgotten, here and in the journal, or in neither.
    fn truncate(&mut self, at: usize) -> Result<()> {
        if at >= self.messages.len() {
            return Ok(());
        }
        let left = at.min(self.stored);
        if let Some(journal) = &self.journal {
            journal.truncate(&self.id, left)?;
        }
        (self.stored, self.surplus) = (left, false);
        self.messages.truncate(at);
        Ok(())
    }

    /// The messages from number `at` on are forgotten here. [`store`](Self::store) has the journal follow.
    fn forget(&mut self, at: usize) {
        self.messages.truncate(at);
        if self.stored > at {
            (self.stored, self.surplus) = (at, true);
        }
    }

    /// Has the journal hold what is said here. What it could not do, it is asked again the next time.
    fn store(&mut self) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        if self.surplus {
            journal.truncate(&self.id, self.stored)?;
            self.surplus = false;
        }
        while let Some(message) = self.messages.get(self.stored) {
            journal.append(&self.id, self.stored, message)?;
            self.stored += 1;
        }
        Ok(())
    }

    fn spend(&mut self, usage: Usage) -> Result<()> {
        self.usage = self.usage.plus(usage);
        self.journal.as_ref().map_or(Ok(()), |journal| journal.spent(&self.id, usage))
    }

    /// The latest messages that fit a budget of tokens. Only whole turns are left out: a cut falls before a message of the
    /// user, so that no answer of a tool loses its call. The last turn is always there.
    fn window(&self, budget: u64) -> &[Message] {
        let mut start = None;
        let mut used = 0;
        for (at, message) in self.messages.iter().enumerate().rev() {
            used += estimate(message);
            if message.role == Role::User {
                if used > budget && start.is_some() {
                    break;
                }
                start = Some(at);
            }
        }
        &self.messages[start.unwrap_or(0)..]
    }

    /// Forgets calls whose tools were cut off before they answered: a model that reads of a call expects its answer.
    fn drop_open_calls(&mut self) {
        let Some(at) = self.messages.iter().rposition(|m| !m.tool_calls.is_empty()) else { return };
        let answered: Vec<_> = self.messages[at + 1..].iter().filter_map(|m| m.tool_call_id.clone()).collect();
        if self.messages[at].tool_calls.iter().all(|call| answered.contains(&call.id)) {
            return;
        }
        let mut again = self.messages[at..].to_vec();
        again[0].tool_calls.retain(|call| answered.contains(&call.id));
        if again[0].tool_calls.is_empty() && again[0].text.is_empty() {
            again.remove(0);
        }
        self.forget(at);
        self.messages.append(&mut again);
    }
}

/// The journal of a copy: what it costs is spent, what is said in it is not kept.
struct Costs(Arc<dyn Journal>);

impl Journal for Costs {
    fn append(&self, _: &str, _: usize, _: &Message) -> Result<()> {
        Ok(())
    }

    fn truncate(&self, _: &str, _: usize) -> Result<()> {
        Ok(())
    }

    fn announced(&self, session: &str) -> Result<()> {
        self.0.announced(session)
    }

    fn spent(&self, session: &str, usage: Usage) -> Result<()> {
        self.0.spent(session, usage)
    }
}

impl PartialEq for Session {
    /// Whether the same was said.
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.messages == other.messages
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("messages", &self.messages)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

/// A turn that is being added to a session. Dropped in the middle, as that of a cancelled turn is, it leaves what was said until
/// then.
pub(crate) struct Draft<'a> {
    session: &'a mut Session,
    /// Messages of the session before this turn.
    before: usize,
    /// What the model has said since the last message.
    said: String,
    /// Answers of tools that were called before others that have not answered yet: they wait, so that all stand in the order of
    /// the calls. How many of the round have been stored, and those that wait.
    answered: (usize, BTreeMap<usize, Message>),
}

impl<'a> Draft<'a> {
    pub(crate) fn new(session: &'a mut Session) -> Self {
        let before = session.messages.len();
        Draft { session, before, said: String::new(), answered: Default::default() }
    }

    pub(crate) fn id(&self) -> &str {
        &self.session.id
    }

    /// Whether it has to be told that the session begins: once.
    pub(crate) fn announce(&mut self) -> bool {
        if std::mem::replace(&mut self.session.announced, true) {
            return false;
        }
        if let Some(journal) = &self.session.journal
            && let Err(error) = journal.announced(&self.session.id)
        {
            tracing::warn!(session = self.session.id, %error, "that its beginning was told is not stored");
        }
        true
    }

    /// As [`Session::window`].
    pub(crate) fn window(&self, budget: u64) -> &[Message] {
        self.session.window(budget)
    }

    /// Whether this turn has made this call already.
    pub(crate) fn has_called(&self, name: &str, args: &Value) -> bool {
        let turn = &self.session.messages[self.before..];
        turn.iter().flat_map(|message| &message.tool_calls).any(|call| call.name == name && call.args == *args)
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.said.push_str(text);
    }

    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// A whole message, in the place of what was said.
    pub(crate) fn push(&mut self, message: Message) -> Result<()> {
        self.said.clear();
        self.answered = Default::default();
        self.session.push(message)
    }

    /// The answer to call number `n` of the last message, from 0.
    pub(crate) fn answer(&mut self, n: usize, message: Message) -> Result<()> {
        let (next, waiting) = &mut self.answered;
        waiting.insert(n, message);
        while let Some(message) = waiting.remove(next) {
            *next += 1;
            self.session.push(message)?;
        }
        Ok(())
    }

    /// What was said is no part of the answer.
    pub(crate) fn unsay(&mut self) {
        self.said.clear();
    }

    /// Tokens that the conversation has cost.
    pub(crate) fn spent(&self) -> Usage {
        self.session.usage
    }

    pub(crate) fn spend(&mut self, usage: Usage) -> Result<()> {
        self.session.spend(usage)
    }

    /// The turn never was.
    pub(crate) fn take_back(&mut self) {
        self.said.clear();
        self.answered = Default::default();
        self.session.forget(self.before);
    }
}

impl Drop for Draft<'_> {
    /// Whatever the journal says, the session is in order. Nobody waits for the outcome any more.
    fn drop(&mut self) {
        self.session.messages.extend(std::mem::take(&mut self.answered.1).into_values());
        self.session.drop_open_calls();
        if !self.said.is_empty() {
            self.session.messages.push(Message::assistant(std::mem::take(&mut self.said)));
        }
        if let Err(error) = self.session.store() {
            tracing::error!(session = self.session.id, %error, "the stored conversation is not what was said");
        }
    }
}

/// Tokens of a message, by the rule of thumb of four bytes a token, and four for its frame. Exact counts belong to a provider.
pub(crate) fn estimate(message: &Message) -> u64 {
    let calls: usize = message.tool_calls.iter().map(|call| call.name.len() + call.args.to_string().len()).sum();
    tokens(message.text.len() + calls) + 4
}

/// Tokens of so many bytes, by the same rule.
pub(crate) fn tokens(bytes: usize) -> u64 {
    bytes as u64 / 4
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bespoke_plugin_api::ToolCall;
    use serde_json::json;

    use super::*;

    fn session() -> Session {
        let mut session = Session::new("s");
        for n in 0..4 {
            session.messages.push(Message::user(format!("question {n} {}", "x".repeat(36))));
            session.messages.push(Message::assistant("").tool_calls(vec![call("1")]));
            session.messages.push(Message::tool("1", "noon"));
            session.messages.push(Message::assistant("it is noon"));
        }
        session
    }

    fn call(id: &str) -> ToolCall {
        ToolCall::new(id, "clock", json!({}))
    }

    #[test]
    fn leaves_out_whole_turns_and_keeps_tool_pairs_together() {
        let session = session();
        assert_eq!(session.window(u64::MAX), session.messages());
        let turn: u64 = session.messages[..4].iter().map(estimate).sum();
        for turns in 1..=4_u64 {
            // One token less than the next turn needs, and just enough for these.
            for budget in [turn * turns, turn * (turns + 1) - 1] {
                let window = session.window(budget);
                assert_eq!(window, &session.messages[16 - 4 * turns as usize..], "{budget}");
            }
        }
    }

    #[test]
    fn a_turn_is_undone_as_a_whole() {
        let mut session = session();
        let whole = session.messages.clone();
        assert!(session.undo().unwrap().is_some_and(|input| input.starts_with("question 3")));
        assert_eq!(session.messages, whole[..12]);
        for _ in 0..3 {
            assert!(session.undo().unwrap().is_some());
        }
        assert_eq!((session.undo().unwrap(), session.messages.len()), (None, 0));
    }

    /// Says what it was asked to keep.
    #[derive(Default)]
    struct Said(Mutex<Vec<String>>);

    impl Said {
        fn add(&self, what: String) -> Result<()> {
            self.0.lock().unwrap().push(what);
            Ok(())
        }

        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Journal for Said {
        fn append(&self, _: &str, at: usize, message: &Message) -> Result<()> {
            self.add(format!("{at} {}", message.text))
        }

        fn truncate(&self, _: &str, at: usize) -> Result<()> {
            self.add(format!("cut {at}"))
        }

        fn spent(&self, session: &str, usage: Usage) -> Result<()> {
            self.add(format!("{session} {}", usage.total()))
        }
    }

    #[test]
    fn a_turn_that_is_asked_again_stays_until_there_is_another() {
        assert!(Session::new("s").before_last().is_none());
        let journal = Arc::new(Said::default());
        let whole = session().messages;
        let mut session = Session::kept("s", whole.clone(), Usage::default(), journal.clone());
        for take in [false, true] {
            let (mut copy, input) = session.before_last().unwrap();
            assert_eq!((&copy.messages[..], &input), (&whole[..12], &whole[12].text));
            let mut draft = Draft::new(&mut copy);
            draft.push(Message::user(input)).unwrap();
            draft.spend(Usage::new(3, 4)).unwrap();
            draft.push(Message::assistant("it is one")).unwrap();
            drop(draft);
            // The journal has heard of the costs alone.
            assert_eq!((journal.taken(), session.messages()), (vec!["s 7".to_owned()], &whole[..]));
            session.settle(copy, take).unwrap();
            if !take {
                assert_eq!((journal.taken(), session.messages(), session.usage().total()), (Vec::new(), &whole[..], 7));
            }
        }
        // The question is the same: only what follows it is another.
        assert_eq!(session.messages(), [&whole[..13], &[Message::assistant("it is one")]].concat());
        assert_eq!((journal.taken(), session.usage().total()), (vec!["cut 13".to_owned(), "13 it is one".to_owned()], 14));
    }

    #[test]
    fn the_last_turn_is_always_there() {
        assert_eq!(session().window(0), &session().messages[12..]);
        assert!(Session::new("s").window(0).is_empty());
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_what_was_said_and_no_open_call() {
        let whole = session();
        let drafted = |fill: &dyn Fn(&mut Draft<'_>)| {
            let mut session = whole.clone();
            let mut draft = Draft::new(&mut session);
            draft.push(Message::user("again")).unwrap();
            fill(&mut draft);
            drop(draft);
            session.messages[whole.messages.len()..].to_vec()
        };
        let user = Message::user("again");
        assert_eq!(drafted(&|_| {}), std::slice::from_ref(&user));
        assert_eq!(drafted(&|draft| draft.say("It is")), [user.clone(), Message::assistant("It is")]);
        // None of two has answered: with words, the words stay.
        let round = |text: &str, calls: &[&str]| Message::assistant(text).tool_calls(calls.iter().map(|id| call(id)).collect());
        assert_eq!(drafted(&|draft| draft.push(round("", &["1", "2"])).unwrap()), std::slice::from_ref(&user));
        assert_eq!(drafted(&|draft| draft.push(round("Wait.", &["1", "2"])).unwrap()), [user.clone(), Message::assistant("Wait.")]);
        // One has: what it did is not forgotten.
        let one = drafted(&|draft| {
            draft.push(round("", &["1", "2"])).unwrap();
            draft.push(Message::tool("1", "noon")).unwrap();
        });
        assert_eq!(one, [user.clone(), round("", &["1"]), Message::tool("1", "noon")]);
        // Both have, and the model was speaking.
        let both = drafted(&|draft| {
            draft.push(round("", &["1"])).unwrap();
            draft.push(Message::tool("1", "noon")).unwrap();
            draft.say("It");
        });
        assert_eq!(both, [user, round("", &["1"]), Message::tool("1", "noon"), Message::assistant("It")]);
    }

    #[test]
    fn a_draft_that_is_taken_back_leaves_nothing() {
        let whole = session();
        let mut session = whole.clone();
        let mut draft = Draft::new(&mut session);
        draft.push(Message::user("again")).unwrap();
        draft.say("It is");
        draft.take_back();
        drop(draft);
        assert_eq!(session.messages, whole.messages);
    }
}
