//! One request to a model: which provider, which of its models, what it is shown, and its answer as it streams in.

use std::time::Duration;

use bespoke_host::{Host, Row, Slot, Step};
use bespoke_plugin_api::{
    ChatDelta, ChatRequest, Code, Error, FinishReason, Kind, Message, ModelInfo, Provider, Result, ToolCall, ToolChoice, ToolSpec,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    AgentConfig, TurnEvent,
    config::split,
    led, limit,
    session::{estimate, tokens},
    turn::Work,
};

/// The tools of a request, and whether the model may still call some.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'t> {
    pub(crate) tools: &'t [ToolSpec],
    pub(crate) is_open: bool,
}

impl Work<'_> {
    /// Asks the providers in order, and returns the tools that the model wants to call. The next one is asked only while
    /// nothing of an answer was shown, unless configured: nobody should hear the beginning of one answer and the end of another.
    pub(crate) async fn ask(&mut self, offer: Offer<'_>) -> Result<Vec<ToolCall>> {
        let providers = self.agent.providers();
        let mut failures = Vec::new();
        for (n, entry) in providers.iter().enumerate() {
            let error = match self.ask_one(entry, offer).await {
                Ok(calls) => {
                    split(entry).0.clone_into(&mut self.turn.provider);
                    return Ok(calls);
                }
                Err(Failed::Turn(error)) => return Err(error),
                Err(Failed::Provider(error)) => error,
            };
            let shown = !self.draft.said().is_empty();
            if limit::is_reached(self.cx) || shown && !self.agent.config().failover_after_text {
                return Err(error);
            }
            tracing::warn!(provider = entry, %error, "provider failed");
            self.turn.failures.push((entry.clone(), error.message().to_owned()));
            self.draft.unsay();
            if n + 1 < providers.len() {
                self.tell(TurnEvent::ProviderFailed { provider: entry.clone(), reason: error.message().to_owned(), shown });
            }
            failures.push((entry, error));
        }
        Err(none_answered(self.agent.host(), &failures))
    }

    async fn ask_one(&mut self, entry: &str, offer: Offer<'_>) -> Result<Vec<ToolCall>, Failed> {
        let (name, wanted) = split(entry);
        let provider = self.agent.host().find::<dyn Provider>(name)?;
        let model = self.model(&provider, entry, name, wanted.or(self.agent.config().model.as_deref())).await?;
        let calls = if model.tools || offer.tools.is_empty() || !offer.is_open || !model.json_schema {
            self.answer_freely(&provider, name, &model, offer).await?
        } else {
            match self.led_to(&provider, name, &model, offer.tools).await? {
                Some(call) => vec![call],
                None => self.answer_freely(&provider, name, &model, offer).await?,
            }
        };
        self.turn.model = model.id;
        Ok(calls)
    }

    /// The model of a provider, asked for once a turn.
    async fn model(&mut self, provider: &Slot<dyn Provider>, entry: &str, name: &str, wanted: Option<&str>) -> Result<ModelInfo> {
        if let Some(model) = self.models.get(entry) {
            return Ok(model.clone());
        }
        let models = provider.call(self.cx, |p, cx| async move { p.models(&cx).await });
        let models = in_time(self.silence(), name, provider.plugin(), models).await?;
        let model = choose(name, &models, wanted)?.clone();
        self.models.insert(entry.to_owned(), model.clone());
        Ok(model)
    }

    async fn answer_freely(
        &mut self,
        provider: &Slot<dyn Provider>,
        name: &str,
        model: &ModelInfo,
        offer: Offer<'_>,
    ) -> Result<Vec<ToolCall>, Failed> {
        let tools = if model.tools { offer.tools.to_vec() } else { Vec::new() };
        let fixed = tools.iter().map(weight).sum();
        let mut messages = self.shown(model, fixed);
        if !model.tools {
            messages = led::in_words(&messages);
        }
        let choice = if offer.is_open { ToolChoice::Auto } else { ToolChoice::None };
        let request = self.request(model, messages).tools(tools).tool_choice(choice);
        let mut calls = Vec::new();
        self.listen(provider, name, request, |work, delta| {
            match delta {
                Piece::Text(text) => work.say(text),
                Piece::Call(call) => calls.push(call),
                Piece::End(reason) => work.turn.finish = reason,
            }
            Ok(())
        })
        .await?;
        Ok(calls)
    }

    /// A call of a model that knows no calls: chosen under a schema, with arguments under another.
    async fn led_to(
        &mut self,
        provider: &Slot<dyn Provider>,
        name: &str,
        model: &ModelInfo,
        tools: &[ToolSpec],
    ) -> Result<Option<ToolCall>, Failed> {
        let said = self.shown(model, tools.iter().map(weight).sum());
        let (messages, schema) = led::choosing(&said, tools);
        let Some(answer) = self.under_schema(provider, name, model, messages, schema).await? else { return Ok(None) };
        let tool = match led::chosen(&answer, tools) {
            Ok(Some(tool)) => tool,
            Ok(None) => return Ok(None),
            Err(error) => {
                // Only the kind: what the model said is not logged.
                tracing::warn!(provider = name, error = error.kind(), "no tool can be chosen, so it answers without one");
                return Ok(None);
            }
        };
        let args = if led::takes_arguments(tool) {
            let filling = self.under_schema(provider, name, model, led::filling(&said, tool), tool.input_schema.clone());
            let Some(answer) = filling.await? else { return Ok(None) };
            match led::filled(&answer) {
                Ok(args) => args,
                // Most often they were cut off at the longest that an answer may be.
                Err(error) => {
                    tracing::warn!(
                        provider = name,
                        tool = tool.name,
                        error = error.kind(),
                        "a tool gets no arguments, so the model answers without it"
                    );
                    return Ok(None);
                }
            }
        } else {
            json!({})
        };
        if self.draft.has_called(&tool.name, &args) {
            // It has read the answer and asks for the same: it would go on so until it has no rounds left.
            tracing::debug!(provider = name, tool = tool.name, "it asks for the same again, so it answers with what it has");
            return Ok(None);
        }
        Ok(Some(ToolCall::new("", tool.name.clone(), args)))
    }

    /// An answer under a schema; `None` when the server does not take the schema, as some do not take all of them.
    async fn under_schema(
        &mut self,
        provider: &Slot<dyn Provider>,
        name: &str,
        model: &ModelInfo,
        messages: Vec<Message>,
        schema: Value,
    ) -> Result<Option<String>, Failed> {
        let request = self.request(model, messages).temperature(0.0).json_schema(schema);
        let mut answer = String::new();
        let listened = self.listen(provider, name, request, |_, delta| {
            if let Piece::Text(text) = delta {
                answer.push_str(&text);
            }
            if answer.len() > led::LONGEST {
                return Err(Error::new(Code::LLM_COMPLETION_FAILED, format!("{name} does not keep its answer to the schema")));
            }
            Ok(())
        });
        match listened.await {
            Ok(()) => Ok(Some(answer)),
            Err(Failed::Provider(error)) if answer.is_empty() && !error.is_retryable() && !limit::is_reached(self.cx) => {
                tracing::warn!(provider = name, error = error.kind(), "a schema is not taken, so the model answers without it");
                Ok(None)
            }
            Err(failed) => Err(failed),
        }
    }

    /// One request to its end. No pause may be longer than the configured silence, neither before the answer nor within it.
    async fn listen(
        &mut self,
        provider: &Slot<dyn Provider>,
        name: &str,
        request: ChatRequest,
        mut hear: impl FnMut(&mut Self, Piece) -> Result<()> + Send,
    ) -> Result<(), Failed> {
        self.check_budgets().map_err(Failed::Turn)?;
        // A provider that was asked would begin to work, although nobody waits for it.
        self.cx.check()?;
        let mut step = self.workflow.step("model", Some(name));
        let result = self.listened(provider, name, request, &mut step, &mut hear).await;
        step.complete(result.as_ref().copied().map_err(Failed::error));
        result
    }

    async fn listened(
        &mut self,
        provider: &Slot<dyn Provider>,
        name: &str,
        request: ChatRequest,
        step: &mut Step,
        hear: &mut (impl FnMut(&mut Self, Piece) -> Result<()> + Send),
    ) -> Result<(), Failed> {
        let asked: u64 = request.messages.iter().map(estimate).chain(request.tools.iter().map(weight)).sum();
        let (mut heard, mut silent, begun) = (0, true, Instant::now());
        let (cx, plugin, silence) = (self.cx, provider.plugin(), self.silence());
        let stream = provider.call_leased(cx, |p, cx| async move { p.chat(&cx, request).await });
        let mut stream = in_time(silence, name, plugin, stream).await?;
        loop {
            // An answer that is there at once, all of it, must not keep the end of the turn from being seen.
            cx.check()?;
            tokio::task::consume_budget().await;
            let next = async { Ok(stream.next().await) };
            let next = in_time(silence, name, plugin, next).await?;
            let begins = match &next {
                Some(Ok(ChatDelta::Text { text, .. })) => !text.is_empty(),
                Some(Ok(ChatDelta::ToolCall { .. })) => true,
                _ => false,
            };
            if begins && std::mem::take(&mut silent) {
                step.begins_to_answer();
                stream.began_after(begun.elapsed());
            }
            match next {
                Some(Ok(ChatDelta::Text { text, .. })) if text.is_empty() => {}
                Some(Ok(ChatDelta::Text { text, .. })) => {
                    heard += text.len();
                    hear(self, Piece::Text(text))?;
                }
                Some(Ok(ChatDelta::ToolCall { call, .. })) => hear(self, Piece::Call(call))?,
                Some(Ok(ChatDelta::Finish { reason, usage, .. })) => {
                    hear(self, Piece::End(reason))?;
                    return self.spend(usage, asked, tokens(heard)).map_err(Failed::Turn);
                }
                // `ChatDelta` may grow: what this agent does not know, it leaves out.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => {
                    let error = Error::new(Code::LLM_COMPLETION_FAILED, format!("the answer of {name} broke off"));
                    return Err(error.retryable().with_plugin(plugin).into());
                }
            }
        }
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.agent.config().silence_ms)
    }

    /// What the model is shown: the system prompt, and of the history what fits beside it.
    fn shown(&self, model: &ModelInfo, fixed: u64) -> Vec<Message> {
        let config = self.agent.config();
        let system = (!config.system.is_empty()).then(|| Message::system(config.system.clone()));
        let fixed = fixed + system.iter().map(estimate).sum::<u64>();
        let mut messages: Vec<Message> = system.into_iter().collect();
        messages.extend_from_slice(self.draft.window(budget(config, model, fixed)));
        messages
    }

    fn request(&self, model: &ModelInfo, messages: Vec<Message>) -> ChatRequest {
        let config = self.agent.config();
        let request = ChatRequest::new(messages).model(model.id.clone()).max_tokens(config.max_tokens);
        match config.temperature {
            Some(temperature) => request.temperature(temperature),
            None => request,
        }
    }

    /// Whether another request may be made.
    fn check_budgets(&self) -> Result<()> {
        let config = self.agent.config();
        for (key, what, spent, budget, then) in [
            ("turn_tokens", "turn", self.cost, config.turn_tokens, ""),
            ("session_tokens", "conversation", self.draft.spent().total(), config.session_tokens, "; a new conversation has as many again"),
        ] {
            if budget > 0 && spent >= budget {
                let message = format!("the {what} has cost {spent} tokens, and agent.{key} allows {budget}{then}");
                return Err(
                    Error::new(Code::RESOURCE_EXHAUSTED, message).with_help(format!("bespoke config set agent.{key} N, or 0 for no limit"))
                );
            }
        }
        self.check_day(config.daily_tokens)
    }

    /// What all conversations of today have cost. What cannot be counted is refused: a limit that nobody holds is none.
    fn check_day(&self, budget: u64) -> Result<()> {
        if budget == 0 {
            return Ok(());
        }
        let (spent, left) = self.agent.host().tokens_today()?;
        if spent < budget {
            return Ok(());
        }
        let minutes = left.as_secs().div_ceil(60).max(1);
        let left = if minutes < 60 { format!("{minutes} min") } else { format!("{} h {} min", minutes / 60, minutes % 60) };
        let message = format!(
            "the conversations of today have cost {spent} tokens, and agent.daily_tokens allows {budget}; a new day begins in {left}, at 0:00 UTC"
        );
        Err(Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("bespoke config set agent.daily_tokens N, or 0 for no limit"))
    }
}

async fn in_time<T>(silence: Duration, name: &str, plugin: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(silence, work).await.unwrap_or_else(|_| {
        let message = format!("{name} said nothing for {} s", silence.as_secs_f32());
        let help = "bespoke config set agent.silence_ms N, which is in milliseconds, or ask for less at once";
        Err(Error::new(Code::EXECUTION_TIMEOUT, message).retryable().with_plugin(plugin).with_help(help))
    })
}

/// Why there is no answer.
enum Failed {
    /// Another provider may do better.
    Provider(Error),
    /// No provider can help it.
    Turn(Error),
}

impl Failed {
    fn error(&self) -> &Error {
        let (Failed::Provider(error) | Failed::Turn(error)) = self;
        error
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Provider(error)
    }
}

/// What of an answer matters here.
enum Piece {
    Text(String),
    Call(ToolCall),
    End(FinishReason),
}

fn choose<'m>(provider: &str, models: &'m [ModelInfo], wanted: Option<&str>) -> Result<&'m ModelInfo> {
    let found = match wanted {
        None => models.first(),
        Some(id) => models.iter().find(|m| m.id == id),
    };
    found.ok_or_else(|| {
        let ids: Vec<_> = models.iter().map(|m| m.id.as_str()).collect();
        let message = match wanted {
            Some(id) if !ids.is_empty() => format!("{provider} has no model `{id}`; it has {}", ids.join(", ")),
            _ => format!("{provider} has no models"),
        };
        let error = Error::new(Code::LLM_MODEL_NOT_AVAILABLE, message);
        if wanted.is_some() { error.with_help("bespoke config set agent.model NAME, or leave it out") } else { error }
    })
}

/// Tokens for history: those of the configuration, or what the model's window leaves beside the answer and what is always
/// sent. A window of 0 is one that the provider does not know.
fn budget(config: &AgentConfig, model: &ModelInfo, fixed: u64) -> u64 {
    let history = u64::from(config.history_tokens);
    match u64::from(model.context_window) {
        0 => history,
        window => history.min(window.saturating_sub(u64::from(config.max_tokens)).saturating_sub(fixed)),
    }
}

/// Tokens of a tool's description, by the same rule of thumb as those of a message.
fn weight(tool: &ToolSpec) -> u64 {
    let bytes = tool.name.len() + tool.description.len() + tool.input_schema.to_string().len();
    bytes as u64 / 4 + 4
}

fn none_answered(host: &Host, failures: &[(&String, Error)]) -> Error {
    match failures {
        [] => {
            let error = Error::new(Code::PLUGIN_NOT_FOUND, "there is no provider to ask");
            let is_named_only = |row: &Row| row.kinds.iter().any(|kind| kind == Kind::Provider.name()) && !host.is_stand_in(&row.id);
            match host.rows().into_iter().find(is_named_only) {
                Some(row) => error.with_help(format!("bespoke config set agent.provider '[\"{}\"]'", row.id)),
                None => error.with_help("bespoke init, or name one in agent.provider; the feature `smol` builds one in"),
            }
        }
        [(_, error)] => error.clone(),
        [(_, first), ..] => {
            let reasons: Vec<_> = failures.iter().map(|(name, error)| format!("{name}: {}", error.message())).collect();
            let mut error = Error::new(first.code(), format!("no provider answered: {}", reasons.join("; ")));
            if let Some(help) = failures.iter().find_map(|(_, error)| error.help()) {
                error = error.with_help(help);
            }
            if failures.iter().any(|(_, error)| error.is_retryable()) { error.retryable() } else { error }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_gives_way_to_the_window_of_the_model() {
        let config = AgentConfig { history_tokens: 3_000, max_tokens: 512, ..AgentConfig::default() };
        let of = |window| budget(&config, &ModelInfo::new("m", window), 88);
        assert_eq!(of(0), 3_000);
        assert_eq!(of(1_000_000), 3_000);
        assert_eq!(of(3_600), 3_000);
        assert_eq!(of(3_599), 2_999);
        assert_eq!(of(512), 0);
        assert_eq!(of(1), 0);
    }
}
