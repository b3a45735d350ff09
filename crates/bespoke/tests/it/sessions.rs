//! `sessions`: conversations that are kept, from the command line.

use std::fs;

use serde_json::json;

use crate::program::User;

/// A user who has talked twice, a message each, and what the conversations are called by.
fn talked() -> (User, Vec<String>) {
    let user = User::new().configured("[agent]\nprovider = [\"fake\"]\n");
    for text in ["How tall is\u{1b}[31m the tower?\n", "And the bridge?\n"] {
        user.piped(text, ["chat"]).ok();
    }
    let list = user.json(["sessions", "list", "--json"]);
    let ids = list.as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
    (user, ids)
}

#[test]
fn a_look_at_nothing_makes_no_file() {
    let user = User::new();
    let ended = user.run(["sessions", "list"]).ok().says("bespoke chat");
    assert_eq!(ended.out, "no conversation is kept yet\n");
    assert_eq!(user.json(["sessions", "list", "--json"]), json!([]));
    user.run(["sessions", "show", "7f3a"]).code(3).nothing().says("there is no session `7f3a`");
    user.run(["sessions", "delete", "7f3a", "--yes"]).code(3).nothing();
    user.run(["sessions", "delete", "--all", "--yes"]).ok().nothing().says("there is nothing to delete");
    assert!(!user.home().join("state.db").exists());
}

#[test]
fn conversations_are_listed_shown_and_named() {
    let (user, ids) = talked();
    assert_eq!(ids.len(), 2);
    let rows = user.run(["sessions", "list"]).ok().out;
    let titles: Vec<_> = rows.lines().skip(1).map(|row| row.rsplit("  ").next().unwrap()).collect();
    assert_eq!(titles, ["And the bridge?", "How tall is [31m the tower?"], "the latest first, and no line that a terminal obeys");
    let one = user.run(["sessions", "list", "--limit", "1"]).ok().says("bespoke sessions list --limit 10");
    assert_eq!(one.out.lines().count(), 2);

    let shown = user.run(["sessions", "show", &ids[1]]).ok().out;
    assert!(shown.contains("\nuser\nHow tall is\u{1b}[31m the tower?\n"), "a pipe gets it as it is: {shown:?}");
    let data = user.json(["sessions", "show", "--json", &ids[0]]);
    assert_eq!((&data["messages"][1]["role"], &data["messages"][1]["text"]), (&json!("assistant"), &json!("And the bridge?")));

    user.run(["sessions", "rename", &ids[1], "Towers"]).ok().nothing().says("is named");
    assert_eq!(user.json(["sessions", "list", "--json"])[1]["title"], "Towers");
    user.run(["sessions", "show", "2"]).code(2).nothing().says("`2` may be 2");
    user.run(["sessions", "rename", "nobody", "x"]).code(3).nothing().says("bespoke sessions list");
}

#[test]
fn an_export_replaces_no_file_and_comes_back() {
    let (user, ids) = talked();
    let export = ["sessions", "export", &ids[0], "--output", "talk.json"];
    user.run(export).ok().nothing().says("written to talk.json");
    user.run(export).code(5).nothing().says("talk.json: it is there already").says(&format!("{} --force", export.join(" ")));
    user.run(export.iter().chain(&["--force"])).ok();
    assert_eq!(fs::read_to_string(user.work("talk.json")).unwrap(), user.run(&export[..3]).ok().out);
    assert_eq!(user.run(["sessions", "export", &ids[0], "--format", "jsonl"]).ok().lines().len(), 2);
    assert!(user.run(["sessions", "export", &ids[0], "--format", "markdown"]).ok().out.starts_with("# And the bridge?\n"));

    let other = User::new();
    let file = user.work("talk.json");
    let file = file.to_str().unwrap();
    assert_eq!(other.run(["sessions", "import", file]).ok().out, format!("{}\n", ids[0]));
    assert_eq!(other.json(["sessions", "show", "--json", &ids[0]]), user.json(["sessions", "show", "--json", &ids[0]]));
    other.run(["sessions", "import", "absent.json"]).code(3).nothing();
    fs::write(other.work("wrong.json"), "[]").unwrap();
    other.run(["sessions", "import", "wrong.json"]).code(2).nothing().says("it is no exported session");
}

#[test]
fn nothing_is_deleted_without_consent() {
    let (user, ids) = talked();
    user.run(["sessions", "delete", &ids[0]]).code(4).nothing().says(&format!("bespoke sessions delete {} --yes", ids[0]));
    user.run(["sessions", "delete", "--all"]).code(4).nothing().says("bespoke sessions delete --all --yes");
    let dry = user.run(["sessions", "delete", "--all", "--dry-run"]).ok().says("2 conversations would be deleted");
    assert_eq!(dry.out.lines().count(), 2);
    assert_eq!(user.json(["sessions", "list", "--json"]).as_array().unwrap().len(), 2);
    user.run(["sessions", "delete"]).code(2);
    user.run(["sessions", "delete", "--older-than", "0"]).code(2);
    user.run(["sessions", "delete", "--older-than", "1", "--yes"]).ok().says("there is nothing to delete");

    // One that is not there: none of them goes.
    user.run(["sessions", "delete", &ids[0], "nobody", "--yes"]).code(3).nothing();
    user.run(["sessions", "delete", &ids[0], &ids[0], "--yes"]).ok().nothing().says("1 conversation deleted");
    assert_eq!(user.json(["sessions", "delete", "--all", "--yes", "--json"]), json!({ "deleted": [ids[1]], "erased": true }));
    let bytes = fs::read(user.home().join("state.db")).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("bridge"), "what was said is overwritten");
}

#[test]
fn a_file_that_is_damaged_is_told_and_left_alone() {
    let (user, _) = talked();
    let file = user.home().join("state.db");
    fs::write(&file, "These are my notes.").unwrap();
    for args in [&["sessions", "list"][..], &["sessions", "delete", "--all", "--yes"], &["chat"]] {
        user.run(args).code(1).nothing().says("state.db: it is damaged").says("mkdir -p ");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "These are my notes.");
}

#[test]
fn a_terminal_is_shown_nothing_that_it_would_obey() {
    // Clears the screen, sets a title, turns the writing round, in the two ways to write an escape.
    let answer = r#"Tall\u001b[2J\u001b]0;mine\u0007 and\u009b2J\u202e wide"#;
    let script = format!("[agent]\nprovider = [\"fake\"]\n[plugins.fake]\nreplies = [[{{ text = \"{answer}\" }}]]\n");
    let user = User::new().configured(&script);
    let heard = user.on_terminal(["ask", "How tall?"]).ok().out;
    assert_eq!(heard, "Tall[2J]0;mine and2J wide\n");
    user.piped("How tall?\n", ["chat"]).ok();
    let id = user.json(["sessions", "list", "--json"])[0]["id"].as_str().unwrap().to_owned();
    for args in [&["sessions", "show", &id][..], &["sessions", "export", &id, "--format", "markdown"], &["sessions", "export", &id]] {
        let plain = user.run(args).ok().out;
        let shown = user.on_terminal(args).ok().out;
        assert!(plain.contains("Tall"), "{args:?}: {plain:?}");
        // Our own emphasis is no part of it.
        let shown = ["[1m", "[2m", "[32m", "[33m", "[0m"].iter().fold(shown, |shown, code| shown.replace(&format!("\u{1b}{code}"), ""));
        let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
        assert!(shown.contains("Tall") && !shown.contains(obeyed), "{args:?}: {shown:?}");
        assert!(args[1] != "show" || plain.contains("\u{1b}[2J"), "{plain:?}");
    }
    let told = user.on_terminal(["sessions", "show", &id]).ok().out;
    assert!(told.contains("\u{1b}[32muser\u{1b}[0m\n"), "{told:?}");
}
