//! Providers: language models that stream an answer to a conversation.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::builder;
use crate::{BoxStream, CallCx, Result, ToolSpec};

/// What the host is told of a provider before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProviderSpec {
    /// Name in `agent.provider`.
    pub name: String,
}

impl ProviderSpec {
    /// A provider of that name.
    pub fn new(name: impl Into<String>) -> Self {
        ProviderSpec { name: name.into() }
    }
}

/// One model of a provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Id as a request names it.
    pub id: String,
    /// Tokens of prompt and answer together.
    pub context_window: u32,
    /// Whether it emits tool calls of its own.
    pub tools: bool,
    /// Whether it keeps an answer to [`ChatRequest::json_schema`]. A model that does, but emits no tool calls, is led to tools by
    /// a schema of what it may choose.
    #[serde(default)]
    pub json_schema: bool,
}

impl ModelInfo {
    /// A model with this many tokens of context, 0 where they are not known, and without tool calls or schemas.
    pub fn new(id: impl Into<String>, context_window: u32) -> Self {
        ModelInfo { id: id.into(), context_window, tools: false, json_schema: false }
    }
}

builder!(ModelInfo {
    /// Whether it emits tool calls of its own.
    tools: bool => tools,
    /// Whether it keeps an answer to a JSON Schema.
    json_schema: bool => json_schema,
});

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Instructions of the operator.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The answer of a tool.
    Tool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub text: String,
    /// Tools that the assistant asked for in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a message of role `tool` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Message { role, text: text.into(), tool_calls: Vec::new(), tool_call_id: None }
    }

    /// Instructions.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// What the user said.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// What the model said.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// What a tool answered.
    pub fn tool(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Message { tool_call_id: Some(call_id.into()), ..Self::new(Role::Tool, text) }
    }
}

builder!(Message {
    /// Tools that the assistant asked for.
    tool_calls: Vec<ToolCall> => tool_calls,
});

/// A model's wish to call a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// Names the call in the conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments, an object.
    pub args: Value,
}

impl ToolCall {
    /// A call.
    pub fn new(id: impl Into<String>, name: impl Into<String>, args: Value) -> Self {
        ToolCall { id: id.into(), name: name.into(), args }
    }
}

/// Whether the model may, must or must not call tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// A conversation to be continued.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatRequest {
    /// The model; the provider's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What was said so far, oldest first.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// Whether it may, must or must not.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// Randomness, 0.0 (always the likeliest token) to 2.0; the provider's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus: least set of tokens whose probability reaches this, 0.0–1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Most tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Texts that end the answer; they are not part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Makes sampling repeatable where the provider can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// JSON Schema that the answer must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
}

impl ChatRequest {
    /// A request with the provider's defaults.
    pub fn new(messages: Vec<Message>) -> Self {
        ChatRequest { messages, ..Self::default() }
    }
}

builder!(ChatRequest {
    /// The model.
    model: String => Some(model),
    /// Tools that the model may call.
    tools: Vec<ToolSpec> => tools,
    /// Whether it may, must or must not.
    tool_choice: ToolChoice => tool_choice,
    /// Randomness, 0.0–2.0.
    temperature: f32 => Some(temperature),
    /// Nucleus, 0.0–1.0.
    top_p: f32 => Some(top_p),
    /// Most tokens of the answer.
    max_tokens: u32 => Some(max_tokens),
    /// Texts that end the answer.
    stop: Vec<String> => stop,
    /// Makes sampling repeatable.
    seed: u64 => Some(seed),
    /// JSON Schema that the answer must fit.
    json_schema: Value => Some(json_schema),
});

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model was done, or wrote a stop text.
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// The model waits for tools.
    ToolCalls,
    /// A reason that a newer peer gives and this side does not know.
    #[serde(other)]
    Unknown,
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Of those, tokens that a cache saved from being computed again.
    #[serde(default)]
    pub cached_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
}

impl Usage {
    /// Tokens read and written.
    pub fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Usage { prompt_tokens, cached_tokens: 0, completion_tokens }
    }

    /// Both together; saturating, because the numbers are a plugin's.
    #[must_use]
    pub fn plus(self, other: Usage) -> Self {
        Usage {
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
        }
    }

    /// Tokens read and written together.
    pub fn total(self) -> u64 {
        u64::from(self.prompt_tokens) + u64::from(self.completion_tokens)
    }
}

builder!(Usage {
    /// Tokens that a cache saved.
    cached_tokens: u32 => cached_tokens,
});

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChatDelta {
    /// More text, whole characters.
    #[non_exhaustive]
    Text {
        /// The text.
        text: String,
    },
    /// A complete wish to call a tool.
    #[non_exhaustive]
    ToolCall {
        /// The call.
        call: ToolCall,
    },
    /// The end; the last delta of every answer.
    #[non_exhaustive]
    Finish {
        /// Why.
        reason: FinishReason,
        /// Tokens, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
    /// Something that a newer peer says and this side does not know: passed over.
    #[serde(other)]
    Unknown,
}

impl ChatDelta {
    /// More text.
    pub fn text(text: impl Into<String>) -> Self {
        ChatDelta::Text { text: text.into() }
    }

    /// A complete wish to call a tool.
    pub fn tool_call(call: ToolCall) -> Self {
        ChatDelta::ToolCall { call }
    }

    /// The end, with the tokens where they are known.
    pub fn finish(reason: FinishReason, usage: impl Into<Option<Usage>>) -> Self {
        ChatDelta::Finish { reason, usage: usage.into() }
    }
}

/// The contract of a provider.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its models, the default one first.
    async fn models(&self, cx: &CallCx) -> Result<Vec<ModelInfo>>;

    /// Answers a conversation. The stream ends with [`ChatDelta::Finish`]; dropping it stops the model.
    async fn chat(&self, cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>>;
}
