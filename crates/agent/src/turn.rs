//! One turn: history, provider, stream, tools, again until the model has nothing more to ask for.

use std::time::Instant;

use bespoke_host::Outcome;
use bespoke_plugin_api::{CallCx, Code, Error, Hook, HookEvent, Message, Result, ToolCall, ToolSpec, Usage};

use crate::{Agent, Session, Turn, TurnEvent, session::Draft, tools};

/// A turn in progress.
pub(crate) struct Work<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) cx: &'a CallCx,
    pub(crate) draft: Draft<'a>,
    pub(crate) turn: Turn,
    on_event: &'a mut (dyn FnMut(TurnEvent) + Send),
    begun: Instant,
}

impl<'a> Work<'a> {
    pub(crate) fn new(agent: &'a Agent, cx: &'a CallCx, session: &'a mut Session, on_event: &'a mut (dyn FnMut(TurnEvent) + Send)) -> Self {
        Work { agent, cx, draft: Draft::new(session), turn: Turn::begin(), on_event, begun: Instant::now() }
    }

    /// From the user's words to the answer. May be dropped at any point; [`settle`](Self::settle) puts the session in order.
    pub(crate) async fn run(&mut self, input: &str) -> Result<()> {
        let input = self.receive(input).await?;
        self.draft.push(Message::user(input))?;
        let offered = tools::offered(self.agent.host(), self.agent.config().tools.as_deref());
        for round in 0.. {
            let calls = self.ask(&offered).await?;
            if calls.is_empty() {
                break;
            }
            if round == self.agent.config().max_tool_steps {
                let message = format!("the model still asks for tools after {round} rounds");
                return Err(Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("raise agent.max_tool_steps"));
            }
            let text = self.draft.said().to_owned();
            self.draft.push(Message::assistant(text).tool_calls(calls.clone()))?;
            for call in calls {
                self.serve(call, &offered).await?;
            }
        }
        self.answer().await
    }

    /// What is left of it, and of the session.
    pub(crate) fn settle(mut self, result: Result<()>) -> Result<Turn> {
        match result {
            Ok(()) => {
                self.turn.total = self.begun.elapsed();
                Ok(self.turn)
            }
            // Whatever a plugin made of being cancelled. The draft leaves in the session what was said until then.
            Err(_) if self.cx.is_cancelled() => Err(Error::cancelled()),
            Err(error) => {
                self.draft.take_back();
                Err(error)
            }
        }
    }

    pub(crate) fn tell(&mut self, event: TurnEvent) {
        (self.on_event)(event);
    }

    /// A piece of the answer has come.
    pub(crate) fn say(&mut self, text: String) {
        self.turn.first_token.get_or_insert_with(|| self.begun.elapsed());
        self.draft.say(&text);
        self.tell(TurnEvent::Text(text));
    }

    pub(crate) fn spend(&mut self, usage: Option<Usage>) -> Result<()> {
        let Some(usage) = usage else { return Ok(()) };
        self.turn.usage = Some(self.turn.usage.unwrap_or_default().plus(usage));
        self.draft.spend(usage)
    }

    /// The input as hooks leave it.
    async fn receive(&mut self, input: &str) -> Result<String> {
        let hooks = self.agent.host().hooks();
        let is_first = self.draft.announce();
        let session = || self.draft.id().to_owned();
        if is_first {
            // Hooks look on; a session that has begun is stopped by refusing its turns.
            let _ = hooks.run(self.cx, Hook::OnSessionCreate, || HookEvent::on_session_create(session())).await;
        }
        let event = || HookEvent::before_agent_run(session(), input.to_owned());
        match hooks.run(self.cx, Hook::BeforeAgentRun, event).await {
            Some(Outcome::Proceed(HookEvent::BeforeAgentRun { input, .. })) => Ok(input),
            Some(Outcome::Vetoed { plugin, reason }) => Err(vetoed(&plugin, &reason)),
            _ => Ok(input.to_owned()),
        }
    }

    /// Runs a tool and tells the model.
    async fn serve(&mut self, call: ToolCall, offered: &[ToolSpec]) -> Result<()> {
        self.cx.check()?;
        self.tell(TurnEvent::ToolStarted(call.clone()));
        // A hook may change the call, but not which one it answers.
        let id = call.id.clone();
        let (call, output) = tools::run(self.agent.host(), self.cx, call, offered).await?;
        self.draft.push(Message::tool(id, tools::for_model(&output)))?;
        self.turn.tool_calls += 1;
        self.tell(TurnEvent::ToolFinished { call, output });
        Ok(())
    }

    /// The answer as hooks leave it.
    async fn answer(&mut self) -> Result<()> {
        self.turn.text = self.draft.said().to_owned();
        let event = || HookEvent::after_agent_run(self.draft.id().to_owned(), self.turn.text.clone());
        match self.agent.host().hooks().run(self.cx, Hook::AfterAgentRun, event).await {
            Some(Outcome::Proceed(HookEvent::AfterAgentRun { output, .. })) => self.turn.text = output,
            Some(Outcome::Vetoed { plugin, reason }) => return Err(vetoed(&plugin, &reason)),
            _ => {}
        }
        self.draft.push(Message::assistant(self.turn.text.clone()))
    }
}

/// The error of a turn that a hook stopped.
fn vetoed(plugin: &str, reason: &str) -> Error {
    Error::new(Code::PERMISSION_DENIED, format!("stopped by {plugin}: {reason}"))
}
