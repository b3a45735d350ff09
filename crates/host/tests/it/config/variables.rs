//! Variables of the environment that go before the file.

use super::*;

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
