//! What a program sees of this one: what was named, and nothing else.

use crate::world::{World, data};
use bespoke_plugin_api::{
    CallCx,
    serde_json::{Value, json},
};

/// `printenv` is no interpreter, and `env` without arguments would say the same.
fn seen(config: Value) -> Vec<String> {
    let world = World::new(config);
    let output = world.run("printenv", &[]);
    let mut lines: Vec<_> = data(&output)["stdout"].as_str().unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_environment_is_what_was_named() {
    // The test runner sets both for each test; a test must not change the environment of its own process.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
        assert!(std::env::var_os(name).is_some(), "this test needs {name} as the secret of the environment");
    }
    assert_eq!(seen(json!({ "allow": ["printenv"] })), ["PATH=/usr/local/bin:/usr/bin:/bin"]);
    let passed = seen(json!({ "allow": ["printenv"], "env": ["CARGO_PKG_NAME", "NO_SUCH_VARIABLE"] }));
    assert_eq!(passed, ["CARGO_PKG_NAME=bespoke-tool-shell", "PATH=/usr/local/bin:/usr/bin:/bin"]);
}

#[test]
fn a_program_works_in_its_folder() {
    let world = World::new(json!({ "allow": ["pwd"] }));
    let here = world.folder("").canonicalize().unwrap();
    assert_eq!(data(&world.run("pwd", &["-P"]))["stdout"], format!("{}\n", here.display()));
    let temp = tempfile::tempdir().unwrap();
    let world = World::new(json!({ "allow": ["pwd"], "cwd": temp.path() }));
    let here = temp.path().canonicalize().unwrap();
    assert_eq!(data(&world.run("pwd", &["-P"]))["stdout"], format!("{}\n", here.display()));
}

#[test]
fn standard_input_is_closed_or_what_is_given() {
    let world = World::new(json!({ "allow": ["cat"] }));
    assert_eq!(data(&world.run("cat", &[]))["stdout"], "");
    let given = world.try_call(&CallCx::new(), json!({ "program": "cat", "stdin": "hello\nthere" })).unwrap();
    assert_eq!(data(&given)["stdout"], "hello\nthere");
    assert_eq!(given.to_text(), "exit code 0\noutput:\nhello\nthere");
}

#[test]
#[cfg(target_os = "linux")]
fn what_this_program_opens_is_not_inherited() {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    // What the test itself was started with is passed on, as any program does.
    let is_passed_on = |fd: &String| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
        u32::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & CLOSE_ON_EXEC == 0)
    };
    let all = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut expected: Vec<_> = all.filter(is_passed_on).chain(["0", "1", "2"].map(str::to_owned)).collect();
    expected.sort();
    expected.dedup();
    let opened = tempfile::NamedTempFile::new().unwrap();
    let world = World::new(json!({ "allow": ["ls"] }));
    let output = world.run("ls", &["-l", "/proc/self/fd"]);
    let listed = data(&output)["stdout"].as_str().unwrap();
    assert!(!listed.contains(opened.path().to_str().unwrap()), "{listed}");
    // Without the folder that `ls` itself has open.
    let seen = listed.lines().filter_map(|line| line.split_once(" -> ")).filter(|(_, target)| !target.starts_with("/proc/"));
    let mut seen: Vec<_> = seen.map(|(line, _)| line.rsplit(' ').next().unwrap().to_owned()).collect();
    seen.sort();
    assert_eq!(seen, expected, "{listed}");
}
