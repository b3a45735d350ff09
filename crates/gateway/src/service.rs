//! One request: its endpoint is found, its body read, the plugin asked, and what comes of it made into an answer.

use std::{fmt::Write as _, time::Duration};

use bespoke_host::{Host, Slot};
use bespoke_plugin_api::{
    CallCx, Code, Error, HttpEndpoint, HttpRequest, HttpResponse,
    bytes::{Bytes, BytesMut},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderName, HeaderValue},
    http::request,
};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    GatewayConfig,
    router::{Place, place},
};

/// When to come again, in seconds: what is full is full for a moment.
const RETRY_AFTER: &str = "1";

/// What answers requests, of all connections.
pub(crate) struct Service {
    host: Host,
    requests: Semaphore,
    read_timeout: Duration,
    answer_timeout: Duration,
}

/// An answer of the gateway itself.
struct Problem {
    status: u16,
    message: &'static str,
}

impl Service {
    pub(crate) fn new(host: Host, config: &GatewayConfig) -> Self {
        Service {
            host,
            requests: Semaphore::new(config.max_requests as usize),
            read_timeout: config.read_timeout(),
            answer_timeout: config.answer_timeout(),
        }
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        let response = match place(&path) {
            Place::Endpoint { plugin, name } => self.endpoint(plugin, name, request).await,
            Place::Nowhere => Err(Problem::nothing_there()),
        };
        let response = response.unwrap_or_else(|problem| problem.response());
        // Without the query, which may be a key.
        tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
        response
    }

    async fn endpoint(&self, plugin: &str, name: &str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Problem> {
        let slot = self.host.registry().get::<dyn HttpEndpoint>(name).filter(|slot| slot.plugin() == plugin);
        let slot = slot.ok_or_else(Problem::nothing_there)?;
        let _place = self.requests.try_acquire().map_err(|_| Problem { status: 503, message: "too many requests are being answered" })?;
        let (head, body) = request.into_parts();
        let limit = usize::try_from(slot.spec().body_limit).unwrap_or(usize::MAX);
        let reading = tokio::time::timeout(self.read_timeout, read(body, limit)).await;
        let body = reading.unwrap_or(Err(Problem { status: 408, message: "the body of the request did not arrive in time" }))?;
        let asked = tokio::time::timeout(self.answer_timeout, ask(&slot, asked_for(&head, body))).await;
        let late = || Error::new(Code::EXECUTION_TIMEOUT, "no answer in time");
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok(response) => answered(response).ok_or_else(|| {
                tracing::warn!(plugin, endpoint = name, "answered what no server may say");
                Problem { status: 500, message: "the plugin failed" }
            }),
            Err(error) => {
                tracing::warn!(plugin, endpoint = name, %error, "an endpoint failed");
                Err(Problem::of(&error))
            }
        }
    }
}

/// Asks the plugin, on a task of its own: one that blocks must not keep the connections of others waiting.
async fn ask(slot: &Slot<dyn HttpEndpoint>, request: HttpRequest) -> Result<HttpResponse, Error> {
    slot.call_apart(&CallCx::new(), move |endpoint, cx| async move { endpoint.handle(&cx, request).await }).await
}

/// The whole body, if it is not too long.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Problem> {
    let too_long = || Problem { status: 413, message: "the body is longer than this endpoint takes" };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem { status: 400, message: "the body of the request broke off" })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(too_long());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The request as a plugin sees it.
fn asked_for(head: &request::Parts, body: Bytes) -> HttpRequest {
    let url = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = HttpRequest::new(head.method.as_str(), url).body(body);
    // What is no text stays recognizable as something that is none.
    request.headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    request
}

/// The answer of a plugin; none when it is no answer of HTTP.
fn answered(response: HttpResponse) -> Option<Response<Full<Bytes>>> {
    let status = StatusCode::from_u16(response.status).ok().filter(|status| (200..600).contains(&status.as_u16()))?;
    let mut answer = Response::new(Full::new(response.body));
    *answer.status_mut() = status;
    for (name, value) in response.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_str(&value).ok()?;
        // How the body travels is the listener's to say.
        if ![header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER]
            .contains(&name)
        {
            answer.headers_mut().append(name, value);
        }
    }
    Some(answer)
}

impl Problem {
    fn nothing_there() -> Self {
        Problem { status: 404, message: "nothing is mounted at this path" }
    }

    /// What a stranger is told of a failure.
    fn of(error: &Error) -> Self {
        match error.code() {
            Code::EXECUTION_TIMEOUT => Problem { status: 504, message: "the plugin took too long" },
            Code::NOT_READY | Code::RESOURCE_EXHAUSTED | Code::CANCELLED => {
                Problem { status: 503, message: "the plugin does not serve now" }
            }
            _ => Problem { status: 500, message: "the plugin failed" },
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body_of(self.status, self.message).into()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        // What is left of the request is not waited for.
        if matches!(self.status, 400 | 408 | 413) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn body_of(status: u16, message: &str) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    json!({ "error": { "code": reason.to_ascii_uppercase().replace(' ', "_"), "message": message } }).to_string()
}

/// A whole answer as bytes, for a connection on which no request was read.
pub(crate) fn problem_text(status: u16, message: &str) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let body = body_of(status, message);
    let mut text = format!("HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    if status == 503 {
        // Writing to a string cannot fail.
        let _ = write!(text, "retry-after: {RETRY_AFTER}\r\n");
    }
    let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
    text
}
