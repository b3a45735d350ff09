//! A server that is killed while fifty people are being answered: nothing is lost, nothing is said twice.
//!
//! The child is this test program again, told by its environment to serve. Its people are two files that outlive it: one with what it has
//! acknowledged, one with what they read. Without that, the same test serves by itself for a moment.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Channel, ChannelSpec, ChatDelta, Code, Contribution, Inbound, Inbox, MessageRef, Outbound, Result, async_trait,
    serde_json::json,
};
use bespoke_state::State;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

use crate::kit::{Served, config, end, mind, plug, said};

const SERVE: &str = "BESPOKE_TEST_SERVE";
/// How many messages there are in the end; without it, there is always one more.
const TOTAL: &str = "BESPOKE_TEST_TOTAL";

const CHATS: usize = 50;
const RUNS: usize = 100;
/// Messages that people write without an answer.
const PATIENCE: usize = 120;

#[test]
fn child() {
    match std::env::var_os(SERVE) {
        Some(folder) => serve(Path::new(&folder), std::env::var(TOTAL).ok().map(|total| total.parse().unwrap())),
        None => {
            let folder = tempfile::tempdir().unwrap();
            serve(folder.path(), Some(2 * CHATS));
            check(folder.path(), 2 * CHATS);
        }
    }
}

#[test]
fn nothing_is_lost_and_nothing_is_said_twice_however_often_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut random = Random(0x5eed);
    let mut progress = 0;
    for run in 0..RUNS {
        let mut child = Reaped(spawned(folder, None));
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let told = lines.map_while(io::Result::ok).filter(|line| line.contains("told ")).take(random.below(60) + 1).count();
        assert!(told > 0, "run {run}: the child did nothing");
        // Somewhere between two lines.
        std::thread::sleep(Duration::from_micros(random.below(3_000) as u64));
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        State::open(folder.join("state.db")).unwrap().check().unwrap();
        let read = read(folder).len();
        assert!(read >= progress, "run {run}: what people have read stays read");
        progress = read;
    }
    let total = acknowledged(folder) + CHATS;
    let mut child = Reaped(spawned(folder, Some(total)));
    assert!(child.0.wait().unwrap().success());
    assert!(total > 5 * CHATS, "{total} messages are few");
    check(folder, total);
}

fn spawned(folder: &Path, total: Option<usize>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::child", "--exact", "--nocapture"]).env(SERVE, folder).stderr(Stdio::null());
    match total {
        Some(total) => command.env(TOTAL, total.to_string()).stdout(Stdio::null()),
        None => command.stdout(Stdio::piped()),
    };
    command.spawn().unwrap()
}

/// Ends its child, also when a test fails.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everybody has read each answer once, in order, and so it stands in the conversations.
fn check(folder: &Path, total: usize) {
    let state = State::open(folder.join("state.db")).unwrap();
    state.check().unwrap();
    assert_eq!((state.inbox_length().unwrap(), state.outbox_length().unwrap()), (0, (0, 0)));
    let mut chats: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (chat, text) in read(folder) {
        chats.entry(chat).or_default().push(text);
    }
    for person in 0..CHATS {
        let chat = format!("chat {person}");
        let numbers = || (0..total).filter(|n| n % CHATS == person);
        let answers: Vec<_> = numbers().map(answer).collect();
        assert_eq!(chats.remove(&chat).unwrap_or_default(), answers, "{chat}");
        let talk: Vec<_> = numbers().flat_map(|n| [question(n), answer(n)]).collect();
        assert_eq!(said(&state, "wire", &chat), talk, "{chat}");
    }
}

fn question(n: usize) -> String {
    format!("question {n}")
}

fn answer(n: usize) -> String {
    format!("You asked me {}, to which I say that I do not know.", question(n))
}

fn acknowledged(folder: &Path) -> usize {
    fs::metadata(folder.join("acknowledged")).map_or(0, |file| file.len() as usize)
}

/// What people have read: chat and text, in the order in which messages came, as they were edited last.
fn read(folder: &Path) -> Vec<(String, String)> {
    let mut order = Vec::new();
    let mut messages = BTreeMap::new();
    for line in fs::read_to_string(folder.join("sent")).unwrap_or_default().lines() {
        let (what, rest) = line.split_once('\t').unwrap();
        let (key, rest) = rest.split_once('\t').unwrap();
        if what == "sent" {
            let (chat, text) = rest.split_once('\t').unwrap();
            assert!(messages.insert(key.to_owned(), (chat.to_owned(), text.to_owned())).is_none(), "{key} came twice");
            order.push(key.to_owned());
        } else {
            messages.get_mut(key).unwrap().1 = rest.to_owned();
        }
    }
    order.into_iter().map(|key| messages[&key].clone()).collect()
}

/// Serves until it is killed, or until so many messages are answered.
fn serve(folder: &Path, total: Option<usize>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let people = Arc::new(People::of(folder, total));
        let wire = people.clone();
        let spec = ChannelSpec::new("wire").idempotent(true).edits(true);
        let channel = plug("wire", "", move || vec![Contribution::Channel(spec.clone(), Arc::new(Wire(wire.clone())))]);
        let config = config(json!({ "chats": CHATS, "turn_attempts": 1_000_000 }));
        let served = Served::over(&folder.join("state.db"), config, vec![channel, thinker()]).await;
        people.all_fed().await;
        while served.status().waiting > 0 || served.status().outbox > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        served.end().await;
    });
}

/// A model that takes its time, so that there is always an answer half written.
fn thinker() -> bespoke_host::Candidate {
    mind(|asked| {
        let text = format!("You asked me {asked}, to which I say that I do not know.");
        let words: Vec<_> = text.split_inclusive(", ").map(|word| Ok(ChatDelta::text(word))).collect();
        let slowly = stream::iter(words.into_iter().chain([Ok(end())])).then(|piece| async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            piece
        });
        Box::pin(slowly)
    })
}

/// People whose memory is two files.
struct People {
    acknowledged: Mutex<File>,
    first: usize,
    total: usize,
    sent: Mutex<(File, HashSet<String>)>,
    moved: Notify,
    fed: tokio::sync::watch::Sender<bool>,
}

impl People {
    fn of(folder: &Path, total: Option<usize>) -> Self {
        let open = |name: &str| -> File {
            let path: PathBuf = folder.join(name);
            File::options().create(true).append(true).open(path).unwrap()
        };
        let text = fs::read_to_string(folder.join("sent")).unwrap_or_default();
        let keys = text.lines().filter_map(|line| line.strip_prefix("sent\t")?.split('\t').next().map(str::to_owned)).collect();
        People {
            acknowledged: Mutex::new(open("acknowledged")),
            first: acknowledged(folder),
            total: total.unwrap_or(usize::MAX),
            sent: Mutex::new((open("sent"), keys)),
            moved: Notify::new(),
            fed: tokio::sync::watch::Sender::new(false),
        }
    }

    async fn all_fed(&self) {
        self.fed.subscribe().wait_for(|fed| *fed).await.unwrap();
    }

    /// In one piece: a process that is killed has written it, or not.
    fn tell(file: &mut File, line: &str) {
        file.write_all(line.as_bytes()).unwrap();
        // A parent that has enough does not listen any more.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(b"told something\n").and_then(|()| stdout.flush());
    }
}

struct Wire(Arc<People>);

#[async_trait]
impl Channel for Wire {
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        let people = &*self.0;
        for n in people.first..people.total {
            while n.saturating_sub(people.sent.lock().unwrap().1.len()) > PATIENCE {
                people.moved.notified().await;
            }
            let message = Inbound::new(format!("chat {}", n % CHATS), "ann", format!("m{n}"), question(n));
            match inbox.accept(message).await {
                Ok(()) => people.acknowledged.lock().unwrap().write_all(b".").unwrap(),
                Err(error) if error.code() == Code::NOT_READY => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        people.fed.send_replace(true);
        cx.cancelled().await;
        Ok(())
    }

    async fn send(&self, _: &CallCx, message: Outbound) -> Result<MessageRef> {
        let key = message.idempotency_key.unwrap();
        {
            let (file, keys) = &mut *self.0.sent.lock().unwrap();
            if keys.insert(key.clone()) {
                People::tell(file, &format!("sent\t{key}\t{}\t{}\n", message.chat, message.text));
            }
        }
        self.0.moved.notify_one();
        Ok(MessageRef::new(message.chat, key))
    }

    async fn edit(&self, _: &CallCx, message: MessageRef, new: Outbound) -> Result<()> {
        People::tell(&mut self.0.sent.lock().unwrap().0, &format!("edited\t{}\t{}\n", message.id, new.text));
        Ok(())
    }
}

/// Enough to spread the kills, and the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
