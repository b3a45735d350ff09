//! One turn: history, provider, stream, tools, again until the model has nothing more to ask for.

use std::time::{Duration, Instant};

use bespoke_host::{Host, Outcome};
use bespoke_plugin_api::{
    CallCx, ChatDelta, ChatRequest, Code, Error, FinishReason, Hook, HookEvent, Kind, Message, Provider, Result, ToolCall, ToolOutput,
    ToolSpec, Usage,
};
use futures_util::StreamExt;

use crate::{AgentConfig, Session, tools};

/// Answers users. Cheap to clone; holds no conversation.
#[derive(Debug, Clone)]
pub struct Agent {
    host: Host,
    config: AgentConfig,
}

/// What happens while a turn runs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TurnEvent {
    /// More of the answer.
    Text(String),
    /// A tool is about to run.
    ToolStarted(ToolCall),
    /// A tool has answered.
    ToolFinished {
        /// The call, as hooks left it.
        call: ToolCall,
        /// Its answer.
        output: ToolOutput,
    },
    /// A provider could not answer; the next one is tried.
    ProviderFailed {
        /// Its name.
        provider: String,
        /// Why.
        reason: String,
    },
}

/// A turn that is done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Turn {
    /// The answer.
    pub text: String,
    /// Name of the provider that gave it.
    pub provider: String,
    /// Why the answer ended.
    pub finish: FinishReason,
    /// Tokens of all requests of the turn, where the provider counts them.
    pub usage: Option<Usage>,
    /// Tools that ran.
    pub tool_calls: u32,
    /// From the start of the turn to the first text.
    pub first_token: Option<Duration>,
    /// The whole turn.
    pub total: Duration,
}

/// What one request to a model gave.
#[derive(Default)]
struct Answer {
    text: String,
    calls: Vec<ToolCall>,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
}

impl Agent {
    /// An agent over a host whose plugins are started.
    pub fn new(host: Host, config: AgentConfig) -> Self {
        Agent { host, config }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// How it answers.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// Names of the providers that it would ask, in order.
    pub fn providers(&self) -> Vec<String> {
        if self.config.provider.is_empty() { self.host.default_names(Kind::Provider) } else { self.config.provider.clone() }
    }

    /// Answers one input. Text goes to `on_event` as it comes; the session has the whole turn afterwards. After an error the
    /// session is as before; after a cancellation it holds what was said until then.
    ///
    /// # Errors
    /// What the last provider said when none answered; `PERMISSION_DENIED` when a hook stopped the turn; `CANCELLED`.
    pub async fn turn(&self, cx: &CallCx, session: &mut Session, input: &str, mut on_event: impl FnMut(TurnEvent) + Send) -> Result<Turn> {
        let before = session.messages().len();
        let cx = cx.with_session(session.id());
        let result = self.run(&cx, session, input, &mut on_event).await;
        match &result {
            Err(error) if error.code() == Code::CANCELLED => session.drop_open_calls(),
            Err(_) => session.truncate(before),
            Ok(_) => {}
        }
        result
    }

    async fn run(&self, cx: &CallCx, session: &mut Session, input: &str, on_event: &mut (dyn FnMut(TurnEvent) + Send)) -> Result<Turn> {
        let begun = Instant::now();
        let hooks = self.host.hooks();
        if !std::mem::replace(&mut session.announced, true) {
            hooks.run(cx, Hook::OnSessionCreate, || HookEvent::OnSessionCreate { session: session.id().to_owned() }).await;
        }
        let asked =
            hooks.run(cx, Hook::BeforeAgentRun, || HookEvent::BeforeAgentRun { session: session.id().to_owned(), input: input.to_owned() });
        let input = match asked.await {
            Some(Outcome::Proceed(HookEvent::BeforeAgentRun { input, .. })) => input,
            Some(Outcome::Vetoed { plugin, reason }) => return Err(vetoed(&plugin, &reason)),
            _ => input.to_owned(),
        };
        session.push(Message::user(input));

        let offered = tools::offered(&self.host, self.config.tools.as_deref())?;
        let mut turn = Turn {
            text: String::new(),
            provider: String::new(),
            finish: FinishReason::Stop,
            usage: None,
            tool_calls: 0,
            first_token: None,
            total: Duration::ZERO,
        };
        for step in 0.. {
            let mut first = || turn.first_token = turn.first_token.or(Some(begun.elapsed()));
            let (provider, answer) = self.ask(cx, session, &offered, on_event, &mut first).await?;
            turn.provider = provider;
            turn.usage = add(turn.usage, answer.usage);
            turn.finish = answer.finish.unwrap_or(FinishReason::Stop);
            if answer.calls.is_empty() {
                turn.text = answer.text;
                break;
            }
            if step == self.config.max_tool_steps {
                let message = format!("the model still asks for tools after {step} rounds");
                return Err(Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("raise agent.max_tool_steps"));
            }
            session.push(Message::assistant(answer.text).tool_calls(answer.calls.clone()));
            for call in answer.calls {
                cx.check()?;
                on_event(TurnEvent::ToolStarted(call.clone()));
                let id = call.id.clone();
                let (call, output) = tools::run(&self.host, cx, session.id(), call, &offered).await?;
                session.push(Message::tool(id, tools::for_model(&output)));
                turn.tool_calls += 1;
                on_event(TurnEvent::ToolFinished { call, output });
            }
        }

        let event = || HookEvent::AfterAgentRun { session: session.id().to_owned(), output: turn.text.clone() };
        match hooks.run(cx, Hook::AfterAgentRun, event).await {
            Some(Outcome::Proceed(HookEvent::AfterAgentRun { output, .. })) => turn.text = output,
            Some(Outcome::Vetoed { plugin, reason }) => return Err(vetoed(&plugin, &reason)),
            _ => {}
        }
        session.push(Message::assistant(turn.text.clone()));
        turn.total = begun.elapsed();
        Ok(turn)
    }

    /// Asks the providers in order. The next one is tried only while nothing of an answer was shown.
    async fn ask(
        &self,
        cx: &CallCx,
        session: &mut Session,
        offered: &[ToolSpec],
        on_event: &mut (dyn FnMut(TurnEvent) + Send),
        first: &mut (dyn FnMut() + Send),
    ) -> Result<(String, Answer)> {
        let mut last = Error::new(Code::PLUGIN_NOT_FOUND, "there is no provider in this program").with_help("build with `--features smol`");
        let providers = self.providers();
        for (n, name) in providers.iter().enumerate() {
            let mut answer = Answer::default();
            match self.ask_one(cx, session, offered, name, &mut answer, on_event, first).await {
                Ok(()) => return Ok((name.clone(), answer)),
                Err(error) if error.code() == Code::CANCELLED => {
                    if !answer.text.is_empty() {
                        session.push(Message::assistant(answer.text));
                    }
                    return Err(error);
                }
                Err(error) if answer.text.is_empty() && answer.calls.is_empty() => {
                    tracing::warn!(provider = name, %error, "provider failed");
                    if n + 1 < providers.len() {
                        on_event(TurnEvent::ProviderFailed { provider: name.clone(), reason: error.message().to_owned() });
                    }
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    #[allow(clippy::too_many_arguments, reason = "one request, its answer and its listeners")]
    async fn ask_one(
        &self,
        cx: &CallCx,
        session: &Session,
        offered: &[ToolSpec],
        name: &str,
        answer: &mut Answer,
        on_event: &mut (dyn FnMut(TurnEvent) + Send),
        first: &mut (dyn FnMut() + Send),
    ) -> Result<()> {
        let provider = self.host.registry().find::<dyn Provider>(name)?;
        let models = provider.call(cx, |p, cx| async move { p.models(&cx).await }).await?;
        let model = match &self.config.model {
            None => models.first(),
            Some(id) => models.iter().find(|m| m.id == *id),
        };
        let model = model.ok_or_else(|| {
            let ids: Vec<_> = models.iter().map(|m| m.id.as_str()).collect();
            Error::new(
                Code::LLM_MODEL_NOT_AVAILABLE,
                format!("{name} has no model `{}`; it has {}", self.config.model.as_deref().unwrap_or("default"), ids.join(", ")),
            )
        })?;

        let mut messages = Vec::new();
        if !self.config.system.is_empty() {
            messages.push(Message::system(self.config.system.clone()));
        }
        messages.extend_from_slice(session.window(self.config.history_tokens));
        let mut request = ChatRequest::new(messages).model(model.id.clone()).max_tokens(self.config.max_tokens);
        if model.tools {
            request = request.tools(offered.to_vec());
        }
        if let Some(temperature) = self.config.temperature {
            request = request.temperature(temperature);
        }

        let asking = provider.call_leased(cx, |p, cx| async move { p.chat(&cx, request).await });
        let mut stream = tokio::select! {
            stream = asking => stream?,
            () = cx.cancelled() => return Err(Error::cancelled()),
        };
        loop {
            let delta = tokio::select! {
                delta = stream.next() => delta,
                () = cx.cancelled() => return Err(Error::cancelled()),
            };
            match delta {
                Some(Ok(ChatDelta::Text { text })) => {
                    if !text.is_empty() {
                        first();
                        answer.text.push_str(&text);
                        on_event(TurnEvent::Text(text));
                    }
                }
                Some(Ok(ChatDelta::ToolCall { call })) => answer.calls.push(call),
                Some(Ok(ChatDelta::Finish { reason, usage })) => {
                    (answer.finish, answer.usage) = (Some(reason), usage);
                    return Ok(());
                }
                // `ChatDelta` may grow: what this agent does not know, it leaves out.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => {
                    return Err(Error::new(Code::LLM_COMPLETION_FAILED, format!("{name}: the answer broke off")).retryable());
                }
            }
        }
    }
}

fn vetoed(plugin: &str, reason: &str) -> Error {
    Error::new(Code::PERMISSION_DENIED, format!("stopped by {plugin}: {reason}"))
}

fn add(a: Option<Usage>, b: Option<Usage>) -> Option<Usage> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let sum = Usage::new(a.prompt_tokens + b.prompt_tokens, a.completion_tokens + b.completion_tokens);
            Some(sum.cached_tokens(a.cached_tokens + b.cached_tokens))
        }
        (a, b) => a.or(b),
    }
}
