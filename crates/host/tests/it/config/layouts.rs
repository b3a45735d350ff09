//! Files of older layouts, brought forward.

use super::*;

fn renamed(document: &mut toml_edit::DocumentMut) -> std::result::Result<(), String> {
    let Some(old) = document.remove("speech") else { return Ok(()) };
    if document.contains_key("voice") {
        return Err("both [speech] and [voice] are there; keep one".into());
    }
    document.insert("voice", old);
    Ok(())
}

fn noted(document: &mut toml_edit::DocumentMut) -> std::result::Result<(), String> {
    document["agent"]["mode"] = toml_edit::value("slow");
    Ok(())
}

const STEPS: &[Migration] =
    &[Migration { what: "[speech] is called [voice]", apply: renamed }, Migration { what: "agent.mode is slow", apply: noted }];

const OLD: &str = "# Mine.\n\n# The speech.\n[speech] # loud\nspeed = 2 # fast\n\n[agent]\nlimit = 3 # few\n";

#[test]
fn an_older_layout_is_brought_forward_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bespoke.toml");
    std::fs::write(&path, OLD).unwrap();
    let config = Config::read_with(&path, STEPS).unwrap();
    expect![[r##"
        # Mine.

        config_version = 3

        # The speech.
        [voice] # loud
        speed = 2 # fast

        [agent]
        limit = 3 # few
        mode = "slow"
    "##]]
    .assert_eq(config.text());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), config.text());
    assert_eq!(std::fs::read_to_string(folder.path().join("bespoke.toml.v1.bak")).unwrap(), OLD);
    let notices = config.notices().join("\n").replace(&folder.path().display().to_string(), "/home");
    expect!["/home/bespoke.toml: brought from layout 1 to 3: now [speech] is called [voice]; agent.mode is slow; the old file is /home/bespoke.toml.v1.bak"].assert_eq(&notices);
    // Once: what is new is left alone.
    let again = Config::read_with(&path, STEPS).unwrap();
    assert!(again.notices().is_empty() && again.text() == config.text());
    // An older file that comes back has a backup of its own; from the second layout there is only one step.
    std::fs::write(&path, "config_version = 2 # ours\n[agent]\n").unwrap();
    assert!(Config::read_with(&path, STEPS).unwrap().text().starts_with("config_version = 3 # ours\n[agent]\n"));
    std::fs::write(&path, OLD).unwrap();
    Config::read_with(&path, STEPS).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [".bespoke.toml.lock", "bespoke.toml", "bespoke.toml.v1.bak", "bespoke.toml.v1.bak-2", "bespoke.toml.v2.bak"]);
}

#[test]
fn a_layout_that_cannot_be_brought_forward_leaves_the_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bespoke.toml");
    let mut said = String::new();
    for text in ["[speech]\n[voice]\n", "config_version = 4\n"] {
        std::fs::write(&path, text).unwrap();
        said += &format!("{}\n", Config::read_with(&path, STEPS).map(|_| ()).unwrap_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    expect![[r#"
        /home/bespoke.toml: cannot be brought from layout 1 to 2: both [speech] and [voice] are there; keep one
        /home/bespoke.toml:1:1: config_version: 4 is no version that this program knows; it writes 3; a newer program wrote it: use that one, or write `config_version = 3` and check the rest
    "#]].assert_eq(&said.replace(&folder.path().display().to_string(), "/home"));
    assert!(!folder.path().join("bespoke.toml.v1.bak").exists());
}

#[test]
fn a_file_that_cannot_be_rewritten_is_read_in_its_new_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bespoke.toml");
    std::fs::write(&path, OLD).unwrap();
    // Root may write anything; a folder in the place of the lock stops everybody.
    std::fs::create_dir(folder.path().join(".bespoke.toml.lock")).unwrap();
    let config = Config::read_with(&path, STEPS).unwrap();
    assert!(config.text().contains("[voice] # loud"));
    assert!(config.notices()[0].contains("it cannot be rewritten"), "{:?}", config.notices());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), OLD);
}

#[test]
fn two_programs_that_migrate_at_once_make_one_backup() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bespoke.toml");
    std::fs::write(&path, OLD).unwrap();
    let barrier = std::sync::Barrier::new(4);
    let notices: usize = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    Config::read_with(&path, STEPS).unwrap().notices().len()
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert_eq!(notices, 1);
    assert!(!folder.path().join("bespoke.toml.v1.bak-2").exists());
}
