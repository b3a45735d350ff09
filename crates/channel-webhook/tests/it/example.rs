//! The receiver of examples/webhook, against what this channel sends: it believes what is signed and new, and takes it once.
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bespoke_signed::sign;

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

struct Receiver {
    process: Child,
    lines: mpsc::Receiver<String>,
    port: u16,
}

impl Receiver {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/webhook/receiver.py");
        let mut process = Command::new("python3")
            .args([script, "0"])
            .env("WEBHOOK_SIGNING_KEY", format!("{KEY}\n"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let first = lines.recv_timeout(LIMIT).expect("it says where it listens");
        let port = first.rsplit(':').next().and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
        Receiver { process, lines, port }
    }

    /// The status that it answers.
    fn post(&self, headers: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "POST /answers HTTP/1.0\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_receiver_of_the_documentation_believes_what_is_signed_and_takes_it_once() {
    let receiver = Receiver::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let answer = |key: &str, text: &str| format!(r#"{{"chat":"room-7","text":"{text}","idempotency_key":"{key}"}}"#);
    let signed = |second: u64, body: &str| {
        format!("x-bespoke-timestamp: {second}\r\nx-bespoke-signature: {}\r\n", sign(KEY.as_bytes(), second, body.as_bytes()))
    };
    let forged =
        |body: &str| format!("x-bespoke-timestamp: {now}\r\nx-bespoke-signature: {}\r\n", sign(b"another key", now, body.as_bytes()));
    let first = answer("k-1", "It is ten past nine.");
    for (headers, body, status) in [
        (String::new(), &first, 401),
        (forged(&first), &first, 401),
        (signed(now, "another body"), &first, 401),
        (signed(now - 3600, &first), &first, 401),
        (signed(now + 3600, &first), &first, 401),
        (format!("x-bespoke-timestamp: {now}x\r\nx-bespoke-signature: v1=ü\r\n"), &first, 401),
        (signed(now, &first), &first, 200),
        (signed(now + 1, &first), &first, 200),
        (signed(now, &answer("k-2", "Bye.")), &answer("k-2", "Bye."), 200),
    ] {
        assert_eq!(receiver.post(&headers, body), status, "{headers}");
    }
    let shown: Vec<String> = (0..2).map(|_| receiver.lines.recv_timeout(LIMIT).expect("an answer is shown")).collect();
    assert_eq!(shown, ["room-7: It is ten past nine.", "room-7: Bye."]);
}
