//! The one engine of the program, and what makes its time pass: a thread that ticks while some guest computes, and rests otherwise.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use bespoke_plugin_api::{Code, Error, Result};
use wasmtime::{Config, Engine, WasmBacktraceDetails};

/// How often a guest that computes is looked at, and the longest that it keeps a thread.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Ticks without a step after which the thread rests.
const RESTS_AFTER: u32 = 50;
/// Stack of a guest's own code, as wasmtime has it by default; deeper recursion is a trap. The stack of the fiber that it runs on holds
/// that of host functions, too.
const STACK: usize = 512 << 10;
const FIBER: usize = 2 << 20;

/// The engine of the program.
///
/// # Errors
/// This machine cannot run what the compiler makes.
pub(crate) fn engine() -> Result<&'static Engine> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let made = ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(STACK)
            .async_stack_size(FIBER)
            // What a trap tells its user are words, not addresses.
            .wasm_backtrace_max_frames(None)
            .wasm_backtrace_details(WasmBacktraceDetails::Disable);
        Engine::new(&config).map_err(|e| format!("{e:#}"))
    });
    made.as_ref().map_err(|e| Error::new(Code::LOAD_FAILED, format!("there is no engine for wasm on this machine: {e}")))
}

/// Steps that run now, and whether the thread rests.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static RESTS: AtomicBool = AtomicBool::new(false);
static TICKER: OnceLock<Option<Thread>> = OnceLock::new();

/// A step runs, as long as this lives.
pub(crate) struct Running(());

impl Running {
    /// Begins one: time passes from here on.
    pub(crate) fn begin() -> Self {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        if RESTS.load(Ordering::SeqCst) && RESTS.swap(false, Ordering::SeqCst) {
            wake();
        }
        Running(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

fn wake() {
    if let Some(Some(ticker)) = TICKER.get() {
        ticker.unpark();
    }
}

/// Makes sure that there is a thread that ticks.
///
/// # Errors
/// The machine has no thread for it. Then nothing would ever end an endless loop, so nothing is run.
pub(crate) fn ticking(engine: &'static Engine) -> Result<()> {
    let ticker = TICKER.get_or_init(|| {
        let started = thread::Builder::new().name("wasm-ticks".into()).stack_size(64 << 10).spawn(|| tick(engine));
        started.ok().map(|handle| handle.thread().clone())
    });
    match ticker {
        Some(_) => Ok(()),
        None => Err(Error::new(Code::RESOURCE_EXHAUSTED, "no thread to look after plugins in wasm").with_help("restart the program")),
    }
}

fn tick(engine: &Engine) {
    let mut idle = 0;
    loop {
        thread::sleep(TICK);
        engine.increment_epoch();
        idle = if RUNNING.load(Ordering::SeqCst) > 0 { 0 } else { idle + 1 };
        if idle < RESTS_AFTER {
            continue;
        }
        RESTS.store(true, Ordering::SeqCst);
        // Whoever begins from here on sees that it rests; who began before is seen here.
        if RUNNING.load(Ordering::SeqCst) > 0 {
            RESTS.store(false, Ordering::SeqCst);
        }
        while RESTS.load(Ordering::SeqCst) {
            thread::park();
        }
        idle = 0;
    }
}
