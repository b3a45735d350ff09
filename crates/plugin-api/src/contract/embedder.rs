//! Embedders: texts to vectors.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CallCx, Result};

/// What the host is told of an embedder before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbedderSpec {
    /// Its name.
    pub name: String,
    /// Length of a vector.
    pub dimensions: u32,
}

impl EmbedderSpec {
    /// An embedder with vectors of that length.
    pub fn new(name: impl Into<String>, dimensions: u32) -> Self {
        EmbedderSpec { name: name.into(), dimensions }
    }
}

/// Texts to be embedded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbedRequest {
    /// The texts.
    pub texts: Vec<String>,
}

impl EmbedRequest {
    /// A request for these texts.
    pub fn new(texts: Vec<String>) -> Self {
        EmbedRequest { texts }
    }
}

/// One vector per text, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Embeddings {
    /// The vectors, each of unit length.
    pub vectors: Vec<Vec<f32>>,
}

impl Embeddings {
    /// The answer to a request.
    pub fn new(vectors: Vec<Vec<f32>>) -> Self {
        Embeddings { vectors }
    }
}

/// The contract of an embedder.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// Embeds all texts of the request.
    async fn embed(&self, cx: &CallCx, request: EmbedRequest) -> Result<Embeddings>;
}
