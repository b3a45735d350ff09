//! What goes wrong with plugins of somebody who is new to them: each mistake is told by what it is, where, and the next command.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{process::plugin, program::User};

/// A folder with a manifest for one tier, and with a tool.
fn folder(user: &User, at: &str, id: &str, tool: &str, packed: &str) -> PathBuf {
    let folder = user.work(at);
    fs::create_dir_all(&folder).unwrap();
    let (tier, runs) = packed.split_once(": ").unwrap();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \"1\"\n\
         tiers = [\"{tier}\"]\n[[provides]]\nkind = \"tool\"\nname = \"{tool}\"\n[{tier}]\n{runs}\n"
    );
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    folder
}

const WASM: &str = "wasm: file = \"plugin.wasm\"";
const DYLIB: &str = "dylib: file = \"plugin.so\"";
const PROCESS: &str = "process: command = [\"./run\"]";

/// How it is packed, the file, what it holds if it is there, its mode, and what is said.
type Case = (&'static str, &'static str, Option<&'static [u8]>, u32, &'static [&'static str]);

#[test]
fn a_file_that_is_not_what_it_should_be() {
    let cut_off: &[u8] = b"\0asm\x0d";
    let cases: &[Case] = &[
        (WASM, "plugin.wasm", None, 0o644, &["plugin.wasm: there is no such file", "bespoke plugin build DIR --tier wasm --out "]),
        (WASM, "plugin.wasm", Some(b"a text"), 0o644, &["plugin.wasm: it is no wasm", "bespoke plugin build DIR --tier wasm"]),
        (WASM, "plugin.wasm", Some(cut_off), 0o644, &["plugin.wasm: it is cut off, after 5 bytes"]),
        (DYLIB, "plugin.so", None, 0o644, &["plugin.so: there is no such file", "bespoke plugin build DIR --tier dylib --out "]),
        (
            DYLIB,
            "plugin.so",
            Some(b"text"),
            0o644,
            &["plugin.so: it is no library of this system", "bespoke plugin build DIR --tier dylib"],
        ),
        (DYLIB, "plugin.so", Some(b"\x7fELF\x02"), 0o644, &["plugin.so: it cannot be loaded: it is cut off"]),
        (PROCESS, "run", None, 0o644, &["`./run` is not in its folder", "mend command under [process]"]),
        (PROCESS, "run", Some(b"a text"), 0o644, &["`./run` may not be executed", "try: chmod +x "]),
        (PROCESS, "run", Some(b"a text\n"), 0o755, &["its process could not be started: execute ", "a program for this machine", "file "]),
    ];
    for (packed, file, holds, mode, says) in cases {
        let user = User::new();
        // Its tool is another plugin's, too: that is not what is wrong with it first.
        for tool in ["mine", "clock"] {
            let folder = folder(&user, "it", "it", tool, packed);
            if let Some(bytes) = holds {
                fs::write(folder.join(file), bytes).unwrap();
                fs::set_permissions(folder.join(file), fs::Permissions::from_mode(*mode)).unwrap();
            }
            let failed = user.run(["plugin", "load", "./it", "--yes"]).code(1);
            if tool == "clock" && says[0].starts_with("its process") {
                // Nothing but starting it tells.
                failed.says("provided by both `clock` and `it`");
                continue;
            }
            let failed = says.iter().fold(failed, |failed, text| failed.says(text));
            assert!(!failed.err.contains("bespoke plugin load"), "what was typed is no help: {}", failed.err);
            assert!(!failed.err.contains("the link to the plugin"), "{}", failed.err);
        }
    }
}

#[test]
fn what_is_missing_is_built_again_for_the_folder_of_its_plugin() {
    for (packed, tier) in [
        ("wasm: file = \"lib/plugin.wasm\"", "wasm"),
        ("dylib: file = \"lib/plugin.so\"", "dylib"),
        ("process: command = [\"./bin/run\"]", "process"),
    ] {
        let user = User::new();
        let folder = folder(&user, "it", "it", "mine", packed);
        let at = folder.display();
        let help = format!("bespoke plugin build DIR --tier {tier} --out {at}, where");
        user.run(["plugin", "load", "./it", "--yes"]).code(1).says(&help);
        fs::write(folder.join("Cargo.toml"), "[package]\n").unwrap();
        let help = format!("bespoke plugin load \"$(bespoke plugin build {at} --tier {tier})\"");
        user.run(["plugin", "load", "./it", "--yes"]).code(1).says(&help);
    }
}

#[test]
fn the_source_of_a_plugin_is_built_first() {
    let user = User::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/stopwatch");
    for (at, tiers, tier) in [
        ("both", r#"["compiled", "dylib", "process"]"#, "process"),
        ("wasm", r#"["compiled", "dylib", "wasm"]"#, "wasm"),
        ("none", r#"["compiled"]"#, "compiled"),
    ] {
        let folder = user.work(at);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("Cargo.toml"), "[package]\n").unwrap();
        let manifest = fs::read_to_string(example.join("plugin.toml")).unwrap();
        let of_example = manifest.lines().find(|line| line.starts_with("tiers = ")).unwrap();
        fs::write(folder.join("plugin.toml"), manifest.replace(of_example, &format!("tiers = {tiers}"))).unwrap();
        let help = format!("try: bespoke plugin build {} --tier {tier}\n", folder.display());
        user.run(["plugin", "load", at]).code(1).says("it is the source of a plugin").says(&help);
        user.run(["plugin", "test", at]).says(&format!("bespoke plugin build {at} --tier {tier}"));
    }
}

#[test]
fn a_second_plugin_of_an_id() {
    let user = User::new();
    for at in ["one", "two"] {
        plugin(&user.work(at), "bird", "x", "");
    }
    user.run(["plugin", "load", "one/bird"]).ok();
    let taken = user.run(["plugin", "load", "two/bird"]).code(5).says("there is a plugin bird already: ").says("/one/bird (process)");
    taken.says("try: bespoke plugin unload bird && bespoke plugin load two/bird").says("or: bespoke plugin reload bird");
    // The same folder is no second one.
    user.run(["plugin", "load", "one/bird"]).ok();
    folder(&user, "ours", "clock", "other", PROCESS);
    user.run(["plugin", "load", "./ours"]).code(5).says("it is part of this program").says("bespoke plugin swap clock NEW");
}

#[test]
fn a_call_that_is_late_says_how_it_gets_more_time() {
    let user = User::new();
    let call = ["plugin", "call", "fake", "fake_wait", r#"{"ms":60000}"#];
    let late = user.run(call.iter().chain(&["--timeout-ms", "50"])).code(1).says("no answer within 50 ms");
    late.says("try: bespoke plugin call fake fake_wait … --timeout-ms 500\n");
    let user = user.configured("[plugins]\ncall_timeout_ms = 60\n");
    user.run(call).code(1).says("no answer within 60 ms").says("try: bespoke config set plugins.call_timeout_ms 120\n");
    user.run(call.iter().chain(&["--timeout-ms", "50"])).code(1).says("--timeout-ms 60\n");
}

#[test]
fn what_a_compiler_says_is_told_once() {
    let tools = tempfile::tempdir().unwrap();
    let (cargo, real) = (tools.path().join("cargo"), std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // Everything is cargo's but the build.
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in build) echo 'error: a semicolon is missing' >&2; echo 'error: could not compile `chimes` (lib)' >&2; exit 101;; \
         esac\nexec '{real}' \"$@\"\n"
    );
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let user = User::new().with("CARGO", &cargo);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/chimes");
    let build = ["plugin".as_ref(), "build".as_ref(), example.as_os_str(), "--tier".as_ref(), "process".as_ref()];
    for more in [None, Some("--quiet".as_ref())] {
        let failed = user.run(build.into_iter().chain(more)).code(1).says("chimes does not build as process");
        assert_eq!(failed.err.matches("a semicolon is missing").count(), 1, "{}", failed.err);
    }
}
