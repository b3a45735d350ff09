//! What a file says: defaults, mistakes with their places, values by their keys.

use super::*;

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
fn a_value_is_read_by_its_dotted_key() {
    let config = parse("[agent]\ntools = ['clock']\n[plugins.a]\nx = 1\n");
    assert_eq!(config.get("agent.tools"), Some(json!(["clock"])));
    assert_eq!(config.get("plugins"), Some(json!({ "a": { "x": 1 } })));
    assert_eq!((config.get("agent.nothing"), config.get("agent.tools.deep")), (None, None));
    assert_eq!(config.plugin_ids(), ["a"]);
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
