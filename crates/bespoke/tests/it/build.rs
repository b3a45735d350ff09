//! `plugin build`, as an author has it: the example becomes something to load, and what is missing is said with the command that brings it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::program::{Ended, User};

/// The example that is built into every tier.
fn chimes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/chimes")
}

/// A build: it may take as long as a compiler takes, which no limit of ours knows.
fn build(user: &User, args: &[&str]) -> Ended {
    let chimes = chimes();
    let args = ["plugin", "build"].into_iter().map(AsRef::as_ref).chain([chimes.as_os_str()]).chain(args.iter().map(AsRef::as_ref));
    let output = user.command(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn the_example_is_built_loaded_and_called() {
    let user = User::new();
    let built = build(&user, &["--tier", "process", "--out", "bells"]).ok().says("chimes 1.0.0 is built as process");
    let path = built.out.trim_end();
    assert_eq!(Path::new(path), user.work("bells"));
    assert!(built.err.contains(&format!("try: bespoke plugin load {path}")), "{}", built.err);
    user.run(["plugin", "load", path, "--yes"]).ok();
    let answer = user.run(["plugin", "call", "chimes", "strike", r#"{"times":2}"#]).ok().value();
    assert_eq!(answer["data"], json!({ "struck": 2, "total": 2 }), "{answer}");

    // Again, to the same place, and as data.
    let built = build(&user, &["--tier", "process", "--out", "bells", "--json", "--quiet"]).ok();
    assert!(!built.err.contains("Compiling"), "it was built already: {}", built.err);
    let value = built.value();
    assert_eq!((&value["id"], &value["tier"], &value["path"]), (&json!("chimes"), &json!("process"), &json!(path)));
}

#[test]
fn a_machine_without_cargo() {
    let nothing = tempfile::tempdir().unwrap();
    let user = User::new().with("PATH", nothing.path()).with("CARGO", "");
    let failed = build(&user, &["--tier", "process"]).code(3).says("there is no cargo on the PATH").says("install Rust with rustup");
    assert_eq!(failed.out, "");
}

/// A rustc that says what somebody's has who never heard of wasm.
#[cfg(unix)]
#[test]
fn a_rust_without_wasm32() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let rustc = folder.path().join("rustc");
    fs::write(&rustc, "#!/bin/sh\necho /srv/.rustup/toolchains/stable-x86_64\n").unwrap();
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
    let user = User::new().with("RUSTC", &rustc).with("BESPOKE_WASM_TOOLCHAIN", "");
    let failed = build(&user, &["--tier", "wasm"]).code(3).says("your Rust has no target wasm32-unknown-unknown");
    assert!(failed.err.contains("try: rustup target add wasm32-unknown-unknown\n"), "{}", failed.err);

    let user = User::new().with("BESPOKE_WASM_TOOLCHAIN", folder.path());
    build(&user, &["--tier", "wasm"]).code(3).says("which has no cargo-wasm").says("try: unset BESPOKE_WASM_TOOLCHAIN");
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_built() {
    let user = User::new();
    build(&user, &["--tier", "wasm", "--features", "clock"]).code(2).says("only --tier compiled builds one");
    user.run(["plugin", "build"]).code(2).says("--tier <TIER>");
    user.run(["plugin", "build", "--tier", "wasm"]).code(3).says("has no Cargo.toml");
    user.run(["plugin", "build", "nowhere", "--tier", "wasm"]).code(3).says("nowhere is no folder");
}
