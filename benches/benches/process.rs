//! What a process costs: a plugin in one against a pipe with an echo at its end, and its start against that of an empty program.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_benches::{Aim, Counting, ECHO_MANIFEST, Group};
use bespoke_host::{Artifact, Grounds, Terms, open_folder};
use bespoke_plugin_api::{
    AudioChunk, CallCx, Contribution, Duplex, Instance, Tool, ToolRequest, Tts, TtsOptions, next,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{Clock, TestHost};
// The driver is in the host's slice.
use bespoke_tier_process as _;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GUEST: &str = env!("CARGO_BIN_EXE_guest");

/// A word, 10 ms of audio at 16 kHz, and what a pipe holds.
const SIZES: [usize; 3] = [0, 640, 64 << 10];

/// A turn is so long that it does not matter what its caller costs, which is made for it.
const TURN: Duration = Duration::from_millis(5);

/// Callers at the same time.
const CALLERS: u64 = 64;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let echo = plugin(folder.path(), "echo");
    for bytes in SIZES {
        data(&runtime, &echo, bytes);
    }
    for bytes in SIZES {
        control(&runtime, &echo, bytes);
    }
    callers(&runtime, &echo);
    starts(&runtime, folder.path());
}

/// The echo, or a plugin in Python, in a folder of its own.
fn plugin(world: &Path, id: &str) -> PathBuf {
    let folder = world.join(id);
    fs::create_dir_all(&folder).expect("a folder");
    if id == "echo" {
        let command = json!([GUEST, "serve"]);
        fs::write(folder.join("plugin.toml"), format!("{ECHO_MANIFEST}\n[process]\ncommand = {command}\n")).expect("it is written");
    } else {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/plugins/dice");
        for file in ["manifest.json", "__init__.py"] {
            fs::copy(format!("{example}/{file}"), folder.join(file)).expect("it is copied");
        }
    }
    folder
}

/// How a plugin is started.
struct Launch {
    artifact: Arc<dyn Artifact>,
    id: String,
}

impl Launch {
    /// Behind its wall, or not even supervised.
    fn of(folder: &Path, walled: bool) -> Self {
        let cache = folder.parent().expect("the world").join("cache");
        let grounds = if walled { Grounds::new(cache).program(GUEST.into()) } else { Grounds::new(cache) };
        let candidate = open_folder(folder, &grounds);
        Launch { id: candidate.id.clone(), artifact: candidate.artifact }
    }

    async fn start(&self) -> Instance {
        let host = TestHost::with_clock(Clock::Real);
        self.artifact.start(host.context(&self.id), json!({}), Terms::default()).await.expect("it starts")
    }
}

/// A process that gives back so many bytes at a time.
struct Raw {
    child: Child,
    to: File,
    from: File,
    piece: Vec<u8>,
}

impl Raw {
    fn new(bytes: usize) -> Self {
        // Nothing cannot be sent.
        let bytes = bytes.max(1);
        let mut child = Command::new(GUEST).arg(bytes.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let to = File::from(OwnedFd::from(child.stdin.take().expect("a pipe")));
        let from = File::from(OwnedFd::from(child.stdout.take().expect("a pipe")));
        Raw { child, to, from, piece: vec![b'x'; bytes] }
    }

    fn echo(&mut self, n: u64) {
        for _ in 0..n {
            self.to.write_all(&self.piece).expect("it listens");
            self.from.read_exact(&mut self.piece).expect("it answers");
        }
    }

    /// The same with many on their way.
    fn ahead(&mut self, n: u64, ahead: u64) {
        let mut left = n;
        while left > 0 {
            let now = left.min(ahead);
            (0..now).for_each(|_| self.to.write_all(&self.piece).expect("it listens"));
            (0..now).for_each(|_| self.from.read_exact(&mut self.piece).expect("it answers"));
            left -= now;
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Stream = Box<dyn Duplex<str, AudioChunk>>;

fn data(runtime: &Runtime, echo: &Path, bytes: usize) {
    let mut raw = Raw::new(bytes);
    let instance = runtime.block_on(Launch::of(echo, true).start());
    let found = instance.contributions.iter().find_map(|c| if let Contribution::Tts(_, tts) = c { Some(tts) } else { None });
    let tts: &Arc<dyn Tts> = found.expect("the echo speaks");
    let [mut near, mut far] = [(); 2].map(|()| Some(tts.open(&TtsOptions::default()).expect("it listens")));
    let text: Arc<str> = "x".repeat(bytes).into();
    Group::new(format!("data lane, {bytes} bytes there and back"))
        .turns(100, TURN)
        .case("a pipe, and an echo at its end", |n| raw.echo(n))
        .case("a stream, its caller a task of the runtime", |n| {
            let (stream, text) = (near.take().expect("it is back"), text.clone());
            near = Some(runtime.block_on(runtime.spawn(speak(stream, text, n))).expect("it does not panic"));
        })
        .aim(Aim::Ratio(2.0))
        .case("a stream, its caller another thread", |n| {
            let stream = far.take().expect("it is back");
            far = Some(runtime.block_on(speak(stream, text.clone(), n)));
        })
        .run();
    drop((near, far));
    runtime.block_on(instance.life.shutdown());
}

async fn speak(mut stream: Stream, text: Arc<str>, n: u64) -> Stream {
    for _ in 0..n {
        stream.push(black_box(&text)).expect("it listens");
        let chunk = next(&mut *stream).await.expect("it goes on").expect("it answers");
        assert_eq!(black_box(chunk).audio.samples.len(), text.len() / 4);
    }
    stream
}

fn control(runtime: &Runtime, echo: &Path, bytes: usize) {
    let mut raw = Raw::new(bytes);
    let instance = runtime.block_on(Launch::of(echo, true).start());
    let tool = tool(&instance);
    let args = json!({ "text": "x".repeat(bytes) });
    Group::new(format!("control lane, {bytes} bytes there and back"))
        .turns(100, TURN)
        .case("a pipe, and an echo at its end", |n| raw.echo(n))
        .case("a call, its caller a task of the runtime", |n| {
            runtime.block_on(runtime.spawn(call(tool.clone(), args.clone(), n))).expect("it does not panic");
        })
        .case("a call, its caller another thread", |n| runtime.block_on(call(tool.clone(), args.clone(), n)))
        .run();
    runtime.block_on(instance.life.shutdown());
}

fn tool(instance: &Instance) -> Arc<dyn Tool> {
    let found = instance.contributions.iter().find_map(|c| if let Contribution::Tool(_, tool) = c { Some(tool.clone()) } else { None });
    found.expect("the echo has a tool")
}

async fn call(tool: Arc<dyn Tool>, args: Value, n: u64) {
    let cx = CallCx::new();
    for _ in 0..n {
        let answer = tool.call(&cx, ToolRequest::new(args.clone())).await;
        _ = black_box(answer.expect("the echo answers"));
    }
}

fn callers(runtime: &Runtime, echo: &Path) {
    let bytes = 640;
    let (mut raw, mut ahead) = (Raw::new(bytes), Raw::new(bytes));
    let instance = runtime.block_on(Launch::of(echo, true).start());
    let tool = tool(&instance);
    let args = json!({ "text": "x".repeat(bytes) });
    Group::new(format!("calls of one process, {bytes} bytes there and back, each"))
        .turns(50, Duration::from_millis(10))
        .case("a pipe, one at a time", |n| raw.echo(n))
        .case(format!("a pipe, {CALLERS} on their way"), |n| ahead.ahead(n, CALLERS))
        .case("one caller", |n| runtime.block_on(runtime.spawn(call(tool.clone(), args.clone(), n))).expect("it does not panic"))
        .case(format!("{CALLERS} callers"), |n| {
            let share = |caller: u64| n / CALLERS + u64::from(caller < n % CALLERS);
            let all: Vec<_> = (0..CALLERS.min(n)).map(|caller| runtime.spawn(call(tool.clone(), args.clone(), share(caller)))).collect();
            runtime.block_on(async {
                for one in all {
                    one.await.expect("it does not panic");
                }
            });
        })
        .run();
    runtime.block_on(instance.life.shutdown());
}

fn starts(runtime: &Runtime, world: &Path) {
    let launches = |id: &str| [false, true].map(|walled| Launch::of(&plugin(world, id), walled));
    let [bare, walled] = launches("echo");
    // What is made once is not part of a start: the SDK of Python in its folder, what a plugin contributes.
    let turns = |group: Group<'static>| group.turns(20, Duration::from_millis(1));
    let group = turns(Group::new("start of a process"))
        .case("an empty program, until it has ended", |n| (0..n).for_each(|_| run(GUEST, &["empty"])));
    let group = started(group, runtime, "a plugin, until it serves", bare);
    let group = started(group, runtime, "a plugin, behind its wall", walled);
    group.run();
    if let Some(python) = python() {
        let [bare, walled] = launches("dice");
        let group = turns(Group::new("start of Python"))
            .case("python3 -c pass, until it has ended", move |n| (0..n).for_each(|_| run(&python, &["-c", "pass"])));
        let group = started(group, runtime, "a plugin, until it serves", bare);
        let group = started(group, runtime, "a plugin, behind its wall", walled);
        group.run();
    }
}

/// The interpreter itself: what is on the path may be a script that looks for it.
fn python() -> Option<String> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable, end='')"]).output().ok()?;
    String::from_utf8(output.stdout).ok().filter(|path| output.status.success() && !path.is_empty())
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "{program} runs");
}

/// A start, whose end is not measured.
fn started<'c>(group: Group<'c>, runtime: &'c Runtime, name: &str, launch: Launch) -> Group<'c> {
    group.timed(name, move |n| {
        (0..n)
            .map(|_| {
                let begun = Instant::now();
                let instance = runtime.block_on(launch.start());
                let took = begun.elapsed();
                runtime.block_on(instance.life.shutdown());
                took
            })
            .sum()
    })
}
