//! Tools: functions that a model may call.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{CallCx, Error, Result};

/// What the model is told of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolSpec {
    /// Name as the model writes it: `a–z`, `0–9`, `_`; unique among tools.
    pub name: String,
    /// When and why to call it, for the model.
    pub description: String,
    /// JSON Schema (2020-12) of the arguments, an object.
    pub input_schema: Value,
}

impl ToolSpec {
    /// A tool without arguments.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        let input_schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
        ToolSpec { name: name.into(), description: description.into(), input_schema }
    }

    /// With a schema for its arguments.
    #[must_use]
    pub fn input(mut self, schema: Value) -> Self {
        self.input_schema = schema;
        self
    }
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolRequest {
    /// The arguments, an object that fits the schema.
    pub args: Value,
}

impl ToolRequest {
    /// A call with these arguments.
    pub fn new(args: Value) -> Self {
        ToolRequest { args }
    }

    /// The arguments as a type.
    ///
    /// # Errors
    /// `INVALID_PARAMS`, naming what does not fit.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T> {
        serde_json::from_value(self.args).map_err(|e| Error::invalid_params(format!("arguments: {e}")))
    }
}

/// A piece of content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Text.
    #[non_exhaustive]
    Text {
        /// The text.
        text: String,
    },
    /// Bytes with a type, such as an image.
    #[non_exhaustive]
    Blob {
        /// Media type, such as `image/png`.
        mime: String,
        /// The bytes.
        bytes: Bytes,
    },
    /// Something that a newer peer says and this side does not know: passed over.
    #[serde(other)]
    Unknown,
}

impl Part {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text { text: text.into() }
    }

    /// Bytes of a media type, such as `image/png`.
    pub fn blob(mime: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Part::Blob { mime: mime.into(), bytes: bytes.into() }
    }
}

/// What a tool answers. `is_error` marks an answer that tells the model what went wrong, so that it can try again;
/// an `Err` from [`Tool::call`] is for faults that the model cannot mend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolOutput {
    /// What the model reads.
    pub content: Vec<Part>,
    /// The same as data, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Whether the content says what went wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

impl ToolOutput {
    /// An answer of one text.
    pub fn text(text: impl Into<String>) -> Self {
        ToolOutput { content: vec![Part::text(text)], ..Self::default() }
    }

    /// An answer that tells the model what went wrong.
    pub fn error(text: impl Into<String>) -> Self {
        ToolOutput { is_error: true, ..Self::text(text) }
    }

    /// With the same as data.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// All text parts, joined by line breaks.
    pub fn to_text(&self) -> String {
        let texts: Vec<_> =
            self.content.iter().filter_map(|p| if let Part::Text { text } = p { Some(text.as_str()) } else { None }).collect();
        texts.join("\n")
    }
}

/// The contract of a tool.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Runs the tool. Long ones report `cx.progress` and stop when `cx` is cancelled.
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput>;
}
