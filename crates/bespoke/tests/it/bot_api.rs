//! A Bot API that keeps account: what was sent to whom, in which order, and by which run of the program. Nothing goes wrong in it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long a request for messages is held open at most: one of a program that was killed is noticed then.
const LONGEST_POLL: Duration = Duration::from_secs(5);

/// A message of the bot.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) chat: i64,
    /// As it was edited last.
    pub(crate) text: String,
    /// The run of the program that sent it.
    pub(crate) run: usize,
}

/// Telegram, for one bot. It ends with the test.
pub(crate) struct BotApi {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    over: AtomicBool,
}

#[derive(Default)]
struct World {
    run: usize,
    updates: Vec<Value>,
    written: i64,
    /// A message has its place here for an id.
    sent: Vec<Sent>,
}

impl BotApi {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                // Of the run in which it was made, also when what it says is read after the end of that.
                let (shared, run) = (serving.clone(), serving.lock().run);
                thread::spawn(move || shared.serve(stream, run));
            }
        });
        BotApi { shared, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whoever connects from now on is another run of the program.
    pub(crate) fn next_run(&self) {
        self.shared.lock().run += 1;
    }

    /// Somebody writes to the bot, in private.
    pub(crate) fn writes(&self, person: i64, text: &str) {
        let mut world = self.shared.lock();
        world.written += 1;
        let number = world.written;
        world.updates.push(json!({ "update_id": number, "message": {
            "message_id": number, "date": 0, "text": text, "chat": { "id": person, "type": "private" },
            "from": { "id": person, "is_bot": false, "first_name": format!("Person {person}") },
        } }));
        drop(world);
        self.shared.changed.notify_all();
    }

    /// All that the bot has sent, in the order in which it arrived.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.shared.lock().sent.clone()
    }

    /// Waits until what the bot has sent is as it should be; whether it became so.
    pub(crate) fn until(&self, limit: Duration, good: impl Fn(&[Sent]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut world = self.shared.lock();
        while !good(&world.sent) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            world = self.shared.changed.wait_timeout(world, left).unwrap().0;
        }
        true
    }
}

impl Drop for BotApi {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
        // It looks when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Answers the requests of a connection until it is closed.
    fn serve(&self, mut stream: TcpStream, run: usize) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        while !self.over.load(Ordering::SeqCst) {
            let (method, body) = request(&mut reader)?;
            let result = self.answer(&method, &body, run);
            let answer = json!({ "ok": true, "result": result }).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all((head + &answer).as_bytes()).ok()?;
        }
        None
    }

    fn answer(&self, method: &str, body: &Value, run: usize) -> Value {
        match method {
            "getMe" => json!({ "id": 4711, "is_bot": true, "first_name": "Bespoke", "username": "bespoke_bot" }),
            "getUpdates" => self.updates(body),
            "sendMessage" => {
                let sent = Sent { chat: body["chat_id"].as_i64().unwrap(), text: body["text"].as_str().unwrap().to_owned(), run };
                let mut world = self.lock();
                world.sent.push(sent);
                let id = world.sent.len();
                drop(world);
                self.changed.notify_all();
                json!({ "message_id": id, "chat": { "id": body["chat_id"], "type": "private" } })
            }
            "editMessageText" => {
                let at = body["message_id"].as_u64().unwrap() as usize - 1;
                self.lock().sent[at].text = body["text"].as_str().unwrap().to_owned();
                self.changed.notify_all();
                json!(true)
            }
            _ => json!(true),
        }
    }

    /// As Telegram does it: what is below the offset is forgotten, and what is not is given again and again.
    fn updates(&self, body: &Value) -> Value {
        let end = Instant::now() + Duration::from_secs(body["timeout"].as_u64().unwrap_or(0)).min(LONGEST_POLL);
        let mut world = self.lock();
        if let Some(offset) = body["offset"].as_i64() {
            world.updates.retain(|update| update["update_id"].as_i64().unwrap() >= offset);
        }
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !world.updates.is_empty() || left.is_zero() || self.over.load(Ordering::SeqCst) {
                return world.updates.iter().take(body["limit"].as_u64().unwrap() as usize).cloned().collect();
            }
            world = self.changed.wait_timeout(world, left).unwrap().0;
        }
    }
}

/// The method of the Bot API that is asked for, and what comes with it.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok()?;
    let method = line.split(' ').nth(1)?.rsplit('/').next()?.to_owned();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, serde_json::from_slice(&body).unwrap_or_default()))
}
