//! What a good manifest says.

use bespoke_manifest::{HttpHosts, Inherited, Manifest, Permission, Position, Resources, Run, Source, Tier};
use bespoke_plugin_api::Kind;

use crate::{FULL, HEAD};

#[test]
fn every_key_is_read() {
    let m = Manifest::parse("dice/plugin.toml", FULL, None).unwrap();
    assert_eq!((m.id.as_str(), m.name.as_str(), m.version.to_string().as_str()), ("dice", "Dice", "0.1.0"));
    assert_eq!((m.description.as_str(), m.author.as_str(), m.license.as_str()), ("Rolls a die.", "The example authors", "Apache-2.0"));
    assert_eq!(m.repository.as_deref(), Some("https://example.com/dice"));
    assert_eq!((m.keywords.join(" "), m.categories.join(" ")), ("dice chance".into(), "games".into()));
    assert!(m.protocol.matches(&"2.9.0".parse().unwrap()) && !m.protocol.matches(&"3.0.0".parse().unwrap()));
    assert_eq!(m.tiers, Tier::ALL);
    assert_eq!(m.kinds(), [Kind::Tool, Kind::Vad]);
    assert!(m.is_dynamic(Kind::Tool) && !m.is_dynamic(Kind::Vad));
    assert!(m.may_publish(Kind::Tool, "any") && !m.may_publish(Kind::Vad, "any"));
    let named = Manifest::parse("p.toml", &format!("{HEAD}[[provides]]\nkind = \"tool\"\nname = \"run\"\ndynamic = true\n"), None);
    let named = named.unwrap();
    assert!(named.may_publish(Kind::Tool, "run") && !named.may_publish(Kind::Tool, "walk"));
    assert_eq!(named.check_provides(&[]), Ok(()), "register() does not contribute what is published");
    let requires: Vec<_> = m.requires.iter().map(|r| format!("{} {} {}", r.plugin, r.version, r.optional)).collect();
    assert_eq!(requires, ["clock ^0.1 false", "table * true"]);
    let http = m.permissions.network_access.iter().map(|access| match &access.hosts {
        HttpHosts::Named(host) => format!("{host} {}", access.private),
        HttpHosts::Configured { key, default, .. } => format!("<{key}> {default:?} {}", access.private),
        other => panic!("{other:?}"),
    });
    let expected = [
        "api.example.com false",
        "*.example.org:8443 false",
        "* false",
        "127.0.0.1:80 false",
        "[::1]:* false",
        "localhost:8080 true",
        "<allow> [\"*\"] false",
        "<servers.url> [] true",
    ];
    assert_eq!(http.collect::<Vec<_>>(), expected);
    assert!(m.permissions.direct_network);
    assert_eq!(
        (&m.permissions.read_files[..], &m.permissions.write_files[..]),
        (&["/usr/share/dice".to_owned()][..], &["~/dice".to_owned()][..])
    );
    assert_eq!((&m.permissions.env[..], &m.permissions.secrets[..]), (&["LANG".to_owned()][..], &["token".to_owned()][..]));
    assert_eq!(m.permissions.system_access, ["git", "/usr/bin/dice"]);
    assert_eq!(m.permissions.items(Permission::PluginCommunication), ["tool:clock", "embedder", "event:clock."]);
    assert!(m.permissions.may_call(Kind::Tool, "clock") && m.permissions.may_call(Kind::Embedder, "any"));
    assert!(!m.permissions.may_call(Kind::Tool, "shell") && !m.permissions.may_call(Kind::Vad, "clock"));
    assert!(m.permissions.may_hear("clock.tick") && !m.permissions.may_hear("clock") && !m.permissions.may_hear(""));
    assert_eq!(Vec::from_iter(m.optional), [Permission::WriteFiles, Permission::Env]);
    assert_eq!(m.reasons.len(), Permission::ALL.len());
    assert_eq!(m.reasons[&Permission::NetworkAccess], "asks for dice");
    let limits: Vec<_> = m.resources.set().map(|(limit, value)| (limit.key, value)).collect();
    let expected = [
        ("memory_mb", 512),
        ("address_space_mb", 2048),
        ("cpu_percent", 50),
        ("cpu_seconds", 600),
        ("disk_mb", 64),
        ("threads", 2),
        ("start_timeout_ms", 5000),
        ("open_files", 64),
        ("file_mb", 8),
        ("processes", 4),
        ("network_per_s", 10),
    ];
    assert_eq!(limits, expected);
    assert_eq!(limits.len(), Resources::LIMITS.len());
    assert_eq!(m.dylib.unwrap().file, "lib/libdice.so");
    let component = m.wasm.unwrap();
    assert_eq!((component.file.as_str(), component.wasi), ("dice.wasm", true));
    let process = m.process.unwrap();
    assert_eq!(process.run, Run::Python("dice.main".into()));
    assert_eq!(process.requirements, ["numpy>=1.24", "dice[fair]==1.2; python_version < '4'"]);
    let schema = serde_json::json!({ "type": "object", "properties": { "sides": { "type": "integer", "default": 6 }, "odds": { "type": "number", "maximum": 0.5 } } });
    assert_eq!(m.config_schema, Some(schema));
    let [model] = &m.models[..] else { panic!("{:?}", m.models) };
    assert_eq!((model.file.as_str(), model.size, model.license.as_str()), ("onnx/dice.onnx", 16, "MIT"));
    // That of its first package: the file names none.
    assert_eq!(model.version, "1.2.3");
    let [Source::Url(url), Source::Pip(pip), Source::Npm(npm)] = &model.sources[..] else { panic!("{:?}", model.sources) };
    assert_eq!(url, "https://models.example/dice.onnx");
    assert_eq!((pip.spec.as_str(), pip.archive_size, pip.python_version.as_deref()), ("dice-models==1.2.3", Some(99), Some("3.12")));
    assert_eq!((npm.spec.as_str(), npm.members.len(), npm.range), ("@games/dice@1.2.3", 2, Some((4, 20))));
}

#[test]
fn keys_know_their_places() {
    let m = Manifest::parse("dice/plugin.toml", FULL, None).unwrap();
    let at = |key| m.position(key).map(|Position { line, column }| (line, column));
    assert_eq!(at("id"), Some((1, 1)));
    assert_eq!(at("provides[2].name"), Some((23, 1)));
    assert_eq!(at("permissions.write_files[0]"), Some((36, 16)));
    assert_eq!(at("no.such"), None);
}

#[test]
fn the_crate_fills_in_what_a_compiled_in_plugin_leaves_out() {
    let text = HEAD.replace("version = \"0.1.0\"\nlicense = \"Apache-2.0\"\n", "");
    let m = Manifest::parse("x", &text, Some(Inherited { version: "3.2.1", license: "MIT" })).unwrap();
    assert_eq!((m.version.to_string(), m.license.as_str(), m.name.as_str()), ("3.2.1".into(), "MIT", "dice"));
    let own = Manifest::parse("x", HEAD, Some(Inherited { version: "3.2.1", license: "MIT" })).unwrap();
    assert_eq!(own.meta().version, "0.1.0");
}

#[test]
fn line_ends_and_marks_of_other_systems_do_not_matter() {
    let text = format!("\u{feff}{}", FULL.replace('\n', "\r\n"));
    let m = Manifest::parse("x", &text, None).unwrap();
    assert_eq!(m.position("provides[2].name").map(|p| p.line), Some(23));
}

#[test]
fn what_is_kept_of_permissions_is_kept_item_by_item() {
    let asked = Manifest::parse("dice/plugin.toml", FULL, None).unwrap().permissions;
    assert_eq!(asked.filtered(|_, _| true), asked);
    assert!(asked.filtered(|_, _| false).is_empty());
    for permission in Permission::ALL.iter().copied() {
        for item in asked.items(permission) {
            let one = asked.filtered(|p, i| (p, i) == (permission, &*item));
            let kept: Vec<_> = Permission::ALL.iter().flat_map(|p| one.items(*p)).collect();
            assert_eq!(kept, [item]);
        }
    }
}

#[test]
fn of_two_limits_the_lower_one_counts() {
    let limits = |text: &str| Manifest::parse("p.toml", &format!("{HEAD}[resources]\n{text}"), None).unwrap().resources;
    let both = limits("memory_mb = 8\ndisk_mb = 1\n").lowest(limits("memory_mb = 4\ndisk_mb = 2\nprocesses = 3\n"));
    assert_eq!(both, limits("memory_mb = 4\ndisk_mb = 1\nprocesses = 3\n"));
}
