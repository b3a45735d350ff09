//! One message, from the inbox to its answer in the outbox.

use std::sync::{Arc, atomic::Ordering};

use bespoke_host::{Caller, Refused};
use bespoke_plugin_api::{Attachment, CallCx, Code, Error, Hook, Inbound, Outbound, Result};
use bespoke_state::{Ending, StateError, Taken, Talk};

use crate::{
    commands,
    core::Core,
    desk::Rest,
    lines::Line,
    news::{self, Failed},
    post,
    show::{self, Board},
};

/// How often an answer is begun again because somebody else wrote to its conversation.
const CONFLICTS: u32 = 3;
/// What people are told of a guard that could not be asked.
const UNDECIDED: &str = "What looks after messages here does not answer. Please try again later.";
/// Most characters of an error that is told.
const TOLD: usize = 300;

/// What is said to a message.
#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) letters: Vec<Outbound>,
    pub(crate) talk: Option<Arc<Talk>>,
    pub(crate) by: Option<(String, String)>,
    /// The next message begins a new conversation.
    pub(crate) renew: bool,
    /// Why the message cannot be read, if that is so.
    pub(crate) aside: Option<String>,
}

/// A message that is being answered.
pub(crate) struct Asked<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) line: &'a Arc<Line>,
    pub(crate) taken: &'a Taken,
    pub(crate) cx: CallCx,
}

/// Answers the oldest message of a chat.
pub(crate) async fn answer_next(core: &Arc<Core>, channel: &str, chat: &str) -> Rest {
    // A channel that is not served any more: its messages wait until it is again.
    let Some(line) = core.line(channel) else { return Rest::Nothing };
    let taken = match core.state.begin(channel, chat) {
        Ok(Some(taken)) => taken,
        Ok(None) => return Rest::Nothing,
        Err(error) => {
            tracing::error!(channel, %error, "a message cannot be read");
            return Rest::Stuck;
        }
    };
    match answer(core, &line, &taken).await {
        Ok(true) => Rest::More,
        Ok(false) => Rest::Nothing,
        Err(error) => {
            let stopped = stopped(core);
            if !stopped {
                tracing::error!(channel, %error, "a message cannot be answered now");
            }
            // Neither the end of the program nor a full disk is the message's fault.
            if (stopped || error.is_retryable())
                && let Err(error) = core.state.release(taken.id)
            {
                tracing::warn!(channel, %error, "that cannot be stored");
            }
            Rest::Stuck
        }
    }
}

/// Whether an answer ends because the program does, whatever a plugin made of being cancelled.
fn stopped(core: &Core) -> bool {
    core.answers.is_cancelled()
}

/// Answers a message; whether another one of its chat waits.
async fn answer(core: &Arc<Core>, line: &Arc<Line>, taken: &Taken) -> Result<bool> {
    let config = core.config.load_full();
    let deadline = bespoke_host::now().plus(config.turn_limit());
    let cx = CallCx::new().with_cancel(core.answers.child()).with_deadline(deadline).with_trace(taken.id.unsigned_abs());
    let asked = Asked { core, line, taken, cx };
    let mut tries = 0;
    loop {
        let reply = if let Some(damage) = &taken.damage {
            asked.failed(None, Failed::Read, Code::INTERNAL_ERROR.name(), damage);
            Reply { aside: Some(damage.clone()), ..asked.says("I could not read your message. Please send it again.") }
        } else if taken.attempts > config.turn_attempts {
            let times = taken.attempts - 1;
            asked.failed(None, Failed::Answered, Code::CANCELLED.name(), &format!("its answer was begun {times} times and never finished"));
            asked.says(format!("I give up on this message: its answer was begun {times} times and never finished."))
        } else {
            asked.reply().await?
        };
        tries += 1;
        match asked.conclude(reply) {
            Ok(more) => return Ok(more),
            Err(StateError::Continued { .. } | StateError::Gone { .. }) if tries < CONFLICTS => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Asked<'_> {
    /// What is said to it.
    ///
    /// # Errors
    /// Only when the program is about to stop, or its file does not work: then the message stays.
    async fn reply(&self) -> Result<Reply> {
        let (core, channel) = (self.core, self.line.name());
        let message = match core.host.hooks().receive(&self.cx, channel, self.taken.message.clone()).await {
            Ok(message) => message,
            Err(_) if stopped(core) => return Err(Error::cancelled()),
            Err(refused) => {
                let text = self.refused("Your message was stopped", &refused);
                return Ok(self.says(text));
            }
        };
        let (notes, files): (Vec<&Attachment>, Vec<_>) = message.attachments.iter().partition(|file| file.voice);
        if notes.is_empty()
            && let Some((name, args)) = commands::command(&message.text)
        {
            let reply = commands::run(self, name, args).await?;
            return self.checked(reply).await;
        }
        let heard = match self.hear(&notes, &message).await? {
            Ok(heard) => heard,
            Err(reply) => return self.checked(reply).await,
        };
        let input = input(&message, &heard, &files);
        if input.is_empty() {
            return Ok(Reply::default());
        }
        let reply = self.turn(&input, !notes.is_empty()).await?;
        self.checked(reply).await
    }

    /// The words of voice notes, or what is said instead of an answer.
    async fn hear(&self, notes: &[&Attachment], message: &Inbound) -> Result<Result<String, Reply>> {
        let Some(ears) = self.core.notes.load_full() else {
            let deaf = !notes.is_empty() && message.text.trim().is_empty();
            return Ok(if deaf { Err(self.says("I cannot hear voice messages here. Please write to me.")) } else { Ok(String::new()) });
        };
        let mut heard = Vec::new();
        for note in notes {
            match show::typed(self, ears.hear(&self.cx, note)).await {
                Ok(words) => heard.push(words),
                Err(error) if stopped(self.core) => return Err(error),
                Err(error) => {
                    self.failed(None, Failed::Answered, error.kind(), &self.told(&error));
                    return Ok(Err(self.says(self.sorry("I could not hear your voice message", "Please write to me.", &error))));
                }
            }
        }
        let heard = heard.join("\n").trim().to_owned();
        let silent = !notes.is_empty() && heard.is_empty() && message.text.trim().is_empty();
        Ok(if silent { Err(self.says("I heard nothing in your voice message.")) } else { Ok(heard) })
    }

    /// The agent's turn.
    async fn turn(&self, input: &str, aloud: bool) -> Result<Reply> {
        let (core, agent) = (self.core, self.core.agent.load_full());
        let tokens = u64::from(agent.config().history_tokens);
        let (mut session, talk) = core.state.talk(self.line.name(), &self.taken.message.chat, tokens)?;
        let board = Board::default();
        let turned = show::shown(self, &board, agent.turn(&self.cx, &mut session, input, |event| board.hear(event))).await;
        let mut reply = match turned {
            Ok(turn) => {
                let text = if turn.text.trim().is_empty() { "The model gave no answer.".to_owned() } else { turn.text };
                Reply { by: Some((turn.provider, turn.model)), ..self.says(text) }
            }
            Err(error) if stopped(core) => return Err(error),
            Err(error) => {
                if !is_said(&error) {
                    self.failed(Some(session.id()), Failed::Answered, error.kind(), &self.told(&error));
                }
                self.says(self.apology(&error))
            }
        };
        // What the conversation has cost is kept in any case, and what the agent took back is not in there.
        reply.talk = Some(talk);
        if aloud && reply.by.is_some() {
            self.speak(&mut reply).await?;
        }
        Ok(reply)
    }

    /// Adds the answer as a voice note, where the channel takes files.
    async fn speak(&self, reply: &mut Reply) -> Result<()> {
        let takes_files = self.line.slot(self.core).is_ok_and(|slot| slot.spec().attachments);
        let (Some(mouth), Some(letter), true) = (self.core.notes.load_full(), reply.letters.first_mut(), takes_files) else {
            return Ok(());
        };
        match show::typed(self, mouth.speak(&self.cx, &letter.text)).await {
            Ok(note) => letter.attachments.push(note),
            Err(error) if stopped(self.core) => return Err(error),
            // The text is there.
            Err(error) => tracing::warn!(channel = &**self.line.name(), error = error.kind(), "an answer was not spoken"),
        }
        Ok(())
    }

    /// A reply as hooks leave it.
    async fn checked(&self, mut reply: Reply) -> Result<Reply> {
        let hooks = self.core.host.hooks();
        if !hooks.wants(Hook::BeforeMessageSend) {
            return Ok(reply);
        }
        let mut letters = Vec::with_capacity(reply.letters.len());
        for letter in reply.letters {
            letters.push(match hooks.send(&self.cx, self.line.name(), letter).await {
                Ok(letter) => letter,
                Err(_) if stopped(self.core) => return Err(Error::cancelled()),
                Err(refused) => self.message(self.refused("The answer was stopped", &refused)),
            });
        }
        reply.letters = letters;
        Ok(reply)
    }

    /// Everything of the answer at once, and on its way.
    fn conclude(&self, reply: Reply) -> std::result::Result<bool, StateError> {
        let (core, line) = (self.core, self.line);
        let room = if reply.letters.is_empty() { None } else { line.post.room() };
        let waits = reply.letters.len() > usize::from(room.is_some());
        let mut ending = Ending::default();
        ending.talk = reply.talk.as_deref();
        ending.by = reply.by.as_ref().map(|(provider, model)| (provider.as_str(), model.as_str()));
        ending.renew = reply.renew;
        ending.aside = reply.aside.as_deref();
        ending.letters = reply.letters;
        ending.direct = room.is_some();
        let concluded = core.state.conclude(self.taken.id, line.name(), &self.taken.message.chat, ending)?;
        core.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        core.counts.turns.fetch_add(1, Ordering::Relaxed);
        match (concluded.letter, room) {
            (Some(letter), Some(room)) => {
                post::send(core, line, letter, room);
                if waits {
                    core.wake(line.name());
                }
            }
            (_, room) => {
                drop(room);
                core.wake(line.name());
            }
        }
        Ok(concluded.more)
    }

    /// Tells that the conversation of the chat is over, if there is one whose beginning was told. Whether something was said in it.
    pub(crate) async fn end_session(&self) -> Result<bool> {
        let Some(current) = self.core.state.current(self.line.name(), &self.taken.message.chat)? else { return Ok(false) };
        if current.announced {
            self.core.agent.load_full().tell_end(&self.cx, &current.session).await;
        }
        Ok(!current.is_empty)
    }

    /// A text as the whole answer.
    pub(crate) fn says(&self, text: impl Into<String>) -> Reply {
        Reply { letters: vec![self.message(text)], ..Reply::default() }
    }

    pub(crate) fn message(&self, text: impl Into<String>) -> Outbound {
        let (letter, id) = (Outbound::new(&self.taken.message.chat, text), &self.taken.message.id);
        // Of one that cannot be read there is none.
        if id.is_empty() { letter } else { letter.reply_to(id.clone()) }
    }

    /// What a user is told of a turn that failed.
    fn apology(&self, error: &Error) -> String {
        match error.code() {
            _ if is_said(error) => format!("Your message was {}", self.told(error)),
            _ if is_veto(error) => self.sorry("Your message was stopped", UNDECIDED, error),
            Code::EXECUTION_TIMEOUT => "I could not answer in time.".to_owned(),
            Code::RESOURCE_EXHAUSTED => self.sorry("I could not answer", "I have used up what I may use for now.", error),
            Code::LLM_RATE_LIMITED => {
                self.sorry("I could not answer", "I am asked too much right now. Please try again in a while.", error)
            }
            _ => self.sorry("I could not answer", "Please try again later.", error),
        }
    }

    /// What a hook has stopped: in the words of its handler, or, where that could not be asked, in ours.
    fn refused(&self, what: &str, refused: &Refused) -> String {
        if refused.said {
            return format!("{what} by {}: {}", refused.plugin, refused.reason);
        }
        let error = Error::new(Code::PERMISSION_DENIED, refused.to_string());
        self.failed(None, Failed::Answered, error.kind(), &self.told(&error));
        self.sorry(what, UNDECIDED, &error)
    }

    /// What failed, for whoever wrote: with what they can do, or, for an owner, with why it failed.
    pub(crate) fn sorry(&self, what: &str, hint: &str, error: &Error) -> String {
        match (self.caller().authenticated, hint) {
            (true, _) => format!("{what}: {}", self.told(error)),
            (false, "") => format!("{what}."),
            (false, hint) => format!("{what}. {hint}"),
        }
    }

    /// Says to who runs this what a user is not told.
    pub(crate) fn failed(&self, session: Option<&str>, what: Failed, code: &str, reason: &str) {
        let (channel, chat) = (&**self.line.name(), self.taken.message.chat.as_str());
        tracing::warn!(channel, message = self.taken.id, session, code, reason, "a message came to nothing");
        news::failed(self.core, (channel, chat), session, what, code, reason);
    }

    /// Who writes.
    pub(crate) fn caller(&self) -> Caller {
        let user = format!("{}:{}", self.line.name(), self.taken.message.sender);
        let authenticated = self.core.config.load().owns(&user);
        Caller { user, authenticated }
    }

    /// An error without secrets, and without the command that only somebody at this machine could type.
    pub(crate) fn told(&self, error: &Error) -> String {
        let told = self.core.host.redactor().redact(error.message()).into_owned();
        if told.chars().count() > TOLD { told.chars().take(TOLD).chain(['…']).collect() } else { told }
    }
}

/// Whether a hook has stopped the turn.
fn is_veto(error: &Error) -> bool {
    error.code() == Code::PERMISSION_DENIED && error.message().starts_with("stopped by ")
}

/// Whether the reason is what the handler of that hook has said: it is for the user.
fn is_said(error: &Error) -> bool {
    is_veto(error) && error.data().is_some_and(|data| data["said"] == true)
}

/// What the agent reads of a message: its text, what was heard, and that there are files.
fn input(message: &Inbound, heard: &str, files: &[&Attachment]) -> String {
    let mut parts: Vec<String> =
        [heard.trim(), message.text.trim()].into_iter().filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for file in files {
        let name = file.name.as_deref().unwrap_or("without a name");
        parts.push(format!("[A file came with this message: {name}, {}, {} bytes]", file.mime, file.size));
    }
    parts.join("\n")
}
