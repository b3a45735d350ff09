//! What the benchmark of processes starts: an echo as a plugin, an echo without anything around it, the supervisor of either, and a
//! program that does nothing. What is measured stands in the benchmark.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
};

use bespoke_benches::ECHO;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let word = arguments.first().and_then(|word| word.to_str()).unwrap_or_default();
    match word {
        "empty" => ExitCode::SUCCESS,
        "serve" => bespoke_guest_process::serve(&ECHO),
        "__exec" => bespoke_sandbox::supervise(&arguments[1..]),
        bytes => match bytes.parse().map_err(io::Error::other).and_then(echo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Gives back so many bytes at a time: the least that any protocol has to do.
fn echo(bytes: usize) -> io::Result<()> {
    let mut input = fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut piece = vec![0; bytes];
    loop {
        let mut at = 0;
        while at < bytes {
            match input.read(&mut piece[at..])? {
                0 => return Ok(()),
                n => at += n,
            }
        }
        output.write_all(&piece)?;
    }
}
