//! What a good manifest says.

use bespoke_manifest::{Access, HttpHosts, Inherited, Manifest, Position, Source, Tier};
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
    let http = m.permissions.http.iter().map(|access| match &access.hosts {
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
    assert_eq!(m.permissions.files[0].access, Access::Write);
    assert_eq!(m.permissions.files[1].path, "/usr/share/dice");
    assert_eq!((&m.permissions.env[..], &m.permissions.secrets[..]), (&["LANG".to_owned()][..], &["token".to_owned()][..]));
    assert_eq!(m.permissions.process, ["git", "/usr/bin/dice"]);
    let calls: Vec<_> = m.permissions.calls.iter().map(|c| (c.kind, c.name.as_deref())).collect();
    assert_eq!(calls, [(Kind::Tool, Some("clock")), (Kind::Embedder, None)]);
    let r = m.resources;
    assert_eq!((r.memory_mb, r.disk_mb, r.threads, r.start_timeout_ms), (Some(512), Some(64), Some(2), Some(5000)));
    let [model] = &m.models[..] else { panic!("{:?}", m.models) };
    assert_eq!((model.file.as_str(), model.size, model.license.as_str()), ("onnx/dice.onnx", 16, "MIT"));
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
    assert_eq!(at("permissions.files[1].access"), Some((35, 77)));
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
