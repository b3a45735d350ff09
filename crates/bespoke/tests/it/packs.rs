//! Packs of native runtimes from the command line: what is listed, what runs on them, what is told when something is wrong with them.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    thread,
};

use serde_json::Value;

use crate::{
    machine::Machine,
    program::{Ended, User},
};

/// A user who has installed this pack: a copy of what the set-up of the tests installed.
fn with_pack(pack: &str) -> User {
    let root = std::env::var_os("BESPOKE_TEST_RUNTIMES").filter(|path| !path.is_empty());
    let root = PathBuf::from(root.expect("this test needs native runtimes; run it with: cargo xtask test"));
    let user = User::new();
    copy(&root.join(pack), &user.home().join("runtimes").join(pack));
    user
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn row(user: &User, id: &str) -> Value {
    let rows = user.json(["plugin", "list", "runtime", "--json"]);
    rows.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone()
}

#[test]
fn a_pack_that_is_installed_is_what_runs_until_it_is_gone() {
    let user = with_pack("onnx/cpu");
    let listed = row(&user, "onnx:cpu");
    assert_eq!((&listed["state"], &listed["version"], &listed["fix"]), (&"installed".into(), &"1.28.0".into(), &Value::Null));
    user.run(["plugin", "install", "onnx:cpu", "--offline"]).ok().says("already installed");
    let facts = &user.json(["plugin", "info", "silero", "--json"])["facts"];
    assert_eq!(facts["engine"], "ort", "{facts}");
    assert!(facts["onnxruntime_library"].as_str().unwrap().starts_with(user.home().to_str().unwrap()), "{facts}");
    assert!(facts["onnxruntime_origin"].as_str().unwrap().contains("installed"), "{facts}");
    user.run(["plugin", "verify"]).ok().says("every file is as it was installed");

    let removed = user.json(["plugin", "uninstall", "onnx:cpu", "--json"]);
    assert!(removed["freed"].as_u64().unwrap() > 20_000_000, "{removed}");
    assert_eq!(row(&user, "onnx:cpu")["state"], "available");
    assert_eq!(user.json(["plugin", "info", "silero", "--json"])["facts"]["engine"], "builtin");
    user.run(["plugin", "uninstall", "onnx:cpu"]).code(3).says("not installed");
}

#[test]
fn a_pack_with_another_byte_is_not_used_and_is_told() {
    let user = with_pack("onnx/cpu");
    let library = user.home().join("runtimes/onnx/cpu/1.28.0/lib/libonnxruntime.so.1.28.0");
    let mut bytes = fs::read(&library).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&library, bytes).unwrap();
    user.run(["plugin", "verify", "onnx:cpu"]).code(6).says("libonnxruntime.so.1.28.0").says("bespoke plugin install onnx:cpu");
    let listed = row(&user, "onnx:cpu");
    assert_eq!((&listed["state"], &listed["fix"]), (&"broken".into(), &"bespoke plugin install onnx:cpu".into()));
    assert_eq!(user.json(["plugin", "info", "silero", "--json"])["facts"]["engine"], "builtin");
}

#[test]
fn what_would_be_downloaded_is_told_and_nothing_is_written() {
    let user = User::new();
    let ended = user.run(["plugin", "install", "xla:cpu", "--dry-run", "--json"]).ok().says("to download");
    let plan = &ended.value()[0];
    assert_eq!((plan["id"].as_str(), plan["installed"].as_bool()), (Some("xla:cpu"), Some(false)), "{plan}");
    assert!(plan["download"].as_u64().unwrap() > 40_000_000, "{plan}");
    user.run(["plugin", "install", "onnx:cuda", "--dry-run", "--cuda", "12"]).ok().says("+cu12");
    assert!(!user.home().join("runtimes").exists());
}

#[test]
fn wrong_orders_are_told_with_what_to_do() {
    let user = User::new();
    user.run(["plugin", "install", "onx:cpu"]).code(3).says("did you mean onnx:cpu?").says("bespoke plugin list runtime");
    user.run(["plugin", "install", "my-tts"]).code(3).says("bespoke plugin load DIR");
    user.run(["plugin", "install"]).code(2);
    user.run(["plugin", "install", "onnx:cpu", "--from", "nowhere"]).code(3).says("nowhere is not there");
    user.run(["plugin", "install", "onnx:cpu", "--offline"]).code(3).says("--from");
    user.run(["plugin", "install", "onnx:cpu", "--index-url", "me:hunter2@host"]).code(2).says("--index-url");
    user.run(["plugin", "rollback", "onnx:cpu"]).code(3).says("not installed");
    user.run(["plugin", "update", "onnx:cpu"]).code(3).says("not installed");
    user.run(["plugin", "verify", "onnx:cpu"]).code(3).says("not installed");
    user.run(["plugin", "info", "onnx:cpu"]).ok();
    assert!(!user.home().join("runtimes/onnx").exists());
}

/// An index that has no page, at an address on this machine.
fn without_pages() -> SocketAddr {
    answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A server that gives everybody this answer, and with an empty one none at all.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().take(50) {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            _ = stream.read(&mut request);
            _ = stream.write_all(answer);
            if answer.is_empty() {
                silent.push(stream);
            }
        }
    });
    address
}

#[test]
fn an_index_without_the_wheel_leaves_nothing_and_no_password_behind() {
    let address = without_pages();
    let url = format!("http://me:hunter2@{address}/simple");
    let user = User::new().with("NO_PROXY", "127.0.0.1");
    let ended = user.run(["plugin", "install", "onnx:cpu", "--index-url", &url]).code(7).says("404");
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    let left = user.home().join("runtimes/onnx");
    assert!(!left.exists(), "{}", left.display());
    let log = fs::read_to_string(user.home().join("logs/bespoke.log")).unwrap_or_default();
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn doctor_says_what_was_found_and_what_is_missing() {
    let user = with_pack("onnx/cpu");
    let report = user.run(["doctor", "--json"]).value();
    let named = |name: &str| report.as_array().unwrap().iter().filter(|check| check["name"] == name).cloned().collect::<Vec<_>>();
    assert_eq!(named("TPU").len(), 1, "{report}");
    assert!(!named("NVIDIA driver").is_empty(), "{report}");
    let runtimes = named("runtime");
    assert!(runtimes.iter().any(|check| check["message"].as_str().unwrap().contains("onnx:cpu 1.28.0: installed")), "{report}");
}

/// Serves one question of another program on a machine with a device, whose index is at this address.
fn served(address: SocketAddr, config: &str, args: &[&str]) -> Ended {
    let machine = Machine::with_driver(&format!("packs-{}", address.port()), &[]);
    let user = User::new().with("NO_PROXY", "127.0.0.1").with("LD_LIBRARY_PATH", machine.library(""));
    let user = user.configured(&format!("[plugins]\nindex_url = \"http://{address}/simple\"\n{config}"));
    let ended = user.piped("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", [&["host", "--stdio"], args].concat());
    assert_eq!(ended.lines()[0]["id"], 1, "{ended:?}");
    ended
}

#[test]
fn what_the_hardware_calls_for_is_announced_and_tried_before_anything_is_served() {
    let ended = served(without_pages(), "", &[]);
    for pack in ["onnx:cuda", "cuda:nvrtc"] {
        let times = |text: String| ended.err.matches(&text).count();
        assert_eq!(times(format!("this machine has hardware for {pack} ")), 1, "{}", ended.err);
        // One warning, and it goes on.
        assert_eq!(times(format!("{pack} is not installed: ")), 1, "{}", ended.err);
    }
    assert!(ended.err.contains("1.28.0+cu13: 1.56 GB to download"), "{}", ended.err);
}

#[test]
fn nothing_is_installed_that_is_not_wanted_or_could_not_be_used() {
    for (config, args) in [
        ("auto_install = false\n", &[][..]),
        ("", &["--offline"]),
        ("[plugins.silero]\ndevice = \"cpu\"\n[plugins.cuda]\nenabled = false\n", &[]),
        ("[plugins.silero]\nengine = \"builtin\"\n[plugins.cuda]\nenabled = false\n", &[]),
        ("[plugins.silero]\nonnxruntime = \"/opt/lib.so\"\n[plugins.cuda]\nenabled = false\n", &[]),
    ] {
        let ended = served(without_pages(), config, args);
        assert!(!ended.err.contains("has hardware for"), "{config}: {}", ended.err);
    }
}

#[test]
fn an_index_that_is_silent_does_not_keep_anybody_waiting_longer_than_configured() {
    let ended = served(answering(b""), "auto_install_timeout_ms = 1000\n", &[]);
    assert_eq!(ended.err.matches("it takes longer than 1 s").count(), 1, "{}", ended.err);
    assert_eq!(ended.err.matches("has hardware for").count(), 1, "{}", ended.err);
}
