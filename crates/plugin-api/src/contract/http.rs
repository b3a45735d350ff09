//! HTTP, both ways: endpoints that a plugin serves under the gateway, and requests that it makes through the host.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::builder;
use crate::{BoxStream, CallCx, Code, Error, Result};

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
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Most time until the head of the answer to an outgoing request is there, in milliseconds.
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

    /// With a limit of time until the head of the answer is there. How long its body may take is for its reader to say.
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

impl fmt::Debug for HttpRequest {
    /// Without what may be a secret: of the URL the host, or the path of an incoming request; no values of headers that name
    /// a credential; no body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &shown_url(&self.url))
            .field("headers", &Headers(&self.headers))
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

/// Of an absolute URL scheme and host: a path can be a key. Of the others the part before the query.
fn shown_url(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/…")
        }
        None => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
    }
}

/// Headers, without the values of those that are credentials by their name.
struct Headers<'a>(&'a [(String, String)]);

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str, value| {
            let name = name.to_ascii_lowercase();
            let secret = ["auth", "cookie", "key", "token", "secret", "signature"].iter().any(|part| name.contains(part));
            if secret { "***" } else { value }
        };
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, shown(name, value.as_str())))).finish()
    }
}

/// What an endpoint answers.
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

/// What a server answered to an outgoing request: its head, and its body as it comes. Redirects are not followed: a plugin that
/// wants to go on makes another request, which is checked as the first one was. Dropping it ends the transfer.
#[non_exhaustive]
pub struct HttpReply {
    /// Status, 100–599.
    pub status: u16,
    /// Names in lower case, in order, repeated where the server repeated them.
    pub headers: Vec<(String, String)>,
    /// The body in pieces of any size; an error when it breaks off.
    pub body: BoxStream<Bytes>,
}

impl HttpReply {
    /// An answer.
    pub fn new(status: u16, headers: Vec<(String, String)>, body: BoxStream<Bytes>) -> Self {
        HttpReply { status, headers, body }
    }

    /// The first header of a name, which is written in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the status is 200–299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it is longer than `limit` bytes, which is known before more than that was kept; what broke the
    /// transfer.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = poll_fn(|cx| self.body.as_mut().poll_next(cx)).await {
            let piece = piece?;
            if all.len() + piece.len() > limit {
                return Err(Error::new(Code::RESOURCE_EXHAUSTED, format!("the answer is longer than {limit} bytes")));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

impl From<HttpResponse> for HttpReply {
    /// An answer that is here already.
    fn from(response: HttpResponse) -> Self {
        HttpReply::new(response.status, response.headers, Box::pin(Whole(Some(response.body))))
    }
}

impl fmt::Debug for HttpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpReply").field("status", &self.status).field("headers", &Headers(&self.headers)).finish_non_exhaustive()
    }
}

/// A body of one piece.
struct Whole(Option<Bytes>);

impl Stream for Whole {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

/// The contract of an endpoint.
#[async_trait]
pub trait HttpEndpoint: Send + Sync {
    /// Answers a request.
    async fn handle(&self, cx: &CallCx, request: HttpRequest) -> Result<HttpResponse>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_request_holds_no_secret() {
        for url in ["https://u:s3cret@api.test/s3cret?key=s3cret#s3cret", "http://api.test?s3cret", "/hooks/x?token=s3cret"] {
            let request = HttpRequest::new("POST", url).body("s3cret".into());
            let names = ["Authorization", "proxy-authorization", "x-api-key", "cookie", "x-goog-api-key", "x-telegram-secret-token"];
            let request = names.iter().fold(request, |request, name| request.header(name, "s3cret")).header("accept", "text/html");
            let shown = format!("{request:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(shown.contains("text/html") && (shown.contains("api.test/…") || shown.contains("\"/hooks/x\"")), "{shown}");
        }
        let reply = HttpReply::from(HttpResponse::new(200).header("set-cookie", "s3cret"));
        assert_eq!(format!("{reply:?}"), r#"HttpReply { status: 200, headers: {"set-cookie": "***"}, .. }"#);
    }
}
