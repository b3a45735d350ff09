//! bespoke.toml: every mistake with file, line, column and key; references, secrets, edits; one plugin's mistake its own.

use bespoke_host::{Config, ConfigError, ConfigFile, Host, Migration, PluginDefaults, SecretSource, Selection};
use bespoke_plugin_api::{Descriptor, Package, Plugin, PluginApi, PluginContext, Result, serde::Deserialize, serde_json::json};
use expect_test::{Expect, expect};

use crate::kit::{Plug, call, says, table};

fn parse(text: &str) -> Config {
    let env = [("TOKEN", "t0k3n-t0k3n"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config::parse("bespoke.toml", text).unwrap().with_env(env)
}

fn refused(result: std::result::Result<impl std::fmt::Debug, ConfigError>, told: Expect) {
    told.assert_eq(&format!("{}\n", result.unwrap_err()));
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
struct Section {
    system: String,
    limit: u8,
    tools: Vec<String>,
    inner: Inner,
    mode: Mode,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
struct Inner {
    depth: u32,
    more: Vec<Leaf>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields)]
struct Leaf {
    name: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", rename_all = "snake_case")]
enum Mode {
    #[default]
    Fast,
    Slow,
}

#[test]
fn a_section_has_its_defaults_filled_in() {
    let config = parse("[agent]\nsystem = 'Be brief.'\ninner.depth = 3\n");
    let section: Section = config.section("agent").unwrap();
    assert_eq!(section, Section { system: "Be brief.".into(), inner: Inner { depth: 3, more: vec![] }, ..Section::default() });
    assert_eq!(Config::empty().section::<Section>("agent").unwrap(), Section::default());
}

#[test]
fn what_is_no_toml_or_from_the_future_is_refused_where_it_stands() {
    let mut said = String::new();
    for text in [
        "[agent\n",
        "a = 1\na = 2\n",
        "x = \n",
        "\u{feff}[agent]\nsystem = 'ä' b\n",
        "\nconfig_version = 2\n",
        "config_version = 'one'\n",
        "config_version = 0\n",
    ] {
        said += &format!("{}\n", Config::parse("bespoke.toml", text).map(|_| ()).unwrap_err());
    }
    expect![[r#"
        bespoke.toml:1:7: is no TOML: unclosed table, expected `]`; write [agent]
        bespoke.toml:2:1: is no TOML: duplicate key; keep one `a` of this table and remove the other
        bespoke.toml:1:5: is no TOML: string values must be quoted, expected literal string; write a value: x = …
        bespoke.toml:2:14: is no TOML: unexpected key or value, expected newline, `#`; write one key on a line, and a `#` before a comment
        bespoke.toml:2:1: config_version: 2 is no version that this program knows; it writes 1; a newer program wrote it: use that one, or write `config_version = 1` and check the rest
        bespoke.toml:1:1: config_version: "one" is no version that this program knows; it writes 1; write `config_version = 1`
        bespoke.toml:1:1: config_version: 0 is no version that this program knows; it writes 1; write `config_version = 1`
    "#]].assert_eq(&said);
    Config::parse("bespoke.toml", "config_version = 1\n").unwrap();
    let missing = Config::read(std::path::Path::new("/nowhere/bespoke.toml")).map(|_| ()).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/bespoke.toml: cannot be read: "), "{missing}");
}

#[test]
fn unknown_keys_are_told_at_every_depth_with_what_was_probably_meant() {
    let config = parse("[agnet]\n[voice]\n[plugin.x]\n");
    refused(
        config.check_sections(&["agent", "voice"]),
        expect![[r#"
        bespoke.toml:1:2: agnet: unknown key; did you mean `agent`?
        bespoke.toml:3:2: plugin: unknown key; did you mean `plugins`?
    "#]],
    );
    let mut said = String::new();
    for text in [
        "[agent]\nlimit = 3\nsytem = ''\n",
        "[agent]\nquite_different = 1\n",
        "[agent.inner]\ndeep = 3\n",
        "agent = { inner = { depht = 3 } }\n",
        "[[agent.inner.more]]\nname = 'a'\n[[agent.inner.more]]\nnaem = 'b'\n",
        "[agent]\ninner.more = [{ name = 'a' }, { name = 'b', x = 1 }]\n",
        "[agent]\nagent = 1\n",
    ] {
        said += &format!("{}\n", parse(text).section::<Section>("agent").unwrap_err());
    }
    expect![[r#"
        bespoke.toml:3:1: agent.sytem: unknown key; did you mean `system`?
        bespoke.toml:2:1: agent.quite_different: unknown key; known keys: system, limit, tools, inner, mode
        bespoke.toml:2:1: agent.inner.deep: unknown key; known keys: depth, more
        bespoke.toml:1:21: agent.inner.depht: unknown key; did you mean `depth`?
        bespoke.toml:4:1: agent.inner.more[1].naem: unknown key; did you mean `name`?
        bespoke.toml:2:45: agent.inner.more[1].x: unknown key; known keys: name
        bespoke.toml:2:1: agent.agent: unknown key; known keys: system, limit, tools, inner, mode
    "#]]
    .assert_eq(&said);
}

#[test]
fn wrong_types_are_told_where_they_stand() {
    let mut said = String::new();
    for text in [
        "[agent]\nlimit = 'three'\n",
        "[agent]\nlimit = 300\n",
        "[agent]\ntools = ['a', 2]\n",
        "[agent]\nmode = 'fats'\n",
        "agent = 3\n",
        "[[agent]]\n",
        "agent = ['a', 3]\n",
        "[[agent.inner.more]]\n",
    ] {
        said += &format!("{}\n", parse(text).section::<Section>("agent").unwrap_err());
    }
    expect![[r#"
        bespoke.toml:2:1: agent.limit: string "three" does not fit here: expected a whole number from 0 to 255
        bespoke.toml:2:1: agent.limit: integer `300` does not fit here: expected a whole number from 0 to 255
        bespoke.toml:2:15: agent.tools[1]: integer `2` does not fit here: expected a string
        bespoke.toml:2:1: agent.mode: `fats` is not known here; did you mean `fast`?
        bespoke.toml:1:1: agent: must be a table; write [agent] above its keys
        bespoke.toml:1:3: agent: must be a table; write [agent] above its keys
        bespoke.toml:1:1: agent: must be a table; write [agent] above its keys
        bespoke.toml:1:15: agent.inner.more[0].name: is missing; add it
    "#]]
    .assert_eq(&said);
}

#[test]
fn the_keys_of_all_plugins_are_checked() {
    let mut said = String::new();
    for text in [
        "[plugins]\nauto_instal = true\n",
        "[plugins]\nstart_timeout_ms = -1\n",
        "[plugins]\ncall_timeout_ms = 0\n",
        "[plugins]\nstop_timeout_ms = 9223372036854775807\n",
        "[plugins]\nclock = true\n",
        "plugins = 3\n",
        "[[plugins.clock]]\n",
    ] {
        said += &format!("{}\n", parse(text).plugin_defaults().unwrap_err());
    }
    expect![[r#"
        bespoke.toml:2:1: plugins.auto_instal: unknown key; did you mean `auto_install`?
        bespoke.toml:2:1: plugins.start_timeout_ms: integer `-1` does not fit here: expected a whole number, not negative
        bespoke.toml:2:1: plugins.call_timeout_ms: 0 is no limit; write milliseconds from 1 to 86400000, which is a day
        bespoke.toml:2:1: plugins.stop_timeout_ms: 9223372036854775807 is no limit; write milliseconds from 1 to 86400000, which is a day
        bespoke.toml:2:1: plugins.clock: unknown key; known keys: auto_install, auto_install_timeout_ms, auto_install_deps, index_url, start_timeout_ms, stop_timeout_ms, shutdown_timeout_ms, call_timeout_ms, command_timeout_ms, cpu_budget, dir, sandbox, limits
        bespoke.toml:1:1: plugins: must be a table; write [plugins] above its keys
        bespoke.toml:1:11: plugins.clock: must be a table, not an array; write [plugins.clock] once, with single brackets
    "#]].assert_eq(&said);
    let defaults = parse("[plugins]\nauto_install = false\n[plugins.x]\ny = 1\n").plugin_defaults().unwrap();
    assert!(!defaults.auto_install && !defaults.auto_install_deps && defaults.call_timeout_ms == 120_000);
}

#[test]
fn references_are_filled_in_and_what_is_missing_is_told() {
    let config =
        parse("[plugins.a]\ntoken = 'Bearer ${TOKEN}!'\nlist = ['${TOKEN}', { x = '${EMPTY}' }]\nplain = '$${TOKEN} $5 $$$${x}'\n");
    assert_eq!(
        config.plugin("a").unwrap(),
        json!({ "token": "Bearer t0k3n-t0k3n!", "list": ["t0k3n-t0k3n", { "x": "" }], "plain": "${TOKEN} $5 $$${x}" })
    );
    assert_eq!(config.get("plugins.a.token"), Some(json!("Bearer ${TOKEN}!")), "as it is written");
    let mut said = String::new();
    for text in [
        "[plugins.a]\nkey = '${NOBODY}'\n",
        "[plugins.a]\nlist = [1,\n  { x = 'a ${NOBODY' }]\n",
        "[plugins.a]\nkey = '${}'\n",
        "[plugins.a]\nkey = '${TOKEN:-x}'\n",
    ] {
        said += &format!("{}\n", parse(text).plugin("a").unwrap_err());
    }
    expect![[r#"
        bespoke.toml:2:1: plugins.a.key: refers to ${NOBODY}, which is not set; export NOBODY=…
        bespoke.toml:3:5: plugins.a.list[1].x: has a `${` without a `}`; write `$${` for a literal `${`
        bespoke.toml:2:1: plugins.a.key: `${}` names no variable; write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`
        bespoke.toml:2:1: plugins.a.key: `${TOKEN:-x}` names no variable; write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`
    "#]].assert_eq(&said);
}

#[test]
fn a_secret_is_taken_out_of_the_message_that_refuses_it() {
    let error = parse("[agent]\nlimit = '${TOKEN}'\n").section::<Section>("agent").unwrap_err();
    expect![[r#"bespoke.toml:2:1: agent.limit: string "***" does not fit here: expected a whole number from 0 to 255"#]]
        .assert_eq(&error.to_string());
    let config = parse("[agent]\nsystem = '${TOKEN}'\n");
    assert_eq!(config.redactor().redact("it is t0k3n-t0k3n"), "it is ***");
    assert!(!format!("{config:?}").contains("t0k3n"));
}

#[test]
fn a_key_is_set_and_the_rest_of_the_file_stays_as_it_was() {
    let text = "# Mine.\nconfig_version = 1 # ours\n\n[agent] # the agent\nsystem = \"Be brief.\" # short\ntools = [\n  \"clock\", # the time\n]\n";
    let config = parse(text);
    let new = config.set("agent.system", "Be long.").unwrap();
    assert_eq!(new, text.replace("\"Be brief.\"", "\"Be long.\""));
    expect![[r##"
        # Mine.
        config_version = 1 # ours

        [agent] # the agent
        system = "Be brief." # short
        tools = [
          "clock", # the time
        ]

        [plugins.clock]
        time_zone = "Europe/Paris"
    "##]]
    .assert_eq(&config.set("plugins.clock.time_zone", "Europe/Paris").unwrap());
    let kinds = ["true", "3", "0.5", "['a', 'b']", "3 apples", "\"3\"", "${TOKEN}"]
        .map(|value| Config::parse("", &Config::empty().set("a.b", value).unwrap()).unwrap().get("a.b").unwrap().to_string());
    assert_eq!(kinds.join(" "), "true 3 0.5 [\"a\",\"b\"] \"3 apples\" \"3\" \"${TOKEN}\"");
    let mut said = String::new();
    for key in ["", "agent.", "agent.system.deeper", "agent", "config_version.x"] {
        said += &format!("{}\n", config.set(key, "1").unwrap_err());
    }
    expect![[r#"
        bespoke.toml: is no key; write it as section.key or plugins.id.key
        bespoke.toml:4:2: agent.: is no key; write it as section.key or plugins.id.key
        bespoke.toml:5:1: agent.system: is no table, so `agent.system.deeper` cannot be set
        bespoke.toml:4:2: agent: is a table; set one of its keys, such as agent.NAME
        bespoke.toml:2:1: config_version: is no table, so `config_version.x` cannot be set
    "#]]
    .assert_eq(&said);
    assert_eq!(config.with("agent.system", "x").unwrap().get("agent.system"), Some(json!("x")));
}

#[test]
fn a_value_is_read_by_its_dotted_key() {
    let config = parse("[agent]\ntools = ['clock']\n[plugins.a]\nx = 1\n");
    assert_eq!(config.get("agent.tools"), Some(json!(["clock"])));
    assert_eq!(config.get("plugins"), Some(json!({ "a": { "x": 1 } })));
    assert_eq!((config.get("agent.nothing"), config.get("agent.tools.deep")), (None, None));
    assert_eq!(config.plugin_ids(), ["a"]);
}

#[derive(Deserialize, Default)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
#[allow(dead_code, reason = "only read by serde")]
struct DiceConfig {
    sides: u32,
    faces: Vec<Leaf>,
    token: u32,
}

struct Dice;

impl Plugin for Dice {
    type Config = DiceConfig;
    fn register(_: &mut PluginApi<Self>) {}
    async fn start(_: PluginContext, _: DiceConfig) -> Result<Self> {
        Ok(Dice)
    }
}

const MANIFEST: &str = "id = \"dice\"\ndescription = \"d\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";
static DICE: Descriptor = Descriptor::of::<Dice>(
    "dice",
    Package { name: "tool-dice", version: "0.1.0", license: "MIT", manifest: MANIFEST, config_schema: "{}" },
);

#[tokio::test]
async fn a_bad_configuration_fails_its_plugin_and_no_other() {
    let mut said = String::new();
    for text in [
        "[plugins.dice]\nside = 6\n",
        "[plugins.dice]\nsides = 'six'\n",
        "[plugins.dice]\nfaces = [{ name = 'a' },\n  { nam = 'b' }]\n",
        "[plugins.dice]\ntoken = '${TOKEN}'\n",
        "[plugins.dice]\ntoken = '${NOBODY}'\n",
        "[plugins.dice]\nenabled = 'yes'\n",
        "[plugins.dice]\ndice = 6\n",
    ] {
        let host =
            Host::builder().config(parse(text)).plugins([&DICE]).plugins([Plug::new("well").provides(says("x", "well"))]).build().unwrap();
        let problems = host.check_config().await.unwrap_err().problems;
        assert_eq!(problems.len(), 1);
        assert!(problems[0].place.starts_with("bespoke.toml:") && problems[0].key.starts_with("plugins.dice."), "{problems:?}");
        host.start(Selection::All).await;
        assert_eq!(call(&host, "x").await.unwrap(), "well");
        said += &table(&host).replace("well ready\n", "");
    }
    expect![[r#"
        dice failed: bespoke.toml:2:1: plugins.dice.side: unknown key; did you mean `sides`?
            fix: bespoke config check
        dice failed: bespoke.toml:2:1: plugins.dice.sides: string "six" does not fit here: expected a whole number, not negative
            fix: bespoke config check
        dice failed: bespoke.toml:3:5: plugins.dice.faces[1].nam: unknown key; did you mean `name`?
            fix: bespoke config check
        dice failed: bespoke.toml:2:1: plugins.dice.token: string "***" does not fit here: expected a whole number, not negative
            fix: bespoke config check
        dice failed: bespoke.toml:2:1: plugins.dice.token: refers to ${NOBODY}, which is not set; export NOBODY=…
            fix: bespoke config check
        dice failed: bespoke.toml:2:1: plugins.dice.enabled: must be true or false, is "yes"
            fix: bespoke config check
        dice failed: bespoke.toml:2:1: plugins.dice.dice: unknown key; known keys: sides, faces, token
            fix: bespoke config check
    "#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn a_check_that_panics_is_a_problem_of_its_plugin() {
    let host = Host::builder().config(parse("")).plugins([Plug::new("a").checks(|_| panic!("bad type"))]).build().unwrap();
    refused(
        host.check_config().await,
        expect![[r#"
        bespoke.toml: plugins.a: the check of its configuration panicked: bad type
    "#]],
    );
}

/// Three places list these keys: the struct that reads them, and the two that must tell them from ids of plugins.
#[test]
fn settings_of_all_plugins_are_those_that_manifests_refuse_as_ids() {
    let said = bespoke_plugin_api::serde_json::from_value::<PluginDefaults>(json!({ "": 0 })).unwrap_err().to_string();
    let (_, expected) = said.split_once("expected one of ").unwrap();
    let keys: Vec<&str> = expected.split(", ").map(|key| key.trim_matches('`')).collect();
    assert_eq!(keys, bespoke_manifest::PLUGIN_SETTINGS);
}

fn with_env(text: &str, env: &[(&str, &str)]) -> Config {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse("bespoke.toml", text).unwrap().with_env(env)
}

#[test]
fn a_variable_goes_before_the_file_and_says_so() {
    let config = with_env(
        "[agent]\nlimit = 3 # of the file\n[plugins.tool-box]\nx = 1\n",
        &[
            ("BESPOKE_AGENT__LIMIT", "7"),
            ("BESPOKE_AGENT__SYSTEM", "Be brief."),
            ("BESPOKE_AGENT__TOOLS", "['a', 'b']"),
            ("BESPOKE_AGENT__INNER__DEPTH", "2"),
            ("BESPOKE_PLUGINS__TOOL_BOX__X", "true"),
            ("BESPOKE_PLUGINS__OTHER__ENABLED", "false"),
            ("BESPOKE_PLUGINS__CALL_TIMEOUT_MS", "5"),
            ("BESPOKE_HOME", "/none"),
        ],
    );
    let inner = Inner { depth: 2, more: vec![] };
    let expected = Section { system: "Be brief.".into(), limit: 7, tools: vec!["a".into(), "b".into()], inner, ..Section::default() };
    assert_eq!(config.section::<Section>("agent").unwrap(), expected);
    assert_eq!(config.plugin("tool-box").unwrap(), json!({ "x": true }));
    assert_eq!(config.plugin_defaults().unwrap().call_timeout_ms, 5);
    assert!(!config.is_enabled("other"));
    assert_eq!(config.origin("agent.limit").to_string(), "BESPOKE_AGENT__LIMIT (environment)");
    assert_eq!(config.origin("agent.mode").to_string(), "default");
    assert_eq!(config.with_env([]).origin("agent.limit").to_string(), "bespoke.toml:2:1");
}

#[test]
fn a_variable_that_is_wrong_is_named_instead_of_a_line() {
    let mut said = String::new();
    for (name, value) in [
        ("BESPOKE_AGENT__LIMIT", "three"),
        ("BESPOKE_AGENT__SYSTEM", "12"),
        ("BESPOKE_AGENT__LIMT", "3"),
        ("BESPOKE_AGENT__INNER__DEPHT", "3"),
        ("BESPOKE_AGENT__MODE", "fats"),
        ("BESPOKE_AGENT__TOOLS", "[1]"),
        ("BESPOKE_AGNET__LIMIT", "3"),
        ("BESPOKE_AGENT__", "3"),
        ("BESPOKE___AGENT__LIMIT", "3"),
        ("BESPOKE_AGENT__TOOLS__X", "3"),
        ("BESPOKE_AGENT__INNER", "{ depth = 1 }"),
        ("BESPOKE_PLUGINS__DICE", "{ sides = 6 }"),
        ("BESPOKE_PLUGINS__CPU_BUGDET", "2"),
        ("BESPOKE_PLUGINS__CPU_BUDGET", "none"),
    ] {
        let config = with_env("[agent]\ntools = []\n[agent.inner]\n", &[(name, value)]);
        let mut problems = config.check_sections(&["agent"]).err().map(|e| e.problems).unwrap_or_default();
        problems.extend(config.section::<Section>("agent").err().into_iter().flat_map(|e| e.problems));
        problems.extend(config.plugin_defaults().err().into_iter().flat_map(|e| e.problems));
        said += &format!("{}\n", ConfigError::from(problems));
    }
    expect![[r#"
        BESPOKE_AGENT__LIMIT (environment): agent.limit: string "three" does not fit here: expected a whole number from 0 to 255
        BESPOKE_AGENT__SYSTEM (environment): agent.system: integer `12` does not fit here: expected a string; quote it twice: export BESPOKE_AGENT__SYSTEM='"…"'
        BESPOKE_AGENT__LIMT (environment): agent.limt: unknown key; did you mean BESPOKE_AGENT__LIMIT?
        BESPOKE_AGENT__INNER__DEPHT (environment): agent.inner.depht: unknown key; did you mean BESPOKE_AGENT__INNER__DEPTH?
        BESPOKE_AGENT__MODE (environment): agent.mode: `fats` is not known here; did you mean `fast`?
        BESPOKE_AGENT__TOOLS (environment): agent.tools[0]: integer `1` does not fit here: expected a string; quote it twice: export BESPOKE_AGENT__TOOLS='"…"'
        BESPOKE_AGNET__LIMIT (environment): agnet: unknown key; did you mean BESPOKE_AGENT__LIMIT?
        BESPOKE_AGENT__ (environment): names no key; write BESPOKE_SECTION__KEY or BESPOKE_PLUGINS__ID__KEY
        BESPOKE___AGENT__LIMIT (environment): names no key; write BESPOKE_SECTION__KEY or BESPOKE_PLUGINS__ID__KEY
        BESPOKE_AGENT__TOOLS__X (environment): sets `agent.tools.x`, but `agent.tools` is no table; unset BESPOKE_AGENT__TOOLS__X
        BESPOKE_AGENT__INNER (environment): sets one key, and `agent.inner` is a table; write BESPOKE_AGENT__INNER__KEY
        BESPOKE_PLUGINS__DICE (environment): sets one key, and `plugins.dice` is a table; write BESPOKE_PLUGINS__DICE__KEY
        BESPOKE_PLUGINS__CPU_BUGDET (environment): plugins.cpu_bugdet: unknown key; did you mean BESPOKE_PLUGINS__CPU_BUDGET?
        BESPOKE_PLUGINS__CPU_BUDGET (environment): plugins.cpu_budget: string "none" does not fit here: expected a whole number from 0 to 65535
    "#]].assert_eq(&said);
}

/// A store that holds one secret.
struct Vault;

impl SecretSource for Vault {
    fn scheme(&self) -> &str {
        "keyring"
    }
    fn find(&self, name: &str) -> std::result::Result<Option<String>, String> {
        match name {
            "bespoke/token" => Ok(Some("v4ult-v4lue".into())),
            "bespoke/broken" => Err("it is locked".into()),
            _ => Ok(None),
        }
    }
    fn store_with(&self, name: &str) -> Option<String> {
        Some(format!("vault store {name}"))
    }
}

#[test]
fn secrets_come_from_files_and_stores() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("key", b"f1le-v4lue\n");
    write("two", b"line one\nline two\r\n");
    write("empty", b"\n");
    write("bytes", b"\xff\xfe");
    write("long", &[b'x'; 64 * 1024 + 1]);
    let path = folder.path().join("bespoke.toml");
    let read = |value: &str| {
        std::fs::write(&path, format!("[plugins.a]\nkey = '{value}'\n")).unwrap();
        let home = ("HOME".to_owned(), folder.path().display().to_string());
        Config::read(&path).unwrap().with_env([home]).with_source(std::sync::Arc::new(Vault))
    };
    for (written, value) in [
        ("${file:key}", "f1le-v4lue"),
        ("${file:~/key}", "f1le-v4lue"),
        (&format!("${{file:{}/key}}", folder.path().display()), "f1le-v4lue"),
        ("Bearer ${file:key} or ${keyring:bespoke/token}", "Bearer f1le-v4lue or v4ult-v4lue"),
        ("${file:two}", "line one\nline two"),
    ] {
        let config = read(written);
        assert_eq!(config.plugin("a").unwrap()["key"], value);
        assert_eq!(config.get("plugins.a.key"), Some(json!(written)));
        assert!(!config.redactor().redact(value).contains("v4lue"), "{written}");
    }
    let mut said = String::new();
    for value in [
        "${file:absent}",
        "${file:}",
        "${file:.}",
        "${file:empty}",
        "${file:bytes}",
        "${file:long}",
        "${keyring:bespoke/nobody}",
        "${keyring:bespoke/broken}",
        "${vault:x}",
    ] {
        said += &format!("{}\n", read(value).plugin("a").unwrap_err());
    }
    std::fs::write(&path, "[plugins.a]\nkey = '${keyring:a/b}'\n").unwrap();
    said += &format!("{}\n", Config::read(&path).unwrap().plugin("a").unwrap_err());
    expect![[r#"
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/absent, which is not there; write the secret into /home/absent
        /home/bespoke.toml:2:1: plugins.a.key: `${file:}` names no file; write ${file:/a/path} or ${file:~/a/path}
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/., which is no plain file; name the file that holds the secret
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/empty, which is empty; write the secret into /home/empty
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/bytes, which is no UTF-8; name a text file that holds the secret alone
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/long, which is longer than 64 KiB; name a file that holds the secret alone
        /home/bespoke.toml:2:1: plugins.a.key: refers to `bespoke/nobody`, which the keyring does not hold; vault store bespoke/nobody
        /home/bespoke.toml:2:1: plugins.a.key: the keyring cannot be asked for `bespoke/broken`: it is locked; write ${NAME} or ${file:/a/path} instead
        /home/bespoke.toml:2:1: plugins.a.key: `${vault:x}` names no variable; write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`
        /home/bespoke.toml:2:1: plugins.a.key: `${keyring:a/b}`: this program reads no keyring; build with the feature keyring, or write ${NAME} or ${file:/a/path} instead
    "#]].assert_eq(&said.replace(&folder.path().display().to_string(), "/home"));
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "f1le-v4lue").unwrap();
    let config = parse(&format!("[plugins.a]\nkey = '${{file:{}}}'\n", key.display()));
    for (mode, told) in [(0o600, 0), (0o400, 0), (0o640, 1), (0o644, 1)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let warnings = config.open_secret_files();
        assert_eq!(warnings.len(), told, "{mode:o}");
        for warning in warnings {
            assert_eq!((warning.place.as_str(), warning.fix.unwrap()), ("bespoke.toml:2:1", format!("chmod 600 {}", key.display())));
        }
    }
}

#[tokio::test]
async fn the_secrets_of_a_plugin_are_checked_and_kept_from_it() {
    let asks = |plug: Plug| plug.provides(says("x", "x")).extra("[permissions]\nsecrets = [\"api_key\"]\n");
    let check = async |text: &str| {
        let host = Host::builder().config(parse(text)).plugins([asks(Plug::new("a"))]).build().unwrap();
        host.check_config().await.map_err(|e| format!("{e}\n")).err().unwrap_or_else(|| "right\n".into())
    };
    let mut said = String::new();
    for text in [
        "[plugins.a.secrets]\napi_key = '${TOKEN}'\n",
        "[plugins.a.secrets]\napi_key = 'literal-value'\n",
        "[plugins.a.secrets]\napi_key = '${NOBODY}'\n",
        "[plugins.a.secrets]\napi_key = ''\n",
        "[plugins.a.secrets]\napi_key = 3\n",
        "[plugins.a.secrets]\napi_kye = '${TOKEN}'\n",
        "[plugins.a]\nsecrets = 'x'\n",
    ] {
        said += &check(text).await;
    }
    expect![[r#"
        right
        right
        bespoke.toml:2:1: plugins.a.secrets.api_key: refers to ${NOBODY}, which is not set; export NOBODY=…
        bespoke.toml:2:1: plugins.a.secrets.api_key: is empty; export A_API_KEY=…, or bespoke config set-secret plugins.a.secrets.api_key < FILE
        bespoke.toml:2:1: plugins.a.secrets.api_key: must be a string; export A_API_KEY=…, or bespoke config set-secret plugins.a.secrets.api_key < FILE
        bespoke.toml:2:1: plugins.a.secrets.api_kye: is no secret that the plugin asks for; did you mean `api_key`?
        bespoke.toml:2:1: plugins.a.secrets: must be a table; write [plugins.a.secrets] above the secrets
    "#]].assert_eq(&said);

    let config = parse("[plugins.a]\nx = 1\n[plugins.a.secrets]\napi_key = 'literal-value'\n");
    assert_eq!(config.plugin("a").unwrap(), json!({ "x": 1 }), "the table is the host's");
    assert_eq!(config.secret("a", "api_key").unwrap(), "literal-value");
    assert_eq!(config.redactor().redact("a literal-value"), "a ***");
    let variable = [("A_API_KEY".to_owned(), "from-variable".to_owned())];
    assert_eq!(config.with_env(variable.clone()).secret("a", "api_key").unwrap(), "literal-value", "what is configured goes first");
    assert_eq!(parse("").with_env(variable).secret("a", "api_key").unwrap(), "from-variable");
    let over = [("BESPOKE_PLUGINS__A__SECRETS__API_KEY".to_owned(), "from-override".to_owned())];
    let config = parse("[plugins.a.secrets]\napi_key = 'literal-value'\n").with_env(over);
    assert_eq!(config.secret("a", "api_key").unwrap(), "from-override");
    assert_eq!(config.redactor().redact("from-override"), "***");
}

#[test]
fn what_a_schema_calls_secret_is_learned_and_told_where_it_is_typed() {
    let schema = json!({
        "properties": {
            "token": { "type": "string", "x-secret": true },
            "password": { "type": "string", "format": "password" },
            "people": { "items": { "$ref": "#/$defs/Person" } },
            "plain": { "type": "string" },
        },
        "$defs": { "Person": { "properties": { "pin": { "type": "string", "x-secret": true } } } },
    });
    let text = "[plugins.a]\ntoken = 'literal-one'\npassword = '${TOKEN}'\nplain = 'no-secret'\npeople = [{ pin = 'literal-two' }]\n";
    let config = parse(text);
    config.learn_secrets("plugins.a", &schema);
    assert_eq!(config.redactor().redact("literal-one literal-two no-secret ${TOKEN} t0k3n-t0k3n"), "*** *** no-secret ${TOKEN} ***");
    let warnings: String = config.literal_secrets("plugins.a", &schema).iter().map(|w| format!("{w}\n")).collect();
    expect![[r#"
        bespoke.toml:2:1: plugins.a.token: a secret is typed into the configuration; move it out: bespoke config set-secret plugins.a.token < FILE
        bespoke.toml:5:13: plugins.a.people[0].pin: a secret is typed into the configuration; write it into a file that only you can read, and '${file:/that/file}' here
    "#]].assert_eq(&warnings);
}

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

#[test]
fn two_writers_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bespoke.toml");
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (path, barrier) = (&path, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for k in 0..5 {
                    let file = ConfigFile::lock(path).unwrap();
                    let text = file.read().unwrap().set(&format!("writer{n}.key{k}"), "1").unwrap();
                    file.write(&text).unwrap();
                }
            });
        }
    });
    let config = Config::read(&path).unwrap();
    for (n, k) in (0..4).flat_map(|n| (0..5).map(move |k| (n, k))) {
        assert_eq!(config.get(&format!("writer{n}.key{k}")), Some(json!(1)));
    }
}

#[test]
fn edits_keep_what_stands_around_them() {
    let mut said = String::new();
    for (text, key, value) in [
        ("# Only words.\n", "agent.system", "x"),
        ("# Mine.\n# All mine.\n\n# The agent.\n[agent]\nx = 1\n", "config_version", "1"),
        ("# The agent.\n[agent]\nx = 1\n", "config_version", "1"),
        ("[agent]\nx = 1\n\n# Later.\n[voice]\ny = 2 # two\n\n# The end.\n", "agent.z", "[1, 2]"),
        ("agent.x = 1 # dotted\n", "agent.y", "2"),
        ("agent = { x = 1, y = 2 } # inline\n", "agent.y", "3"),
        ("[plugins.a]\nx = 1\n[plugins.b]\nx = 1\n", "plugins.cpu_budget", "2"),
    ] {
        said += &format!("--- {key}\n{}", parse(text).set(key, value).unwrap());
    }
    for (text, key) in
        [("[agent]\nx = 1 # one\n# Of y.\ny = 2\n", "agent.x"), ("# Head.\na = 1\n[b]\n", "a"), ("[agent]\nx = { y = 1 }\n", "agent.x")]
    {
        said += &format!("--- without {key}\n{}", parse(text).unset(key).unwrap());
    }
    expect![[r#"
        --- agent.system
        # Only words.
        [agent]
        system = "x"
        --- config_version
        # Mine.
        # All mine.

        config_version = 1

        # The agent.
        [agent]
        x = 1
        --- config_version
        config_version = 1

        # The agent.
        [agent]
        x = 1
        --- agent.z
        [agent]
        x = 1
        z = [1, 2]

        # Later.
        [voice]
        y = 2 # two

        # The end.
        --- agent.y
        agent.x = 1 # dotted
        agent.y = 2
        --- agent.y
        agent = { x = 1, y = 3 } # inline
        --- plugins.cpu_budget
        [plugins]
        cpu_budget = 2
        [plugins.a]
        x = 1
        [plugins.b]
        x = 1
        --- without agent.x
        [agent]
        # Of y.
        y = 2
        --- without a
        # Head.
        [b]
        --- without agent.x
        [agent]
    "#]]
    .assert_eq(&said);
    let mut refused = String::new();
    for key in ["agent.absent", "agent", "", "agent.x.y", "absent.x"] {
        refused += &format!("{}\n", parse("[agent]\nx = 1\n").unset(key).unwrap_err());
    }
    expect![[r#"
        bespoke.toml:1:2: agent.absent: is not set in the file
        bespoke.toml:1:2: agent: is a table; unset one of its keys, such as agent.NAME, or remove the table by hand
        bespoke.toml: is no key; write it as section.key or plugins.id.key
        bespoke.toml:2:1: agent.x.y: is not set in the file
        bespoke.toml: absent.x: is not set in the file
    "#]]
    .assert_eq(&refused);
    // Line ends and the mark of other systems stay.
    let windows = "\u{feff}# Mine.\r\n[agent]\r\nx = 1\r\n\r\n[voice]\r\n";
    assert_eq!(parse(windows).set("agent.y", "2").unwrap(), windows.replace("x = 1\r\n", "x = 1\r\ny = 2\r\n"));
}

#[test]
fn what_is_no_utf_8_is_refused_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bespoke.toml");
    let mut said = String::new();
    for bytes in [&b"[agent]\nsystem = \"caf\xe9\"\n"[..], b"\xff\xfe[\0a\0]\0"] {
        std::fs::write(&path, bytes).unwrap();
        said += &format!("{}\n", Config::read(&path).map(|_| ()).unwrap_err());
    }
    expect![[r#"
        /home/bespoke.toml:2:14: is no UTF-8: there is a byte 0xe9; save it as UTF-8
        /home/bespoke.toml:1:1: is no UTF-8: there is a byte 0xff; it looks like UTF-16; save it as UTF-8
    "#]]
    .assert_eq(&said.replace(&folder.path().display().to_string(), "/home"));
}

#[test]
fn a_new_table_stands_below_the_comments_that_end_the_file() {
    let text = "[plugins.clock]\n# time_zone = \"UTC\"\n";
    let config = Config::parse("bespoke.toml", text).unwrap();
    assert_eq!(
        config.set("plugins.files.write", "true").unwrap(),
        "[plugins.clock]\n# time_zone = \"UTC\"\n\n[plugins.files]\nwrite = true\n"
    );
    // A table that is there already, and a key of the last one, are changed where they stand.
    assert_eq!(config.set("plugins.clock.enabled", "true").unwrap(), "[plugins.clock]\nenabled = true\n# time_zone = \"UTC\"\n");
    let inline = Config::parse("bespoke.toml", "plugins = { clock = { enabled = true } }\n# the end\n").unwrap();
    assert!(Config::parse("bespoke.toml", &inline.set("plugins.files.write", "true").unwrap()).is_ok());
}
