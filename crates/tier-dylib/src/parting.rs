//! What is left to say when a library ends the program by `exit`: whose it was, on standard error. It prevents nothing, and hears nothing
//! of `_exit`, of signals, and of threads of the library's own.

#![allow(unsafe_code, reason = "the C library calls a function when the program exits")]

use std::{
    cell::Cell,
    ffi::c_int,
    fs::File,
    io::{self, Write as _},
    os::fd::AsFd as _,
    process,
    sync::OnceLock,
};

thread_local! {
    /// In whose code this thread is. Without a destructor: those of a thread run before what is called at an exit.
    static INSIDE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The program that a line is said of. Processes that a library forks inherit what is called at an exit, and end nothing but themselves.
static PROGRAM: OnceLock<u32> = OnceLock::new();

/// This thread is in the code of a library, as long as it lives.
pub(crate) struct Inside(Option<&'static str>);

impl Inside {
    /// `who` is said as it stands.
    pub(crate) fn enter(who: &'static str) -> Self {
        PROGRAM.get_or_init(|| {
            // SAFETY: the function is there as long as the program, and takes and gives what the C library says. Where there is no room
            // for it, nothing is told.
            let _ = unsafe { atexit(tell) };
            process::id()
        });
        Inside(INSIDE.replace(Some(who)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Runs on the thread that called `exit`.
extern "C" fn tell() {
    let Ok(Some(who)) = INSIDE.try_with(Cell::get) else { return };
    if PROGRAM.get() != Some(&process::id()) {
        return;
    }
    // Not through the lock of Rust's own handle, which another thread may hold for ever by now.
    if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
        let _ = File::from(stderr).write_all(format!("bespoke: {who} called exit, which ends this program\n").as_bytes());
    }
}
