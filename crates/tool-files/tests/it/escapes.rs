//! Attempts on what is outside of the folder, or off limits in it. All are refused, each for its reason, and nothing outside is
//! read or changed.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
};

use bespoke_plugin_api::serde_json::{Value, json};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::world::{SECRET, World, refused};

/// One attempt: what is tried, how the folder is prepared after the start, the call, and why it is refused.
struct Attempt {
    what: &'static str,
    set_up: fn(&World),
    tool: &'static str,
    args: Value,
    reason: &'static str,
}

fn attempt(what: &'static str, set_up: fn(&World), tool: &'static str, args: Value, reason: &'static str) -> Attempt {
    Attempt { what, set_up, tool, args, reason }
}

/// Reading under a name that needs no preparation.
fn read(path: &str, reason: &'static str) -> Attempt {
    attempt("a name", |_| (), "read_file", json!({ "path": path }), reason)
}

fn write(what: &'static str, set_up: fn(&World), path: &str, mode: &str, reason: &'static str) -> Attempt {
    attempt(what, set_up, "write_file", json!({ "path": path, "text": "overwritten", "mode": mode }), reason)
}

fn by_name() -> Vec<Attempt> {
    let long_name = "n".repeat(256);
    let long_path = "folder/".repeat(600);
    let deep = "d/".repeat(40) + "x";
    vec![
        read("..", "parent"),
        read("../outside/secret.txt", "parent"),
        read("a/../../outside/secret.txt", "parent"),
        read("./../outside/secret.txt", "parent"),
        read("../", "parent"),
        read("a/..", "parent"),
        read(".../outside", "name"),
        read(".. /outside", "name"),
        read(" ../outside", "name"),
        read("..\\outside\\secret.txt", "name"),
        read("..%2foutside%2fsecret.txt", "hidden"),
        read("%2e%2e/outside/secret.txt", "not_found"),
        read("..\u{2215}outside", "look_alike"),
        read("..\u{ff0f}outside", "look_alike"),
        read("..\u{ff3c}outside", "look_alike"),
        read("\u{2025}/outside/secret.txt", "look_alike"),
        read("\u{ff0e}\u{ff0e}/outside/secret.txt", "look_alike"),
        read("\u{2024}./outside/secret.txt", "look_alike"),
        read("/etc/passwd", "absolute"),
        read("//etc/passwd", "absolute"),
        read("/", "absolute"),
        read("a//secret.txt", "name"),
        read("/proc/self/cwd/secret.txt", "absolute"),
        read("/dev/stdin", "absolute"),
        read("~", "home"),
        read("~/secret.txt", "home"),
        read("~root/secret.txt", "home"),
        read("C:\\Windows\\win.ini", "absolute"),
        read("C:/Windows/win.ini", "absolute"),
        read("c:secret.txt", "absolute"),
        read("\\\\?\\C:\\Windows", "absolute"),
        read("\\\\server\\share", "absolute"),
        read("notes.txt:hidden", "name"),
        read("file:///etc/passwd", "name"),
        read("NUL", "name"),
        read("aux.txt", "name"),
        read("a/COM1", "name"),
        read("lpt\u{b9}.log", "name"),
        read("CON .txt", "name"),
        read("conin$", "name"),
        read("GIT~1/config", "name"),
        read("notes.txt\0.png", "name"),
        read("notes\n.txt", "name"),
        read("notes\u{1b}[31m.txt", "name"),
        read("notes\u{7f}.txt", "name"),
        read("notes\u{202e}txt.exe", "name"),
        read("notes\u{2028}.txt", "name"),
        read("notes.txt.", "name"),
        read("notes.txt ", "name"),
        read(".ssh/id_ed25519", "hidden"),
        read("a/.env", "hidden"),
        read(&long_name, "too_long"),
        read(&long_path, "too_long"),
        read(&deep, "too_deep"),
        attempt("a search above", |_| (), "find_files", json!({ "text": "eagle", "path": ".." }), "parent"),
        attempt("all files above", |_| (), "find_files", json!({ "path": "../outside" }), "parent"),
        attempt("a folder above as a file", |_| (), "read_file", json!({ "path": "../outside/" }), "parent"),
        attempt("a file above as a folder", |_| (), "list_files", json!({ "path": "../outside/secret.txt" }), "parent"),
        attempt("a name close to one above", |_| (), "list_files", json!({ "path": "../outside/secrets.txt" }), "parent"),
        attempt("a hidden file as a folder", |w| w.put(".env", SECRET), "list_files", json!({ "path": ".env" }), "hidden"),
        attempt("a list above", |_| (), "list_files", json!({ "path": "../outside" }), "parent"),
        write("a file above", |_| (), "../outside/new.txt", "create", "parent"),
        write("a file anywhere", |_| (), "/tmp/bespoke-escape.txt", "create", "absolute"),
        write("a hidden file", |_| (), ".bashrc", "create", "hidden"),
        write("a file in a hidden folder", |w| w.put(".git/config", "mine"), ".git/config", "replace", "hidden"),
        write("a device of Windows", |_| (), "nul.txt", "create", "name"),
    ]
}

fn by_link() -> Vec<Attempt> {
    let link_to_file = |w: &World| symlink(w.outside("secret.txt"), w.root("link.txt")).unwrap();
    let link_to_folder = |w: &World| symlink(w.outside(""), w.root("door")).unwrap();
    vec![
        attempt("a link to a file outside", link_to_file, "read_file", json!({ "path": "link.txt" }), "link"),
        attempt("a link to a folder outside", link_to_folder, "read_file", json!({ "path": "door/secret.txt" }), "link"),
        attempt("a list through a link", link_to_folder, "list_files", json!({ "path": "door" }), "link"),
        attempt("a list through a link, with a slash", link_to_folder, "list_files", json!({ "path": "door/" }), "link"),
        attempt("a list through a link, with a dot", link_to_folder, "list_files", json!({ "path": "door/." }), "link"),
        attempt("a folder outside as a file", link_to_folder, "read_file", json!({ "path": "door" }), "link"),
        attempt("a folder outside as a file, with a slash", link_to_folder, "read_file", json!({ "path": "door/" }), "link"),
        attempt("a list of a link to a file outside", link_to_file, "list_files", json!({ "path": "link.txt" }), "link"),
        attempt("a list of a file behind a link", link_to_folder, "list_files", json!({ "path": "door/secret.txt" }), "link"),
        attempt("all files behind a link", link_to_folder, "find_files", json!({ "path": "door" }), "link"),
        attempt("a name close to one behind a link", link_to_folder, "read_file", json!({ "path": "door/secret.md" }), "link"),
        attempt("a search through a link", link_to_folder, "find_files", json!({ "text": "eagle", "path": "door" }), "link"),
        attempt(
            "a chain of links",
            |w| {
                symlink("second", w.root("first")).unwrap();
                symlink("third", w.root("second")).unwrap();
                symlink(w.outside("secret.txt"), w.root("third")).unwrap();
            },
            "read_file",
            json!({ "path": "first" }),
            "link",
        ),
        attempt(
            "a loop of links",
            |w| {
                symlink("pong", w.root("ping")).unwrap();
                symlink("ping", w.root("pong")).unwrap();
            },
            "read_file",
            json!({ "path": "ping/secret.txt" }),
            "link",
        ),
        attempt(
            "a link that goes up",
            |w| symlink("../outside/secret.txt", w.root("up")).unwrap(),
            "read_file",
            json!({ "path": "up" }),
            "link",
        ),
        attempt(
            "a link in a folder",
            |w| {
                w.put("a/b/c.txt", "");
                symlink("../../../outside", w.root("a/b/up")).unwrap();
            },
            "read_file",
            json!({ "path": "a/b/up/secret.txt" }),
            "link",
        ),
        attempt(
            "a link inside to a hidden file inside",
            |w| {
                w.put(".env", SECRET);
                symlink(".env", w.root("plain.txt")).unwrap();
            },
            "read_file",
            json!({ "path": "plain.txt" }),
            "link",
        ),
        attempt(
            "a link to the root itself",
            |w| symlink(".", w.root("self")).unwrap(),
            "list_files",
            json!({ "path": "self/self/self" }),
            "link",
        ),
        attempt(
            "a link through /proc",
            |w| symlink("/proc/self/root", w.root("magic")).unwrap(),
            "read_file",
            json!({ "path": "magic/etc/passwd" }),
            "link",
        ),
        attempt(
            "a link to the folder this program runs in",
            |w| symlink("/proc/self/cwd", w.root("magic")).unwrap(),
            "list_files",
            json!({ "path": "magic" }),
            "link",
        ),
        attempt(
            "a link to standard input",
            |w| symlink("/dev/stdin", w.root("input")).unwrap(),
            "read_file",
            json!({ "path": "input" }),
            "link",
        ),
        attempt("a link to nothing", |w| symlink("nowhere", w.root("void")).unwrap(), "read_file", json!({ "path": "void" }), "link"),
        write("writing through a link to a file", link_to_file, "link.txt", "replace", "link"),
        write("adding through a link to a file", link_to_file, "link.txt", "append", "link"),
        write("writing through a link to a folder", link_to_folder, "door/new.txt", "create", "link"),
        write("replacing through a link to a folder", link_to_folder, "door/secret.txt", "replace", "link"),
        write("a folder behind a link", link_to_folder, "door/new/folder/file.txt", "create", "link"),
        write(
            "a new file where a link to nothing stands",
            |w| symlink(w.outside("new.txt"), w.root("new.txt")).unwrap(),
            "new.txt",
            "create",
            "link",
        ),
    ]
}

fn by_kind() -> Vec<Attempt> {
    let pipe = |w: &World| mknodat(CWD, w.root("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let hard_link = |w: &World| fs::hard_link(w.outside("secret.txt"), w.root("mine.txt")).unwrap();
    vec![
        attempt("a pipe", pipe, "read_file", json!({ "path": "pipe" }), "special"),
        attempt("a pipe as a folder", pipe, "list_files", json!({ "path": "pipe" }), "special"),
        write("writing to a pipe", pipe, "pipe", "replace", "special"),
        attempt("a socket", |w| drop(UnixListener::bind(w.root("socket")).unwrap()), "read_file", json!({ "path": "socket" }), "special"),
        attempt("a hard link to a file outside", hard_link, "read_file", json!({ "path": "mine.txt" }), "hard_link"),
        write("replacing a hard link", hard_link, "mine.txt", "replace", "hard_link"),
        write("adding to a hard link", hard_link, "mine.txt", "append", "hard_link"),
        attempt("a list of a hard link to a file outside", hard_link, "list_files", json!({ "path": "mine.txt" }), "hard_link"),
        attempt("a list of a file in a file", |w| w.put("a.txt", ""), "list_files", json!({ "path": "a.txt/a.txt" }), "not_a_folder"),
        attempt("a file as a folder", |w| w.put("a.txt", ""), "read_file", json!({ "path": "a.txt/secret.txt" }), "not_a_folder"),
        write("writing over a folder", |w| w.put("a/b.txt", ""), "a", "replace", "not_a_file"),
        write("writing over the root", |_| (), "./", "replace", "not_a_file"),
        write("writing over a file", |w| w.put("a.txt", "mine"), "a.txt", "create", "exists"),
    ]
}

fn by_root() -> Vec<Attempt> {
    let replaced = |w: &World| {
        fs::rename(w.root(""), w.top().join("gone")).unwrap();
        symlink(w.outside(""), w.top().join("root")).unwrap();
    };
    vec![
        attempt("a link in place of the root", replaced, "read_file", json!({ "path": "secret.txt" }), "root_gone"),
        attempt("a list of a link in place of the root", replaced, "list_files", json!({}), "root_gone"),
        write("writing to a link in place of the root", replaced, "secret.txt", "replace", "root_gone"),
        attempt(
            "another folder in place of the root",
            |w| {
                fs::rename(w.root(""), w.top().join("gone")).unwrap();
                fs::create_dir(w.root("")).unwrap();
                fs::hard_link(w.outside("secret.txt"), w.root("secret.txt")).unwrap();
            },
            "read_file",
            json!({ "path": "secret.txt" }),
            "root_gone",
        ),
        attempt("no root any more", |w| fs::remove_dir(w.root("")).unwrap(), "list_files", json!({}), "root_gone"),
    ]
}

#[test]
fn every_attempt_is_refused_for_its_reason() {
    let attempts: Vec<_> = [by_name(), by_link(), by_kind(), by_root()].into_iter().flatten().collect();
    assert!(attempts.len() >= 100, "{} attempts", attempts.len());
    for Attempt { what, set_up, tool, args, reason } in attempts {
        let world = World::new(json!({ "write": true, "create_folders": true }));
        set_up(&world);
        let output = world.call(tool, args.clone());
        let what = format!("{what}: {tool} {args}: {output:?}");
        assert_eq!(refused(&output), reason, "{what}");
        assert!(!format!("{output:?}").contains("eagle"), "{what}");
        assert!(!output.to_text().contains(|c: char| c.is_control() || c == '\u{202e}'), "a path is shown as it came: {what}");
        let outside: Vec<_> = fs::read_dir(world.outside("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside, ["secret.txt"], "{what}");
        assert_eq!(fs::read_to_string(world.outside("secret.txt")).unwrap(), SECRET, "{what}");
        let is_mistake = ["not_found", "not_a_file", "not_a_folder", "exists", "too_long", "too_deep"].contains(&reason);
        assert_eq!(world.warnings().len(), usize::from(!is_mistake), "{what}: {:?}", world.warnings());
    }
}

#[test]
fn without_a_switch_there_is_no_tool_that_writes() {
    let names = |world: &World| -> Vec<String> {
        world.files.contributions.iter().chain(&world.host.published()).map(|c| c.name().to_owned()).collect()
    };
    let off = World::new(json!({}));
    assert_eq!(names(&off), ["list_files", "read_file", "find_files"]);
    assert_eq!(off.files.life.facts()["write_file"], "off: bespoke config set plugins.files.write true");
    let on = World::new(json!({ "write": true }));
    assert_eq!(names(&on), ["list_files", "read_file", "find_files", "write_file"]);
    assert!(!on.files.life.facts().contains_key("write_file"));
}

#[test]
fn a_walk_never_leaves_by_a_link_a_hard_link_or_a_pipe() {
    let world = World::new(json!({}));
    world.put("notes/a.txt", "an eagle of mine");
    symlink(world.outside(""), world.root("door")).unwrap();
    symlink(world.outside("secret.txt"), world.root("notes/link.txt")).unwrap();
    symlink("..", world.root("notes/up")).unwrap();
    fs::hard_link(world.outside("secret.txt"), world.root("notes/hard.txt")).unwrap();
    mknodat(CWD, world.root("notes/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let found = world.call("find_files", json!({ "text": "EAGLE" }));
    assert_eq!(
        found.to_text(),
        "one found in the folder:\nnotes/a.txt\n  line 1: an eagle of mine\n\
         [5 not searched, or not to their end: links, no text, too long, too deep or off limits]"
    );
}

#[test]
fn names_that_are_off_limits_are_told_to_nobody() {
    let world = World::new(json!({}));
    world.put(".secret.txt", SECRET);
    world.put("secret\u{1b}.txt", SECRET);
    symlink(world.outside("secret.txt"), world.root("secret-link.txt")).unwrap();
    symlink(world.outside(""), world.root("outside")).unwrap();
    mknodat(CWD, world.root("secret-pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for (tool, path) in
        [("read_file", "secret.txt"), ("list_files", "Secret"), ("read_file", "outsid/secret.txt"), ("find_files", "outsides")]
    {
        let output = world.call(tool, json!({ "path": path }));
        assert_eq!(refused(&output), "not_found");
        assert_eq!(output.data.as_ref().unwrap().get("near"), None, "{output:?}");
        assert!(output.to_text().ends_with("list_files and find_files tell what there is"), "{output:?}");
    }
    let all = world.text("find_files", json!({}));
    assert_eq!(all, "no files in the folder\n[4 not searched, or not to their end: links, no text, too long, too deep or off limits]");
}

#[test]
fn hard_links_and_hidden_files_are_opened_where_the_user_says_so() {
    let world = World::new(json!({ "hard_links": true, "hidden": true, "write": true }));
    fs::hard_link(world.outside("secret.txt"), world.root("mine.txt")).unwrap();
    world.put(".config/a.txt", "hidden");
    assert_eq!(world.text("read_file", json!({ "path": "mine.txt" })), SECRET);
    assert_eq!(world.text("read_file", json!({ "path": ".config/a.txt" })), "hidden");
    // Even then the other name keeps what it had: a file is replaced, not written into.
    world.call("write_file", json!({ "path": "mine.txt", "text": "new", "mode": "replace" }));
    assert_eq!(fs::read_to_string(world.outside("secret.txt")).unwrap(), SECRET);
    assert_eq!(world.text("read_file", json!({ "path": "mine.txt" })), "new");
}

#[test]
#[cfg(target_os = "linux")]
fn other_file_systems_and_devices_are_refused() {
    let world = World::new(json!({ "root": "/" }));
    assert_eq!(refused(&world.call("read_file", json!({ "path": "proc/self/environ" }))), "mounted");
    assert_eq!(refused(&world.call("read_file", json!({ "path": "proc/self/cwd/secret.txt" }))), "mounted");
    let proc = World::new(json!({ "root": "/proc/self" }));
    assert_eq!(refused(&proc.call("read_file", json!({ "path": "root/etc/passwd" }))), "link");
    assert_eq!(refused(&proc.call("list_files", json!({ "path": "cwd" }))), "link");
    let dev = World::new(json!({ "root": "/dev" }));
    assert_eq!(refused(&dev.call("read_file", json!({ "path": "zero" }))), "special");
    assert_eq!(refused(&dev.call("read_file", json!({ "path": "stdin" }))), "link");
}

#[test]
fn a_root_that_is_a_link_is_the_users_choice() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("notes")).unwrap();
    fs::write(temp.path().join("notes/a.txt"), "mine").unwrap();
    symlink("notes", temp.path().join("link")).unwrap();
    let world = World::new(json!({ "root": temp.path().join("link") }));
    assert_eq!(world.text("read_file", json!({ "path": "a.txt" })), "mine");
}

#[test]
fn names_that_are_no_unicode_are_shown_and_not_opened() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let world = World::new(json!({}));
    // Not every file system takes such names.
    if fs::write(world.root("").join(OsStr::from_bytes(b"caf\xe9.txt")), "x").is_err() {
        return;
    }
    world.put("line\nbreak.txt", "x");
    let listed = world.text("list_files", json!({}));
    assert_eq!(
        listed,
        "the folder has 2 entries:\ncaf\u{fffd}.txt (1 bytes) (its name can not be asked for)\n\
         line\\nbreak.txt (1 bytes) (its name can not be asked for)"
    );
    assert_eq!(refused(&world.call("read_file", json!({ "path": "caf\u{fffd}.txt" }))), "not_found");
}
