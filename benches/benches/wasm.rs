//! What a component costs: a plugin in one against a bare typed call into a component, its start against a bare instance, and what
//! compiling and the cache take. The plugin is the one that the tests of the tier build.

use std::{
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bespoke_benches::{Aim, Counting, Group};
use bespoke_host::{Artifact, Grounds, Terms, open_folder};
use bespoke_plugin_api::{
    CallCx, Contribution, Duplex, Instance, Tool, ToolRequest, VadEvent, VadOptions,
    serde_json::{Value, json},
    try_next,
};
use bespoke_plugin_testkit::{Clock, TestHost, block_on};
// The driver is in the host's slice.
use bespoke_tier_wasm as _;
use tokio::runtime::Runtime;
use wasmtime::{
    Config, Engine, Store,
    component::{Component, InstancePre, Linker, TypedFunc},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A word, 10 ms of audio at 16 kHz, and what a pipe holds.
const SIZES: [usize; 3] = [0, 640, 64 << 10];

/// Takes a list and gives it back, and takes one and says nothing: with a memory that is handed out again at each call.
const BARE: &str = r#"(component
  (core module $m
    (memory (export "memory") 40)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
    (func (export "take") (param i32 i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (func (export "take") (param "bytes" (list u8)) (result u32) (canon lift (core func $i "take") (memory $memory) (realloc $realloc)))
  (func (export "echo") (param "bytes" (list u8)) (result (list u8)) (canon lift (core func $i "echo") (memory $memory) (realloc $realloc))))"#;

fn main() {
    let component = component();
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // The tasks of instances run there.
    let _entered = runtime.enter();
    let acts = plugin(folder.path(), &component);
    for bytes in SIZES {
        frames(&acts, bytes);
    }
    for bytes in SIZES {
        calls(&acts, bytes);
    }
    starts(&runtime, &acts);
    compiles(&component, folder.path());
}

/// The guest of the tests, built by the toolchain that they are given.
fn component() -> PathBuf {
    let toolchain = env::var_os("BESPOKE_WASM_TOOLCHAIN").filter(|folder| !folder.is_empty());
    let toolchain = PathBuf::from(toolchain.expect("first: export BESPOKE_WASM_TOOLCHAIN=\"$(cargo xtask wasm-toolchain)\""));
    let target =
        env::var_os("BESPOKE_WASM_TARGET").map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("wasm"), PathBuf::from);
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/tier-wasm/tests/guests/acts");
    let mut cargo = Command::new(toolchain.join("cargo-wasm"));
    cargo.args(["build", "--release", "--quiet"]).current_dir(guest);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO") && name != "CARGO_HOME") {
            cargo.env_remove(name);
        }
    }
    let built = cargo.env("CARGO_TARGET_DIR", &target).status().expect("cargo-wasm runs");
    assert!(built.success(), "the guest is built");
    target.join("wasm32-unknown-unknown/release/acts.wasm")
}

/// It, in a folder of its own.
fn plugin(world: &Path, component: &Path) -> Arc<dyn Artifact> {
    let folder = world.join("acts");
    fs::create_dir_all(&folder).expect("a folder");
    fs::copy(component, folder.join("plugin.wasm")).expect("it is copied");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/tier-wasm/tests/guests/acts/plugin.toml");
    fs::copy(manifest, folder.join("plugin.toml")).expect("it is copied");
    let candidate = open_folder(&folder, &Grounds::new(world.join("cache")));
    candidate.manifest.expect("a manifest");
    candidate.artifact
}

async fn start(acts: &Arc<dyn Artifact>) -> Instance {
    let host = TestHost::with_clock(Clock::Real);
    acts.start(host.context("acts"), json!({}), Terms::default()).await.expect("it starts")
}

/// The floor: an engine with the settings of the tier, and calls without anything around them.
struct Bare {
    store: Store<()>,
    take: TypedFunc<(Arc<Vec<u8>>,), (u32,)>,
    echo: TypedFunc<(Arc<Vec<u8>>,), (Vec<u8>,)>,
}

fn engine() -> Engine {
    let mut config = Config::new();
    config.epoch_interruption(true).wasm_backtrace_max_frames(None);
    Engine::new(&config).expect("an engine")
}

fn bare_code() -> InstancePre<()> {
    let engine = engine();
    let code = Component::new(&engine, wat::parse_str(BARE).expect("a component")).expect("it compiles");
    Linker::new(&engine).instantiate_pre(&code).expect("it fits")
}

impl Bare {
    fn new() -> Self {
        let code = bare_code();
        let mut store = Store::new(code.engine(), ());
        store.set_epoch_deadline(1 << 40);
        store.epoch_deadline_async_yield_and_update(1);
        let instance = block_on(code.instantiate_async(&mut store)).expect("an instance");
        let take = instance.get_typed_func(&mut store, "take").expect("a function");
        let echo = instance.get_typed_func(&mut store, "echo").expect("a function");
        Bare { store, take, echo }
    }
}

/// One way: audio that nothing is heard in.
fn frames(acts: &Arc<dyn Artifact>, bytes: usize) {
    let instance = block_on(start(acts));
    let vad = instance.contributions.iter().find_map(|c| if let Contribution::Vad(_, vad) = c { Some(vad) } else { None });
    let mut stream: Box<dyn Duplex<[f32], VadEvent>> = vad.expect("it listens").open(&VadOptions::new(16_000)).expect("it listens");
    let samples = vec![0.25_f32; bytes / 4];
    let raw = Arc::new(vec![1_u8; bytes]);
    let mut bare = Bare::new();
    Group::new(format!("data lane, a frame of {bytes} bytes"))
        .case("a bare typed call", |n| {
            block_on(async {
                for _ in 0..n {
                    _ = black_box(bare.take.call_async(&mut bare.store, (black_box(&raw).clone(),)).await.expect("it answers"));
                }
            });
        })
        .case("a frame of a stream, and a look for events", |n| {
            for _ in 0..n {
                // It may wait for a tick; then the frame is taken behind this one.
                while stream.push(black_box(&samples)).is_err() {
                    std::thread::yield_now();
                }
                assert!(try_next(&mut *stream).is_none());
            }
        })
        .aim(Aim::Ratio(2.0))
        .run();
    drop(stream);
    block_on(instance.life.shutdown());
}

fn calls(acts: &Arc<dyn Artifact>, bytes: usize) {
    let instance = block_on(start(acts));
    let tool = instance.contributions.iter().find_map(|c| if let Contribution::Tool(_, tool) = c { Some(tool.clone()) } else { None });
    let tool: Arc<dyn Tool> = tool.expect("it has a tool");
    let text = "x".repeat(bytes);
    let args: Value = json!({ "do": "echo", "value": text });
    let raw = Arc::new(text.into_bytes());
    let mut bare = Bare::new();
    Group::new(format!("control lane, {bytes} bytes there and back"))
        .case("a bare typed call", |n| {
            block_on(async {
                for _ in 0..n {
                    _ = black_box(bare.echo.call_async(&mut bare.store, (black_box(&raw).clone(),)).await.expect("it answers"));
                }
            });
        })
        .case("a call", |n| {
            let cx = CallCx::new();
            block_on(async {
                for _ in 0..n {
                    _ = black_box(tool.call(&cx, ToolRequest::new(args.clone())).await.expect("it answers"));
                }
            });
        })
        .aim(Aim::Ratio(6.0))
        .run();
    block_on(instance.life.shutdown());
}

/// A start of a component that was compiled already.
fn starts(runtime: &Runtime, acts: &Arc<dyn Artifact>) {
    let code = bare_code();
    Group::new("start in wasm")
        .turns(20, Duration::from_millis(1))
        .case("a bare instance, and its store", |n| {
            for _ in 0..n {
                let mut store = Store::new(code.engine(), ());
                store.set_epoch_deadline(1 << 40);
                _ = black_box(block_on(code.instantiate_async(&mut store)).expect("an instance"));
            }
        })
        .timed("a plugin, until it serves", |n| {
            (0..n)
                .map(|_| {
                    let begun = Instant::now();
                    let instance = runtime.block_on(start(acts));
                    let took = begun.elapsed();
                    runtime.block_on(instance.life.shutdown());
                    took
                })
                .sum()
        })
        .run();
}

/// What is made of a component once, and what is read instead after that.
fn compiles(component: &Path, world: &Path) {
    let bytes = fs::read(component).expect("it is there");
    let engine = engine();
    Group::new(format!("a component of {} bytes", bytes.len()))
        .turns(3, Duration::from_millis(1))
        .case("its file is read", |n| (0..n).for_each(|_| _ = black_box(fs::read(component).expect("it is there"))))
        .timed("prepared from the cache", |n| {
            (0..n)
                .map(|_| {
                    // Another artifact each time: one that is kept finds its code where it left it.
                    let acts = plugin(world, component);
                    let begun = Instant::now();
                    acts.prepare(&|_| ()).expect("it is prepared");
                    begun.elapsed()
                })
                .sum()
        })
        .case("compiled", |n| (0..n).for_each(|_| _ = black_box(Component::new(&engine, &bytes).expect("it compiles"))))
        .run();
}
