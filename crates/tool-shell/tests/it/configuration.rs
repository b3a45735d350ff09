//! What may stand in the configuration, and what is said when nothing does.

use bespoke_plugin_api::{Contribution, Health, serde_json::json};

use crate::world::World;

#[test]
fn without_a_program_there_is_no_tool_and_the_plugin_says_how_to_switch_it_on() {
    let published = World::new(json!({ "allow": ["ls", "cat"] })).host.published();
    let [Contribution::Tool(spec, _)] = &published[..] else { panic!("{published:?}") };
    assert_eq!((spec.name.as_str(), &spec.input_schema["properties"]["program"]["enum"]), ("run_program", &json!(["cat", "ls"])));
    let world = World::new(json!({}));
    assert!(matches!(world.shell.life.health(), Health::Degraded(_)));
    assert!(world.shell.life.health().reason().unwrap().contains("bespoke config set plugins.shell.allow"));
    assert!(world.shell.contributions.is_empty() && world.host.published().is_empty(), "a tool is offered that can only refuse");
    assert!(!world.folder("").exists(), "a folder was made for a tool that is off");
}

#[test]
fn interpreters_are_refused_unless_the_user_insists() {
    for name in ["sh", "bash", "env", "xargs", "find", "/bin/sh", "/usr/bin/env", "sed", "awk", "tar"] {
        let error = World::try_new(json!({ "allow": ["ls", name] })).map(drop).unwrap_err();
        assert!(error.message().contains("it runs whatever its arguments say"), "{name}: {error}");
        assert!(error.help().unwrap().contains("plugins.shell.allow_interpreters true"), "{error:?}");
        assert_eq!(error.data().unwrap()["path"], "allow[1]");
    }
    assert_eq!(World::with_sh(json!({})).shell.life.health(), Health::Ok);
}

#[test]
fn an_interpreter_under_another_name_is_known_by_what_it_leads_to() {
    let temp = tempfile::tempdir().unwrap();
    let link = temp.path().join("calculator");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let error = World::try_new(json!({ "allow": [link] })).map(drop).unwrap_err();
    assert!(error.message().contains("`calculator`: it runs whatever"), "{error}");
}

#[test]
fn a_program_that_another_could_replace_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tool");
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = World::try_new(json!({ "allow": [path], "cwd": temp.path() })).map(drop).unwrap_err();
    assert!(error.message().contains("could replace it"), "{error}");
    // Elsewhere it is a program like any other.
    assert_eq!(World::new(json!({ "allow": [path] })).shell.life.facts()["programs"], "tool");
}

#[test]
fn what_does_not_fit_is_told_with_its_key() {
    let temp = tempfile::tempdir().unwrap();
    let plain = temp.path().join("plain.txt");
    std::fs::write(&plain, "no program").unwrap();
    for (config, key, says) in [
        (json!({ "allow": ["no-such-program-anywhere"] }), "allow[0]", "not in PATH"),
        (json!({ "allow": [""] }), "allow[0]", "no name of a program"),
        (json!({ "allow": ["./ls"] }), "allow[0]", "a name or an absolute path"),
        (json!({ "allow": ["../bin/ls"] }), "allow[0]", "a name or an absolute path"),
        (json!({ "allow": ["ls -l"] }), "allow[0]", "not in PATH"),
        (json!({ "allow": ["/no/such/program"] }), "allow[0]", "there is no program"),
        (json!({ "allow": [temp.path()] }), "allow[0]", "there is no program"),
        (json!({ "allow": [plain] }), "allow[0]", "there is no program"),
        (json!({ "allow": ["ls", "ls"] }), "allow[1]", "twice"),
        (json!({ "allow": ["ls"], "first_args": { "git": ["log"] } }), "first_args.git", "not in `allow`"),
        (json!({ "env": ["LD_PRELOAD=x"] }), "env", "no name of a variable"),
        (json!({ "env": ["PATH"] }), "env", "PATH is always"),
        (json!({ "cwd": "work" }), "cwd", "not absolute"),
        (json!({ "cwd": temp.path().join("missing") }), "cwd", "missing"),
        (json!({ "cwd": plain }), "cwd", "plain.txt"),
        (json!({ "timeout_ms": 0 }), "timeout_ms", "from 10"),
        (json!({ "max_output_bytes": 1 }), "max_output_bytes", "from 256"),
    ] {
        let error = World::try_new(config.clone()).map(drop).unwrap_err();
        assert!(error.message().contains(says), "{config}: {error}");
        assert_eq!(error.data().unwrap()["path"], key, "{config}");
    }
}
