//! `plugin …` with a library: the example in C, as a user would build it. It is shown before it is trusted, and not run; then it is a plugin
//! as the others.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    program::User,
    serve::{CONFIG, Runs},
};

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
    assert_eq!(shown["fix"], "bespoke plugin grant dice-c");
    assert!(!user.home().join("cache/dylib/dice-c").exists(), "it was not opened");
    let failed = row(&user, &["--start"], "broken");
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["reason"].as_str().is_some_and(|why| why.contains("broken/plugin.so: it is no library of this system: ")), "{failed}");

    user.run(["plugin", "call", "dice-c", "dice_c", "{}"]).code(4).says("bespoke plugin grant dice-c");
    user.run(["plugin", "grant", "dice-c"]).code(4).says("code inside this program").says("bespoke plugin grant dice-c --yes");
    user.run(["plugin", "grant", "dice-c", "--yes"]).ok().says("plugins.dice-c.allow_native is set");
    throws(&user);
    user.run(["plugin", "grant", "dice-c", "--yes"]).ok().says("needs no grant");
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
    let folder = dice(&user, "dice-c");
    let waits = user.run(["plugin", "load", "./dice-c"]).code(4).says("code inside this program").says(folder.to_str().unwrap());
    waits.says("bespoke plugin load ./dice-c --yes");
    assert_eq!(fs::read_to_string(user.config()).unwrap(), "config_version = 1\n");
    user.run(["plugin", "load", "./dice-c", "--yes"]).ok().says("dice-c 1.0.0 starts");
    throws(&user);
    user.run(["plugin", "unload", "dice-c"]).ok().says("plugins.dice-c.allow_native is removed").says("its folder stays\n");
    assert_eq!(fs::read_to_string(user.config()).unwrap(), "config_version = 1\n");
    user.run(["config", "check"]).ok();
    user.run(["plugin", "load", "./dice-c"]).code(4);
}

#[test]
fn trust_is_for_a_folder_and_is_taken_back() {
    let user = User::new();
    let (one, two) = (dice(&user, "one/dice-c"), dice(&user, "two/dice-c"));
    let state = |folder: &Path| {
        let row = row(&user, &["--start"], "dice-c");
        (row["state"].as_str().unwrap().to_owned(), row["reason"].to_string().contains(folder.to_str().unwrap()))
    };
    let path =
        |folder: &Path| fs::write(user.config(), format!("[plugins.dice-c]\npath = {0:?}\nallow_native = {1:?}\n", folder, one)).unwrap();
    user.run(["plugin", "load", "one/dice-c", "--yes"]).ok();
    assert_eq!(state(&one), ("ready".to_owned(), false));
    // The same id, elsewhere: it is another library, and the row says which one was meant.
    path(&two);
    assert_eq!(state(&one), ("blocked".to_owned(), true));
    path(&one);
    assert_eq!(state(&one).0, "ready");
    user.run(["plugin", "revoke", "dice-c"]).ok().says("plugins.dice-c.allow_native is removed").says("granted nothing any more");
    assert_eq!(state(&one).0, "blocked");
    user.run(["plugin", "revoke", "dice-c"]).ok().says("was granted nothing");

    // What is left of a plugin that is gone is said with the command that takes it away.
    fs::write(user.config(), "[plugins.dice-c]\nallow_native = true\n").unwrap();
    user.run(["config", "check"]).code(3).says("bespoke plugin revoke dice-c");
    user.run(["plugin", "revoke", "dice-c"]).ok().says("plugins.dice-c.allow_native is removed");
    user.run(["config", "check"]).ok();
    user.run(["plugin", "revoke", "dice-c"]).code(3).says("no plugin `dice-c`");
    user.run(["config", "set", "plugins.dice-c.allow_native", "true"]).code(3).says("nobody knows it");

    // What a variable says is not the file's to lose.
    fs::write(user.config(), format!("[plugins.dice-c]\npath = {one:?}\n")).unwrap();
    let user = user.with("BESPOKE_PLUGINS__DICE_C__ALLOW_NATIVE", "true");
    user.run(["plugin", "revoke", "dice-c"]).code(5).says("stays trusted: a variable of the environment says so");
    user.run(["plugin", "unload", "dice-c"]).ok().says("plugins.dice-c.path is removed");
    let user = user.with("BESPOKE_PLUGINS__DICE_C__ALLOW_NATIVE", "false");
    user.run(["plugin", "load", "one/dice-c", "--yes"]).code(5).says("unset BESPOKE_PLUGINS__DICE_C__ALLOW_NATIVE");
}

#[test]
fn trust_that_is_taken_back_ends_the_library_in_a_server() {
    let user = User::new().configured(CONFIG);
    dice(&user, "dice-c");
    let server = Runs::serving(&user, &["--no-watch"]);
    let there = || row(&user, &["--quiet"], "dice-c")["state"].clone();
    user.run(["plugin", "load", "./dice-c", "--yes"]).ok().says("the server that runs has it ready");
    assert_eq!(there(), "ready");
    user.run(["plugin", "revoke", "dice-c"]).ok().says("the server that runs has it blocked");
    assert_eq!(there(), "blocked");
    user.run(["plugin", "grant", "dice-c", "--yes"]).ok().says("the server that runs has it ready");
    assert_eq!(there(), "ready");
    // By hand, too.
    fs::write(user.config(), fs::read_to_string(user.config()).unwrap().replace("allow_native", "# allow_native")).unwrap();
    let told = user.run(["reload"]).ok().out;
    assert!(told.contains("dice-c: stopped: is a dynamic library"), "{told}");
    assert_eq!(there(), "blocked");
    // A server that cannot take the file goes on with what it had, and that is said.
    user.run(["plugin", "grant", "dice-c", "--yes"]).ok().says("the server that runs has it ready");
    let whole = fs::read_to_string(user.config()).unwrap();
    fs::write(user.config(), format!("{whole}\n[voice]\nnonsense = 1\n")).unwrap();
    user.run(["plugin", "revoke", "dice-c"]).code(5).says("the server that runs goes on with it").says("voice.nonsense");
    let left = fs::read_to_string(user.config()).unwrap();
    assert!(!left.lines().any(|line| line.starts_with("allow_native")), "{left}");
    fs::write(user.config(), left.replace("[voice]\nnonsense = 1\n", "")).unwrap();
    user.run(["reload"]).ok();
    assert_eq!(there(), "blocked");
    server.end();
}
