//! A program that is nothing but the inner verbs of this tier: for its tests.

use std::{env, ffi::OsString, process::ExitCode};

use bespoke_tier_process as _;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let verb = arguments.first().and_then(|name| bespoke_host::inner_verb(name.to_str()?));
    verb.map_or(ExitCode::from(2), |verb| (verb.run)(&arguments[1..]))
}
