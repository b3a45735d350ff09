//! The host's side of the pipe, as small as it can be: one thread that reads, writes under a lock.

use std::{
    io::{Read, Write},
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use bespoke_plugin_api::{Code, Error, Instance, PluginContext, Result};
use bespoke_plugin_proxy::{Link, Proxy, StartOptions};
use bespoke_plugin_testkit::TestHost;
use bespoke_protocol::{
    Lane, Reassembler,
    line::{Incoming, LineReader, LineWriter, Side},
};
use serde_json::Value;

use crate::wait;

/// The longest message that this host takes.
pub(crate) const LIMIT: usize = 1 << 20;

pub(crate) struct Child {
    pub(crate) instance: Instance,
    pub(crate) host: Arc<TestHost>,
    pipe: Arc<Pipe>,
    process: std::process::Child,
    reading: JoinHandle<()>,
    errors: JoinHandle<String>,
    strays: Arc<Mutex<String>>,
}

struct Pipe(Mutex<(LineWriter, Option<ChildStdin>)>);

impl Link for Pipe {
    fn send(&self, _lane: Lane, frames: &[u8]) -> Result<()> {
        let mut pipe = self.0.lock().unwrap();
        let mut out = Vec::new();
        let mut put = Ok(());
        Reassembler::new().feed(frames, |frame| {
            if put.is_ok() {
                put = pipe.0.put(&frame, &mut out);
            }
        })?;
        put?;
        let gone = || Error::new(Code::PLUGIN_CRASHED, "the child has ended").retryable();
        pipe.1.as_mut().ok_or_else(gone)?.write_all(&out).map_err(|_| gone())
    }
}

impl Child {
    pub(crate) fn start(plugin: &str, config: Value) -> Child {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("GUEST_PROCESS_TEST", plugin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let pipe = Arc::new(Pipe(Mutex::new((LineWriter::new(Side::Host), process.stdin.take()))));
        let host = TestHost::new();
        let (proxy, receiver) = Proxy::new(host.clone(), pipe.clone());
        let strays = Arc::new(Mutex::new(String::new()));
        let (seen, met) = (strays.clone(), pipe.clone());
        let reading = std::thread::spawn(move || {
            let mut reader = LineReader::new(Side::Guest, LIMIT);
            let mut buffer = vec![0; 1 << 16];
            while let Ok(len) = stdout.read(&mut buffer)
                && len > 0
            {
                reader.feed(&buffer[..len], |incoming| match incoming {
                    Incoming::Frame(frame) => {
                        if frame.kind == bespoke_protocol::Kind::HELLO {
                            met.0.lock().unwrap().0.meet(&frame);
                        }
                        receiver.frame(&frame);
                    }
                    Incoming::Stray(line) => *seen.lock().unwrap() += &String::from_utf8_lossy(line),
                    Incoming::TooLong(skipped) => receiver.skipped(&skipped),
                });
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let instance = wait(proxy.max_payload(LIMIT as u64).start(StartOptions::new(plugin, config))).unwrap();
        Child { instance, host, pipe, process, reading, errors, strays }
    }

    /// The fake without a pipe.
    pub(crate) fn direct() -> Instance {
        let cx = PluginContext::new("fake", TestHost::new());
        wait(bespoke_fake::BESPOKE_PLUGIN.start(cx, serde_json::json!({}))).unwrap()
    }

    /// What came that was no message.
    pub(crate) fn strays(&self) -> String {
        self.strays.lock().unwrap().clone()
    }

    /// Ends its input. Its exit code, and what it wrote to standard error.
    pub(crate) fn finish(self) -> (Option<i32>, String) {
        self.pipe.0.lock().unwrap().1 = None;
        let Child { mut process, reading, errors, .. } = self;
        let code = process.wait().unwrap().code();
        reading.join().unwrap();
        (code, errors.join().unwrap())
    }

    /// Waits for its end without ending its input.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }
}
