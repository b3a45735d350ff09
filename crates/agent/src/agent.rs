//! The agent, and what a caller sees of a turn. How a turn goes on is in `turn`.

use std::time::Duration;

use bespoke_host::{Host, topics};
use bespoke_plugin_api::{CallCx, FinishReason, Hook, HookEvent, Kind, Result, ToolCall, ToolOutput, ToolSpec, Usage};
use serde_json::json;

use crate::{AgentConfig, Session, limit, tools, turn::Work};

/// Answers users. Cheap to clone; holds no conversation, so many sessions may have their turns at once.
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
    /// A tool has answered, or the model was told why it has not.
    ToolFinished {
        /// The call, as hooks left it.
        call: ToolCall,
        /// Its answer.
        output: ToolOutput,
    },
    /// A provider could not answer; the next one is asked.
    ProviderFailed {
        /// Its name.
        provider: String,
        /// Why.
        reason: String,
        /// Whether some of its answer was shown. The next one begins anew: that text is no part of the answer any more.
        shown: bool,
    },
}

/// A turn that is done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Turn {
    /// The answer: what the model said after the last tool, as hooks left it.
    pub text: String,
    /// Name of the provider that gave it.
    pub provider: String,
    /// Id of its model.
    pub model: String,
    /// Providers that were asked and could not answer, and why.
    pub failures: Vec<(String, String)>,
    /// Why the answer ended.
    pub finish: FinishReason,
    /// Tokens of all requests of the turn that were answered, where the provider counts them.
    pub usage: Option<Usage>,
    /// Calls of tools that the model made, those that failed or were refused among them.
    pub tool_calls: u32,
    /// From the start of the turn to the first text.
    pub first_token: Option<Duration>,
    /// The whole turn.
    pub total: Duration,
}

impl Agent {
    /// An agent over a host whose plugins are started.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for a value of the configuration that cannot work.
    pub fn new(host: Host, config: AgentConfig) -> Result<Self> {
        config.check()?;
        Ok(Agent { host, config })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// How it answers.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// The providers that it would ask, in order: names, with a model where one is asked for.
    pub fn providers(&self) -> Vec<String> {
        if self.config.provider.is_empty() { self.host.default_names(Kind::Provider) } else { self.config.provider.clone() }
    }

    /// The tools that it offers to models that can call some.
    pub fn tools(&self) -> Vec<ToolSpec> {
        tools::offered(&self.host, self.config.tools.as_deref())
    }

    /// Answers one input. Text goes to `on_event` as it comes; the session has the whole turn afterwards. After an error the
    /// session is as before.
    ///
    /// Cancelling `cx`, or dropping the future, ends the turn at once, whatever a plugin is doing. The session then holds what
    /// was said until then: the user's words as soon as hooks let them pass, tools that have answered, and the part of the
    /// answer that was shown. A panic of `on_event` goes through to the caller and leaves the session in the same way.
    ///
    /// # Errors
    /// What the providers said when none answered; what broke an answer of which some was shown already; `PERMISSION_DENIED`
    /// when a hook stopped the turn; `RESOURCE_EXHAUSTED` when the model does not stop asking for tools, or a budget of tokens is
    /// spent; `EXECUTION_TIMEOUT` when the deadline of `cx` passed; `CANCELLED`.
    pub async fn turn(&self, cx: &CallCx, session: &mut Session, input: &str, mut on_event: impl FnMut(TurnEvent) + Send) -> Result<Turn> {
        let cx = cx.with_session(session.id());
        let mut work = Work::new(self, &cx, session, &mut on_event);
        let result = tokio::select! {
            biased;
            error = limit::reached(&cx) => Err(error),
            // Boxed: it holds the state of a stream, of a tool and of hooks, and every caller's future would carry that.
            result = Box::pin(work.run(input)) => result,
        };
        work.settle(result)
    }

    /// Ends a conversation, and tells so if its beginning was told.
    pub async fn end(&self, cx: &CallCx, session: Session) {
        if session.announced {
            self.tell_end(cx, session.id()).await;
        }
    }

    /// Tells events and hooks that a conversation is over whose beginning was told. For whoever holds no [`Session`] of it; all others
    /// [`end`](Self::end) it.
    pub async fn tell_end(&self, cx: &CallCx, session: &str) {
        self.host.events().tell(topics::SESSION_ENDED, || json!({ "session": session }));
        let event = || HookEvent::on_session_end(session.to_owned());
        // Nothing is about to happen that a veto could stop.
        let _ = self.host.hooks().run(&cx.with_session(session), Hook::OnSessionEnd, event).await;
    }
}

impl Turn {
    pub(crate) fn begin() -> Self {
        Turn {
            text: String::new(),
            provider: String::new(),
            model: String::new(),
            failures: Vec::new(),
            finish: FinishReason::Stop,
            usage: None,
            tool_calls: 0,
            first_token: None,
            total: Duration::ZERO,
        }
    }
}
