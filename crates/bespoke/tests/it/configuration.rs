//! `config`: what is right, what is wrong and where, and changes that do no harm.

use std::fs;

use expect_test::expect;
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
        wrong.err.contains("bespoke.toml:5:1: plugins.silero.engine: must be one of \"auto\", \"ort\", \"builtin\", is \"bultin\"; did you mean \"builtin\"?"),
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
    // A value may begin as a switch does.
    user.run(["config", "set", "plugins.telegram.allowed_chats", "[-5]", "--dry-run"]).ok();
    user.run(["config", "set", "agent.max_tokens", "-5"]).code(2).says("agent.max_tokens");
    user.run(["config", "set", "agent.temperature", "-1", "--dry-run"]).code(2).says("agent.temperature");
    assert!(fs::read_to_string(user.config()).unwrap().contains("system = \"Speak up.\" # as I like it\n"));
}

#[test]
fn a_wrong_value_is_refused_and_the_file_stays() {
    let user = User::new().configured(FILE);
    for (key, value, code, message) in [
        ("plugins.silero.activation_threshold", "much", 2, "must be a number, is \"much\""),
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

/// What `config check` says about a file in the home of a new user, and variables of the environment.
fn told(text: &[u8], variables: &[(&'static str, &str)]) -> String {
    let user = variables.iter().fold(User::new(), |user, (name, value)| user.with(name, *value)).configured("");
    fs::write(user.config(), text).unwrap();
    let ended = user.run(["config", "check"]).nothing();
    assert!(ended.code == 2 || ended.code == 3, "{}: {ended:?}", String::from_utf8_lossy(text));
    ended.err.replace(&format!("{}/", user.home().display()), "").replace("bespoke: bespoke.toml", "bespoke.toml")
}

#[test]
fn broken_files_are_told_so_that_a_person_can_act() {
    let mut all = String::new();
    for text in [
        // No TOML.
        "[agent]\nsystem = \"Be brief.\nmax_tokens = 5\n",
        "[agent]\nsystem = Be brief.\n",
        "[agent]\nsystem = \"C:\\Users\\me\"\n",
        "[agent]\nsystem = 'a'\nsystem = 'b'\n",
        "[agent]\nsystem = 'a'\n[voice]\n[agent]\n",
        "[agent\nsystem = 'a'\n",
        "[agent]\ntools = ['clock'\n",
        "[plugins.fake]\nheard = { a = 'b',\n c = 'd'\n",
        "[agent]\n= 'a'\n",
        "[agent]\nsystem\n",
        "[agent]\nmax_tokens =\n",
        "[agent]\r\nsystem = 'a' b\r\n",
        "\u{feff}[agent]\n\tmax_tokens = 5 6\n",
        "[agent]\nmax_tokens = 01\n",
        // Versions.
        "config_version = 99\n",
        "config_version = 0\n",
        "config_version = 'one'\n",
        // What nobody knows.
        "[agnet]\nsystem = 'a'\n",
        "[silero]\nengine = 'ort'\n",
        "[agent]\nsystm = 'a'\n",
        "[plugins]\nauto_instal = true\n",
        "[plugins.silro]\nengine = 'ort'\n",
        "[plugins.smol]\ntemprature = 1\n",
        "[plugins.fake]\nreplies = [[{ txt = 'a' }]]\n",
        "\"${SECTION}\" = 1\n",
        // Types.
        "agent = 'smol'\n",
        "[[agent]]\nsystem = 'a'\n",
        "[[plugins.clock]]\ntime_zone = 'UTC'\n",
        "plugins = 3\n",
        "[plugins]\nclock = true\n",
        "[agent]\nmax_tokens = 'many'\n",
        "[agent]\nmax_tokens = 1.5\n",
        "[agent]\ntools = 'clock'\n",
        "[agent]\ntools = ['clock', 7]\n",
        "[agent]\nsystem = 2026-11-20\nmax_tokens = true\n",
        "[voice]\nbarge_in = 'yes'\n",
        "[plugins.silero]\nactivation_threshold = '0.5'\n",
        "[plugins.energy]\nenabled = 'no'\n",
        // Values.
        "[agent]\ntemperature = 3\nmax_tokens = 0\n",
        "[voice]\nspeed = 9.0\n",
        "[plugins]\ncpu_budget = 0\ncall_timeout_ms = -1\nstart_timeout_ms = 0\n",
        "[plugins.silero]\nengine = 'bultin'\n",
        "[plugins.silero]\nactivation_threshold = 7\n[plugins.energy]\nsnr_db = -1\n",
        "[voice]\nvad = []\n",
        "[agent]\ntools = ['clock', 'clock']\n",
        // Names.
        "[voice]\nvad = ['sillero']\n",
        "[agent]\nprovider = ['nobody']\n",
        "[agent]\ntools = ['clok']\n",
        // References.
        "[agent]\nsystem = '${BESPOKE_TEST_ABSENT}'\nmodel = '${BESPOKE_TEST_ABSENT_TOO}'\n",
        "[agent]\nsystem = 'a ${b'\n",
        "[agent]\nsystem = '${}'\n",
        "[agent]\nsystem = '${file:absent.txt}'\n",
        "[agent]\nsystem = '${file:.}'\n",
        "[agent]\nsystem = '${keyring:a}'\n",
        // Secrets.
        "[plugins.openai.secrets]\napi_kye = 'x'\n",
        "[plugins.clock.secrets]\ntoken = 'x'\n",
        "[plugins.openai.secrets]\napi_key = 5\n",
        "[plugins.openai]\nsecrets = 'x'\n",
    ] {
        let shown = text.replace('\u{feff}', "<BOM>").replace('\r', "<CR>");
        all += &format!("{}\n{}\n", shown.lines().map(|line| format!("    | {line}\n")).collect::<String>(), told(text.as_bytes(), &[]));
    }
    all += &format!("    | caf<E9>\n\n{}\n", told(b"[agent]\nsystem = 'caf\xe9'\n", &[]));
    for (name, value) in [
        ("BESPOKE_AGENT__MAXTOKENS", "5"),
        ("BESPOKE_AGENT__MAX_TOKENS", "many"),
        ("BESPOKE_AGENT__SYSTEM", "5"),
        ("BESPOKE_AGNET__SYSTEM", "a"),
        ("BESPOKE_PLUGINS__SILERO__ACTIVATION_THRESHOLD", "7"),
        ("BESPOKE_PLUGINS__SILRO__ENGINE", "ort"),
        ("BESPOKE_AGENT__SYSTEM__DEEP", "a"),
        ("BESPOKE_AGENT__", "a"),
    ] {
        all += &format!("    $ {name}={value}\n\n{}\n", told(b"[agent]\nsystem = 'a'\n", &[(name, value)]));
    }
    expect![[r#"
            | [agent]
            | system = "Be brief.
            | max_tokens = 5

        bespoke.toml:2:20: is no TOML: invalid basic string, expected `"`; close the quote where the text ends; for text of several lines use """

            | [agent]
            | system = Be brief.

        bespoke.toml:2:10: is no TOML: string values must be quoted, expected literal string; write system = "Be brief."

            | [agent]
            | system = "C:\Users\me"

        bespoke.toml:2:15: is no TOML: too few unicode value digits, expected unicode hexadecimal value; write `\\` for a backslash, or put the text between single quotes

            | [agent]
            | system = 'a'
            | system = 'b'

        bespoke.toml:3:1: is no TOML: duplicate key; keep one `system` of this table and remove the other

            | [agent]
            | system = 'a'
            | [voice]
            | [agent]

        bespoke.toml:4:2: is no TOML: duplicate key; merge the two tables into one

            | [agent
            | system = 'a'

        bespoke.toml:1:7: is no TOML: unclosed table, expected `]`; write [agent]

            | [agent]
            | tools = ['clock'

        bespoke.toml:2:17: is no TOML: unclosed array, expected `]`; write `]` behind the last entry

            | [plugins.fake]
            | heard = { a = 'b',
            |  c = 'd'

        bespoke.toml:3:9: is no TOML: unclosed inline table, expected `}`; write `}` behind the last key, or use a table with a [header] of its own

            | [agent]
            | = 'a'

        bespoke.toml:2:1: is no TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`; write a key before the `=`

            | [agent]
            | system

        bespoke.toml:2:7: is no TOML: key with no value, expected `=`; write system = …

            | [agent]
            | max_tokens =

        bespoke.toml:2:13: is no TOML: string values must be quoted, expected literal string; write a value: max_tokens = …

            | [agent]<CR>
            | system = 'a' b<CR>

        bespoke.toml:2:14: is no TOML: unexpected key or value, expected newline, `#`; write one key on a line, and a `#` before a comment

            | <BOM>[agent]
            | 	max_tokens = 5 6

        bespoke.toml:2:15: is no TOML: string values must be quoted, expected literal string; write max_tokens = "5 6"

            | [agent]
            | max_tokens = 01

        bespoke.toml:2:14: is no TOML: unexpected leading zero, expected nothing; write the number without the zero, or as text between quotes

            | config_version = 99

        bespoke.toml:1:1: config_version: 99 is no version that this program knows; it writes 1; a newer program wrote it: use that one, or write `config_version = 1` and check the rest

            | config_version = 0

        bespoke.toml:1:1: config_version: 0 is no version that this program knows; it writes 1; write `config_version = 1`

            | config_version = 'one'

        bespoke.toml:1:1: config_version: "one" is no version that this program knows; it writes 1; write `config_version = 1`

            | [agnet]
            | system = 'a'

        bespoke.toml:1:2: agnet: unknown key; did you mean `agent`?

            | [silero]
            | engine = 'ort'

        bespoke.toml:1:2: silero: unknown key; sections are agent, voice, serve, gateway, events, usage, hooks, plugins; the table of a plugin is [plugins.silero]

            | [agent]
            | systm = 'a'

        bespoke.toml:2:1: agent.systm: unknown key; did you mean `system`?

            | [plugins]
            | auto_instal = true

        bespoke.toml:2:1: plugins.auto_instal: unknown key; did you mean `auto_install`?

            | [plugins.silro]
            | engine = 'ort'

        bespoke.toml:1:10: plugins.silro: `silro` is configured, but nobody knows it; did you mean `silero`?
        bespoke: the configuration speaks of plugins that are not here

            | [plugins.smol]
            | temprature = 1

        bespoke.toml:2:1: plugins.smol.temprature: unknown key; did you mean `temperature`?

            | [plugins.fake]
            | replies = [[{ txt = 'a' }]]

        bespoke.toml:2:13: plugins.fake.replies[0][0]: `txt` is not known here; did you mean `text`?

            | "${SECTION}" = 1

        bespoke.toml:1:1: ${SECTION}: a reference cannot stand in a key; write the key itself
        bespoke.toml:1:1: ${SECTION}: unknown key; known keys: agent, voice, serve, gateway, events, usage, hooks, config_version, plugins

            | agent = 'smol'

        bespoke.toml:1:1: agent: must be a table; write [agent] above its keys

            | [[agent]]
            | system = 'a'

        bespoke.toml:1:3: agent: must be a table; write [agent] above its keys

            | [[plugins.clock]]
            | time_zone = 'UTC'

        bespoke.toml:1:11: plugins.clock: must be a table, not an array; write [plugins.clock] once, with single brackets

            | plugins = 3

        bespoke.toml:1:1: plugins: must be a table; write [plugins] above its keys

            | [plugins]
            | clock = true

        bespoke.toml:2:1: plugins.clock: unknown key; known keys: auto_install, auto_install_timeout_ms, auto_install_deps, index_url, start_timeout_ms, stop_timeout_ms, shutdown_timeout_ms, call_timeout_ms, command_timeout_ms, cpu_budget, dir, sandbox, limits

            | [agent]
            | max_tokens = 'many'

        bespoke.toml:2:1: agent.max_tokens: must be a whole number, is "many"

            | [agent]
            | max_tokens = 1.5

        bespoke.toml:2:1: agent.max_tokens: must be a whole number, is 1.5

            | [agent]
            | tools = 'clock'

        bespoke.toml:2:1: agent.tools: must be a list, is "clock"

            | [agent]
            | tools = ['clock', 7]

        bespoke.toml:2:19: agent.tools[1]: must be a string, is 7

            | [agent]
            | system = 2026-11-20
            | max_tokens = true

        bespoke.toml:3:1: agent.max_tokens: must be a whole number, is true

            | [voice]
            | barge_in = 'yes'

        bespoke.toml:2:1: voice.barge_in: must be true or false, is "yes"

            | [plugins.silero]
            | activation_threshold = '0.5'

        bespoke.toml:2:1: plugins.silero.activation_threshold: must be a number, is "0.5"

            | [plugins.energy]
            | enabled = 'no'

        bespoke.toml:2:1: plugins.energy.enabled: must be true or false, is "no"

            | [agent]
            | temperature = 3
            | max_tokens = 0

        bespoke.toml:2:1: agent.temperature: 3 is out of range; it has to be from 0.0 to 2.0
        bespoke.toml:3:1: agent.max_tokens: 0 is out of range; it has to be from 1 to 1000000

            | [voice]
            | speed = 9.0

        bespoke.toml:2:1: voice.speed: is 9; it has to be between 0.5 and 2

            | [plugins]
            | cpu_budget = 0
            | call_timeout_ms = -1
            | start_timeout_ms = 0

        bespoke.toml:2:1: plugins.cpu_budget: 0 threads compute nothing; write 1 or more
        bespoke.toml:3:1: plugins.call_timeout_ms: integer `-1` does not fit here: expected a whole number, not negative
        bespoke.toml:4:1: plugins.start_timeout_ms: 0 is no limit; write milliseconds from 1 to 86400000, which is a day

            | [plugins.silero]
            | engine = 'bultin'

        bespoke.toml:2:1: plugins.silero.engine: must be one of "auto", "ort", "builtin", is "bultin"; did you mean "builtin"?

            | [plugins.silero]
            | activation_threshold = 7
            | [plugins.energy]
            | snr_db = -1

        bespoke.toml:2:1: plugins.silero.activation_threshold: 7 is out of range; it has to be from 0.0 to 1.0
        bespoke.toml:4:1: plugins.energy.snr_db: -1 is out of range; it has to be from 1.0 to 60.0

            | [voice]
            | vad = []

        bespoke.toml:2:1: voice.vad: names no engine

            | [agent]
            | tools = ['clock', 'clock']

        bespoke.toml:2:1: agent.tools: names `clock` twice

            | [voice]
            | vad = ['sillero']

        bespoke.toml:2:8: voice.vad[0]: `sillero` is configured, but nobody knows it; did you mean `silero`?
        bespoke: the configuration speaks of plugins that are not here

            | [agent]
            | provider = ['nobody']

        bespoke.toml:2:13: agent.provider[0]: `nobody` is configured, but nobody knows it; "${EDITOR:-vi}" bespoke.toml
        bespoke: the configuration speaks of plugins that are not here

            | [agent]
            | tools = ['clok']

        bespoke.toml:2:10: agent.tools[0]: `clok` is configured, but nobody knows it; did you mean `clock`?
        bespoke: the configuration speaks of plugins that are not here

            | [agent]
            | system = '${BESPOKE_TEST_ABSENT}'
            | model = '${BESPOKE_TEST_ABSENT_TOO}'

        bespoke.toml:2:1: agent.system: refers to ${BESPOKE_TEST_ABSENT}, which is not set; export BESPOKE_TEST_ABSENT=…
        bespoke.toml:3:1: agent.model: refers to ${BESPOKE_TEST_ABSENT_TOO}, which is not set; export BESPOKE_TEST_ABSENT_TOO=…

            | [agent]
            | system = 'a ${b'

        bespoke.toml:2:1: agent.system: has a `${` without a `}`; write `$${` for a literal `${`

            | [agent]
            | system = '${}'

        bespoke.toml:2:1: agent.system: `${}` names no variable; write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`

            | [agent]
            | system = '${file:absent.txt}'

        bespoke.toml:2:1: agent.system: refers to the file absent.txt, which is not there; write the secret into absent.txt

            | [agent]
            | system = '${file:.}'

        bespoke.toml:2:1: agent.system: refers to the file ., which is no plain file; name the file that holds the secret

            | [agent]
            | system = '${keyring:a}'

        bespoke.toml:2:1: agent.system: `${keyring:a}`: this program reads no keyring; build with the feature keyring, or write ${NAME} or ${file:/a/path} instead

            | [plugins.openai.secrets]
            | api_kye = 'x'

        warning: bespoke.toml:2:1: plugins.openai.secrets.api_kye: a secret is typed into the configuration; move it out: bespoke config set-secret plugins.openai.secrets.api_kye < FILE
        bespoke.toml:2:1: plugins.openai.secrets.api_kye: is no secret that the plugin asks for; did you mean `api_key`?

            | [plugins.clock.secrets]
            | token = 'x'

        warning: bespoke.toml:2:1: plugins.clock.secrets.token: a secret is typed into the configuration; move it out: bespoke config set-secret plugins.clock.secrets.token < FILE
        bespoke.toml:2:1: plugins.clock.secrets.token: is no secret that the plugin asks for; remove it: the plugin asks for no secret

            | [plugins.openai.secrets]
            | api_key = 5

        bespoke.toml:2:1: plugins.openai.secrets.api_key: must be a string; export OPENAI_API_KEY=…, or bespoke config set-secret plugins.openai.secrets.api_key < FILE

            | [plugins.openai]
            | secrets = 'x'

        bespoke.toml:2:1: plugins.openai.secrets: must be a table; write [plugins.openai.secrets] above the secrets

            | caf<E9>

        bespoke.toml:2:14: is no UTF-8: there is a byte 0xe9; save it as UTF-8

            $ BESPOKE_AGENT__MAXTOKENS=5

        bespoke: BESPOKE_AGENT__MAXTOKENS (environment): agent.maxtokens: unknown key; did you mean BESPOKE_AGENT__MAX_TOKENS?

            $ BESPOKE_AGENT__MAX_TOKENS=many

        bespoke: BESPOKE_AGENT__MAX_TOKENS (environment): agent.max_tokens: must be a whole number, is "many"

            $ BESPOKE_AGENT__SYSTEM=5

        bespoke: BESPOKE_AGENT__SYSTEM (environment): agent.system: must be a string, is 5; quote it twice: export BESPOKE_AGENT__SYSTEM='"…"'

            $ BESPOKE_AGNET__SYSTEM=a

        bespoke: BESPOKE_AGNET__SYSTEM (environment): agnet: unknown key; did you mean BESPOKE_AGENT__SYSTEM?

            $ BESPOKE_PLUGINS__SILERO__ACTIVATION_THRESHOLD=7

        bespoke: BESPOKE_PLUGINS__SILERO__ACTIVATION_THRESHOLD (environment): plugins.silero.activation_threshold: 7 is out of range; it has to be from 0.0 to 1.0

            $ BESPOKE_PLUGINS__SILRO__ENGINE=ort

        BESPOKE_PLUGINS__SILRO__ENGINE (environment): plugins.silro: `silro` is configured, but nobody knows it; did you mean `silero`?
        bespoke: the configuration speaks of plugins that are not here

            $ BESPOKE_AGENT__SYSTEM__DEEP=a

        bespoke: BESPOKE_AGENT__SYSTEM__DEEP (environment): sets `agent.system.deep`, but `agent.system` is no table; unset BESPOKE_AGENT__SYSTEM__DEEP

            $ BESPOKE_AGENT__=a

        bespoke: BESPOKE_AGENT__ (environment): names no key; write BESPOKE_SECTION__KEY or BESPOKE_PLUGINS__ID__KEY

    "#]].assert_eq(&all);
}

#[test]
fn one_bad_section_stops_only_the_verbs_that_use_it() {
    let user =
        User::new().configured("[voice]\nsped = 1\n[agent]\nprovider = ['fake']\n[plugins.fake]\nreplies = [[{ text = 'Hello.' }]]\n");
    for args in
        [&["plugin", "list"][..], &["plugin", "info", "clock"], &["models"], &["config", "get", "agent.provider"], &["config", "schema"]]
    {
        user.run(args.iter().copied()).ok().says("voice.sped: unknown key; did you mean `speed`?");
    }
    assert_eq!(user.run(["ask", "hi"]).ok().out, "Hello.\n");
    user.run(["speak", "hi", "--out", "x.wav"]).code(2).says("voice.sped");
    user.run(["doctor"]).code(1);
    // A section that nobody knows may be any of them.
    let user = User::new().configured("[agnet]\n[plugins]\ncpu_budget = 'x'\n");
    user.run(["plugin", "list"]).ok().says("agnet: unknown key").says("plugins.cpu_budget");
    user.run(["ask", "hi"]).code(2).says("agnet: unknown key").says("plugins.cpu_budget");
}

#[test]
fn variables_go_before_the_file_and_every_verb_says_where_a_value_is_from() {
    let user = User::new().with("BESPOKE_AGENT__SYSTEM", "From outside.").configured(FILE);
    assert_eq!(user.run(["config", "get", "agent.system"]).ok().out, "From outside.\n");
    assert_eq!(user.run(["config", "get", "agent.system", "--origin"]).ok().out, "From outside.\tBESPOKE_AGENT__SYSTEM (environment)\n");
    let origin = |key: &str| user.json(["config", "get", key, "--origin", "--json"])["origin"].clone();
    assert_eq!(origin("agent.system"), json!({ "kind": "environment", "variable": "BESPOKE_AGENT__SYSTEM" }));
    assert_eq!(origin("voice.vad"), json!({ "kind": "default" }));
    let place = origin("plugins.silero.activation_threshold")["place"].as_str().unwrap().to_owned();
    assert!(place.ends_with("bespoke.toml:9:1"), "{place}");
    let shown = user.run(["config", "show"]).ok().says("agent.system comes from BESPOKE_AGENT__SYSTEM");
    assert_eq!(shown.out, FILE.replace("Be brief.", "From outside."));
    user.run(["config", "set", "agent.system", "In the file."])
        .ok()
        .says("BESPOKE_AGENT__SYSTEM is set in the environment and goes before");
    assert!(fs::read_to_string(user.config()).unwrap().contains("In the file."));
}

#[test]
fn a_key_is_removed_and_a_wrong_value_is_written_only_by_force() {
    let user = User::new().configured(FILE);
    user.run(["config", "unset", "agent.system"]).ok().nothing().says("agent.system is removed");
    assert_eq!(fs::read_to_string(user.config()).unwrap(), FILE.replace("system = \"Be brief.\" # as I like it\n", ""));
    user.run(["config", "unset", "agent.system"]).code(2).says("is not set in the file");
    user.run(["config", "set", "voice.speed", "9.0"]).code(2);
    user.run(["config", "set", "voice.speed", "9.0", "--force"]).ok();
    user.run(["config", "check"]).code(2).says("voice.speed");
    user.run(["config", "unset", "voice.speed"]).ok();
    user.run(["config", "check"]).ok();
    assert_eq!(user.run(["config", "path"]).ok().out, format!("{}\n", user.config().display()));
}

#[test]
fn a_file_without_a_version_gets_one_below_its_first_comments() {
    let user = User::new().configured("# Mine.\n\n[agent]\nmax_tokens = 5\n");
    user.run(["config", "set", "agent.max_tokens", "6"]).ok();
    assert_eq!(fs::read_to_string(user.config()).unwrap(), "# Mine.\n\nconfig_version = 1\n\n[agent]\nmax_tokens = 6\n");
}

#[test]
fn another_file_is_compared_before_it_is_used() {
    let user = User::new().configured(FILE);
    fs::write(user.work("new.toml"), FILE.replace("0.6", "0.7")).unwrap();
    let ended = user.run(["config", "diff", "new.toml"]).code(10);
    assert!(ended.out.starts_with("plugins.silero.activation_threshold: 0.6 → 0.7 ["), "{}", ended.out);
    let changes = user.run(["config", "diff", "new.toml", "--json"]).code(10).value();
    assert_eq!(changes[0]["key"], "plugins.silero.activation_threshold");
    fs::write(user.work("new.toml"), FILE).unwrap();
    user.run(["config", "diff", "new.toml"]).ok().nothing();
}
