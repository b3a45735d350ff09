//! One request to a model: which provider, which of its models, what it is shown, and its answer as it streams in.

use bespoke_plugin_api::{ChatDelta, ChatRequest, Code, Error, Message, ModelInfo, Provider, Result, ToolCall, ToolSpec};
use futures_util::StreamExt;

use crate::{AgentConfig, TurnEvent, limit, session::estimate, turn::Work};

impl Work<'_> {
    /// Asks the providers in order, and returns the tools that the model wants to call. The next one is asked only while
    /// nothing of an answer was shown: nobody should hear the beginning of one answer and the end of another.
    pub(crate) async fn ask(&mut self, offered: &[ToolSpec]) -> Result<Vec<ToolCall>> {
        let providers = self.agent.providers();
        let mut failures = Vec::new();
        for (n, name) in providers.iter().enumerate() {
            match self.ask_one(name, offered).await {
                Ok(calls) => {
                    self.turn.provider.clone_from(name);
                    return Ok(calls);
                }
                Err(error) if !self.draft.said().is_empty() || limit::is_reached(self.cx) => return Err(error),
                Err(error) => {
                    tracing::warn!(provider = name, %error, "provider failed");
                    if n + 1 < providers.len() {
                        self.tell(TurnEvent::ProviderFailed { provider: name.clone(), reason: error.message().to_owned() });
                    }
                    failures.push((name, error));
                }
            }
        }
        Err(none_answered(&failures))
    }

    async fn ask_one(&mut self, name: &str, offered: &[ToolSpec]) -> Result<Vec<ToolCall>> {
        let (cx, config, silence) = (self.cx, self.agent.config(), self.agent.silence());
        let provider = self.agent.host().find::<dyn Provider>(name)?;
        let models = provider.call(cx, |p, cx| async move { p.models(&cx).await }).await?;
        let model = choose(name, &models, config.model.as_deref())?;
        let request = self.request(model, offered);
        let mut stream = provider.call_leased(cx, |p, cx| async move { p.chat(&cx, request).await }).await?;
        let mut calls = Vec::new();
        loop {
            // An answer that is there at once, all of it, must not keep the end of the turn from being seen.
            cx.check()?;
            tokio::task::consume_budget().await;
            let delta = tokio::time::timeout(silence, stream.next()).await.map_err(|_| {
                let message = format!("{name} said nothing for {} s", silence.as_secs_f32());
                Error::new(Code::EXECUTION_TIMEOUT, message).retryable().with_plugin(provider.plugin())
            })?;
            match delta {
                Some(Ok(ChatDelta::Text { text, .. })) if text.is_empty() => {}
                Some(Ok(ChatDelta::Text { text, .. })) => self.say(text),
                Some(Ok(ChatDelta::ToolCall { call, .. })) => calls.push(call),
                Some(Ok(ChatDelta::Finish { reason, usage, .. })) => {
                    self.turn.finish = reason;
                    self.spend(usage)?;
                    return Ok(calls);
                }
                // `ChatDelta` may grow: what this agent does not know, it leaves out.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => {
                    let error = Error::new(Code::LLM_COMPLETION_FAILED, format!("the answer of {name} broke off"));
                    return Err(error.retryable().with_plugin(provider.plugin()));
                }
            }
        }
    }

    /// What the model is shown: the system prompt, and of the history what fits beside it.
    fn request(&self, model: &ModelInfo, offered: &[ToolSpec]) -> ChatRequest {
        let config = self.agent.config();
        let system = (!config.system.is_empty()).then(|| Message::system(config.system.clone()));
        let tools = if model.tools { offered.to_vec() } else { Vec::new() };
        let fixed = system.iter().map(estimate).chain(tools.iter().map(weight)).sum();
        let mut messages: Vec<Message> = system.into_iter().collect();
        messages.extend_from_slice(self.draft.window(budget(config, model, fixed)));
        let request = ChatRequest::new(messages).model(model.id.clone()).max_tokens(config.max_tokens).tools(tools);
        match config.temperature {
            Some(temperature) => request.temperature(temperature),
            None => request,
        }
    }
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

fn none_answered(failures: &[(&String, Error)]) -> Error {
    match failures {
        [] => Error::new(Code::PLUGIN_NOT_FOUND, "there is no provider to ask")
            .with_help("build with `--features smol`, or name one in agent.provider"),
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
