//! `plugin test` as an author has it: what a good plugin and a bad one are told, of this program and in folders.

use std::{fs, path::Path};

use expect_test::expect;
use serde_json::Value;

use crate::program::User;

/// A plugin in Python that does what its call says; `lax` takes any configuration.
fn python(folder: &Path, id: &str, schema: &str) {
    const PLUGIN: &str = r#"
import os
from contracts.tool_contract import ToolContract


class Plugin(ToolContract):
    """Does what it is told."""

    async def call(self, what: str = "well") -> str:
        if what == "die":
            os._exit(3)
        if what == "raise":
            raise RuntimeError("it is unlucky")
        return what
"#;
    let folder = folder.join(id);
    fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"A test.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"{id}\"\n[process]\npython = \"plugin\"\n"
    );
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("plugin.py"), PLUGIN).unwrap();
    fs::write(folder.join("config.schema.json"), schema).unwrap();
}

const STRICT: &str = r#"{"type":"object","properties":{},"additionalProperties":false}"#;

fn broken(report: &Value) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let failed = checks.filter(|check| check["outcome"] == "failed");
    failed.map(|check| format!("{} {}: {}", check["subject"], check["rule"], check["got"]).replace('"', "")).collect()
}

#[test]
fn a_plugin_of_the_program_keeps_its_rules_line_by_line() {
    let user = User::new();
    let ended = user.run(["plugin", "test", "clock"]).ok().says("clock keeps all 14 rules, 1 not tried");
    expect![[r#"
        ✓ plugin has a configuration that its schema allows
        ✓ plugin starts offline
        ✓ plugin contributes what its manifest declares
        ✓ tool clock says to a model what it does and takes
        ✓ tool clock answers a call by its schema
        ✓ tool clock outlives arguments that break its schema
        ✓ tool clock is still there after all of this
        ✓ plugin refuses keys of its configuration that it does not know
        ✓ plugin says quickly how it does
        ✓ plugin takes its own configuration again
        - plugin hands over what it keeps, and takes it back: not tried, it keeps nothing
        ✓ plugin lets go of a call of clock that is cancelled
        ✓ plugin answers 100 calls of clock within its limits
        ✓ plugin leaves no call of clock without an answer when it stops
        ✓ plugin stops, and stops again
    "#]]
    .assert_eq(&without_times(&ended.out));
    // Every kind that there is.
    for id in ["fake", "energy", "flite"] {
        user.run(["plugin", "test", id]).ok();
    }
}

/// A machine with much to do takes longer for one thing or another, and says so.
fn without_times(out: &str) -> String {
    out.lines().map(|line| line.split_once("  (").map_or(line, |(line, _)| line).to_owned() + "\n").collect()
}

#[test]
fn a_plugin_in_python_is_held_against_the_same_rules_and_its_authors_calls() {
    let user = User::new();
    let folder = user.work("good");
    python(&user.work(""), "good", STRICT);
    let report = user.run(["plugin", "test", "./good", "--json"]).ok().value();
    assert_eq!((&report["failed"], &report["tier"]), (&Value::from(0), &Value::from("process")), "{report:#}");

    // The author says more: what is wrong with it is told, and what is not, is not.
    let cases = "[[call]]\nname = \"says it\"\ntool = \"good\"\nargs = { what = \"hello\" }\nexpect = { text = \"hello\" }\n\
        [[call]]\nname = \"says something else\"\ntool = \"good\"\nexpect = { text = \"hello\" }\n\
        [[call]]\nname = \"raises\"\ntool = \"good\"\nargs = { what = \"raise\" }\nerror = \"PLUGIN_EXCEPTION\"\ncontains = \"unlucky\"\n\
        [[call]]\nname = \"dies\"\ntool = \"good\"\nargs = { what = \"die\" }\nerror = \"PLUGIN_CRASHED\"\n";
    fs::write(folder.join("conformance.toml"), cases).unwrap();
    let ended = user.run(["plugin", "test", "./good"]).code(1).says("good breaks 1 rule");
    assert!(
        ended.out.contains("✗ tool good says something else\n    expected  {\"text\":\"hello\"}, at least\n    got       {"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("; it differs at text\n    read      docs/testing.md#your-own-calls\n"), "{}", ended.out);
    fs::write(folder.join("conformance.toml"), "[[call]]\ntol = \"good\"\n").unwrap();
    user.run(["plugin", "test", "./good"]).code(2).nothing().says("conformance.toml: ").says("unknown field `tol`");
}

#[test]
fn what_a_plugin_breaks_is_told_with_what_was_expected() {
    let user = User::new();
    python(&user.work(""), "lax", "{}");
    let report = user.run(["plugin", "test", "./lax", "--json"]).code(1).value();
    let told = broken(&report);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("plugin refuses keys of its configuration that it does not know: it starts"), "{told:?}");
    // One that does not start is not held against anything else.
    python(&user.work(""), "broken", STRICT);
    fs::write(user.work("broken").join("plugin.py"), "raise RuntimeError('no luck')\n").unwrap();
    let report = user.run(["plugin", "test", "./broken", "--json"]).code(1).value();
    let told = broken(&report);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("plugin starts offline: ") && told[0].contains("no luck"), "{told:?}");
}

#[test]
fn what_cannot_be_tested_is_told_with_what_to_do() {
    let user = User::new();
    user.run(["plugin", "test", "nobody"]).code(3).nothing().says("nobody");
    user.run(["plugin", "test", "./nowhere"]).code(3).nothing().says("no folder");
    let chimes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/chimes");
    user.run(["plugin", "test", &chimes.display().to_string()]).code(1).nothing().says("bespoke plugin build");
}
