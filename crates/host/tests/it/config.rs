//! bespoke.toml: every mistake with file, line, column and key; references, secrets, edits; one plugin's mistake its own.

use bespoke_host::{Config, ConfigError, Host, PluginDefaults, Selection};
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
        bespoke.toml:2:14: is no TOML: unexpected key or value, expected newline, `#`; write a key before the `=`
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
        bespoke.toml:2:1: plugins.clock: unknown key; known keys: auto_install, start_timeout_ms, stop_timeout_ms, call_timeout_ms, cpu_budget
        bespoke.toml:1:1: plugins: must be a table; write [plugins] above its keys
        bespoke.toml:1:11: plugins.clock: must be a table, not an array; write [plugins.clock] once, with single brackets
    "#]].assert_eq(&said);
    let defaults = parse("[plugins]\nauto_install = true\n[plugins.x]\ny = 1\n").plugin_defaults().unwrap();
    assert!(defaults.auto_install && defaults.call_timeout_ms == 120_000);
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
        dice failed: bespoke.toml:2:1: plugins.dice.enabled: must be true or false
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
