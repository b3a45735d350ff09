//! `config`: what is right, what is wrong and where, and changes that do no harm.

use std::fs;

use serde_json::json;

use crate::program::User;

const FILE: &str = "# mine
config_version = 1

[agent]
system = \"Be brief.\" # as I like it

[plugins.silero]
# tried at home
activation_threshold = 0.6 # louder
";

#[test]
fn a_right_file_is_right_and_none_is_too() {
    assert!(User::new().configured(FILE).run(["config", "check"]).ok().out.ends_with("bespoke.toml: ok\n"));
    User::new().run(["config", "check"]).ok();
}

#[test]
fn every_problem_is_named_with_its_place() {
    let user = User::new().configured(
        "[plugins.smol]\ntemprature = 1\n[plugins.silero]\nactivation_threshold = 7\nengine = \"bultin\"\n[plugins.energy]\nenabled = \"yes\"\n",
    );
    let wrong = user.run(["config", "check"]).code(2).nothing();
    let lines: Vec<_> = wrong.err.lines().collect();
    assert!(wrong.err.contains("bespoke.toml:2:1: plugins.smol.temprature: unknown key"), "{}", wrong.err);
    assert!(
        wrong.err.contains("bespoke.toml:5:1: plugins.silero.engine: `bultin` is not known here; did you mean `builtin`?"),
        "{}",
        wrong.err
    );
    assert!(wrong.err.contains("bespoke.toml:4:1: plugins.silero.activation_threshold: 7 is out of range"), "{}", wrong.err);
    assert!(wrong.err.contains("bespoke.toml:7:1: plugins.energy.enabled: must be true or false"), "{}", wrong.err);
    let numbers: Vec<usize> =
        lines.iter().map(|l| l.split("bespoke.toml:").nth(1).unwrap().split(':').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");

    for (text, message) in [
        ("[agent]\nsystm = \"x\"\n", "bespoke.toml:2:1: agent.systm: unknown key; did you mean `system`?"),
        ("[plugin.silero]\nx = 1\n", "bespoke.toml:1:2: plugin: unknown key; did you mean `plugins`?"),
        ("[voice]\nspeed = 9.0\n", "bespoke.toml:2:1: voice.speed: is 9"),
        ("[agent\n", "is no TOML"),
        ("config_version = 99\n", "config_version: 99"),
        ("[agent]\nsystem = \"${BESPOKE_TEST_ABSENT}\"\n", "refers to ${BESPOKE_TEST_ABSENT}, which is not set"),
    ] {
        let ended = User::new().configured(text).run(["config", "check"]).nothing();
        assert!(ended.code == 2 && ended.err.contains(message), "{text}: {ended:?}");
    }
}

#[test]
fn the_schema_speaks_of_every_plugin_and_section() {
    let schema = User::new().json(["config", "schema"]);
    let properties = &schema["properties"];
    for plugin in ["clock", "energy", "fake", "flite", "moonshine", "silero", "smol", "terminal"] {
        let table = &properties["plugins"]["properties"][plugin];
        assert_eq!(table["type"], "object", "{plugin}");
        assert_eq!(table["properties"]["enabled"]["default"], true, "{plugin}");
    }
    for (section, key) in [("agent", "system"), ("agent", "provider"), ("voice", "vad"), ("voice", "speed"), ("plugins", "call_timeout_ms")]
    {
        assert!(properties[section]["properties"][key]["description"].is_string(), "{section}.{key}");
    }
    assert_eq!(properties["plugins"]["properties"]["silero"]["properties"]["activation_threshold"]["default"], 0.5);
}

#[test]
fn shown_and_got_as_it_is_written() {
    let user = User::new().configured(FILE);
    assert_eq!(user.run(["config", "show"]).ok().out, FILE);
    assert_eq!(user.json(["config", "show", "--json"])["agent"], json!({ "system": "Be brief." }));
    let get = |key: &str| user.run(["config", "get", key]).ok().out;
    assert_eq!(get("agent.system"), "Be brief.\n");
    assert_eq!(get("plugins.silero.activation_threshold"), "0.6\n");
    assert_eq!(user.json(["config", "get", "plugins", "--json"]), json!({ "silero": { "activation_threshold": 0.6 } }));
    user.run(["config", "get", "voice.vad"]).ok().says("its default");
    assert_eq!(get("voice.vad"), "[\"silero\",\"energy\"]\n");
    user.run(["config", "get", "agent.nonsense"]).code(3).nothing().says("try: bespoke config schema");
}

#[test]
fn setting_a_key_changes_nothing_else() {
    let user = User::new().configured(FILE);
    let expected = FILE.replace("0.6 #", "0.7 #");
    let set = |value: &str, more: &[&str]| user.run(["config", "set", "plugins.silero.activation_threshold", value].iter().chain(more));
    assert_eq!(set("0.7", &["--dry-run"]).ok().out, expected);
    assert_eq!(fs::read_to_string(user.config()).unwrap(), FILE);
    set("0.7", &[]).ok().nothing().says("plugins.silero.activation_threshold is set");
    assert_eq!(fs::read_to_string(user.config()).unwrap(), expected);
    user.run(["config", "set", "agent.system", "Speak up."]).ok();
    assert!(fs::read_to_string(user.config()).unwrap().contains("system = \"Speak up.\" # as I like it\n"));
}

#[test]
fn a_wrong_value_is_refused_and_the_file_stays() {
    let user = User::new().configured(FILE);
    for (key, value, code, message) in [
        ("plugins.silero.activation_threshold", "much", 2, "expected a number"),
        ("plugins.silero.activation_threshold", "7", 2, "7 is out of range"),
        ("plugins.silero.activation_treshold", "0.7", 2, "did you mean `activation_threshold`?"),
        ("plugins.silro.engine", "ort", 3, "did you mean `silero`?"),
        ("agent.systm", "x", 2, "did you mean `system`?"),
        ("agent.tools", "[\"clok\"]", 3, "did you mean `clock`?"),
        ("agent", "x", 2, "is a table"),
        ("agent.system.deep", "x", 2, "is no table"),
        ("voice.speed", "9.0", 2, "voice.speed: is 9"),
        ("config_version", "2", 2, "config_version"),
        ("", "x", 2, "is no key"),
    ] {
        let ended = user.run(["config", "set", key, value]).nothing();
        assert!(ended.code == code && ended.err.contains(message), "{key} = {value}: {ended:?}");
        assert_eq!(fs::read_to_string(user.config()).unwrap(), FILE, "{key}");
    }
}

#[test]
fn a_file_that_is_wrong_elsewhere_can_be_mended_key_by_key() {
    let user = User::new().configured("[plugins.silero]\nactivation_threshold = 7\n[plugins.energy]\nsnr_db = 0\n");
    user.run(["config", "set", "plugins.silero.activation_threshold", "0.5"]).ok();
    user.run(["config", "check"]).code(2).says("plugins.energy.snr_db");
    user.run(["config", "set", "plugins.energy.snr_db", "9"]).ok();
    user.run(["config", "check"]).ok();
}

#[test]
fn the_first_key_makes_the_file() {
    let user = User::new();
    user.run(["config", "set", "agent.system", "Be brief."]).ok();
    assert_eq!(fs::read_to_string(user.config()).unwrap(), "config_version = 1\n\n[agent]\nsystem = \"Be brief.\"\n");
    assert_eq!(user.run(["config", "get", "agent.system"]).ok().out, "Be brief.\n");
}

#[cfg(unix)]
#[test]
fn rights_and_links_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let user = User::new().configured(FILE);
    fs::set_permissions(user.config(), fs::Permissions::from_mode(0o600)).unwrap();
    let link = user.work("link.toml");
    symlink(user.config(), &link).unwrap();
    user.run(["config", "set", "agent.system", "x", "--config", "link.toml"]).ok();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(user.config()).unwrap().contains("system = \"x\""));
    assert_eq!(fs::metadata(user.config()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_file_here_goes_before_the_one_at_home_and_a_named_one_before_both() {
    let user = User::new().configured("[agent]\nsystem = \"home\"\n");
    let system = |user: &User, more: &[&str]| user.run(["config", "get", "agent.system"].iter().chain(more)).ok().out;
    assert_eq!(system(&user, &[]), "home\n");
    fs::write(user.work("bespoke.toml"), "[agent]\nsystem = \"here\"\n").unwrap();
    assert_eq!(system(&user, &[]), "here\n");
    fs::write(user.work("named.toml"), "[agent]\nsystem = \"named\"\n").unwrap();
    assert_eq!(system(&user, &["--config", "named.toml"]), "named\n");
    user.run(["config", "get", "agent.system", "--config", "absent.toml"])
        .code(3)
        .nothing()
        .says("absent.toml: no such configuration file");
}

#[test]
fn a_value_from_the_environment_reaches_the_agent_and_is_not_shown() {
    let user = User::new().with("BESPOKE_TEST_ZONE", "Asia/Tokyo").configured("[plugins.clock]\ntime_zone = \"${BESPOKE_TEST_ZONE}\"\n");
    let rows = user.json(["plugin", "list", "tool", "--json"]);
    let clock = rows.as_array().unwrap().iter().find(|row| row["id"] == "clock").unwrap();
    assert_eq!(clock["state"], "ready", "{clock}");
    let wrong = User::new().with("BESPOKE_TEST_ZONE", "Moon/Crater").configured("[plugins.clock]\ntime_zone = \"${BESPOKE_TEST_ZONE}\"\n");
    let rows = wrong.json(["plugin", "list", "tool", "--json"]);
    let clock = rows.as_array().unwrap().iter().find(|row| row["id"] == "clock").unwrap();
    assert_eq!(clock["state"], "failed", "{clock}");
    assert!(!clock.to_string().contains("Moon/Crater"), "{clock}");
    assert_eq!(user.run(["config", "get", "plugins.clock.time_zone"]).ok().out, "${BESPOKE_TEST_ZONE}\n");
}
