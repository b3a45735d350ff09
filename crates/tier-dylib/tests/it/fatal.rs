//! The faults that no program survives which has a library inside, as docs/dylib.md says: each ends a program of its own here, in the way
//! that is written there.

use std::{
    env,
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::kit::{LONG, World, act, row, within};

const FAULT: &str = "BESPOKE_TEST_FATAL";
const LIBRARY: &str = "BESPOKE_TEST_FATAL_LIBRARY";

/// The program that ends: this one, asked by [`each_ends_the_program_as_it_is_written`]. Where nobody asks, it does nothing.
#[test]
fn child() {
    let (Ok(fault), Some(library)) = (env::var(FAULT), env::var_os(LIBRARY)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        let folder = world.folder("faults", &[("tool", "faults")], &PathBuf::from(library));
        let host = world.host([world.candidate(&folder)]).await;
        let answer = within(act(&host, "faults", "")).await;
        panic!("{fault}: it lives, with {answer:?} and {:?}", row(&host, "faults"));
    });
}

#[test]
fn each_ends_the_program_as_it_is_written() {
    const SIGABRT: i32 = 6;
    const SIGSEGV: i32 = 11;
    /// Of [`child`], which complains that the library did not end it.
    const LIVES: i32 = 101;
    // Its signal, or its exit code. The same panic is an error where the library unwinds, and the end where it aborts.
    let ends = [
        ("ABORT", Err(SIGABRT)),
        ("SEGV", Err(SIGSEGV)),
        ("OVERFLOW", Err(SIGABRT)),
        ("EXIT", Ok(3)),
        ("CHILD_EXITS", Ok(LIVES)),
        ("BORDER", Err(SIGABRT)),
        ("panic=unwind", Ok(LIVES)),
        ("panic=abort", Err(SIGABRT)),
    ];
    for (fault, end) in ends {
        let world = World::new();
        let library = match fault {
            "BORDER" => crate::kit::example("dylib_border"),
            "panic=unwind" | "panic=abort" => rust_library(&world, fault),
            _ => world.c_library(fault, &[]),
        };
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["fatal::child", "--exact", "--nocapture", "--test-threads=1"]).env(FAULT, fault).env(LIBRARY, library);
        let (said, log) = (world.path().join("stderr"), File::create(world.path().join("stderr")).unwrap());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let begun = std::time::Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LONG {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{fault}: it does not end");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        let ended = status.code().ok_or_else(|| status.signal().unwrap());
        assert_eq!(ended, end, "{fault}");
        // Of an exit there is somebody to tell it, and of a panic that aborts the library's own hook, if it has one.
        let said = fs::read_to_string(said).unwrap();
        let told = said.lines().any(|line| line.starts_with("bespoke: the library of plugin `faults` (") && line.contains(") called exit"));
        assert_eq!(told, fault == "EXIT", "{fault}: {said}");
    }
}

/// Compiles the library that panics, with that setting.
fn rust_library(world: &World, panic: &str) -> PathBuf {
    let library = world.path().join("panics.so");
    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let mut command = Command::new(&compiler);
    command.args(["--edition", "2024", "--crate-type", "cdylib", "-C", panic, "-o"]).arg(&library);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/panics.rs"));
    let output = command.output().unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
