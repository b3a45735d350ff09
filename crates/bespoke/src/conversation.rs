//! A conversation of a verb: an agent, what was said, and where that is kept.

use bespoke_agent::{Agent, Session, Turn, TurnEvent};
use bespoke_host::{Refused, Slot};
use bespoke_plugin_api::{CallCx, Hook, Inbound, Outbound, Provider, Role, Tool};

use crate::{
    cli::Keeping,
    exit::{Exit, Failure, Result},
    output::Out,
    setup::Setup,
    state::Sessions,
};

/// Sessions that `/sessions` shows.
const SHOWN: u32 = 10;

/// What became of a message that was answered, or not.
pub(crate) struct Exchange {
    /// The turn; its text is what left.
    pub(crate) turn: Result<Turn>,
    /// Why nothing of the answer left.
    pub(crate) withheld: Option<Refused>,
}

/// One conversation.
pub(crate) struct Conversation<'s> {
    setup: &'s Setup,
    pub(crate) agent: Agent,
    pub(crate) session: Session,
    /// The last question is to be asked again.
    pub(crate) retry: bool,
    kept: Option<Sessions>,
    channel: &'static str,
}

impl<'s> Conversation<'s> {
    /// A conversation over `channel`: a new one, or the one that is asked for.
    pub(crate) fn open(setup: &'s Setup, keeping: &Keeping, channel: &'static str) -> Result<Self> {
        let agent = setup.agent()?;
        let kept = match if keeping.forget { Ok(None) } else { Sessions::open(&setup.kept) } {
            Ok(kept) => kept,
            // An answer that is not kept is better than none; a conversation that is not may be missed.
            Err(failure) if channel != "ask" || keeping.session.is_some() || keeping.r#continue => return Err(failure),
            Err(failure) => {
                setup.out.note(format!("this conversation is not kept: {failure}"));
                None
            }
        };
        let session = match (&kept, &keeping.session, keeping.r#continue) {
            (Some(kept), Some(id), _) => kept.resume(id)?,
            (Some(kept), None, true) => match kept.latest(channel)? {
                Some(id) => kept.resume(&id)?,
                None => {
                    setup.out.note("there is no conversation to go on with yet; a new one begins");
                    kept.create(channel)?
                }
            },
            (Some(kept), None, false) => kept.create(channel)?,
            (None, Some(_), _) | (None, None, true) => return Err(crate::state::not_here()),
            (None, None, false) => Session::new(channel),
        };
        Ok(Conversation { setup, agent, session, retry: false, kept, channel })
    }

    pub(crate) fn out(&self) -> Out {
        self.setup.out
    }

    pub(crate) fn setup(&self) -> &'s Setup {
        self.setup
    }

    /// The id under which it is kept; `None` when it is not.
    pub(crate) fn id(&self) -> Option<&str> {
        self.kept.as_ref().map(|_| self.session.id())
    }

    /// What a person is told before the first question.
    pub(crate) fn greet(&self) {
        let out = self.out();
        let tools = self.offered();
        let tools = match &tools[..] {
            [] => String::new(),
            [one] => format!(", with the tool {one}"),
            many => format!(", with the tools {}", many.join(", ")),
        };
        out.note(format!(
            "{} answers{tools}. /help tells what else can be typed; Ctrl-C stops an answer, Ctrl-D ends.",
            self.agent.providers().join(", ")
        ));
        let asked = self.session.messages().iter().filter(|m| m.role == Role::User).count();
        if asked > 0 {
            let questions = if asked == 1 { "question" } else { "questions" };
            out.note(format!("Going on with {} after {asked} {questions}; /history shows them.", self.session.id()));
        }
    }

    /// A message that came in, as hooks leave it.
    ///
    /// # Errors
    /// When one of them refuses it.
    pub(crate) async fn received(&self, cx: &CallCx, message: Inbound) -> Result<Inbound> {
        let received = self.setup.host.hooks().receive(cx, self.channel, message).await;
        received.map_err(|refused| Failure::new(Exit::Consent, refused.to_string()))
    }

    /// Whether hooks want to see a message whole before it leaves: then nothing of it may be shown while it is written.
    pub(crate) fn holds_back(&self) -> bool {
        self.setup.host.hooks().wants(Hook::BeforeMessageSend)
    }

    /// A message that is about to leave, as hooks leave it.
    pub(crate) async fn sent(&self, cx: &CallCx, message: Outbound) -> Result<Outbound, Refused> {
        self.setup.host.hooks().send(cx, self.channel, message).await
    }

    /// Answers a message: hooks see it before the agent does, and the answer before it leaves. While one of them wants to see it
    /// whole, its text comes in one piece at the end.
    ///
    /// # Errors
    /// When a hook refuses the message.
    pub(crate) async fn exchange(&mut self, cx: &CallCx, message: Inbound, mut on_event: impl FnMut(TurnEvent) + Send) -> Result<Exchange> {
        let message = self.received(cx, message).await?;
        if !self.holds_back() {
            return Ok(Exchange { turn: self.turn(cx, &message.text, on_event).await, withheld: None });
        }
        let mut held = String::new();
        let turn = self.turn(cx, &message.text, |event| match event {
            TurnEvent::Text(piece) => held.push_str(&piece),
            TurnEvent::ProviderFailed { provider, reason, .. } => {
                held.clear();
                on_event(TurnEvent::ProviderFailed { provider, reason, shown: false });
            }
            event => on_event(event),
        });
        let turn = turn.await;
        if held.is_empty() {
            return Ok(Exchange { turn, withheld: None });
        }
        let (text, withheld) = match self.sent(cx, Outbound::new(message.chat, held)).await {
            Ok(message) => (message.text, None),
            Err(withheld) => (String::new(), Some(withheld)),
        };
        if !text.is_empty() {
            on_event(TurnEvent::Text(text.clone()));
        }
        Ok(Exchange { turn: turn.map(|turn| with_text(turn, text)), withheld })
    }

    /// Answers one input; see `Agent::turn`.
    pub(crate) async fn turn(&mut self, cx: &CallCx, input: &str, on_event: impl FnMut(TurnEvent) + Send) -> Result<Turn> {
        let turn = self.agent.turn(cx, &mut self.session, input, on_event).await?;
        self.answered(turn)
    }

    /// Answers the last input again. The answer that there is stays until there is another one.
    pub(crate) async fn again(&mut self, cx: &CallCx, on_event: impl FnMut(TurnEvent) + Send) -> Result<Turn> {
        let Some((mut copy, input)) = self.session.before_last() else { return Err(Failure::failed("nothing was said yet")) };
        let turn = self.agent.turn(cx, &mut copy, &input, on_event).await;
        self.session.settle(copy, turn.is_ok())?;
        self.answered(turn?)
    }

    fn answered(&self, turn: Turn) -> Result<Turn> {
        if let Some(kept) = &self.kept {
            kept.answered(self.session.id(), &turn.provider, &turn.model)?;
        }
        Ok(turn)
    }

    /// Begins a new conversation with the same agent.
    pub(crate) async fn renew(&mut self) -> Result<()> {
        let session = match &self.kept {
            Some(kept) => kept.create(self.channel)?,
            None => Session::new(self.channel),
        };
        self.change(session).await;
        Ok(())
    }

    /// Goes on with another conversation.
    pub(crate) async fn resume(&mut self, id: &str) -> Result<String> {
        let session = self.kept()?.resume(id)?;
        self.change(session).await;
        let last = self.session.messages().iter().rev().find(|m| m.role == Role::User).map(|m| m.text.clone());
        let last = last.map_or(String::new(), |last| format!(" The last question was: {last}"));
        Ok(format!("Going on with {}.{last}", self.session.id()))
    }

    async fn change(&mut self, session: Session) {
        let before = std::mem::replace(&mut self.session, session);
        self.agent.end(&CallCx::new(), before).await;
    }

    /// Sessions that are kept, the latest first.
    pub(crate) fn list(&self) -> Result<String> {
        let lines = self.kept()?.recent(SHOWN)?;
        if lines.is_empty() { Ok("No conversation is kept yet.".into()) } else { Ok(lines.join("\n")) }
    }

    pub(crate) fn rename(&self, title: &str) -> Result<()> {
        self.kept()?.rename(self.session.id(), title)
    }

    /// The conversation as a document.
    pub(crate) fn markdown(&self) -> Result<String> {
        self.kept()?.markdown(self.session.id())
    }

    /// The tools that the model is offered, a line each.
    pub(crate) fn tools(&self) -> String {
        let named = self.offered();
        let lines: Vec<_> = named
            .iter()
            .filter_map(|name| self.setup.host.find::<dyn Tool>(name).ok())
            .map(|slot: Slot<dyn Tool>| format!("{}: {}", slot.name(), slot.spec().description))
            .collect();
        if lines.is_empty() { "The model has no tools.".into() } else { lines.join("\n") }
    }

    fn offered(&self) -> Vec<String> {
        self.agent.tools().into_iter().map(|spec| spec.name).collect()
    }

    /// Who answers, and the models there are.
    pub(crate) async fn models(&self) -> Result<String> {
        let mut lines = vec![format!("Asked in this order: {}", self.agent.providers().join(", "))];
        for slot in self.setup.host.registry().all::<dyn Provider>() {
            if !slot.is_ready() {
                continue;
            }
            let models = slot.call(&CallCx::new(), |provider, cx| async move { provider.models(&cx).await }).await;
            lines.push(match models {
                Ok(models) => {
                    let ids: Vec<_> = models.into_iter().map(|model| model.id).collect();
                    format!("{}: {}", slot.name(), ids.join(", "))
                }
                Err(error) => format!("{}: {}", slot.name(), error.message()),
            });
        }
        Ok(lines.join("\n"))
    }

    /// Has another provider answer from now on.
    pub(crate) fn ask_from_now_on(&mut self, provider: &str) -> Result<String> {
        let mut config = self.agent.config().clone();
        config.provider = vec![provider.to_owned()];
        let name = config.provider_names().remove(0);
        self.setup.host.find::<dyn Provider>(&name)?;
        self.agent = Agent::new(self.setup.host.clone(), config)?;
        Ok(format!("{provider} answers from now on."))
    }

    /// Other instructions from now on.
    pub(crate) fn instruct(&mut self, system: &str) -> Result<()> {
        let mut config = self.agent.config().clone();
        system.clone_into(&mut config.system);
        self.agent = Agent::new(self.setup.host.clone(), config)?;
        Ok(())
    }

    /// Reads the configuration again: the agent answers by it from now on, and the host takes over what it can.
    pub(crate) async fn reload(&mut self) -> Result<String> {
        let reloaded = self.setup.reload(&["agent"]).await?;
        let told = reloaded.told();
        self.agent = Agent::new(self.setup.host.clone(), reloaded.sections.agent)?;
        Ok(told)
    }

    /// The conversation is over.
    pub(crate) async fn end(self) {
        self.agent.end(&CallCx::new(), self.session).await;
    }

    fn kept(&self) -> Result<&Sessions> {
        self.kept.as_ref().ok_or_else(|| Failure::new(Exit::NotFound, "this conversation is not kept"))
    }
}

/// A turn with what left as its text.
fn with_text(mut turn: Turn, text: String) -> Turn {
    turn.text = text;
    turn
}
