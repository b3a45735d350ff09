//! Finds out which compiler builds the plugin: the library says it, for people.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = env::var_os("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let version = compiler.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let target = env::var("TARGET").unwrap_or_default();
    let version = version.trim();
    println!("cargo::rustc-env=BESPOKE_TOOLCHAIN={}, {target}", if version.is_empty() { "rustc" } else { version });
}
