//! The agent on Telegram, as a person has it: the binary before the emulator, with a model, ears and a voice that are stand-ins.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{User, wait};

/// Longer than anything takes, even where two cores are shared by many.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

pub(crate) const TOKEN: &str = "4711:secret-Token_x";

/// Telegram, and the people there. It ends with the test.
pub(crate) struct Telegram {
    process: Child,
    address: String,
}

impl Telegram {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(variable("BESPOKE_NODE"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../channel-telegram/tests/emulator/emulator.cjs"))
            .env("NODE_PATH", variable("BESPOKE_TELEGRAM_EMULATOR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|e| panic!("BESPOKE_NODE cannot be run: {e}"));
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening http://").expect("the emulator starts").to_owned();
        Telegram { process, address }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Vec<u8> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ");
        stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with a head");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&answer));
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        if head.contains("transfer-encoding: chunked") { unchunked(&answer[end + 4..]) } else { answer[end + 4..].to_vec() }
    }

    fn of(user: i64) -> Value {
        json!({
            "botToken": TOKEN, "date": 0, "chat": { "id": user, "type": "private" },
            "from": { "id": user, "is_bot": false, "first_name": format!("Person {user}") },
        })
    }

    pub(crate) fn writes(&self, user: i64, text: &str) {
        let mut message = Self::of(user);
        message["text"] = json!(text);
        self.ask("POST", "/sendMessage", &message);
    }

    fn speaks(&self, user: i64, note: &[u8]) {
        let mut message = Self::of(user);
        message["data"] = json!(base64(note));
        self.ask("POST", "/person/voice", &message);
    }

    fn sees(&self, user: i64) -> Vec<Value> {
        serde_json::from_slice(&self.ask("GET", &format!("/person/sees?chat={user}"), &Value::Null)).unwrap()
    }

    /// Waits until a person sees what they should.
    pub(crate) fn until(&self, user: i64, good: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let end = Instant::now() + LIMIT;
        loop {
            let seen = self.sees(user);
            if good(&seen) {
                return seen;
            }
            assert!(Instant::now() < end, "this is never seen: {seen:#?}");
            // A person looks again as well.
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        all.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    all
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            text.push(if n <= three.len() { char::from(LETTERS[(bits >> (18 - 6 * n)) as usize & 63]) } else { '=' });
        }
    }
    text
}

fn variable(name: &str) -> PathBuf {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test`, which brings the emulator and says where it is")).into()
}

/// A server that serves. It ends with the test.
pub(crate) struct Serves(Option<Child>);

impl Serves {
    pub(crate) fn begin(user: &User) -> Self {
        let mut child = user.command(["serve", "--json", "--quiet", "--offline"]).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("\"ready\""));
        let serves = Serves(Some(child));
        assert!(ready.is_some(), "it does not begin to serve");
        // Read to its end: a full pipe would stop it.
        thread::spawn(move || lines.for_each(drop));
        serves
    }

    pub(crate) fn signal(mut self, signal: Signal) -> i32 {
        let child = self.0.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        wait(child).code
    }
}

impl Drop for Serves {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

pub(crate) fn configured(telegram: &Telegram, fake: &str) -> User {
    let config = format!(
        "config_version = 1\n\
         [agent]\nprovider = [\"fake\"]\ntools = [\"fake_echo\"]\n\
         [voice]\nvad = [\"fake\"]\nstt = [\"fake\"]\ntts = [\"fake\"]\n\
         [serve]\nchannels = [\"telegram\"]\nedit_every_ms = 20\nretry_ms = 50\n\
         [gateway]\nlisten = \"127.0.0.1:0\"\n\
         [plugins.fake]\n{fake}\n\
         [plugins.telegram]\ntoken = \"${{TELEGRAM_TOKEN}}\"\nbase_url = \"http://{}\"\npaced = false\n\
         allowed_users = [{}]\n",
        telegram.address,
        (1..=20).map(|n| n.to_string()).collect::<Vec<_>>().join(", "),
    );
    User::new().with("TELEGRAM_TOKEN", TOKEN).configured(&config)
}

pub(crate) fn texts(seen: &[Value]) -> Vec<&str> {
    seen.iter().map(|message| message["text"].as_str().unwrap_or_default()).collect()
}

/// A second of a tone, as a phone records it.
fn note() -> Vec<u8> {
    let samples: Vec<f32> = (0..48_000).map(|n| if n / 60 % 2 == 0 { 0.5 } else { -0.5 }).collect();
    bespoke_ogg_opus::encode(&samples, 48_000).unwrap()
}

#[test]
fn a_person_writes_speaks_and_has_a_tool_called() {
    let telegram = Telegram::start();
    let fake = "piece_delay_ms = 60\ntranscripts = ['what is the time']\nreplies = [\n\
                [{ text = 'Good **day** to you, whoever you may be, and many more of them' }],\n\
                [{ tool = { name = 'fake_echo', args = { text = 'ping' } } }],\n\
                [{ text = 'The tool has answered.' }],\n\
                [{ text = 'It is noon.' }],\n]";
    let user = configured(&telegram, fake);
    let serves = Serves::begin(&user);

    telegram.writes(1, "hello");
    let whole = "Good day to you, whoever you may be, and many more of them";
    let seen = telegram.until(1, |seen| texts(seen) == [whole]);
    assert!(seen[0]["edits"].as_u64().unwrap() >= 2, "it grew while it was written: {seen:?}");
    assert_eq!(seen[0]["entities"], json!([{ "type": "bold", "offset": 5, "length": 3 }]));
    assert!(
        serde_json::from_slice::<u64>(&telegram.ask("GET", "/person/actions?chat=1", &Value::Null)).unwrap() > 0,
        "it showed that it writes"
    );

    telegram.writes(1, "use the tool");
    telegram.until(1, |seen| texts(seen) == [whole, "The tool has answered."]);
    let spoken = json!({ "kind": "voice" });
    telegram.speaks(1, &note());
    let seen = telegram.until(1, |seen| seen.iter().any(|message| message["kind"] == spoken["kind"]));
    assert_eq!(texts(&seen).iter().filter(|text| **text == "It is noon.").count(), 1, "{seen:?}");
    let voice = seen.iter().find(|message| message["kind"] == "voice").unwrap();
    let bytes = telegram.ask("GET", &format!("/person/file?id={}", voice["file"].as_str().unwrap()), &Value::Null);
    assert!(bytes.starts_with(b"OggS") && bytes.windows(8).any(|eight| eight == b"OpusHead"), "{} bytes", bytes.len());

    // Nobody else is heard, and the token is nowhere.
    telegram.writes(99, "let me in");
    telegram.writes(2, "and me");
    telegram.until(2, |seen| seen.len() == 1);
    assert!(telegram.sees(99).is_empty());
    let logs = std::fs::read_to_string(user.home().join("logs/bespoke.log")).unwrap_or_default();
    assert!(!logs.contains("secret-Token"), "{logs}");
    let told = user.run(["plugin", "info", "telegram", "--json"]).ok();
    assert!(told.out.contains("@TestNameBot") && !told.out.contains("secret-Token"), "{}", told.out);
    assert_eq!(serves.signal(Signal::TERM), 0);
}

#[test]
fn a_hook_that_says_no_is_told_to_the_person() {
    let telegram = Telegram::start();
    let user = configured(&telegram, "received = { veto = 'not during the night' }");
    let serves = Serves::begin(&user);
    telegram.writes(1, "hello");
    let seen = telegram.until(1, |seen| !seen.is_empty());
    assert!(texts(&seen)[0].contains("not during the night"), "{seen:?}");
    assert_eq!(serves.signal(Signal::TERM), 0);
}

/// It is in the program, its token lies there, and nobody has configured it: it asks for nothing and listens nowhere.
#[cfg(target_os = "linux")]
#[test]
fn a_channel_that_is_not_configured_is_not_there() {
    let config = "config_version = 1\n[agent]\nprovider = [\"fake\"]\n[gateway]\nlisten = \"127.0.0.1:0\"\n";
    let user = User::new().with("TELEGRAM_TOKEN", TOKEN).configured(config);
    let serves = Serves::begin(&user);
    let id = serves.0.as_ref().unwrap().id();
    // Who asks about it does not start it, either.
    user.run(["plugin", "info", "telegram", "--json"]).ok();
    user.run(["plugin", "list"]).ok();
    let status = user.json(["status", "--json"]);
    assert_eq!(status["channels"], json!([]), "{status}");
    assert!(!status["plugins"]["ready"].as_array().unwrap().contains(&json!("telegram")), "{status}");
    // The stand-in for a model has an endpoint, so there is a listener. That is all.
    let listen = status["listen"].as_str().unwrap().strip_prefix("127.0.0.1:").unwrap().parse::<u16>().unwrap();
    let listens = |line: &String| line.contains(&format!(" 0100007F:{listen:04X} 00000000:0000 0A "));
    assert_eq!(inet_sockets(id).into_iter().filter(|line| !listens(line)).collect::<Vec<_>>(), Vec::<String>::new());
    let logs = user.home().join("logs");
    for log in std::fs::read_dir(logs).unwrap().flatten() {
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert!(!text.contains("telegram") && !text.contains("secret-Token"), "{text}");
    }
    assert_eq!(serves.signal(Signal::TERM), 0);
}

/// What a process has open of the internet's sockets, listening or not: lines of the kernel's tables.
#[cfg(target_os = "linux")]
fn inet_sockets(process: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let inodes: Vec<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    assert!(!inodes.is_empty(), "not even the control socket is seen");
    let tables =
        ["tcp", "tcp6", "udp", "udp6"].map(|table| std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter(|line| line.split_whitespace().nth(9).is_some_and(|inode| inodes.iter().any(|own| own == inode)))
        .map(str::to_owned)
        .collect()
}

/// Killed while twenty people write and wait for answers: after the next start each message has one answer, in its order.
#[test]
fn a_kill_in_the_middle_loses_nothing_and_answers_nothing_twice() {
    let telegram = Telegram::start();
    let user = configured(&telegram, "piece_delay_ms = 5");
    let serves = Serves::begin(&user);
    let people = 1..=20;
    for n in 0..3 {
        people.clone().for_each(|person| telegram.writes(person, &format!("{n} of {person}")));
    }
    telegram.until(1, |seen| !seen.is_empty());
    serves.signal(Signal::KILL);
    let serves = Serves::begin(&user);
    for person in people {
        let answers = |seen: &[Value]| {
            let whole: Vec<String> = texts(seen).into_iter().filter(|text| !text.ends_with('…')).map(str::to_owned).collect();
            whole
        };
        let said = |n: usize| format!("{n} of {person}");
        let seen = telegram.until(person, |seen| (0..3).all(|n| answers(seen).iter().any(|text| text.contains(&said(n)))));
        let order: Vec<usize> = answers(&seen).iter().filter_map(|text| (0..3).find(|n| text.contains(&said(*n)))).collect();
        // An answer whose sending was cut short by the kill may be there twice: Telegram cannot tell that it is the same.
        let mut once = order.clone();
        once.dedup();
        assert_eq!(once, [0, 1, 2], "{person}: {seen:#?}");
        assert!(order.len() <= 4, "{person}: {seen:#?}");
    }
    assert_eq!(serves.signal(Signal::TERM), 0);
}
