//! One turn: history, provider, stream, tools, again until the model has nothing more to ask for.

use std::{collections::BTreeMap, time::Instant};

use bespoke_host::{Outcome, Workflow, topics};
use bespoke_plugin_api::{CallCx, Code, Error, Hook, HookEvent, Message, ModelInfo, Result, ToolCall, ToolSpec, Usage};
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::{Agent, Session, Turn, TurnEvent, ask::Offer, session::Draft, tools};

/// Most tools of one round that run at once.
const SIDE_BY_SIDE: usize = 8;

/// A turn in progress.
pub(crate) struct Work<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) cx: &'a CallCx,
    pub(crate) draft: Draft<'a>,
    pub(crate) turn: Turn,
    /// What events tell of it.
    pub(crate) workflow: Workflow,
    /// The model of each provider that was asked.
    pub(crate) models: BTreeMap<String, ModelInfo>,
    /// Tokens that the turn has cost, counted or estimated.
    pub(crate) cost: u64,
    on_event: &'a mut (dyn FnMut(TurnEvent) + Send),
    begun: Instant,
}

impl<'a> Work<'a> {
    pub(crate) fn new(agent: &'a Agent, cx: &'a CallCx, session: &'a mut Session, on_event: &'a mut (dyn FnMut(TurnEvent) + Send)) -> Self {
        let workflow = Workflow::begin(agent.host().events(), "agent", Some(session.id()));
        Work {
            agent,
            cx,
            draft: Draft::new(session),
            workflow,
            turn: Turn::begin(),
            models: BTreeMap::new(),
            cost: 0,
            on_event,
            begun: Instant::now(),
        }
    }

    /// From the user's words to the answer. May be dropped at any point; [`settle`](Self::settle) puts the session in order.
    pub(crate) async fn run(&mut self, input: &str) -> Result<()> {
        let input = self.receive(input).await?;
        self.draft.push(Message::user(input))?;
        let offered = self.agent.tools();
        let most = self.agent.config().max_tool_steps;
        for round in 0.. {
            // After the last round the model has to answer with what it has.
            let is_open = round < most;
            let calls = self.ask(Offer { tools: &offered, is_open }).await?;
            if calls.is_empty() {
                break;
            }
            if !is_open {
                let message = format!("the model still asks for tools after {round} rounds");
                return Err(Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("raise agent.max_tool_steps"));
            }
            let calls = named(calls, round);
            let text = self.draft.said().to_owned();
            self.draft.push(Message::assistant(text).tool_calls(calls.clone()))?;
            self.serve(calls, &offered).await?;
        }
        self.answer().await
    }

    /// What is left of it, and of the session.
    pub(crate) fn settle(mut self, result: Result<()>) -> Result<Turn> {
        match result {
            Ok(()) => {
                self.turn.total = self.begun.elapsed();
                self.workflow.complete(Ok(()));
                Ok(self.turn)
            }
            // Whatever a plugin made of being cancelled. The draft leaves in the session what was said until then.
            Err(_) if self.cx.is_cancelled() => Err(Error::cancelled()),
            Err(error) => {
                self.workflow.complete(Err(&error));
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

    /// A request was answered: for so many tokens by the provider's count, or by estimate if it does not count.
    pub(crate) fn spend(&mut self, counted: Option<Usage>, asked: u64, heard: u64) -> Result<()> {
        if let Some(usage) = counted {
            self.turn.usage = Some(self.turn.usage.unwrap_or_default().plus(usage));
        }
        let small = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
        let usage = counted.unwrap_or_else(|| Usage::new(small(asked), small(heard)));
        self.cost = self.cost.saturating_add(usage.total());
        if self.agent.config().daily_tokens > 0 {
            self.agent.host().spend_tokens(usage.total())?;
        }
        self.draft.spend(usage)
    }

    /// The input as hooks leave it.
    async fn receive(&mut self, input: &str) -> Result<String> {
        let hooks = self.agent.host().hooks();
        let is_first = self.draft.announce();
        let session = || self.draft.id().to_owned();
        if is_first {
            self.agent.host().events().tell(topics::SESSION_CREATED, || json!({ "session": session() }));
            // Hooks look on; a session that has begun is stopped by refusing its turns.
            let _ = hooks.run(self.cx, Hook::OnSessionCreate, || HookEvent::on_session_create(session())).await;
        }
        let event = || HookEvent::before_agent_run(session(), input.to_owned());
        match hooks.run(self.cx, Hook::BeforeAgentRun, event).await {
            Some(Outcome::Proceed(HookEvent::BeforeAgentRun { input, .. })) => Ok(input),
            Some(Outcome::Vetoed { plugin, reason, said }) => Err(vetoed(&plugin, &reason, said)),
            _ => Ok(input.to_owned()),
        }
    }

    /// Runs the tools of one round side by side and tells the model, in the order of the calls.
    async fn serve(&mut self, calls: Vec<ToolCall>, offered: &[ToolSpec]) -> Result<()> {
        self.cx.check()?;
        let (host, cx) = (self.agent.host(), self.cx);
        for call in &calls {
            self.tell(TurnEvent::ToolStarted(call.clone()));
        }
        // A name that no tool has is the model's own words, and not told.
        let known = |call: &ToolCall| offered.iter().find(|spec| spec.name == call.name).map(|spec| spec.name.as_str());
        let steps: Vec<_> = calls.iter().map(|call| self.workflow.step("tool", known(call))).collect();
        let runs = calls.into_iter().zip(steps).enumerate().map(|(n, (call, step))| async move {
            // A hook may change the call, but not which one it answers.
            let id = call.id.clone();
            let result = tools::run(host, cx, call, offered).await;
            match &result {
                Ok((_, output)) if output.is_error => step.fail("TOOL_FAILED"),
                result => step.complete(result.as_ref().map(drop)),
            }
            (n, id, result)
        });
        let mut running = stream::iter(runs).buffer_unordered(SIDE_BY_SIDE);
        while let Some((n, id, result)) = running.next().await {
            let (call, output) = result?;
            self.draft.answer(n, Message::tool(id, tools::for_model(&output)))?;
            self.turn.tool_calls += 1;
            self.tell(TurnEvent::ToolFinished { call, output });
        }
        Ok(())
    }

    /// The answer as hooks leave it.
    async fn answer(&mut self) -> Result<()> {
        self.turn.text = self.draft.said().to_owned();
        let event = || HookEvent::after_agent_run(self.draft.id().to_owned(), self.turn.text.clone());
        match self.agent.host().hooks().run(self.cx, Hook::AfterAgentRun, event).await {
            Some(Outcome::Proceed(HookEvent::AfterAgentRun { output, .. })) => self.turn.text = output,
            Some(Outcome::Vetoed { plugin, reason, said }) => return Err(vetoed(&plugin, &reason, said)),
            _ => {}
        }
        self.draft.push(Message::assistant(self.turn.text.clone()))
    }
}

/// Calls with ids that tell them apart, whatever the model wrote.
fn named(mut calls: Vec<ToolCall>, round: u32) -> Vec<ToolCall> {
    for n in 0..calls.len() {
        if calls[n].id.is_empty() || calls[..n].iter().any(|before| before.id == calls[n].id) {
            calls[n].id = format!("call-{round}-{n}");
        }
    }
    calls
}

/// The error of a turn that a hook stopped; `said` in its data tells whether the reason is the handler's own, and so for the user.
fn vetoed(plugin: &str, reason: &str, said: bool) -> Error {
    Error::new(Code::PERMISSION_DENIED, format!("stopped by {plugin}: {reason}")).with_data(json!({ "said": said }))
}
