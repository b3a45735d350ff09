//! Changes of single keys: whatever else stands in the file stays.

use super::*;

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

#[test]
fn a_new_table_parts_no_other_from_its_comments() {
    let text =
        "[plugins.clock]\nenabled = true\n# time_zone = \"UTC\"\n\n# Where plugins are reached.\n[gateway]\nlisten = \"127.0.0.1:1\"\n";
    let config = Config::parse("bespoke.toml", text).unwrap();
    assert_eq!(config.set("plugins.files.write", "true").unwrap(), format!("{text}\n[plugins.files]\nwrite = true\n"));
    assert_eq!(config.set("agent.max_tokens", "5").unwrap(), format!("{text}\n[agent]\nmax_tokens = 5\n"));
}

#[test]
fn a_table_that_holds_nothing_goes_and_its_neighbours_stay() {
    for (text, left) in [
        ("[a]\nx = 1\n\n[plugins.b]\n", "[a]\nx = 1\n"),
        ("[plugins.b]\n\n# Of c.\n[c]\n", "\n# Of c.\n[c]\n"),
        ("# Mine.\n[plugins.b]\n# x = 1\n", "# Mine.\n# x = 1\n"),
        ("\u{feff}[a]\r\n\r\n[plugins.b]\r\n[c]\r\n", "\u{feff}[a]\r\n[c]\r\n"),
        // What says something stays.
        ("[plugins.b]\nx = 1\n", "[plugins.b]\nx = 1\n"),
        ("[plugins.b] # why\n", "[plugins.b] # why\n"),
        ("[plugins.b]\n[plugins.b.c]\n", "[plugins.b]\n[plugins.b.c]\n"),
        ("[a]\nx = \"\"\"\n[plugins.b]\n\"\"\"\n", "[a]\nx = \"\"\"\n[plugins.b]\n\"\"\"\n"),
        ("[c]\n", "[c]\n"),
    ] {
        assert_eq!(Config::parse("bespoke.toml", text).unwrap().without_empty_table("plugins.b").unwrap(), left, "{text}");
    }
}
