//! The example in JavaScript as its author and its users have it: held against what every plugin owes, and loaded as the others are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::program::User;

/// The example, built by its own script into a folder of this user's.
fn dice(user: &User) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/dice-js");
    let folder = user.work("dice-js");
    fs::create_dir_all(&folder).unwrap();
    for file in ["plugin.toml", "config.schema.json"] {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let package: serde_json::Value = serde_json::from_slice(&fs::read(source.join("package.json")).unwrap()).unwrap();
    let script: Vec<&str> = package["scripts"]["build"].as_str().unwrap().split(' ').collect();
    let [compiler, words @ .., file] = &script[..] else { panic!("{script:?}") };
    let variable =
        |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is set: cargo xtask test does that")));
    let mut node = Command::new(variable("BESPOKE_NODE"));
    node.arg(variable("BESPOKE_COMPONENTIZE").join(compiler).join("bin").join(compiler));
    let built = node.args(words).arg(folder.join(file)).current_dir(source).output().expect("node runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

#[test]
fn a_plugin_in_javascript_keeps_every_rule_and_is_loaded_as_the_others() {
    let user = User::new().configured("config_version = 1\n[plugins.dice-js]\npause_ms = 1\n");
    dice(&user);
    let report = user.run(["plugin", "test", "./dice-js", "--json"]).ok().value();
    assert_eq!((&report["failed"], &report["tier"]), (&json!(0), &json!("wasm")), "{report:#}");
    let untried: Vec<_> = report["checks"].as_array().unwrap().iter().filter(|check| check["outcome"] != "passed").collect();
    assert!(untried.is_empty(), "{untried:?}");

    user.run(["plugin", "load", "./dice-js"]).ok().says("dice-js 1.0.0");
    let answer = user.run(["plugin", "call", "dice-js", "dice_js", r#"{"sides":2,"times":3}"#]).ok().value();
    let numbers = answer["data"]["numbers"].as_array().unwrap();
    assert!(numbers.len() == 3 && numbers.iter().all(|n| *n == 1 || *n == 2), "{numbers:?}");
}
