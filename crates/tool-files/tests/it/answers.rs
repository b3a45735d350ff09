//! What the tools answer where nothing is wrong, and how much of it.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Code, HostApi, Level, PluginContext, Timestamp,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{TestHost, block_on};
use bespoke_tool_files::BESPOKE_PLUGIN;
use expect_test::{Expect, expect};

use crate::world::{World, call, refused};

fn check(answer: &str, expected: Expect) {
    expected.assert_eq(answer);
}

#[test]
fn a_folder_is_listed_folders_first() {
    let world = World::new(json!({}));
    world.put("b.txt", "12345");
    world.put("a/x.txt", "");
    world.put(".hidden", "");
    world.put("what: is this", "");
    check(
        &world.text("list_files", json!({})),
        expect![[r#"
            the folder has 3 entries:
            a/
            b.txt (5 bytes)
            what: is this (0 bytes) (its name can not be asked for)
            [1 hidden, not shown]"#]],
    );
    check(
        &world.text("list_files", json!({ "path": "./a/" })),
        expect![[r#"
            `a` has one entry:
            x.txt (0 bytes)"#]],
    );
    let missing = world.call("list_files", json!({ "path": "nowhere" }));
    check(&missing.to_text(), expect!["there is no `nowhere`; list_files and find_files tell what there is"]);
    assert_eq!(refused(&missing), "not_found");
}

#[test]
fn what_is_left_out_is_said() {
    let world = World::new(json!({ "max_entries": 3 }));
    for number in 0..10 {
        world.put(&format!("{number}.txt"), "needle\n".repeat(7));
    }
    check(
        &world.text("list_files", json!({})),
        expect![[r#"
            the folder has 10 entries:
            0.txt (49 bytes)
            1.txt (49 bytes)
            2.txt (49 bytes)
            [7 more left out; find_files finds by name]"#]],
    );
    let found = world.text("find_files", json!({ "text": "Needle", "name": "*.txt" }));
    assert!(found.starts_with("10 found in the folder:\n0.txt\n  line 1: needle\n"), "{found}");
    assert!(found.contains("  line 5: needle\n  [2 more lines]\n1.txt\n"), "{found}");
    assert!(found.ends_with("\n[7 more left out; name a folder in `path` or look for something rarer]"), "{found}");
}

#[test]
fn files_are_found_by_name_and_by_text() {
    let world = World::new(json!({ "max_depth": 3 }));
    world.put("Shopping.md", "milk\nbread\n");
    world.put("2024/trip.md", "Pack bread and cheese");
    world.put("2024/deep/too/far.md", "bread");
    world.put("photo.png", b"\x89PNG\r\n\x1a\nbread");
    check(
        &world.text("find_files", json!({ "text": "bread" })),
        expect![[r#"
            2 found in the folder:
            2024/trip.md
              line 1: Pack bread and cheese
            Shopping.md
              line 2: bread
            [2 not searched, or not to their end: links, no text, too long, too deep or off limits]"#]],
    );
    check(
        &world.text("find_files", json!({ "name": "*.md", "path": "2024" })),
        expect![[r#"
            one found in `2024`:
            2024/trip.md
            [1 not searched, or not to their end: links, no text, too long, too deep or off limits]"#]],
    );
    check(
        &world.text("find_files", json!({ "name": "shop", "text": "wine" })),
        expect!["nothing found in the folder\n[1 not searched, or not to their end: links, no text, too long, too deep or off limits]"],
    );
}

#[test]
fn what_names_no_file_and_no_text_finds_all_files() {
    let world = World::new(json!({ "max_entries": 3 }));
    check(&world.text("find_files", json!({})), expect!["no files in the folder"]);
    world.put("todo.txt", "call mother");
    check(
        &world.text("find_files", json!({ "name": "", "text": "" })),
        expect![[r#"
            one file in the folder:
            todo.txt"#]],
    );
    for name in ["2024/may/trip.md", "2024/a.md", "b.txt", ".hidden"] {
        world.put(name, "");
    }
    check(
        &world.text("find_files", json!({})),
        expect![[r#"
            4 files in the folder:
            2024/may/trip.md
            2024/a.md
            b.txt
            [1 more left out; name a folder in `path` or look for something rarer]"#]],
    );
    check(
        &world.text("find_files", json!({ "path": "2024/may" })),
        expect![[r#"
            one file in `2024/may`:
            2024/may/trip.md"#]],
    );
}

#[test]
fn a_list_of_a_file_tells_what_it_says() {
    let world = World::new(json!({ "max_read_bytes": 256 }));
    world.put("notes/todo.txt", "call mother\nbuy milk");
    world.put("long.txt", "a line\n".repeat(100));
    world.put("a.png", b"\x89PNG\r\n\x1a\n123");
    world.put("empty.txt", "");
    let listed = world.call("list_files", json!({ "path": "notes/todo.txt" }));
    check(
        &listed.to_text(),
        expect![[r#"
            call mother
            buy milk
            [`notes/todo.txt` is a file of 20 bytes]"#]],
    );
    assert_eq!(listed.data.unwrap()["entries"], json!([{ "name": "todo.txt", "kind": "file", "bytes": 20 }]));
    let long = world.text("list_files", json!({ "path": "long.txt" }));
    assert!(long.starts_with("a line\n"), "{long}");
    assert!(
        long.ends_with("\n[bytes 0 to 256 of 700; to read on, call read_file with offset 256]\n[`long.txt` is a file of 700 bytes]"),
        "{long}"
    );
    check(&world.text("list_files", json!({ "path": "a.png" })), expect!["`a.png` is no text: a PNG image, 11 bytes"]);
    check(&world.text("list_files", json!({ "path": "empty.txt" })), expect!["`empty.txt` is empty"]);
}

#[test]
fn a_folder_that_is_read_is_listed() {
    let world = World::new(json!({}));
    world.put("notes/todo.txt", "call mother");
    for path in ["notes", "notes/"] {
        assert_eq!(world.call("read_file", json!({ "path": path })), world.call("list_files", json!({ "path": "notes" })));
    }
    assert_eq!(world.call("read_file", json!({ "path": "." })), world.call("list_files", json!({})));
}

#[test]
fn a_name_that_does_not_exist_gets_close_ones_that_do() {
    let world = World::new(json!({}));
    for name in [
        "shopping.txt",
        "plan.md",
        "plan-old.md",
        "notes/Todo List.txt",
        "diary-1.txt",
        "diary-2.txt",
        "diary-3.txt",
        "diary-4.txt",
        ".shoping.txt",
    ] {
        world.put(name, "");
    }
    for (tool, path, answer) in [
        ("read_file", "Shopping.TXT", "there is no `Shopping.TXT`; did you mean `shopping.txt`?"),
        ("read_file", "shopping", "there is no `shopping`; did you mean `shopping.txt`?"),
        ("list_files", "shopping_list.txt", "there is no `shopping_list.txt`; did you mean `shopping.txt`?"),
        ("read_file", "shoping.txt", "there is no `shoping.txt`; what comes close: `shopping.txt`"),
        ("read_file", "notes/todo_list.txt", "there is no `notes/todo_list.txt`; did you mean `notes/Todo List.txt`?"),
        ("read_file", "note/todo_list.txt", "there is no `note`; did you mean `notes`?"),
        ("find_files", "Notes", "there is no `Notes`; did you mean `notes`?"),
        ("read_file", "diary.txt", "there is no `diary.txt`; what comes close: `diary-1.txt`, `diary-2.txt`, `diary-3.txt`"),
        ("read_file", "diary", "there is no `diary`; what comes close: `diary-1.txt`, `diary-2.txt`, `diary-3.txt`"),
        ("read_file", "Plan.txt", "there is no `Plan.txt`; did you mean `plan.md`?"),
        ("read_file", "Diary_3.txt", "there is no `Diary_3.txt`; did you mean `diary-3.txt`?"),
        // A file is nothing that could be gone into.
        ("read_file", "shopping/a.txt", "there is no `shopping`; list_files and find_files tell what there is"),
        ("read_file", "secret.txt", "there is no `secret.txt`; list_files and find_files tell what there is"),
    ] {
        let output = world.call(tool, json!({ "path": path }));
        assert_eq!((output.to_text().as_str(), refused(&output).as_str()), (answer, "not_found"));
    }
    let near = world.call("read_file", json!({ "path": "notes/todo.txt" })).data.unwrap();
    assert_eq!(near, json!({ "refused": "not_found", "near": ["notes/Todo List.txt"] }));
    // A new file needs no name like another's.
    let writing = World::new(json!({ "write": true }));
    writing.put("shopping.txt", "");
    assert!(!writing.call("write_file", json!({ "path": "shoping.txt", "text": "milk" })).is_error);
}

#[test]
fn a_long_file_is_read_in_parts_that_join() {
    let world = World::new(json!({ "max_read_bytes": 1000 }));
    let whole = "Zwölf Boxkämpfer jagen Viktor — über den Deich. ".repeat(100);
    world.put("long.txt", &whole);
    let (mut offset, mut joined, mut calls) = (Value::from(0), String::new(), 0);
    while !offset.is_null() {
        let part = world.call("read_file", json!({ "path": "long.txt", "offset": offset }));
        let data = part.data.unwrap();
        let text = data["text"].as_str().unwrap();
        assert!(text.len() <= 1000);
        joined.push_str(text);
        offset = data["next_offset"].clone();
        calls += 1;
        assert!(calls < 20);
    }
    assert_eq!(joined, whole);
    let first = world.text("read_file", json!({ "path": "long.txt", "limit": 20 }));
    check(
        &first,
        expect![[r#"
            Zwölf Boxkämpfer j
            [bytes 0 to 20 of 5300; to read on, call read_file with offset 20]"#]],
    );
    assert_eq!(refused(&world.call("read_file", json!({ "path": "long.txt", "offset": 99999 }))), "beyond_end");
    // A limit that is too small for a character still comes forward.
    let tiny = world.call("read_file", json!({ "path": "long.txt", "offset": 2, "limit": 1 })).data.unwrap();
    assert!(tiny["next_offset"].as_u64().unwrap() > 2, "{tiny}");
}

#[test]
fn what_is_no_text_is_named() {
    let world = World::new(json!({}));
    for (name, bytes, answer) in [
        ("a.png", &b"\x89PNG\r\n\x1a\n123"[..], "`a.png` is no text: a PNG image, 11 bytes"),
        ("a.bin", b"text\0text", "`a.bin` is no text: binary data, 9 bytes"),
        ("empty.txt", b"", "`empty.txt` is empty"),
        ("latin.txt", b"caf\xe9", "caf\u{fffd}\n[some bytes are no UTF-8 and stand as \u{fffd}]"),
    ] {
        world.put(name, bytes);
        assert_eq!(world.text("read_file", json!({ "path": name })), answer);
    }
}

#[test]
fn files_are_written_replaced_and_continued() {
    let world = World::new(json!({ "write": true }));
    let write = |path: &str, text: &str, mode: &str| world.call("write_file", json!({ "path": path, "text": text, "mode": mode }));
    check(&world.text("write_file", json!({ "path": "a.txt", "text": "one" })), expect!["`a.txt` is written; it has 3 bytes"]);
    let exists = write("a.txt", "two", "create");
    assert_eq!(refused(&exists), "exists");
    check(&exists.to_text(), expect!["`a.txt` exists; with mode `replace` it is overwritten, with `append` the text is added at its end"]);
    check(&write("a.txt", " two", "append").to_text(), expect!["`a.txt` is continued; it has 7 bytes"]);
    assert_eq!(fs::read_to_string(world.root("a.txt")).unwrap(), "one two");
    check(&write("a.txt", "three", "replace").to_text(), expect!["`a.txt` is replaced; it has 5 bytes"]);
    assert_eq!(fs::read_to_string(world.root("a.txt")).unwrap(), "three");
    check(&write("b.txt", "new", "append").to_text(), expect!["`b.txt` is written; it has 3 bytes"]);
    let nowhere = write("new/a.txt", "x", "create");
    assert_eq!(refused(&nowhere), "no_folder");
    // Nothing half-finished stays behind.
    let mut names: Vec<_> = fs::read_dir(world.root("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.txt", "b.txt"]);
    assert!(world.warnings().is_empty());
}

#[test]
fn folders_are_made_where_the_user_says_so() {
    let world = World::new(json!({ "write": true, "create_folders": true }));
    world.call("write_file", json!({ "path": "2024/may/a.txt", "text": "x" }));
    assert_eq!(fs::read_to_string(world.root("2024/may/a.txt")).unwrap(), "x");
}

#[test]
fn a_file_does_not_grow_beyond_its_limit() {
    let world = World::new(json!({ "write": true, "max_write_bytes": 10 }));
    assert_eq!(refused(&world.call("write_file", json!({ "path": "a.txt", "text": "12345678901" }))), "too_large");
    world.call("write_file", json!({ "path": "a.txt", "text": "123456" }));
    let grown = world.call("write_file", json!({ "path": "a.txt", "text": "78901", "mode": "append" }));
    assert_eq!(refused(&grown), "too_large");
    assert_eq!(fs::read_to_string(world.root("a.txt")).unwrap(), "123456");
}

#[test]
#[cfg(unix)]
fn a_replaced_file_keeps_its_permissions_and_no_others() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(json!({ "write": true }));
    for (before, after) in [(0o640, 0o640), (0o755, 0o755), (0o6755, 0o755)] {
        world.put("a.sh", "old");
        fs::set_permissions(world.root("a.sh"), fs::Permissions::from_mode(before)).unwrap();
        assert!(!world.call("write_file", json!({ "path": "a.sh", "text": "new", "mode": "replace" })).is_error);
        assert_eq!(fs::metadata(world.root("a.sh")).unwrap().permissions().mode() & 0o7777, after);
    }
    fs::set_permissions(world.root("a.sh"), fs::Permissions::from_mode(0o444)).unwrap();
    let output = world.call("write_file", json!({ "path": "a.sh", "text": "newer", "mode": "append" }));
    assert_eq!(refused(&output), "read_only");
    assert_eq!(fs::read_to_string(world.root("a.sh")).unwrap(), "new");
}

#[test]
fn names_with_quotes_are_shown_as_they_have_to_be_written() {
    let world = World::new(json!({}));
    world.put("Bob's \u{1f37a} list.txt", "beer");
    assert_eq!(world.text("list_files", json!({})), "the folder has one entry:\nBob's \u{1f37a} list.txt (4 bytes)");
    assert_eq!(world.text("find_files", json!({ "name": "bob's" })), "one found in the folder:\nBob's \u{1f37a} list.txt");
    assert_eq!(world.text("read_file", json!({ "path": "Bob's \u{1f37a} list.txt" })), "beer");
}

#[test]
fn of_many_who_add_to_a_file_none_is_lost() {
    let world = World::new(json!({ "write": true }));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let args = json!({ "path": "log.txt", "text": "line\n", "mode": "append" });
                    assert!(!world.call("write_file", args).is_error);
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(world.root("log.txt")).unwrap(), "line\n".repeat(40));
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let world = World::new(json!({ "write": true }));
    for (tool, args) in [
        ("read_file", json!({})),
        ("read_file", json!({ "path": 7 })),
        ("read_file", json!({ "path": "a", "offset": -1 })),
        ("list_files", json!({ "folder": "a" })),
        ("write_file", json!({ "path": "a", "text": "x", "mode": "destroy" })),
    ] {
        assert_eq!(world.try_call(&CallCx::new(), tool, args).unwrap_err().code(), Code::INVALID_PARAMS);
    }
}

/// A host on which each call is cancelled when its work begins.
struct Impatient(Arc<TestHost>, Mutex<CancelToken>);

impl HostApi for Impatient {
    fn log(&self, level: Level, line: &str) {
        self.0.log(level, line);
    }
    fn now(&self) -> Timestamp {
        self.0.now()
    }
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(time)
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.1.lock().unwrap().cancel();
        self.0.blocking(work)
    }
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }
}

#[test]
fn a_cancelled_walk_ends() {
    let world = World::new(json!({}));
    world.put("a.txt", "x");
    let host = Arc::new(Impatient(TestHost::new(), Mutex::default()));
    let files = block_on(BESPOKE_PLUGIN.start(PluginContext::new("files", host.clone()), json!({ "root": world.root("") }))).unwrap();
    for (tool, args) in [("list_files", json!({})), ("find_files", json!({ "name": "a" }))] {
        let token = CancelToken::new();
        *host.1.lock().unwrap() = token.clone();
        let cx = CallCx::new().with_cancel(token);
        assert_eq!(call(&host.0, &files, &cx, tool, args).unwrap_err().code(), Code::CANCELLED);
    }
}
