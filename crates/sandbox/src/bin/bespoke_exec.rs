//! A program that is nothing but a supervisor: for tests of this crate, and to try a policy by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    bespoke_sandbox::supervise(&[])
}
