//! Manifests of other systems: every sample of their documents is a fixture, with what becomes of it; and what bad ones are told.

use std::fmt::Write;

use bespoke_manifest::{Manifest, Permission, Run};
use expect_test::{Expect, expect};

macro_rules! fixture {
    ($path:literal) => {
        ($path, include_str!(concat!("dialects/", $path)))
    };
}

/// All that a manifest says, without what it leaves to defaults.
fn told(m: &Manifest) -> String {
    let mut out = format!("{} {} ({}): {}\n{} by {}, {}\n", m.id, m.version, m.dialect.name(), m.name, m.description, m.author, m.license);
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{key}: {value}");
        }
    };
    line("repository", m.repository.clone().unwrap_or_default());
    line("keywords", m.keywords.join(", "));
    line("categories", m.categories.join(", "));
    line("protocol", m.protocol.to_string());
    line("tiers", m.tiers.iter().map(|tier| tier.name()).collect::<Vec<_>>().join(", "));
    let provides =
        m.provides.iter().map(|p| format!("{}:{}{}", p.kind, p.name.as_deref().unwrap_or("*"), if p.dynamic { "?" } else { "" }));
    line("provides", provides.collect::<Vec<_>>().join(", "));
    let requires = m.requires.iter().map(|r| format!("{} {}{}", r.plugin, r.version, if r.optional { "?" } else { "" }));
    line("requires", requires.collect::<Vec<_>>().join(", "));
    for permission in Permission::ALL.iter().copied() {
        let items = m.permissions.items(permission).join("; ");
        let optional = if m.optional.contains(&permission) { " (optional)" } else { "" };
        line(permission.name(), if items.is_empty() { items } else { items + optional });
    }
    line("resources", m.resources.set().map(|(limit, value)| format!("{} {value}", limit.key)).collect::<Vec<_>>().join(", "));
    if let Some(process) = &m.process {
        match &process.run {
            Run::Python(module) => line("python", module.clone()),
            other => line("process", format!("{other:?}")),
        }
        line("requirements", process.requirements.join(", "));
    }
    line("config_schema", m.config_schema.as_ref().map(ToString::to_string).unwrap_or_default());
    line("cannot run", m.unrunnable.clone().unwrap_or_default());
    out
}

#[test]
fn every_sample_becomes_a_manifest() {
    let check = |(path, text): (&str, &str), expected: Expect| expected.assert_eq(&told(&Manifest::read(path, text).unwrap()));
    check(
        fixture!("my_tts_plugin/manifest.json"),
        expect![[r#"
        my_tts_plugin 1.0.0 (App Factory): My TTS Plugin
        A custom text-to-speech plugin by Your Name, NOASSERTION
        protocol: *
        tiers: process
        provides: tts:my_tts_plugin
        python: __init__
        config_schema: {"type":"object","properties":{"voice":{"type":"string","default":"default"}}}
    "#]],
    );
    check(
        fixture!("tts_kokoro/manifest.json"),
        expect![[r#"
        tts_kokoro 1.2.0 (App Factory): Kokoro TTS
        High-quality neural TTS using Kokoro models by Piovis Development, NOASSERTION
        protocol: *
        tiers: process
        provides: tts:tts_kokoro
        python: main
        requirements: torch>=2.0.0, soundfile>=0.12.0, numpy>=1.24.0
        config_schema: {"type":"object","properties":{"model_path":{"type":"string","description":"Path to model weights"},"device":{"type":"string","enum":["cpu","cuda"],"default":"cpu"},"sample_rate":{"type":"integer","default":24000}},"required":["model_path"]}
    "#]],
    );
    check(
        fixture!("app-factory-all/manifest.json"),
        expect![[r#"
        mcp_bridge_plugin 0.2.0 (App Factory): mcp_bridge_plugin
        mcp_bridge_plugin by unknown, MIT
        repository: https://example.com/bridge
        keywords: mcp, tools
        protocol: *
        tiers: process
        provides: tool:*?
        python: bridge.main
        config_schema: {"type":"object","properties":{"port":{"type":"integer","default":7000},"host":{"default":"localhost"}}}
    "#]],
    );
    check(
        fixture!("lao/plugin.toml"),
        expect![[r#"
        my-awesome-plugin 1.0.0 (LAO): MyAwesomePlugin
        A plugin that does awesome things by Plugin Developer <contact@jakea.net>, MIT
        repository: https://github.com/user/my-awesome-plugin
        keywords: ai, processing, awesome
        categories: ai-tools, data-processing
        protocol: *
        tiers: dylib
        provides: tool:process
        requires: some-dependency ^1.0.0
        network_access: * (optional)
        resources: memory_mb 512, cpu_percent 50
        config_schema: {"properties":{"max_tokens":{"default":2048,"type":"integer"},"model_path":{"description":"Path to model file","type":"string"}},"type":"object"}
        cannot run: it is a library for LAO's own C interface, which would run inside the program
    "#]],
    );
    check(
        fixture!("aisopod/aisopod.plugin.toml"),
        expect![[r#"
        my-plugin 1.0.0 (aisopod): My Plugin
        My Plugin by unknown, NOASSERTION
        protocol: *
        tiers: dylib
        provides: channel:custom-channel, tool:custom-tool
        cannot run: it is a Rust library for aisopod, whose interface holds only for the compiler that built both
    "#]],
    );
    check(
        fixture!("aisopod-code/aisopod.plugin.toml"),
        expect![[r#"
        weather 0.3.1 (aisopod): Weather
        Says how the weather is. by Somebody, NOASSERTION
        protocol: *
        tiers: dylib
        provides: tool:forecast, provider:sky, command:weather, hook:before-agent-run, hook:on-session-end
        cannot run: it is a Rust library for aisopod, whose interface holds only for the compiler that built both
    "#]],
    );
}

#[test]
fn the_name_of_the_file_and_a_table_tell_the_dialect() {
    let native = Manifest::read("/a/b/plugin.toml", crate::HEAD).unwrap();
    assert_eq!((native.dialect.name(), native.id.as_str()), ("native", "dice"));
    let windows = Manifest::read("C:\\a\\plugin.toml", crate::HEAD).unwrap();
    assert_eq!(windows.id, "dice");
    let error = Manifest::read("a/plugins.toml", crate::HEAD).unwrap_err();
    expect!["a/plugins.toml:1:1: `plugins.toml` is no name of a manifest; name it plugin.toml, manifest.json, aisopod.plugin.toml"]
        .assert_eq(&error.to_string());
}

/// What a text is told under a name.
fn refused(path: &str, text: &str, expected: Expect) {
    expected.assert_eq(&Manifest::read(path, text).expect_err(text).to_string());
}

#[test]
fn json_is_read_with_positions() {
    let json = |text: &str, expected| refused("x/manifest.json", text, expected);
    json("", expect!["x/manifest.json:1:1: this is not JSON: EOF while parsing a value; mend the syntax"]);
    json("[]", expect!["x/manifest.json:1:1: this is not JSON: the text is no object; mend the syntax"]);
    json(
        "{\n  \"name\": \"a\",\n  \"version\": 1.0.0\n}",
        expect!["x/manifest.json:3:17: this is not JSON: expected `,` or `}`; mend the syntax"],
    );
    json(
        "{\n  \"name\": \"a_b\",\n  \"name\": \"a_c\"\n}",
        expect!["x/manifest.json:3:3: this is not JSON: duplicate key; mend the syntax"],
    );
    json(
        "{}",
        expect![[r#"
        x/manifest.json:1:1: contract: it is missing; write the contract that the plugin implements, such as tts
        x/manifest.json:1:1: entry_point: it is missing; write the module of Python that holds the plugin, such as main
        x/manifest.json:1:1: name: it is missing; write the name of the plugin
        x/manifest.json:1:1: version: it is missing; write the version, such as 1.0.0"#]],
    );
    json(
        r#"{
  "name": "My Plugin", "version": "1", "contract": "tss",
  "entry_point": "main.py",
  "dependancies": [], "dependencies": ["numpy", 7, "--index-url=x"],
  "tags": "tts", "author": { "name": "x" },
  "default_config": [],
  "config_schema": { "type": "object", "properties": { "limits": {} } }
}"#,
        expect![[r#"
            x/manifest.json:2:3: name: `My Plugin` begins with 'M'; use a to z, 0 to 9, `_` and `-`, beginning with a letter
            x/manifest.json:2:24: version: `1` is no version: unexpected end of input while parsing major version number; write MAJOR.MINOR.PATCH, such as 0.1.0
            x/manifest.json:2:40: contract: `tss` is no contract; did you mean `tts`?
            x/manifest.json:4:3: dependancies: there is no such key; did you mean `dependencies`?
            x/manifest.json:4:49: dependencies[1]: it is an integer; write a string in quotes
            x/manifest.json:4:52: dependencies[2]: `--index-url=x` is no package; write its name and the versions that fit, such as numpy>=1.24
            x/manifest.json:5:3: tags: it is a string; write a list
            x/manifest.json:5:18: author: it is an object; write a string in quotes
            x/manifest.json:6:3: default_config: it is no configuration; write an object of keys and values
            x/manifest.json:7:3: config_schema: its property `limits` is a key of the host in the table of every plugin; rename it: enabled, secrets, path, sandbox, allow_native, start, idle_stop_ms, command_timeout_ms, limits, auto_install_deps are the host's"#]],
    );
    json(
        "{\"é\": \"ü\", \"näme\": 1}",
        expect![[r#"
        x/manifest.json:1:1: contract: it is missing; write the contract that the plugin implements, such as tts
        x/manifest.json:1:1: entry_point: it is missing; write the module of Python that holds the plugin, such as main
        x/manifest.json:1:1: name: it is missing; write the name of the plugin
        x/manifest.json:1:1: version: it is missing; write the version, such as 1.0.0
        x/manifest.json:1:2: é: there is no such key; the keys here are name, display_name, version, description, author, contract, entry_point, dependencies, config_schema, default_config, license, repository, tags, homepage, python_requires, platforms, gpu_required, gpu_recommended, min_memory_mb, capabilities, icon, screenshots
        x/manifest.json:1:12: näme: there is no such key; did you mean `name`?"#]],
    );
    json(&"[".repeat(100_000), expect!["x/manifest.json:1:128: this is not JSON: recursion limit exceeded; mend the syntax"]);
    json(
        &format!("{{\"config_schema\": {}1{}}}", "{\"a\":".repeat(200), "}".repeat(200)),
        expect!["x/manifest.json:1:649: this is not JSON: recursion limit exceeded; mend the syntax"],
    );
}

#[test]
fn lao_is_told_where_and_what() {
    refused(
        "plugin.toml",
        "[plugin]\n",
        expect![[r#"
        plugin.toml:1:2: plugin.name: it is missing; write the name of the plugin
        plugin.toml:1:2: plugin.version: it is missing; write the version, such as 1.0.0"#]],
    );
    refused("plugin.toml", "plugin = 1\n", expect!["plugin.toml:1:1: plugin: it is an integer; write a table of keys and values"]);
    refused(
        "plugin.toml",
        r#"top = 1
[plugin]
name = "Über"
version = "1.0"
min_lao_version = "0.1.0"
licence = "MIT"

[[dependencies]]
name = "SomeDependency"
version = ">=x"
otpional = true

[[capabilities]]
description = "x"

[[capabilities]]
name = "run"

[[capabilities]]
name = "Run"

[permissions]
required = ["read_file", "sudo"]
granted = []

[resources]
max_memory_mb = "512"
max_cpu_percent = -1.5
file_access = ["../up", "/etc", ""]
network_access = "no"
"#,
        expect![[r#"
            plugin.toml:1:1: top: there is no such key; the keys here are plugin, dependencies, capabilities, permissions, resources, config_schema
            plugin.toml:3:1: plugin.name: `Über` begins with 'Ü'; use a to z, 0 to 9, `_` and `-`, beginning with a letter
            plugin.toml:4:1: plugin.version: `1.0` is no version: unexpected end of input while parsing minor version number; write MAJOR.MINOR.PATCH, such as 0.1.0
            plugin.toml:6:1: plugin.licence: there is no such key; did you mean `license`?
            plugin.toml:10:1: dependencies[0].version: `>=x` is no range of versions: unexpected character 'x' while parsing major version number; write one such as "1" or ">=1.2, <3"
            plugin.toml:11:1: dependencies[0].otpional: there is no such key; did you mean `optional`?
            plugin.toml:13:1: capabilities[0].name: it is missing; name the capability
            plugin.toml:20:1: capabilities[2].name: the tool `run` stands here twice; remove one of them
            plugin.toml:23:13: permissions.required[0]: `read_file` is no permission; did you mean `read_files`?
            plugin.toml:23:26: permissions.required[1]: `sudo` is no permission; use one of read_files, write_files, network_access, system_access, plugin_communication
            plugin.toml:24:1: permissions.granted: there is no such key; the keys here are required, optional
            plugin.toml:27:1: resources.max_memory_mb: it is a string; write a whole number from 1 to 1048576
            plugin.toml:28:1: resources.max_cpu_percent: -1.5 is out of range; write a number from 1 to 102400
            plugin.toml:29:16: resources.file_access[0]: `../up` can stand for more than one place; write a folder without ..
            plugin.toml:29:33: resources.file_access[2]: `` can stand for more than one place; write a folder without ..
            plugin.toml:30:1: resources.network_access: it is a string; write true or false"#]],
    );
}

#[test]
fn what_lao_asks_for_becomes_permissions() {
    let table = [
        ("nothing", "", ""),
        (
            "all",
            "required = [\"read_files\", \"write_files\", \"network_access\", \"system_access\", \"plugin_communication\"]",
            "file_access = [\"./data\", \"/srv/x\", \"~/y\"]",
        ),
        ("network, but not by default", "required = [\"network_access\"]", "network_access = false"),
        ("network, by default", "optional = [\"network_access\"]", "network_access = true"),
        ("network, by a resource alone", "", "network_access = true"),
        ("half a processor and a bit", "", "max_cpu_percent = 50.1\nmax_memory_mb = 1"),
    ];
    let all = table.map(|(what, permissions, resources)| {
        let text = format!("[plugin]\nname = \"x\"\nversion = \"1.0.0\"\n[permissions]\n{permissions}\n[resources]\n{resources}\n");
        let told = told(&Manifest::read("plugin.toml", &text).unwrap());
        let kept = told
            .lines()
            .filter(|l| l.contains("_access: ") || l.contains("_files: ") || l.contains("communication") || l.contains("resources"));
        format!("{what}\n{}", kept.map(|line| format!("  {line}\n")).collect::<String>())
    });
    expect![[r#"
        nothing
        all
          network_access: *
          read_files: /srv/x; ~/y
          write_files: /srv/x; ~/y
          system_access: *
          plugin_communication: tool; embedder; event:*
        network, but not by default
          network_access: * (optional)
        network, by default
          network_access: * (optional)
        network, by a resource alone
          network_access: *
        half a processor and a bit
          resources: memory_mb 1, cpu_percent 51
    "#]]
    .assert_eq(&all.concat());
}

#[test]
fn aisopod_is_told_where_and_what() {
    refused(
        "x/aisopod.plugin.toml",
        "[plugin]\nid = \"../up\"\nname = \"Up\"\nversion = \"1.0.0\"\nentry = \"../lib.so\"\n[capabilities]\ntool = []\nhooks = [\"a b!\", \"OnEnd\", \"on-end\"]\n",
        expect![[r#"
            x/aisopod.plugin.toml:2:1: plugin.id: `../up` begins with '.'; use a to z, 0 to 9, `_` and `-`, beginning with a letter
            x/aisopod.plugin.toml:5:1: plugin.entry: `../lib.so` is no file in the plugin's folder; write the name of the library
            x/aisopod.plugin.toml:7:1: capabilities.tool: there is no such key; did you mean `tools`?
            x/aisopod.plugin.toml:8:10: capabilities.hooks[0]: `a-b!` holds '!'; use a to z, 0 to 9, `_` and `-`, beginning with a letter
            x/aisopod.plugin.toml:8:27: capabilities.hooks[2]: the hook `on-end` stands here twice; remove one of them"#]],
    );
    refused(
        "aisopod.plugin.toml",
        "[plugin]\nid = \"a\"\nname = \"A\"\nversion = \"1.0.0\"\n",
        expect!["aisopod.plugin.toml:1:2: plugin.entry_point: it is missing; write the name of the library"],
    );
    refused(
        "aisopod.plugin.toml",
        "[plugin]\nid = \"a\"\nname = \"A\"\nversion = \"1.0.0\"\nentry = \"a\"\nentry_point = \"b\"\n",
        expect!["aisopod.plugin.toml:6:1: plugin.entry_point: there are both entry and entry_point; keep one of them"],
    );
}

#[test]
fn every_prefix_of_a_sample_is_an_answer() {
    for (path, text) in [
        fixture!("my_tts_plugin/manifest.json"),
        fixture!("tts_kokoro/manifest.json"),
        fixture!("app-factory-all/manifest.json"),
        fixture!("lao/plugin.toml"),
        fixture!("aisopod/aisopod.plugin.toml"),
    ] {
        for (end, _) in text.char_indices() {
            if let Err(error) = Manifest::read(path, &text[..end]) {
                let lines = u32::try_from(text.split('\n').count()).unwrap();
                assert!(error.problems().iter().all(|p| (1..=lines).contains(&p.position.line) && p.position.column >= 1), "{error}");
            }
        }
    }
}
