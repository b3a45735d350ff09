//! The client: a request checked, sent, and its answer handed out while it comes.

use std::{
    collections::HashMap,
    error, fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_plugin_api::{BoxFuture, Code, Error, HttpReply, HttpRequest, Result, bytes::Bytes};
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{runtime::Handle, task::JoinHandle, time::timeout};

use crate::{
    body::Body,
    connect::{Connector, Refused},
    network::{Network, System},
    policy::Policy,
    target::Target,
    tls::Tls,
};

/// Most bytes of the head of an answer, and of a piece of its body.
const LONGEST_HEAD: usize = 64 << 10;

/// Most headers of an answer.
const MOST_HEADERS: usize = 128;

/// How long a connection is kept for the next request, and how many per server.
const IDLE: Duration = Duration::from_secs(60);
const MOST_IDLE: usize = 4;

/// Lists whose connections are kept. A program has few plugins; more lists than this are changes of the configuration.
const MOST_LISTS: usize = 64;

/// Headers of a request that say how it travels, or whom it is for: the client writes them.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Handle,
    network: Arc<dyn Network>,
    tls: Arc<Tls>,
    connect_limit: Duration,
    head_limit: Duration,
    lists: Mutex<HashMap<HttpAllowed, Arc<List>>>,
}

/// The connections of one list, which no other list may use.
struct List {
    policy: Arc<Policy>,
    pool: legacy::Client<Connector, Full<Bytes>>,
}

impl Client {
    /// A client of the machine's own network. Must be called inside a tokio runtime, which it uses from then on.
    #[expect(clippy::new_without_default, reason = "it needs a runtime around it")]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A client with other limits, or another network.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            network: Arc::new(System),
            tls: Tls::default(),
            connect_limit: Duration::from_secs(10),
            head_limit: Duration::from_secs(60),
        }
    }
}

/// Makes a [`Client`].
#[must_use]
pub struct ClientBuilder {
    network: Arc<dyn Network>,
    tls: Tls,
    connect_limit: Duration,
    head_limit: Duration,
}

impl ClientBuilder {
    /// With a network that is not the machine's own.
    pub fn network(mut self, network: impl Network) -> Self {
        self.network = Arc::new(network);
        self
    }

    /// Most time for lookup, connection and TLS together; 10 s otherwise.
    pub fn connect_limit(mut self, limit: Duration) -> Self {
        self.connect_limit = limit;
        self
    }

    /// Most time until the head of an answer is there, for requests that do not say; 60 s otherwise. It includes connecting.
    pub fn head_limit(mut self, limit: Duration) -> Self {
        self.head_limit = limit;
        self
    }

    /// Trusts these certificates, in DER, instead of the machine's.
    #[cfg(feature = "testing")]
    pub fn roots(mut self, roots: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.tls = Tls::with_roots(roots.into_iter().map(Into::into).collect());
        self
    }

    /// The client. Must be called inside a tokio runtime, which it uses from then on.
    pub fn build(self) -> Client {
        let inner = Inner {
            runtime: Handle::current(),
            network: self.network,
            tls: Arc::new(self.tls),
            connect_limit: self.connect_limit,
            head_limit: self.head_limit,
            lists: Mutex::default(),
        };
        Client { inner: Arc::new(inner) }
    }
}

impl HttpClient for Client {
    fn send(&self, allowed: HttpAllowed, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let (target, uri) = Target::parse(&request.url)?;
            let list = inner.list(allowed)?;
            list.policy.check(&target)?;
            let limit = request.timeout_ms.map_or(inner.head_limit, Duration::from_millis);
            let request = outgoing(uri, request)?;
            // Timers and sockets need the runtime, and a plugin may poll from a thread of its own.
            let sent = Running(inner.runtime.spawn(async move { timeout(limit, list.pool.request(request)).await }));
            match sent.await {
                Some(Ok(Ok(response))) => Ok(reply(response, &target)),
                Some(Ok(Err(error))) => Err(failure(error, &target)),
                Some(Err(_)) => {
                    let message = format!("{target} did not answer within {} s", limit.as_secs_f32());
                    Err(Error::new(Code::EXECUTION_TIMEOUT, message).retryable())
                }
                None => Err(Error::new(Code::CANCELLED, format!("the request to {target} was ended with the program"))),
            }
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}

impl Inner {
    fn list(&self, allowed: HttpAllowed) -> Result<Arc<List>> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(&allowed) {
            return Ok(list.clone());
        }
        let policy = Arc::new(Policy::new(allowed.clone())?);
        let connector =
            Connector { policy: policy.clone(), network: self.network.clone(), tls: self.tls.clone(), limit: self.connect_limit };
        let pool = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .http1_max_buf_size(LONGEST_HEAD)
            .http1_max_headers(MOST_HEADERS)
            .build(connector);
        let list = Arc::new(List { policy, pool });
        if lists.len() >= MOST_LISTS {
            lists.clear();
        }
        lists.insert(allowed, list.clone());
        Ok(list)
    }
}

/// A task that ends with whoever waits for it; `None` when the runtime ended it.
struct Running<T>(JoinHandle<T>);

impl<T> Future for Running<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(std::result::Result::ok)
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The request as it is sent.
fn outgoing(uri: Uri, request: HttpRequest) -> Result<Request<Full<Bytes>>> {
    let method = Method::from_bytes(request.method.as_bytes()).ok().filter(|m| *m != Method::CONNECT && *m != Method::TRACE);
    let method = method.ok_or_else(|| Error::invalid_params("the method of the request is none that can be sent"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let known = HeaderName::from_bytes(name.as_bytes());
        let name = known.map_err(|_| Error::invalid_params("a header of the request has a name that cannot be sent"))?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(Error::invalid_params(format!("the header `{name}` is not the plugin's to send")).with_help("leave it out"));
        }
        let mut value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| Error::invalid_params(format!("the value of the header `{name}` has a line break or a control character")))?;
        value.set_sensitive(true);
        // Fails past 32768 headers.
        headers.try_append(name, value).map_err(|_| Error::invalid_params("the request has too many headers"))?;
    }
    let mut out = Request::new(Full::new(request.body));
    (*out.method_mut(), *out.uri_mut(), *out.headers_mut()) = (method, uri, headers);
    Ok(out)
}

fn reply(response: Response<Incoming>, target: &Target) -> HttpReply {
    let (head, body) = response.into_parts();
    let text = |value: &HeaderValue| match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        // What is no UTF-8 is Latin-1, as it was once defined.
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    };
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    HttpReply::new(head.status.as_u16(), headers, Box::pin(Body::new(body, target.to_string())))
}

fn failure(error: legacy::Error, target: &Target) -> Error {
    let mut cause: Option<&(dyn error::Error + 'static)> = error::Error::source(&error);
    while let Some(next) = cause {
        if let Some(Refused(error)) = next.downcast_ref() {
            return error.clone();
        }
        // hyper's own question for this is part of its server only.
        if next.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_parse() && e.to_string().ends_with("too large")) {
            let message = format!("the head of the answer of {target} is larger than {LONGEST_HEAD} bytes or {MOST_HEADERS} headers");
            return Error::new(Code::RESOURCE_EXHAUSTED, message);
        }
        cause = next.source();
    }
    let what = error::Error::source(&error).map_or_else(|| "the connection was closed".to_owned(), chain);
    Error::new(Code::NETWORK_FAILED, format!("{target} gave no answer: {what}")).retryable()
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &(dyn error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_line = next.to_string();
        if !line.contains(&next_line) {
            line = format!("{line}: {next_line}");
        }
        cause = next.source();
    }
    line
}
