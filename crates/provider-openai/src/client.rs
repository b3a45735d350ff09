//! Requests to the server: what goes with each of them, when one is sent again, and what a refusal means.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bespoke_plugin_api::{CallCx, Code, Error, HttpReply, HttpRequest, PluginContext, Result, bytes::Bytes, serde_json};

use crate::{
    body::{Body, Stopped},
    config::Settings,
    failure::{Again, Complaint, Op, Refusal, redacted, shown},
    models::Cache,
    retry::{LONGEST, asked_wait, backoff},
};

/// Most bytes of an answer that says what is wrong.
const MAX_REFUSAL: usize = 64 << 10;

/// The server, as one instance of the plugin sees it.
pub(crate) struct Client {
    pub(crate) cx: PluginContext,
    pub(crate) settings: Settings,
    pub(crate) cache: Mutex<Cache>,
    /// Why the last request that came to an end failed; `None` when it did not.
    trouble: Mutex<Option<String>>,
}

/// A request that may be sent more than once.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) op: Op,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    /// Most time until the head of the answer is there.
    pub(crate) limit: Duration,
}

impl Ask {
    /// A request with a JSON body for a model.
    pub(crate) fn json(op: Op, body: &serde_json::Value, limit: Duration) -> Self {
        let body = Bytes::from(body.to_string());
        Ask { op, content_type: "application/json".into(), body, limit }
    }
}

/// A try that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) again: Again,
    /// What the server asked to wait.
    pub(crate) wait: Option<Duration>,
}

impl Failure {
    /// One that another try does not mend.
    pub(crate) fn last(error: Error) -> Self {
        Failure { error, again: Again::No, wait: None }
    }

    /// One that another try may mend.
    pub(crate) fn passing(error: Error) -> Self {
        Failure { error, again: Again::Yes, wait: None }
    }
}

/// How often a request was sent again.
#[derive(Debug, Default)]
pub(crate) struct Tries(u32);

impl Client {
    pub(crate) fn new(cx: PluginContext, settings: Settings) -> Self {
        Client { cx, settings, cache: Mutex::default(), trouble: Mutex::default() }
    }

    /// Sends a request until its answer begins well, as often as the configuration allows.
    pub(crate) async fn send(&self, call: &CallCx, ask: &Ask) -> Result<HttpReply> {
        let mut tries = Tries::default();
        loop {
            match self.attempt(call, ask).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => self.pause(call, &mut tries, failure).await?,
            }
        }
    }

    /// The whole of an answer, at most `limit` bytes.
    pub(crate) async fn fetch(&self, call: &CallCx, ask: &Ask, limit: usize) -> Result<(HttpReply, Bytes)> {
        let mut reply = self.send(call, ask).await?;
        let bytes = std::mem::replace(&mut reply.body, Box::pin(futures_util::stream::empty()));
        let mut body = Body::new(&self.cx, call, bytes, limit, self.settings.silence());
        let bytes = body.read().await.map_err(|stopped| stopped.into_error(ask.op.failed()))?;
        Ok((reply, bytes))
    }

    /// Sends a request once. The answer is one of success.
    pub(crate) async fn attempt(&self, call: &CallCx, ask: &Ask) -> Result<HttpReply, Failure> {
        let result = self.attempt_unseen(call, ask).await;
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(_) => *trouble = None,
            // These say something of the request, not of the server.
            Err(failure) if is_the_callers(&failure.error) => {}
            Err(failure) => *trouble = Some(failure.error.message().to_owned()),
        }
        drop(trouble);
        result
    }

    async fn attempt_unseen(&self, call: &CallCx, ask: &Ask) -> Result<HttpReply, Failure> {
        let url = self.url(ask.op);
        let limit = call.deadline().map_or(ask.limit, |at| self.cx.now().until(at).min(ask.limit));
        let key = call.unless_cancelled(self.key()).await.and_then(|key| key).map_err(Failure::last)?;
        let mut request = HttpRequest::new(ask.op.method(), url.as_str()).timeout(limit);
        if !ask.content_type.is_empty() {
            request = request.header("content-type", ask.content_type.as_str());
        }
        for (name, value) in &self.settings.headers {
            request = request.header(name, value.as_str());
        }
        if let Some(key) = key.as_deref().filter(|_| !self.settings.headers.iter().any(|(name, _)| name == "authorization")) {
            if http::HeaderValue::from_str(key).is_err() {
                let error = Error::new(ask.op.failed(), "the key holds characters that no header may have");
                return Err(Failure::last(error.with_help("export OPENAI_API_KEY=… without line breaks")));
            }
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let reply = call.unless_cancelled(self.cx.http(request.body(ask.body.clone()))).await.and_then(|reply| reply);
        let mut reply = reply.map_err(|e| self.unreachable(&url, ask, limit, e))?;
        if reply.is_success() {
            return Ok(reply);
        }
        let wait = asked_wait(|name| reply.header(name), self.cx.now());
        let location = reply.header("location").map(str::to_owned);
        let bytes = std::mem::replace(&mut reply.body, Box::pin(futures_util::stream::empty()));
        let text = match Body::new(&self.cx, call, bytes, MAX_REFUSAL, self.settings.timeout()).read().await {
            Ok(bytes) => redacted(&String::from_utf8_lossy(&bytes), &self.secrets(key.as_deref())),
            Err(Stopped::Cancelled) => return Err(Failure::last(Error::cancelled())),
            // The status says enough.
            Err(_) => String::new(),
        };
        let value: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let complaint = value.as_ref().and_then(Complaint::of);
        let known = self.cache().known();
        let refusal = Refusal {
            op: ask.op,
            url: &url,
            status: Some(reply.status),
            text: &text,
            complaint: complaint.as_ref(),
            location: location.as_deref(),
            keyed: key.is_some(),
            known: &known,
        };
        let (error, again) = refusal.explain();
        let error = error.with_data(serde_json::json!({ "status": reply.status }));
        Err(Failure { error, again, wait })
    }

    /// What a complaint in the middle of an answer means; `text` is its JSON.
    pub(crate) async fn complaint(&self, ask: &Ask, text: &str) -> Failure {
        let key = self.key_sent().await;
        let text = redacted(text, &self.secrets(key.as_deref()));
        let complaint = serde_json::from_str(&text).ok().and_then(|value| Complaint::of(&value));
        let (url, known) = (self.url(ask.op), self.cache().known());
        let refusal = Refusal {
            op: ask.op,
            url: &url,
            status: None,
            text: &text,
            complaint: complaint.as_ref(),
            location: None,
            keyed: key.is_some(),
            known: &known,
        };
        let (error, again) = refusal.explain();
        Failure { error, again, wait: None }
    }

    /// An answer of status 200 that is none: `what` it is, and how it begins.
    pub(crate) async fn nonsense(&self, op: Op, what: &str, text: &str) -> Error {
        let secrets = self.secrets(self.key_sent().await.as_deref());
        let head = shown(&redacted(text, &secrets));
        let message = match head.as_str() {
            "" => format!("{} answered with {what}", self.url(op)),
            head => format!("{} answered with {what}: {head}", self.url(op)),
        };
        Error::new(op.failed(), message).with_help("is the address right? bespoke config set plugins.openai.base_url URL")
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The failure itself, when there is to be no other try.
    pub(crate) async fn pause(&self, call: &CallCx, tries: &mut Tries, failure: Failure) -> Result<()> {
        if failure.again == Again::No || tries.0 >= self.settings.config.max_retries.into() {
            return Err(failure.error);
        }
        tries.0 += 1;
        let mut random = [128];
        // Without randomness the waits are the same each time, which is no reason to fail.
        let _ = self.cx.host().random(&mut random);
        let wait = failure.wait.unwrap_or_else(|| backoff(tries.0, random[0]));
        let too_late = call.deadline().is_some_and(|at| self.cx.now().plus(wait) >= at);
        if wait > LONGEST || too_late {
            let asked =
                format!("{}; it is to be asked again in {} s, which is too long to wait", failure.error.message(), wait.as_secs_f32());
            let error = Error::new(failure.error.code(), asked).retryable();
            return Err(error.with_data(serde_json::json!({ "retry_after_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) })));
        }
        call.unless_cancelled(self.cx.sleep(wait)).await
    }

    /// Why the last request failed, if it did.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn url(&self, op: Op) -> String {
        format!("{}{}", self.settings.base, op.path())
    }

    /// The key. A server of one's own needs none, so one that is not set is no error before the server says so.
    ///
    /// # Errors
    /// When it is set, but cannot be had: a reference to a file that is missing, a store that is locked.
    async fn key(&self) -> Result<Option<String>> {
        match self.cx.secret("api_key").await {
            Ok(key) => Ok(Some(key.trim().to_owned()).filter(|key| !key.is_empty())),
            Err(error) if error.data().is_some_and(|data| data.get("unset").is_some()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The key that a request was sent with, as far as it is still there: only to find it in what the server says.
    async fn key_sent(&self) -> Option<String> {
        self.key().await.ok().flatten()
    }

    /// What must not be repeated of what a server says.
    fn secrets(&self, key: Option<&str>) -> Vec<String> {
        key.into_iter().chain(self.settings.headers.iter().map(|(_, value)| value.as_str())).map(str::to_owned).collect()
    }

    fn unreachable(&self, url: &str, ask: &Ask, limit: Duration, e: Error) -> Failure {
        match e.code() {
            Code::CANCELLED => Failure::last(e),
            Code::EXECUTION_TIMEOUT => {
                let message = format!("{url} did not answer within {} s", limit.as_secs_f32());
                let key = if ask.op == Op::Models { "timeout_ms" } else { "first_token_timeout_ms" };
                let help = format!("bespoke config set plugins.openai.{key} MS");
                // Not sent again: a server that is slow is not helped by more work.
                Failure::last(Error::new(Code::EXECUTION_TIMEOUT, message).retryable().with_help(help))
            }
            code => {
                // The client of the host names the server itself.
                let named = url.split('/').nth(2).is_some_and(|host| e.message().contains(host));
                let message = if named { e.message().to_owned() } else { format!("{url}: {}", e.message()) };
                let error = Error::new(code, message);
                let help = e.help().unwrap_or("is the server running? bespoke config set plugins.openai.base_url URL");
                let error = error.with_help(help);
                if e.is_retryable() { Failure::passing(error.retryable()) } else { Failure::last(error) }
            }
        }
    }
}

fn is_the_callers(error: &Error) -> bool {
    let status = error.data().and_then(|data| data["status"].as_u64());
    error.code() == Code::CANCELLED || matches!(status, Some(400 | 413 | 422)) || error.code() == Code::LLM_MODEL_NOT_AVAILABLE
}
