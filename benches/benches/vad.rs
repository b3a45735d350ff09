//! One window of Silero, and what comes before the first: both engines against Python with onnxruntime, which is what most
//! people run, by turns in one run. What ONNX Runtime allocates inside itself, in C++, is not counted.
//!
//! Python and its packages are set up by this benchmark itself, below the target folder.

use std::{
    hint::black_box,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_benches::{Aim, Counting, Group};
use bespoke_plugin_api::{Contribution, Duplex, PluginContext, Vad, VadEvent, VadOptions, serde_json::json, try_next};
use bespoke_plugin_testkit::{TestHost, block_on};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Samples of a window at 16 kHz.
const WINDOW: usize = 512;

const PACKAGES: [&str; 2] = ["onnxruntime==1.28.0", "numpy==2.2.6"];

/// Reads a number of windows, runs them, answers a line: the loop of silero-vad's own wrapper, without torch. With `s` before the
/// number, it makes sessions.
const SCRIPT: &str = r#"
import os, sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.inter_op_num_threads = options.intra_op_num_threads = 1
def make():
    return onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session = make()
samples = numpy.fromfile(sys.argv[2], dtype=numpy.float32)
windows = [samples[n:n + 512] for n in range(0, len(samples) - 511, 512)]
state, context, rate = numpy.zeros((2, 1, 128), numpy.float32), numpy.zeros(64, numpy.float32), numpy.array(16000, numpy.int64)
at = 0
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("s"):
        made = [make() for _ in range(int(line[1:]))]
        print(len(made), flush=True)
        continue
    for _ in range(int(line)):
        window = windows[at % len(windows)]
        at += 1
        x = numpy.concatenate((context, window))[None]
        probability, state = session.run(None, {"input": x, "state": state, "sr": rate})
        context = x[0, -64:]
    print(float(probability[0, 0]), flush=True)
"#;

fn main() {
    let recording = root().join("crates/vad-silero/tests/fixtures/audio/librivox_0870.wav");
    let samples = bespoke_audio::read_wav(&recording).expect("the fixture is there").samples;
    let packages = packages();
    let library = library(&packages);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut python = python(&packages, folder.path(), &samples);
    let mut input = python.stdin.take().expect("piped");
    let mut output = BufReader::new(python.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("python starts");
    assert_eq!(line.trim(), "ready", "python says what is wrong above");

    let (builtin_vad, ort_vad) = (detector("builtin", None), detector("ort", Some(&library)));
    let mut builtin = Stream::open(&*builtin_vad, &samples);
    let mut ort = Stream::open(&*ort_vad, &samples);
    Group::new("a window of 32 ms at 16 kHz, one thread")
        // A turn of Python costs a message through a pipe: long turns make it not count.
        .turns(20, Duration::from_millis(20))
        .case("Python + onnxruntime 1.28.0", |n| {
            writeln!(input, "{n}").expect("python listens");
            line.clear();
            output.read_line(&mut line).expect("python answers");
        })
        .case("built-in engine, through the plugin's stream", |n| builtin.windows(n))
        .aim(Aim::Ratio(0.40))
        .aim(Aim::Allocations(0))
        .case("onnxruntime 1.28.0, through the plugin's stream", |n| ort.windows(n))
        .aim(Aim::Ratio(1.0))
        .aim(Aim::Allocations(0))
        .run();
    // All are held until the turn is over: a stream that ends leaves its session to the next.
    let hold = |vad: &dyn Vad, n: u64| {
        let streams: Vec<_> = (0..n).map(|_| vad.open(&VadOptions::new(16_000)).expect("16 kHz is native")).collect();
        black_box(streams.len());
    };
    let fresh = |n: u64| {
        // Another instance, whose streams find no session that is left over.
        let vad = detector("ort", Some(&library));
        let begun = Instant::now();
        let streams: Vec<_> = (0..=n).map(|_| vad.open(&VadOptions::new(16_000)).expect("16 kHz is native")).collect();
        let took = begun.elapsed();
        black_box(streams.len());
        took
    };
    Group::new("session start: another stream")
        .turns(10, Duration::from_millis(50))
        .case("Python: InferenceSession", |n| {
            writeln!(input, "s{n}").expect("python listens");
            line.clear();
            output.read_line(&mut line).expect("python answers");
        })
        .case("built-in engine", |n| hold(&*builtin_vad, n))
        .timed("onnxruntime, a session of its own", fresh)
        .case("onnxruntime, a session that is left over", |n| (0..n).for_each(|_| hold(&*ort_vad, 1)))
        .case("start of the plugin, built-in", |n| (0..n).for_each(|_| drop(black_box(detector("builtin", None)))))
        .case("start of the plugin, onnxruntime, one window", |n| {
            (0..n).for_each(|_| drop(black_box(detector("ort", Some(&library)))));
        })
        .run();
    // Closing its input ends the child; waiting leaves no zombie.
    drop(input);
    python.wait().expect("python ends");
}

/// What the plugin contributes, on an instance of its own.
fn detector(engine: &str, library: Option<&Path>) -> Arc<dyn Vad> {
    let mut config = json!({ "engine": engine });
    if let Some(library) = library {
        config["onnxruntime"] = json!(library);
    }
    let cx = PluginContext::new("silero", TestHost::new());
    let instance = block_on(bespoke_vad_silero::BESPOKE_PLUGIN.start(cx, config)).expect("the engine starts");
    let [Contribution::Vad(_, vad)] = &instance.contributions[..] else { panic!("silero contributes one detector") };
    vad.clone()
}

/// An open stream of the plugin, as the voice pipeline holds it.
struct Stream<'s> {
    duplex: Box<dyn Duplex<[f32], VadEvent>>,
    samples: &'s [f32],
    at: usize,
}

impl<'s> Stream<'s> {
    fn open(vad: &dyn Vad, samples: &'s [f32]) -> Self {
        Stream { duplex: vad.open(&VadOptions::new(16_000)).expect("16 kHz is native"), samples, at: 0 }
    }

    fn windows(&mut self, n: u64) {
        for _ in 0..n {
            if self.at + WINDOW > self.samples.len() {
                self.at = 0;
            }
            self.duplex.push(&self.samples[self.at..self.at + WINDOW]).expect("finite samples");
            self.at += WINDOW;
            while let Some(event) = try_next(&mut *self.duplex) {
                black_box(event.expect("a window has a probability"));
            }
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Python packages, installed once; complete when the folder has its final name.
fn packages() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let home = target.join("bench-python");
    if !home.is_dir() {
        std::fs::create_dir_all(&target).expect("the target folder");
        let staging = tempfile::tempdir_in(&target).expect("a folder below the target folder");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]).arg(staging.path()).args(PACKAGES);
        assert!(pip.status().expect("python3 runs").success(), "pip could not install {PACKAGES:?}");
        std::fs::rename(staging.keep(), &home).expect("the folder is free");
    }
    home
}

fn library(packages: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(packages.join("onnxruntime/capi")).expect("the package has a library").flatten();
    files.find(|f| f.file_name().to_string_lossy().starts_with("libonnxruntime.")).expect("the package has a library").path()
}

fn python(packages: &Path, folder: &Path, samples: &[f32]) -> Child {
    let (script, audio) = (folder.join("windows.py"), folder.join("samples.f32"));
    std::fs::write(&script, SCRIPT).expect("the temporary folder");
    let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    std::fs::write(&audio, bytes).expect("the temporary folder");
    let mut command = Command::new("python3");
    command.arg(script).arg(root().join("crates/vad-silero/models/silero_vad.onnx")).arg(audio);
    command.env("PYTHONPATH", packages).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs")
}
