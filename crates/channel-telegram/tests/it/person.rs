//! A person at the other end: the emulator as a process of its own, and what can be done and seen there.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_host::{HttpAllowed, HttpClient};
use bespoke_http::Client;
use bespoke_plugin_api::{
    HttpRequest,
    bytes::Bytes,
    serde_json::{self, Value, json},
};

use crate::kit::{LONG, TOKEN};

/// The emulator. It ends with the test.
pub(crate) struct Emulator {
    process: Child,
    pub(crate) url: String,
    client: Arc<Client>,
}

/// A message as a person sees it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) edits: u64,
    pub(crate) whole: Value,
}

impl Emulator {
    pub(crate) async fn start() -> Self {
        let mut process = Command::new(variable("BESPOKE_NODE"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/emulator/emulator.cjs"))
            .env("NODE_PATH", variable("BESPOKE_TELEGRAM_EMULATOR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("BESPOKE_NODE cannot be run: {e}"));
        // Read to its end beside the test: a full pipe would stop it. What it said last tells why it did not start.
        let mut errors = process.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = Vec::new();
            let _ = errors.read_to_end(&mut log);
            String::from_utf8_lossy(&log).into_owned()
        });
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            let _ = output.read_line(&mut line);
            line
        });
        let line = line.await.unwrap();
        let Some(url) = line.strip_prefix("listening ") else {
            let _ = process.kill();
            let _ = process.wait();
            panic!("the emulator did not start:\n{}", log.join().unwrap());
        };
        Emulator { process, url: url.trim().to_owned(), client: Arc::new(Client::new()) }
    }

    /// The client that the plugin is given.
    pub(crate) fn client(&self) -> (Arc<Client>, HttpAllowed) {
        (self.client.clone(), HttpAllowed::new("telegram").private(self.url.trim_start_matches("http://")))
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Bytes {
        let (client, allowed) = self.client();
        let request = HttpRequest::new(method, format!("{}{path}", self.url)).header("content-type", "application/json");
        let request = if body.is_null() { request } else { request.body(body.to_string().into()) };
        let mut reply = client.send(allowed, request).await.unwrap();
        assert!(reply.is_success(), "{path}: {}", reply.status);
        reply.read(64 << 20).await.unwrap()
    }

    fn from(user: i64) -> Value {
        json!({
            "botToken": TOKEN, "date": 0, "chat": { "id": user, "type": "private" },
            "from": { "id": user, "is_bot": false, "first_name": format!("Person {user}") },
        })
    }

    /// Somebody writes to the bot.
    pub(crate) async fn writes(&self, user: i64, text: &str) {
        let mut message = Self::from(user);
        message["text"] = json!(text);
        self.ask("POST", "/sendMessage", &message).await;
    }

    /// Somebody speaks to the bot; the bytes are in base64.
    pub(crate) async fn speaks(&self, user: i64, base64: &str) {
        let mut message = Self::from(user);
        message["data"] = json!(base64);
        self.ask("POST", "/person/voice", &message).await;
    }

    /// What the bot sent to somebody.
    pub(crate) async fn sees(&self, user: i64) -> Vec<Shown> {
        let bytes = self.ask("GET", &format!("/person/sees?chat={user}"), &Value::Null).await;
        let all: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
        let shown = |whole: Value| Shown {
            text: whole["text"].as_str().unwrap_or_default().to_owned(),
            edits: whole["edits"].as_u64().unwrap_or(0),
            whole,
        };
        all.into_iter().map(shown).collect()
    }

    /// Waits until somebody sees what they should.
    pub(crate) async fn until(&self, user: i64, good: impl Fn(&[Shown]) -> bool) -> Vec<Shown> {
        let end = Instant::now() + LONG;
        loop {
            let seen = self.sees(user).await;
            if good(&seen) {
                return seen;
            }
            assert!(Instant::now() < end, "this is never seen: {seen:?}");
            // Polled, as the emulator tells nobody: a person looks again as well.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How often the bot was shown to be writing.
    pub(crate) async fn typing(&self, user: i64) -> u64 {
        let bytes = self.ask("GET", &format!("/person/actions?chat={user}"), &Value::Null).await;
        serde_json::from_slice(&bytes).unwrap()
    }

    /// A file that the bot sent.
    pub(crate) async fn file(&self, shown: &Shown) -> Bytes {
        let id = shown.whole["file"].as_str().unwrap();
        self.ask("GET", &format!("/person/file?id={id}"), &Value::Null).await
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn variable(name: &str) -> PathBuf {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test`, which brings the emulator and says where it is")).into()
}
