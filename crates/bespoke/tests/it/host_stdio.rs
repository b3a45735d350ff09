//! `host --stdio` as another program has it: a child with pipes. The plugin is the one of the App Factory guide, in Python.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{User, wait};

/// Longer than anything takes, even where two cores are shared by many.
const LIMIT: Duration = Duration::from_secs(120);

const MANIFEST: &str = r#"{
  "name": "my_plugin",
  "version": "1.0.0",
  "contract": "tts",
  "entry_point": "__init__",
  "display_name": "My TTS Plugin",
  "description": "A custom text-to-speech plugin",
  "author": "Your Name",
  "dependencies": [],
  "config_schema": { "type": "object", "properties": { "voice": { "type": "string", "default": "default" } } }
}"#;

const PLUGIN: &str = r#"
import os, sys, time
from contracts.tts_contract import TTSContract
from contracts.base import HealthStatus, PluginStatus

class MyTTSPlugin(TTSContract):
    async def initialize(self, config: dict) -> bool:
        self._voice = config.get("voice", "default")
        self._status = PluginStatus.READY
        return True

    async def shutdown(self) -> bool:
        self._status = PluginStatus.STOPPED
        return True

    def health_check(self) -> HealthStatus:
        return HealthStatus(status=self._status, message="Plugin operational", latency_ms=2.5, memory_mb=256.0)

    async def synthesize(self, text: str, voice_id: str = None) -> bytes:
        print("a line that strays onto stdout")
        if text == "exit":
            sys.exit(7)
        if text == "die":
            os._exit(7)
        if text == "block":
            open(os.environ["HOME"] + "/blocks", "w").close()
            time.sleep(600)
        return (text + " by " + (voice_id or self._voice)).encode()

    async def get_voices(self) -> list[dict]:
        return [{"id": "default", "name": "Default Voice", "language": "en-US"}]

    def set_voice(self, voice_id: str) -> bool:
        self._voice = voice_id
        return True
"#;

/// The host, from outside.
pub(crate) struct Served {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    next: u64,
}

fn write_plugin(folder: &Path) {
    let folder = folder.join("my_plugin");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json"), MANIFEST).unwrap();
    fs::write(folder.join("__init__.py"), PLUGIN).unwrap();
}

impl Served {
    pub(crate) fn new(user: &User, args: &[&str]) -> Self {
        let mut command = user.command(["host", "--stdio"].iter().chain(args));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                _ = sender.send(line);
            }
        });
        Served { input: child.stdin.take(), child, lines, next: 0 }
    }

    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn line(&self) -> Value {
        let line = self.lines.recv_timeout(LIMIT).expect("no answer");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    pub(crate) fn request(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }).to_string());
        self.next
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        let answer = self.line();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    #[track_caller]
    pub(crate) fn ok(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer.get("result").is_some(), "{answer}");
        answer["result"].clone()
    }

    /// What a plugin that has just died answers: who finds it gone is told to try again, and who comes later waits for the next one.
    #[track_caller]
    pub(crate) fn again(&mut self, method: &str, params: &Value) -> Value {
        for _ in 0..100 {
            let answer = self.ask(method, params.clone());
            if answer["error"]["code"] != -32062 {
                assert!(answer.get("result").is_some(), "{answer}");
                return answer["result"].clone();
            }
            assert_eq!(answer["error"]["retryable"], true, "{answer}");
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not come back");
    }

    /// What bytes that came back say.
    #[track_caller]
    pub(crate) fn spoken(answer: &Value) -> String {
        let text = answer["base64"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let mut bytes = Vec::new();
        let (mut bits, mut held) = (0_u32, 0);
        for c in text.bytes().filter(|c| *c != b'=') {
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            bits = bits << 6 | alphabet.iter().position(|a| *a == c).unwrap() as u32;
            held += 6;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as nobody can who has something left to do.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn end(mut self) -> i32 {
        self.input = None;
        self.code()
    }

    pub(crate) fn code(self) -> i32 {
        // Its stderr is read by the wait, so that it does not fill.
        let Served { child, input, .. } = self;
        let ended = wait(child);
        drop(input);
        ended.code
    }
}

#[test]
fn the_command_lines_of_the_guide_work_with_no_changed_line() {
    let user = User::new();
    write_plugin(&user.work("plugins"));
    let lines = concat!(
        r#"{"jsonrpc":"2.0","method":"plugin/load","params":{"name":"my_plugin"},"id":1}"#,
        "\n",
        r#"{"jsonrpc":"2.0","method":"plugin/call","params":{"plugin":"my_plugin","method":"synthesize","args":{"text":"Hello"}},"id":2}"#,
        "\n"
    );
    // A script sends both at once, and stdin ends: that is exit code 4.
    let ended = user.piped(lines, ["host", "--stdio", "--plugins-dir", "./plugins", "--log-level", "DEBUG"]).code(4);
    let answers = ended.lines();
    assert_eq!(answers.len(), 2, "stdout carries the protocol and nothing else: {}", ended.out);
    // Answers come as they are ready; which one is whose stands in their ids.
    let answer = |id: u64| answers.iter().find(|answer| answer["id"] == id).map(|answer| &answer["result"]).expect("an answer to each");
    let loaded = answer(1);
    assert_eq!(
        json!([loaded["name"], loaded["version"], loaded["contract"], loaded["initialized"], loaded["status"], loaded["display_name"]]),
        json!(["my_plugin", "1.0.0", "tts", true, "ready", "My TTS Plugin"]),
        "{loaded}"
    );
    assert_eq!(Served::spoken(answer(2)), "Hello by default");
    assert!(ended.err.contains("a line that strays onto stdout"), "{}", ended.err);
}

#[test]
fn the_host_ends_with_the_code_of_its_reason() {
    let user = User::new();
    write_plugin(&user.work("plugins"));
    let mut asked = Served::new(&user, &["--plugins-dir", "plugins", "--auto-load"]);
    let rows = asked.ok("plugin/list", json!({}));
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "my_plugin").unwrap();
    assert_eq!(json!([row["valid"], row["loaded"], row["errors"], row["contract"]]), json!([true, true, [], "tts"]), "{row}");
    assert!(asked.ok("status", json!({}))["loaded"].as_array().unwrap().contains(&json!("my_plugin")));
    assert_eq!(asked.ok("shutdown", json!({ "reason": "done" }))["status"], "shutting_down");
    // Its input is still open.
    assert_eq!(asked.code(), 0);

    for (signal, code) in [(Signal::INT, 2), (Signal::TERM, 3)] {
        let mut signalled = Served::new(&user, &["--plugins-dir", "plugins"]);
        signalled.ok("plugin/load", json!({ "name": "my_plugin" }));
        // One that blocks does not keep it.
        signalled.request("tts/synthesize", json!({ "text": "block" }));
        assert_eq!(signalled.ok("ping", json!({})), "pong");
        kill_process(Pid::from_child(&signalled.child), signal).unwrap();
        assert_eq!(signalled.code(), code);
    }
    let mut ended = Served::new(&user, &[]);
    assert_eq!(ended.ok("ping", json!({})), "pong");
    assert_eq!(ended.end(), 4);
    user.run(["host", "--stdio", "--plugins-dir", "nowhere"]).code(1).nothing().says("nowhere is no folder");
    user.run(["host"]).code(2).nothing();
}

#[test]
fn app_factory_defects_of_plugins_in_processes() {
    let user = User::new();
    write_plugin(&user.work("plugins"));
    let mut host = Served::new(&user, &["--plugins-dir", "plugins"]);
    host.ok("plugin/load", json!({ "name": "my_plugin", "config": { "voice": "anna" } }));
    // 1 and 2: plugin/call is there, and bytes are an answer. 5: what the plugin prints is no line of the protocol.
    let spoken = host.ok("plugin/call", json!({ "plugin": "my_plugin", "method": "synthesize", "args": { "text": "Hi" } }));
    assert_eq!(Served::spoken(&spoken), "Hi by anna");
    // 3: methods that do not wait.
    assert_eq!(host.ok("tts/get_voices", json!({}))[0]["id"], "default");
    assert_eq!(host.ok("tts/set_voice", json!({ "voice_id": "otto" })), true);
    // 4: a line of more than 64 KiB.
    let long = host.ok("tts/synthesize", json!({ "text": "x".repeat(300_000) }));
    assert!(Served::spoken(&long).ends_with("x by otto"));
    // 7: sys.exit of a plugin is its own.
    let exit = host.ask("tts/synthesize", json!({ "text": "exit" }));
    assert_eq!((&exit["error"]["kind"], &exit["error"]["plugin"]), (&json!("PLUGIN_EXCEPTION"), &json!("my_plugin")), "{exit}");
    // 14: one that dies is brought back.
    let died = host.ask("tts/synthesize", json!({ "text": "die" }));
    assert_eq!((&died["error"]["code"], &died["error"]["kind"]), (&json!(-32062), &json!("PLUGIN_CRASHED")), "{died}");
    let again = host.again("tts/synthesize", &json!({ "text": "again" }));
    assert_eq!(Served::spoken(&again), "again by anna");
    // 11 and 15: other values are applied, and wrong ones are refused before the plugin sees them.
    assert_eq!(host.ask("plugin/load", json!({ "name": "my_plugin" }))["error"]["code"], -32005);
    assert_eq!(host.ask("plugin/load", json!({ "name": "my_plugin", "config": { "voice": 7 } }))["error"]["code"], -32602);
    host.ok("plugin/load", json!({ "name": "my_plugin", "config": { "voice": "emma" } }));
    assert_eq!(Served::spoken(&host.ok("tts/synthesize", json!({ "text": "Hi" }))), "Hi by emma");
    // 8: a slow call holds up nobody.
    let slow = host.request("tts/synthesize", json!({ "text": "block" }));
    user.appears("blocks");
    assert_eq!(host.ok("ping", json!({})), "pong");
    assert_eq!(host.ok("plugin/health", json!({ "name": "my_plugin" }))["status"], "busy");
    host.send(&json!({ "jsonrpc": "2.0", "method": "$/cancel", "params": { "id": slow } }).to_string());
    let cancelled = host.line();
    assert_eq!((&cancelled["id"], &cancelled["error"]["code"]), (&json!(slow), &json!(-32800)), "{cancelled}");
    // What blocks cannot hand its state over, so nothing takes its place: that is said, and it goes on as it was.
    let kept = host.ask("plugin/load", json!({ "name": "my_plugin", "config": { "voice": "otto" } }));
    assert_eq!(kept["error"]["code"], -32020, "{kept}");
    assert_eq!(host.ok("plugin/unload", json!({ "name": "my_plugin" })), json!({ "success": true, "plugin": "my_plugin" }));
    assert_eq!(host.ask("tts/synthesize", json!({ "text": "Hi", "plugin": "my_plugin" }))["error"]["code"], -32001);
    assert_eq!(host.end(), 4);
}
