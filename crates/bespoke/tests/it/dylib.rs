//! `plugin …` with a library: the example in C, as a user would build it. It is shown before it is trusted, and not run; then it is a plugin
//! as the others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::program::User;

/// The example, built into a folder of this user's.
fn dice(user: &User, at: &str) -> PathBuf {
    let (source, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/dice-c"), user.work(at));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(source.join("plugin.toml"), folder.join("plugin.toml")).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-dylib/include");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = Command::new(&compiler);
    command
        .args(["-std=c11", "-O2", "-shared", "-fPIC", "-I"])
        .arg(include)
        .arg("-o")
        .arg(folder.join("plugin.so"))
        .arg(source.join("dice.c"));
    assert!(command.status().is_ok_and(|status| status.success()), "{compiler} builds the example");
    folder
}

fn row(user: &User, args: &[&str], id: &str) -> Value {
    let rows = user.json(["plugin", "list", "--json"].iter().chain(args));
    rows.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no row {id}")).clone()
}

fn throws(user: &User) {
    let answer = user.run(["plugin", "call", "dice-c", "dice_c", r#"{"sides":6}"#]).ok().value();
    let thrown: u32 = answer["content"][0]["text"].as_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&thrown), "{thrown}");
}

#[test]
fn a_library_on_the_path_is_shown_and_runs_when_it_is_trusted() {
    let user = User::new();
    dice(&user, "path/dice-c");
    // Beside one that is none, which stops nobody.
    let broken = user.work("path/broken");
    fs::create_dir_all(&broken).unwrap();
    let manifest = fs::read_to_string(user.work("path/dice-c/plugin.toml")).unwrap();
    fs::write(broken.join("plugin.toml"), manifest.replace("dice-c", "broken").replace("dice_c", "broken")).unwrap();
    fs::write(broken.join("plugin.so"), "no library").unwrap();
    let path = user.work("path");
    let user = user.configured("[plugins.broken]\nallow_native = true\n").with("BESPOKE_PLUGIN_PATH", path);

    let shown = row(&user, &["--start"], "dice-c");
    assert_eq!((&shown["tier"], &shown["state"]), (&json!("dylib"), &json!("blocked")), "{shown}");
    assert_eq!(shown["fix"], "bespoke config set plugins.dice-c.allow_native true");
    assert!(!user.home().join("cache/dylib/dice-c").exists(), "it was not opened");
    let failed = row(&user, &["--start"], "broken");
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["reason"].as_str().is_some_and(|why| why.contains("broken/plugin.so: it cannot be loaded: ")), "{failed}");

    user.run(["plugin", "call", "dice-c", "dice_c", "{}"]).code(4).says("bespoke config set plugins.dice-c.allow_native true");
    user.run(["config", "set", "plugins.dice-c.allow_native", "true"]).ok();
    throws(&user);
    let ready = row(&user, &["--start"], "dice-c");
    assert_eq!((&ready["state"], &ready["facts"]["toolchain"]), (&json!("ready"), &json!("C")), "{ready}");
    let info = user.run(["plugin", "info", "dice-c"]).ok().out;
    for line in ["asks for none", "not enforceable in this tier: trusted code, by plugins.dice-c.allow_native", "1 of 64, this is number 1"]
    {
        assert!(info.contains(line), "{line}: {info}");
    }
    // It throws once more when everything that can be made again is gone.
    fs::remove_dir_all(user.home().join("cache")).unwrap();
    throws(&user);
}

#[test]
fn a_library_is_added_from_its_folder_once_it_is_trusted() {
    let user = User::new().configured("config_version = 1\n");
    dice(&user, "dice-c");
    user.run(["plugin", "load", "./dice-c"]).code(4).says("bespoke config set plugins.dice-c.allow_native true");
    user.run(["config", "set", "plugins.dice-c.allow_native", "true"]).ok();
    user.run(["plugin", "load", "./dice-c"]).ok().says("dice-c 1.0.0 starts");
    throws(&user);
}
