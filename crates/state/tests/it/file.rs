//! The file itself: where it comes from, which ones are refused, and what other processes may do meanwhile.

use std::{fs, sync::Barrier, thread};

use bespoke_plugin_api::Message;
use bespoke_state::{Filter, Meta, State, StateError};
use expect_test::expect;

use crate::kit::{Talk, number, opened, place, raw, said, told, turn};

/// Layout 1, as its program wrote it.
const LAYOUT_1: &str = include_str!("../../src/schema/1-sessions.sql");

/// A file of layout 1 with a conversation.
fn older(path: &std::path::Path) {
    let connection = raw(path);
    connection.execute_batch(LAYOUT_1).unwrap();
    connection
        .execute_batch(
            "PRAGMA user_version = 1;
             INSERT INTO sessions (id, created, updated, length, writer) VALUES ('20200101-000000-0000', 0, 0, 1, 'process 1');
             INSERT INTO messages (session, seq, role, text, created) VALUES (1, 0, 'user', 'from before', 0);",
        )
        .unwrap();
}

#[test]
fn a_new_file_is_sound_and_for_the_user_alone() {
    let (_folder, place) = place();
    let path = place.parent().unwrap().join("a/b/state.db");
    let state = State::open(&path).unwrap();
    let id = said(&state, &Meta::default(), &turn());
    let connection = raw(&path);
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
    use rusqlite::types::Value::{Integer, Text};
    assert_eq!(pragma("journal_mode"), Text("wal".into()));
    assert_eq!(pragma("auto_vacuum"), Integer(2), "incremental");
    assert_eq!(pragma("user_version"), Integer(6));
    state.check().unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = path.parent().unwrap();
        let mut modes: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .map(|p| format!("{} {:o}", p.file_name().unwrap().display(), mode(&p)))
            .collect();
        modes.sort();
        assert_eq!(modes, ["state.db 600", "state.db-shm 600", "state.db-wal 600"]);
        assert_eq!((mode(folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    }
    drop(connection);
    drop(state);
    assert!(!path.with_file_name("state.db-wal").exists(), "whoever closes it last leaves one file");
    assert_eq!(State::open(&path).unwrap().resume(&id).unwrap().messages(), turn());
}

#[test]
fn an_older_file_is_copied_and_brought_up_to_date() {
    let (folder, path) = place();
    older(&path);
    let before = fs::read(&path).unwrap();
    let state = State::open(&path).unwrap();
    assert_eq!(state.resume("20200101-000000-0000").unwrap().messages(), [Message::user("from before")]);
    state.check().unwrap();
    let copy = raw(&folder.path().join("state.db.v1.bak"));
    assert_eq!(number(&copy, "PRAGMA user_version"), 1);
    assert_eq!(number(&copy, "SELECT count(*) FROM messages WHERE text = 'from before'"), 1);
    assert_eq!(number(&copy, "SELECT count(*) FROM sqlite_schema WHERE name = 'plugin_values'"), 0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(folder.path().join("state.db.v1.bak")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    drop((state, copy));
    // The copy is a file that a program of its time can use, and ours can migrate again.
    let again = folder.path().join("again.db");
    fs::rename(folder.path().join("state.db.v1.bak"), &again).unwrap();
    assert_eq!(State::open(&again).unwrap().list(&Filter::default(), 10, 0).unwrap().len(), 1);
    assert!(!before.is_empty());
}

#[test]
fn an_older_file_that_cannot_be_copied_stays_as_it_was() {
    let (folder, path) = place();
    older(&path);
    // Where the copy would be written lies a folder that is not empty.
    fs::create_dir_all(folder.path().join("state.db.copying/x")).unwrap();
    let error = State::open(&path).unwrap_err();
    assert!(matches!(&error, StateError::Io { what: "remove", .. }), "{error}");
    let connection = raw(&path);
    assert_eq!(number(&connection, "PRAGMA user_version"), 1);
    assert_eq!(number(&connection, "SELECT count(*) FROM messages"), 1);
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_as_they_are() {
    let (folder, path) = place();
    let foreign = raw(&folder.path().join("foreign"));
    foreign.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    drop(foreign);
    let newer = State::open(folder.path().join("newer")).unwrap();
    said(&newer, &Meta::default(), &turn());
    drop(newer);
    raw(&folder.path().join("newer")).execute_batch("PRAGMA user_version = 9").unwrap();
    let whole = State::open(folder.path().join("cut")).unwrap();
    for _ in 0..50 {
        said(&whole, &Meta::default(), &turn());
    }
    drop(whole);
    let bytes = fs::read(folder.path().join("cut")).unwrap();
    fs::write(folder.path().join("cut"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.path().join("text"), "These are the notes that I wanted to keep. ".repeat(100)).unwrap();
    fs::write(folder.path().join("short"), "SQLite format 3\0").unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    fs::write(folder.path().join("empty-wal"), "what it said").unwrap();
    fs::write(folder.path().join("missing-wal"), "what it said").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();

    let mut lines = String::new();
    for name in ["foreign", "newer", "cut", "text", "short", "empty", "missing", "folder", "file/state.db"] {
        let path = folder.path().join(name);
        let before = fs::read(&path).ok();
        let error = State::open(&path).unwrap_err();
        lines += &told(&error, &folder.path().join("x"));
        assert_eq!(fs::read(&path).ok(), before, "{name} was touched");
    }
    expect![[r#"
        DIR/foreign: it is a database of another program
          try: mkdir -p DIR/broken && mv DIR/foreign* DIR/broken/
        DIR/newer: a newer program wrote it (layout 9; this program knows layouts up to 6)
          try: use the newer program, or another folder: export BESPOKE_HOME=/a/folder
        DIR/cut: it is damaged: database disk image is malformed
          try: mkdir -p DIR/broken && mv DIR/cut* DIR/broken/
        DIR/text: it is damaged: file is not a database
          try: mkdir -p DIR/broken && mv DIR/text* DIR/broken/
        DIR/short: it is damaged: file is not a database
          try: mkdir -p DIR/broken && mv DIR/short* DIR/broken/
        DIR/empty: it is damaged: it is empty, but its log is not
          try: mkdir -p DIR/broken && mv DIR/empty* DIR/broken/
        DIR/missing: it is damaged: it is missing, but its log is not
          try: mkdir -p DIR/broken && mv DIR/missing* DIR/broken/
        DIR/folder: cannot open: it is no file
          try: ls -ld DIR DIR/folder
        DIR/file: cannot create the folder: File exists (os error 17)
          try: ls -ld DIR DIR/file
    "#]]
    .assert_eq(&lines);
    assert!(!path.exists());
    // An empty file has nothing to lose.
    State::open(folder.path().join("file")).unwrap();
}

#[test]
fn damage_in_the_middle_is_told_when_it_is_met() {
    let (_folder, path) = place();
    let state = State::open(&path).unwrap();
    let ids: Vec<_> = (0..50).map(|_| said(&state, &Meta::default(), &turn())).collect();
    drop(state);
    let mut bytes = fs::read(&path).unwrap();
    let (from, to) = (4096 * 3, bytes.len() - 4096);
    bytes[from..to].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let error = match State::open(&path) {
        Err(error) => error,
        Ok(state) => {
            let checked = state.check().unwrap_err();
            assert!(matches!(checked, StateError::Damaged { .. }), "{checked}");
            ids.iter().find_map(|id| state.resume(id).err()).unwrap()
        }
    };
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    assert!(error.help().unwrap().starts_with("mkdir -p "));
}

#[test]
fn a_row_that_cannot_be_is_damage_and_no_panic() {
    let (_folder, state) = opened();
    let id = said(&state, &Meta::default(), &turn());
    let connection = raw(state.path());
    for change in [
        "UPDATE messages SET role = 'ghost' WHERE seq = 1",
        "UPDATE messages SET role = 'user', tool_calls = '{' WHERE seq = 1",
        "UPDATE messages SET tool_calls = NULL; DELETE FROM messages WHERE seq = 3",
    ] {
        connection.execute_batch(change).unwrap();
        let error = state.resume(&id).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{change}: {error}");
        assert!(!error.to_string().contains("Paris"), "what was said is in no error");
    }
    assert!(matches!(state.check(), Err(StateError::Damaged { .. })));
}

#[test]
fn many_may_open_a_new_file_at_once() {
    const OPENERS: usize = 8;
    for _ in 0..5 {
        let (_folder, path) = place();
        let barrier = Barrier::new(OPENERS);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..OPENERS)
                .map(|n| {
                    let (barrier, path) = (&barrier, &path);
                    scope.spawn(move || {
                        barrier.wait();
                        let state = State::open(path).unwrap();
                        said(&state, &Meta::default(), &[Message::user(n.to_string())])
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        });
        let state = State::open(&path).unwrap();
        assert_eq!(state.list(&Filter::default(), 100, 0).unwrap().len(), OPENERS);
        state.check().unwrap();
    }
}

#[test]
fn threads_write_their_own_sessions_side_by_side() {
    let (_folder, state) = opened();
    const MESSAGES: usize = 50;
    thread::scope(|scope| {
        for n in 0..4 {
            // Two share a connection, two have their own.
            let state = if n % 2 == 0 { state.clone() } else { State::open(state.path()).unwrap() };
            scope.spawn(move || {
                let mut talk = Talk::begin(&state, &Meta::default().chat(n.to_string()));
                for m in 0..MESSAGES {
                    talk.say(&Message::user(format!("{n} {m}"))).unwrap();
                }
            });
        }
    });
    for summary in state.list(&Filter::default(), 100, 0).unwrap() {
        let chat = summary.chat.unwrap();
        let texts: Vec<_> = state.show(&summary.id).unwrap().messages.into_iter().map(|(_, m)| m.text).collect();
        assert_eq!(texts, (0..MESSAGES).map(|m| format!("{chat} {m}")).collect::<Vec<_>>());
    }
}
