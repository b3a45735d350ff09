//! The configurations that docs/providers.md shows are ones that the plugin takes.

use bespoke_plugin_api::serde_json::Value;
use bespoke_plugin_testkit::{TestHost, block_on};
use bespoke_provider_openai::BESPOKE_PLUGIN;

#[test]
fn the_examples_are_configurations() {
    let text = include_str!("../../../../docs/providers.md");
    let mut tables = 0;
    for block in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()) {
        let value: Value = toml::from_str(block).unwrap_or_else(|e| panic!("{e}\n{block}"));
        if let Some(table) = value.pointer("/plugins/openai") {
            tables += 1;
            block_on(BESPOKE_PLUGIN.start(TestHost::new().context("openai"), table.clone())).unwrap_or_else(|e| panic!("{e}\n{block}"));
        }
    }
    assert_eq!(tables, 5);
}
