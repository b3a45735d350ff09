//! A Bot API in memory: what it was asked, what it answers, and an inbox that keeps what it is given.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_channel_telegram::BESPOKE_PLUGIN;
use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Channel, Contract, Error, HttpEndpoint, HttpReply, HttpRequest, HttpResponse, Inbound, Inbox,
    InboxSink, Instance, Result,
    serde_json::{self, Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on};

pub(crate) const TOKEN: &str = "4711:secret-Token_x";

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A request, without the token.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) body: Value,
    /// As it was, where it is no JSON.
    pub(crate) raw: String,
}

/// The plugin before a server in memory.
pub(crate) struct Set {
    pub(crate) host: Arc<TestHost>,
    pub(crate) instance: Instance,
    asked: Arc<Seen<Asked>>,
}

/// A list that can be waited for.
pub(crate) struct Seen<T> {
    list: Mutex<Vec<T>>,
    changed: Condvar,
}

impl<T: Clone> Seen<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Seen { list: Mutex::default(), changed: Condvar::new() })
    }

    pub(crate) fn push(&self, item: T) {
        self.list.lock().unwrap().push(item);
        self.changed.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.list.lock().unwrap().clone()
    }

    /// Waits until the list is as it should be.
    pub(crate) fn until(&self, good: impl Fn(&[T]) -> bool) -> Vec<T> {
        let end = Instant::now() + LONG;
        let mut list = self.list.lock().unwrap();
        while !good(&list) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "this never happens; {} so far", list.len());
            list = self.changed.wait_timeout(list, left).unwrap().0;
        }
        list.clone()
    }
}

impl Set {
    pub(crate) fn new(config: Value, script: impl Fn(&Asked) -> Option<Result<HttpReply>> + Send + Sync + 'static) -> Self {
        Self::on(TestHost::with_clock(Clock::Jump), config, script)
    }

    pub(crate) fn on(
        host: Arc<TestHost>,
        config: Value,
        script: impl Fn(&Asked) -> Option<Result<HttpReply>> + Send + Sync + 'static,
    ) -> Self {
        let asked = Seen::new();
        serve(&host, asked.clone(), script);
        host.set_secret("token", TOKEN);
        let instance = block_on(BESPOKE_PLUGIN.start(host.context("telegram"), config)).unwrap();
        Set { host, instance, asked }
    }

    pub(crate) fn channel(&self) -> Arc<dyn Channel> {
        of::<dyn Channel>(&self.instance)
    }

    pub(crate) fn endpoint(&self) -> Arc<dyn HttpEndpoint> {
        of::<dyn HttpEndpoint>(&self.instance)
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.all()
    }

    /// The bodies of those of one method.
    pub(crate) fn bodies(&self, method: &str) -> Vec<Value> {
        self.asked().into_iter().filter(|asked| asked.method == method).map(|asked| asked.body).collect()
    }

    /// Waits until so many requests of a method were made.
    pub(crate) fn until_asked(&self, method: &str, count: usize) {
        self.asked.until(|all| all.iter().filter(|asked| asked.method == method).count() >= count);
    }

    pub(crate) fn logged(&self) -> String {
        self.host.lines().into_iter().map(|(_, line)| line + "\n").collect()
    }

    /// Lets the channel run beside the test.
    pub(crate) fn run(&self, inbox: &Arc<Kept>) -> Running {
        let (channel, inbox, token) = (self.channel(), Inbox::new(inbox.clone()), CancelToken::new());
        let cx = CallCx::new().with_cancel(token.clone());
        let thread = std::thread::spawn(move || block_on(channel.run(&cx, inbox)));
        Running { token, thread: Some(thread) }
    }
}

pub(crate) fn of<T: Contract + ?Sized>(instance: &Instance) -> Arc<T> {
    instance.contributions.iter().find_map(T::of).unwrap().1.clone()
}

/// Lets a host answer requests.
pub(crate) fn serve(
    host: &TestHost,
    asked: Arc<Seen<Asked>>,
    script: impl Fn(&Asked) -> Option<Result<HttpReply>> + Send + Sync + 'static,
) {
    host.on_http_later(move |request| {
        let request = asked_of(&request);
        let answer = script(&request);
        asked.push(request);
        match answer {
            Some(answer) => Box::pin(std::future::ready(answer)),
            None => Box::pin(std::future::pending()),
        }
    });
}

fn asked_of(request: &HttpRequest) -> Asked {
    let path = request.url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let method = match path.strip_prefix(&format!("file/bot{TOKEN}/")) {
        Some(file) => format!("file {file}"),
        None => path.strip_prefix(&format!("bot{TOKEN}/")).unwrap_or_else(|| panic!("{path} has no token")).to_owned(),
    };
    let raw = String::from_utf8_lossy(&request.body).into_owned();
    Asked { method, body: serde_json::from_str(&raw).unwrap_or_default(), raw }
}

/// A channel that runs beside the test. It ends with it.
pub(crate) struct Running {
    token: CancelToken,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Running {
    /// Ends it, and says how it ended.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.token.cancel();
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits for its own end.
    pub(crate) fn ended(mut self) -> Result<()> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// An inbox that keeps what it takes, and can be told to take nothing.
pub(crate) struct Kept {
    messages: Arc<Seen<Inbound>>,
    /// What is said to the next ones, in order.
    pub(crate) refusals: Mutex<VecDeque<Error>>,
    pub(crate) stuck: AtomicBool,
}

impl Kept {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Kept { messages: Seen::new(), refusals: Mutex::default(), stuck: AtomicBool::new(false) })
    }

    pub(crate) fn until(&self, count: usize) -> Vec<Inbound> {
        self.messages.until(|all| all.len() >= count)
    }

    pub(crate) fn all(&self) -> Vec<Inbound> {
        self.messages.all()
    }

    /// Chat, sender and text of each.
    pub(crate) fn texts(&self, count: usize) -> Vec<String> {
        self.until(count).iter().map(|m| format!("{} {} {}", m.chat, m.id, m.text)).collect()
    }
}

impl InboxSink for Kept {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, Result<()>> {
        if self.stuck.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        let refusal = self.refusals.lock().unwrap().pop_front();
        if refusal.is_none() {
            self.messages.push(message);
        }
        Box::pin(std::future::ready(refusal.map_or(Ok(()), Err)))
    }
}

/// An answer of the Bot API that is good.
pub(crate) fn ok(result: Value) -> Option<Result<HttpReply>> {
    whole(200, json!({ "ok": true, "result": result }).to_string())
}

/// One that is not.
pub(crate) fn refusal(code: u16, description: &str, parameters: Value) -> Option<Result<HttpReply>> {
    let body = json!({ "ok": false, "error_code": code, "description": description, "parameters": parameters });
    whole(code, body.to_string())
}

pub(crate) fn whole(status: u16, body: impl Into<Vec<u8>>) -> Option<Result<HttpReply>> {
    Some(Ok(HttpReply::from(HttpResponse::new(status).body(body.into().into()))))
}

pub(crate) fn me() -> Option<Result<HttpReply>> {
    ok(json!({ "id": 4711, "is_bot": true, "first_name": "Bespoke", "username": "bespoke_bot" }))
}

/// A message of Ann, in private.
pub(crate) fn update(number: i64, message: i64, text: &str) -> Value {
    json!({ "update_id": number, "message": {
        "message_id": message, "date": 0, "text": text,
        "chat": { "id": 7, "type": "private" }, "from": { "id": 7, "is_bot": false, "first_name": "Ann", "last_name": "Lee" },
    } })
}

/// A Bot API that has these updates, knows offsets as Telegram does, and gives ids to messages.
pub(crate) fn telegram(updates: Vec<Value>) -> impl Fn(&Asked) -> Option<Result<HttpReply>> + Send + Sync + 'static {
    let next = std::sync::atomic::AtomicI64::new(100);
    move |asked| match asked.method.as_str() {
        "getMe" => me(),
        "getUpdates" => {
            let offset = asked.body["offset"].as_i64().unwrap_or(i64::MIN);
            let limit = asked.body["limit"].as_u64().unwrap() as usize;
            let there: Vec<Value> = updates.iter().filter(|u| u["update_id"].as_i64().unwrap() >= offset).take(limit).cloned().collect();
            if there.is_empty() { None } else { ok(json!(there)) }
        }
        method if method.starts_with("send") && method != "sendChatAction" => {
            ok(json!({ "message_id": next.fetch_add(1, Ordering::SeqCst), "chat": { "id": 7, "type": "private" } }))
        }
        _ => ok(json!(true)),
    }
}

pub(crate) fn allowed() -> Value {
    json!({ "allowed_users": [7] })
}
