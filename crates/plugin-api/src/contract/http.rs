//! HTTP, both ways: endpoints that a plugin serves under the gateway, and requests that it makes through the host.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::builder;
use crate::{CallCx, Result};

/// What the host is told of an endpoint before it starts. It is mounted at `/hooks/<plugin>/<name>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointSpec {
    /// Last part of the path.
    pub name: String,
    /// Most bytes of a request's body.
    pub body_limit: u64,
}

impl EndpointSpec {
    /// An endpoint that takes bodies up to 1 MiB.
    pub fn new(name: impl Into<String>) -> Self {
        EndpointSpec { name: name.into(), body_limit: 1 << 20 }
    }
}

builder!(EndpointSpec {
    /// Most bytes of a body.
    body_limit: u64 => body_limit,
});

/// A request, incoming or outgoing. The body is raw, so that signatures over it can be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpRequest {
    /// `GET`, `POST`, ….
    pub method: String,
    /// Absolute URL when outgoing, path and query when incoming.
    pub url: String,
    /// Names in lower case, in order, repeated where the peer repeated them.
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Bytes,
    /// Most time for the whole of an outgoing request, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl HttpRequest {
    /// A request without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        HttpRequest { method: method.into(), url: url.into(), headers: Vec::new(), body: Bytes::new(), timeout_ms: None }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// With a limit of time.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

builder!(HttpRequest {
    /// With a body.
    body: Bytes => body,
});

/// A response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpResponse {
    /// Status, 100–599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Bytes,
}

impl HttpResponse {
    /// A response without headers and body.
    pub fn new(status: u16) -> Self {
        HttpResponse { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }
}

builder!(HttpResponse {
    /// With a body.
    body: Bytes => body,
});

/// The contract of an endpoint.
#[async_trait]
pub trait HttpEndpoint: Send + Sync {
    /// Answers a request.
    async fn handle(&self, cx: &CallCx, request: HttpRequest) -> Result<HttpResponse>;
}
