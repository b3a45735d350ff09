//! `licenses`: the terms of what this binary contains and came with, and of nothing else.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::program::{User, files_below};

#[test]
fn the_notices_are_those_of_what_is_in_the_binary() {
    let user = User::new();
    let listed = user.json(["licenses", "--json"]);
    let of = |key: &str| listed.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(of("name"), ["bespoke", "flite", "python-sdk", "recording-austen", "recording-question", "silero-vad"]);
    assert!(of("text").iter().all(|text| text.len() > 100));
    let all = user.run(["licenses"]).ok();
    for words in ["Apache License", "Carnegie Mellon University", "2020-present Silero Team", "LibriVox", "silero_vad.onnx"] {
        assert!(all.out.contains(words), "`{words}` is not in what is printed");
    }
    // What is fetched later is no part of it.
    assert!(!all.out.contains("SmolLM2"));
    assert!(files_below(&user.home()).is_empty(), "looking writes nothing");
}

#[test]
fn one_is_asked_for_by_its_name_or_by_a_file() {
    let user = User::new();
    let by_name = user.run(["licenses", "silero-vad"]).ok();
    assert!(by_name.out.starts_with("MIT License"), "{}", by_name.out);
    assert_eq!(user.run(["licenses", "silero_vad.onnx"]).ok().out, by_name.out);
    user.run(["licenses", "silero-vat"]).code(3).nothing().says("did you mean `silero-vad`?");
    user.run(["licenses", "--crates", "flite"]).code(2).nothing();
    // A configuration that is wrong keeps nobody from reading terms.
    User::new().configured("[agent\n").run(["licenses", "flite"]).ok();
}

/// `cargo xtask dist` puts a list in; a plain build has none, and says so.
#[test]
fn a_build_without_a_list_of_its_crates_says_who_makes_one() {
    User::new().run(["licenses", "--crates"]).code(3).nothing().says("try: cargo xtask dist");
}

/// A release carries runtimes beside its program, and their terms with them.
#[test]
fn what_came_with_the_program_is_told_with_its_terms() {
    let release = tempfile::tempdir().unwrap();
    let program = release.path().join("bespoke");
    let built = env!("CARGO_BIN_EXE_bespoke");
    fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    let pack = release.path().join("runtimes/onnx/cpu/1.28.0");
    let put = |path: &str, text: &str| {
        let path = pack.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("lib/library.so", "text");
    put("licenses/LICENSE", "the maker allows it");
    put("licenses/project/NOTICE.txt", "others helped");
    let files = json!([{ "path": "lib/library.so", "size": 4, "sha256": "0".repeat(64) }]);
    let record =
        json!({ "spec": "onnx:cpu", "version": "1.28.0", "library": "lib/library.so", "installed": 1, "wheels": [], "files": files });
    put("pack.json", &record.to_string());

    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        let output = command.args(args).env("BESPOKE_HOME", release.path().join("home")).current_dir(release.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listed: Value = serde_json::from_str(&run(&["licenses", "--json"])).unwrap();
    let told = listed.as_array().unwrap().last().unwrap();
    assert_eq!((&told["name"], &told["license"], &told["crate"]), (&"onnx:cpu".into(), &"MIT".into(), &Value::Null));
    assert_eq!(Path::new(told["files"][0].as_str().unwrap()).canonicalize().unwrap(), pack.canonicalize().unwrap());
    let text = "LICENSE\n\nthe maker allows it\n\nproject/NOTICE.txt\n\nothers helped\n";
    assert_eq!(run(&["licenses", "onnx:cpu"]), text);
    assert!(run(&["licenses"]).ends_with(&format!("onnx:cpu: MIT\n\n{text}")));
}
