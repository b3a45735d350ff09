//! The plugin around the engine: configuration, contract, errors, and the worker thread of each answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bespoke_plugin_api::{
    BoxStream, CallCx, ChatDelta, ChatRequest, Code, Error, Facts, FeedSender, FinishReason, Message, ModelInfo, Plugin, PluginApi,
    PluginContext, Provider, ProviderSpec, Reload, Result, Role, ToolCall, ToolChoice, ToolSpec, Usage, async_trait, feed,
    serde::{self, Deserialize},
};

use crate::constrain::{Lenience, Schema};
use crate::engine::{Answer, Engine, EngineOptions, Finish, Generation};
use crate::error::Error as EngineError;
use crate::sampler::Sampling;
use crate::tools::{Chooser, Spent, can_be_called};

/// The only model, as a request names it.
pub const MODEL_ID: &str = "smollm2-135m-instruct";
const MODEL_FILE: &str = "smollm2-135m-instruct-q4_1.gguf";
/// Pieces of text that wait for a slow reader before the model waits too.
const PIECES: usize = 32;
const MOST_THREADS: u16 = 64;

/// The table `[plugins.smol]`. A request's own options go before these.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// A GGUF file of a SmolLM2 or another llama with its tokenizer; the pinned model when absent.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub model_file: Option<PathBuf>,
    /// Threads of one answer; the plugin's CPU budget when absent. More than there are idle cores makes it slower.
    #[cfg_attr(test, schemars(range(min = 1, max = 64), extend("x-reload" = "restart")))]
    pub threads: Option<u16>,
    /// Answers computed at the same time; further ones wait.
    #[cfg_attr(test, schemars(range(min = 1, max = 64), extend("x-reload" = "restart")))]
    pub parallel: u16,
    /// Conversations whose prompt is kept computed between turns: 23 KB per token, together at most 192 MB; 0 for none.
    #[cfg_attr(test, schemars(range(max = 1024), extend("x-reload" = "restart")))]
    pub conversations: u16,
    /// Begins every conversation with an exchange of greetings in English. Without an example of a short English answer
    /// a model this small answers "What is the capital of Italy?" in Italian.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub greeting: bool,
    /// Most tokens of an answer.
    #[cfg_attr(test, schemars(range(min = 1, max = 8192), extend("x-reload" = "live")))]
    pub max_tokens: u32,
    /// Randomness: 0 always takes the likeliest token.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 2.0), extend("x-reload" = "live")))]
    pub temperature: f64,
    /// Only the so many likeliest tokens; 0 for all. Without effect at temperature 0, like the next two.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub top_k: u32,
    /// Only the likeliest tokens that together reach this probability.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0), extend("x-reload" = "live")))]
    pub top_p: f64,
    /// Only tokens at least so likely relative to the likeliest.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0), extend("x-reload" = "live")))]
    pub min_p: f64,
    /// Divides the odds of what the answer already said; 1 turns it off, and long answers go round in circles.
    #[cfg_attr(test, schemars(range(min = 1.0, max = 2.0), extend("x-reload" = "live")))]
    pub repeat_penalty: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            model_file: None,
            threads: None,
            parallel: 2,
            conversations: 4,
            greeting: true,
            max_tokens: 512,
            temperature: 0.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.1,
        }
    }
}

impl Config {
    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature as f32,
            top_k: self.top_k as usize,
            top_p: self.top_p as f32,
            min_p: self.min_p as f32,
            repeat_penalty: self.repeat_penalty as f32,
            ..Sampling::default()
        }
    }

    fn check(&self) -> Result<()> {
        self.sampling().check().map_err(|e| Error::invalid_params(format!("plugins.smol.{e}")))?;
        let counts = [
            ("threads", u32::from(self.threads.unwrap_or(1)), 1, u32::from(MOST_THREADS)),
            ("parallel", u32::from(self.parallel), 1, 64),
            ("conversations", u32::from(self.conversations), 0, 1024),
            ("max_tokens", self.max_tokens, 1, 8192),
        ];
        match counts.iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            None => Ok(()),
            Some((key, value, least, most)) => {
                Err(Error::invalid_params(format!("plugins.smol.{key} = {value} is out of range: {least} to {most}")))
            }
        }
    }
}

/// One instance, with its model loaded.
pub struct Smol {
    cx: PluginContext,
    engine: Arc<Engine>,
    config: RwLock<Config>,
    facts: Facts,
}

impl Plugin for Smol {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.provider(ProviderSpec::new("smol"), |smol| Arc::new(Chat(smol.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        config.check()?;
        let path = match &config.model_file {
            Some(path) => path.clone(),
            None => cx.model(MODEL_FILE)?,
        };
        let threads = config.threads.unwrap_or(cx.cpu_budget()).min(MOST_THREADS);
        let options = EngineOptions {
            threads: threads.into(),
            parallel: config.parallel.into(),
            conversations: config.conversations.into(),
            ..EngineOptions::default()
        };
        let mut facts = Facts::from([
            ("model".into(), path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
            ("threads".into(), threads.to_string()),
            ("tools".into(), "one call a turn, chosen by likelihood".into()),
        ]);
        let engine = cx.blocking(move || Engine::load(&path, &options)).await?.map_err(plugin_error)?;
        facts.insert("engine".into(), format!("own kernels, {}", engine.isa()));
        facts.insert("context".into(), engine.context().to_string());
        Ok(Smol { cx, engine: Arc::new(engine), config: RwLock::new(config), facts })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        new.check()?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(Reload::Applied)
    }

    fn facts(&self) -> Facts {
        self.facts.clone()
    }
}

bespoke_plugin_api::plugin!("smol", Smol);

/// The engine's error as it crosses the border.
pub(crate) fn plugin_error(error: EngineError) -> Error {
    let message = error.to_string();
    let download = "bespoke plugin download-files smol";
    match error {
        EngineError::Cancelled => Error::cancelled(),
        EngineError::Io { .. } => Error::new(Code::MODEL_NOT_FOUND, message).with_help(download),
        EngineError::Damaged { .. } => Error::new(Code::INITIALIZE_FAILED, message).with_help(download),
        EngineError::Unsupported(_) => Error::new(Code::INITIALIZE_FAILED, message).with_help("unset plugins.smol.model_file"),
        EngineError::ContextTooLong { .. } => {
            Error::new(Code::LLM_CONTEXT_TOO_LONG, message).with_help("lower the agent's token budget or start a new session")
        }
        EngineError::Option { .. } | EngineError::Schema(_) => Error::invalid_params(message),
        EngineError::NoRoom { .. } => Error::invalid_params(message).with_help("raise max_tokens"),
        EngineError::Busy { .. } => Error::new(Code::LLM_RATE_LIMITED, message).with_help("raise plugins.smol.parallel").retryable(),
    }
}

struct Chat(Arc<Smol>);

#[async_trait]
impl Provider for Chat {
    async fn models(&self, _cx: &CallCx) -> Result<Vec<ModelInfo>> {
        let context = u32::try_from(self.0.engine.context()).unwrap_or(u32::MAX);
        Ok(vec![ModelInfo::new(MODEL_ID, context).tools(true).json_schema(true)])
    }

    async fn chat(&self, cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        able(&request)?;
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (sender, pieces) = feed(PIECES);
        let (engine, call) = (self.0.engine.clone(), cx.clone());
        // Starts at once and ends by itself; the feed, not this future, tells how it went.
        drop(self.0.cx.blocking(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| answer(&engine, &config, &request, &call, &sender)));
            let last = match outcome {
                Ok(Ok(last)) => Ok(last),
                Ok(Err(error)) => Err(plugin_error(error)),
                Err(_) => Err(Error::new(Code::PLUGIN_EXCEPTION, "the model panicked; the log has the message")),
            };
            // Nobody reading any more is no failure.
            let _ = sender.send(last);
        }));
        Ok(Box::pin(pieces))
    }
}

/// Refuses what this model cannot do, rather than ignoring it.
fn able(request: &ChatRequest) -> Result<()> {
    if let Some(model) = request.model.as_deref().filter(|model| *model != MODEL_ID) {
        return Err(Error::new(Code::LLM_MODEL_NOT_AVAILABLE, format!("there is no model `{model}`, only {MODEL_ID}")));
    }
    let unknown = |name: &str| !request.tools.iter().any(|tool| tool.name == name);
    match &request.tool_choice {
        ToolChoice::Named(name) if unknown(name) => {
            return Err(Error::invalid_params(format!("the tool `{name}` must be called and is not among those of the request")));
        }
        ToolChoice::Required if request.tools.is_empty() => {
            return Err(Error::invalid_params("a tool must be called and the request has none"));
        }
        _ => {}
    }
    if request.messages.is_empty() {
        return Err(Error::invalid_params("the conversation has no messages"));
    }
    Ok(())
}

fn answer(
    engine: &Engine,
    config: &Config,
    request: &ChatRequest,
    call: &CallCx,
    sender: &FeedSender<ChatDelta>,
) -> Result<ChatDelta, EngineError> {
    let schema = request.json_schema.as_ref().map(|schema| Schema::compile(schema, Lenience::Strict)).transpose()?;
    let mut sampling = config.sampling();
    sampling.temperature = request.temperature.unwrap_or(sampling.temperature);
    sampling.top_p = request.top_p.unwrap_or(sampling.top_p);
    sampling.seed = request.seed;
    sampling.check()?;
    let max_tokens = request.max_tokens.unwrap_or(config.max_tokens) as usize;
    if let Some(told) = failure(request).filter(|told| told.len() <= max_tokens) {
        let _ = sender.send(Ok(ChatDelta::text(told)));
        return Ok(ChatDelta::finish(FinishReason::Stop, Usage::new(0, 0)));
    }
    let is_result = request.messages.last().is_some_and(|message| message.role == Role::Tool);
    let prompt = if is_result && schema.is_none() {
        // A result is repeated as it is, also where it says the same twice.
        sampling.repeat_penalty = 1.0;
        engine.prompt_telling(&request.messages)?
    } else {
        engine.prompt(&request.messages, config.greeting)?
    };
    let gone = || call.is_cancelled() || sender.is_closed();
    let mut chooser = Chooser::new(engine, &gone);
    if let Some(call) = wish(&mut chooser, request)? {
        let _ = sender.send(Ok(ChatDelta::tool_call(call)));
        return Ok(ChatDelta::finish(FinishReason::ToolCalls, thinking(chooser.spent())));
    }
    let generation = Generation { prompt, max_tokens, sampling, stop: request.stop.clone(), schema: schema.map(Arc::new) };
    let answer = engine.generate(&generation, &gone, &mut |text| {
        // A closed feed is seen by `gone` before the next token.
        let _ = sender.send(Ok(ChatDelta::text(text)));
    })?;
    Ok(finish(&answer, chooser.spent()))
}

/// What is said of a tool that failed: that it did, and why in its own words. The model is not asked, because it gets reasons
/// wrong: of `there is no a; did you mean b?` it exchanges the names, and the user would be told the opposite. A text that
/// stops somewhere or keeps to a schema is left to the model, and so is a reason of more bytes than an answer may have tokens.
fn failure(request: &ChatRequest) -> Option<String> {
    let last = request.messages.last().filter(|last| last.role == Role::Tool && request.stop.is_empty())?;
    let reason = last.text.strip_prefix("error: ").filter(|_| request.json_schema.is_none())?;
    Some(format!("Sorry, that did not work: {reason}"))
}

/// Most bytes of a message for which a tool is chosen.
const LONGEST_WISH: usize = 240;

/// The tool that the model wants to call. It is asked once for what a user said: when a tool has answered, the model does.
fn wish(chooser: &mut Chooser<'_>, request: &ChatRequest) -> Result<Option<ToolCall>, EngineError> {
    let message = match request.messages.last() {
        Some(Message { role: Role::User, text, .. }) if !request.tools.is_empty() => text,
        _ => return Ok(None),
    };
    let tool = match &request.tool_choice {
        ToolChoice::Named(name) => request.tools.iter().find(|tool| tool.name == *name),
        ToolChoice::Required if request.tools.len() == 1 => request.tools.first(),
        ToolChoice::Required => request.tools.get(chooser.choose(message, &request.tools)?.tool),
        // A text to be worked on, not a wish: the choice was measured on sentences, and on texts it is a guess.
        ToolChoice::Auto if message.len() > LONGEST_WISH || message.trim().contains('\n') => None,
        ToolChoice::Auto => {
            // One tool with an unusual schema must not take the others and the answer with it.
            let tools: Vec<ToolSpec> = request.tools.iter().filter(|tool| can_be_called(tool)).cloned().collect();
            if tools.is_empty() {
                return Ok(None);
            }
            let decision = chooser.choose(message, &tools)?;
            let name = tools.get(decision.tool).filter(|_| decision.margin > 0.0).map(|tool| &tool.name);
            request.tools.iter().find(|tool| Some(&tool.name) == name)
        }
        _ => None,
    };
    let Some(tool) = tool else { return Ok(None) };
    let args = chooser.arguments(message, tool)?;
    let earlier: usize = request.messages.iter().map(|message| message.tool_calls.len()).sum();
    Ok(Some(ToolCall::new(format!("call-{}", earlier + 1), tool.name.clone(), args)))
}

fn thinking(spent: Spent) -> Usage {
    Usage::new(count(spent.read), count(spent.written)).cached_tokens(count(spent.cached))
}

fn finish(answer: &Answer, spent: Spent) -> ChatDelta {
    let reason = match answer.finish {
        Finish::Stop => FinishReason::Stop,
        Finish::Length => FinishReason::Length,
    };
    let usage = Usage::new(count(answer.prompt_tokens), count(answer.completion_tokens)).cached_tokens(count(answer.cached_tokens));
    ChatDelta::finish(reason, usage.plus(thinking(spent)))
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_beside_the_manifest_is_fresh() {
        let text = serde_json::to_string_pretty(&schemars::schema_for!(Config)).unwrap() + "\n";
        expect_test::expect_file!["../config.schema.json"].assert_eq(&text);
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config { parallel: 0, ..Config::default() };
        assert_eq!(config.check().unwrap_err().message(), "plugins.smol.parallel = 0 is out of range: 1 to 64");
        let config = Config { temperature: 3.0, ..Config::default() };
        assert_eq!(config.check().unwrap_err().message(), "plugins.smol.temperature = 3 is out of range: 0.0 to 2.0");
        Config::default().check().unwrap();
    }

    #[test]
    fn what_the_model_cannot_do_is_refused() {
        let ask = |request: ChatRequest| able(&request).map_err(|e| e.code());
        let hello = || ChatRequest::new(vec![bespoke_plugin_api::Message::user("hello")]);
        assert_eq!(ask(hello()), Ok(()));
        assert_eq!(ask(hello().model(MODEL_ID.into())), Ok(()));
        assert_eq!(ask(hello().model("gpt".into())), Err(Code::LLM_MODEL_NOT_AVAILABLE));
        assert_eq!(ask(hello().tool_choice(ToolChoice::Required)), Err(Code::INVALID_PARAMS));
        assert_eq!(ask(hello().tool_choice(ToolChoice::Named("clock".into()))), Err(Code::INVALID_PARAMS));
        assert_eq!(ask(ChatRequest::new(Vec::new())), Err(Code::INVALID_PARAMS));
    }
}
