//! Tables of plugins: one plugin's mistake is its own.

use super::*;

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
