//! The tutorial, typed along: each block of its page that does not say `no-test`, in a shell, in the order of the page.

#![cfg(unix)]

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::program::User;

/// The blocks to run.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("\n```sh\n").skip(1).map(|part| part.split("\n```").next().unwrap())
}

#[test]
fn every_command_of_the_page_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let page = fs::read_to_string(root.join("docs/tutorial.md")).unwrap();
    let user = User::new();
    for folder in ["examples", "crates"] {
        symlink(root.join(folder), user.work(folder)).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_bespoke")).parent().unwrap().to_owned();
    let path: Vec<PathBuf> = [program].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())).collect();
    let user = user.with("PATH", env::join_paths(path).unwrap());
    let mut shown = Vec::new();
    for block in blocks(&page) {
        // A shell with the environment that the program has; a compiler takes as long as it takes.
        let mut shell = std::process::Command::new("sh");
        let of_program = user.command([] as [&str; 0]);
        shell.args(["-eu", "-c", block]).current_dir(user.work(""));
        for (name, value) in of_program.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let output = shell.output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{block}\n{out}\n{err}");
        shown.push(out);
    }
    let [process, component, library, list, _clean] = &shown[..] else { panic!("{} blocks", shown.len()) };
    let struck = "Dong, Dong, Dong. That makes 3 in all.";
    for tier in [process, component, library] {
        assert!(tier.contains(struck), "{tier}");
    }
    assert!(component.contains("tier         wasm"), "{component}");
    // The list of the page, as far as it is told there.
    for row in ["chimes  tool,tts  wasm      1.0.0    ready  ok", "clock   tool      compiled  0.1.0    ready  ok"] {
        assert!(page.contains(row));
    }
    for (id, tier) in [("chimes", "wasm"), ("clock", "compiled"), ("dice", "process"), ("dice-c", "dylib")] {
        let row = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| words.first() == Some(&id));
        let row = row.unwrap_or_else(|| panic!("no row {id}: {list}"));
        assert!(row[2] == tier && row.contains(&"ready"), "{row:?}");
    }
    assert!(!user.work("bells").exists());
}
