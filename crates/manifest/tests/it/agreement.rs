//! Declared must equal registered, and the manifest must be that of its descriptor.

use bespoke_manifest::Manifest;
use bespoke_plugin_api::{Descriptor, Package, Plugin, PluginApi, PluginContext, Result, Spec, ToolSpec, VadSpec};
use expect_test::expect;

use crate::{FULL, HEAD};

fn tools(names: &[&str]) -> Vec<Spec> {
    names.iter().map(|name| Spec::Tool(ToolSpec::new(*name, ""))).collect()
}

#[test]
fn equal_sets_agree_in_any_order() {
    let full = Manifest::parse("p.toml", FULL, None).unwrap();
    let mut registered = vec![Spec::Vad(VadSpec::new("rattle"))];
    registered.extend(tools(&["roll"]));
    assert_eq!(full.check_provides(&registered), Ok(()));
    let none = Manifest::parse("p.toml", HEAD, None).unwrap();
    assert_eq!(none.check_provides(&[]), Ok(()));
}

#[test]
fn both_directions_are_named() {
    let manifest = Manifest::parse("p.toml", FULL, None).unwrap();
    // Any tool may be offered at run time, so it may be at once; the manifest says so of no detector.
    let mut registered = tools(&["rol", "rol"]);
    registered.push(Spec::Vad(VadSpec::new("ratle")));
    let error = manifest.check_provides(&registered).unwrap_err();
    expect![[r#"p.toml declares tool `roll`, which register() does not contribute: contribute it, or remove the entry; it declares vad `rattle`, which register() does not contribute: contribute it, or remove the entry; it does not declare vad `ratle`, which register() contributes: add [[provides]] kind = "vad", name = "ratle"; it belongs to a plugin whose register() contributes tool `rol` twice: contribute it once"#]].assert_eq(&error.to_string());
}

struct Nothing;

impl Plugin for Nothing {
    type Config = ();
    fn register(_: &mut PluginApi<Self>) {}
    async fn start(_: PluginContext, (): ()) -> Result<Self> {
        Ok(Nothing)
    }
}

fn descriptor(id: &'static str, manifest: &'static str) -> Descriptor {
    let package = Package { name: "bespoke-tool-dice", version: "0.4.0", license: "MIT", manifest, config_schema: "{}" };
    Descriptor::of::<Nothing>(id, package)
}

#[test]
fn a_manifest_belongs_to_its_descriptor() {
    assert_eq!(Manifest::of(&descriptor("dice", HEAD)).unwrap().path, "bespoke-tool-dice/plugin.toml");
    let error = Manifest::of(&descriptor("die", HEAD)).unwrap_err();
    expect!["bespoke-tool-dice/plugin.toml:1:1: id: it is `dice`, and `die` in plugin!(…); write the same id in both"]
        .assert_eq(&error.to_string());
}
