//! `bespoke plugin test` for each build: the same rules, all of them kept.

use std::{fs, process::Command};

use bespoke_plugin_api::serde_json::{self, Value};

use crate::built::{TIERS, built};

/// What the author of the example could say of it.
const CASES: &str = r#"
[config]
pause_ms = 10

[[call]]
name = "counts on"
tool = "strike"
args = { times = 2 }
progress = [{ struck = 1, of = 2 }, { struck = 2, of = 2 }]

[[call]]
name = "counts on from there"
tool = "strike"
args = { times = 3 }
contains = "5"

[[call]]
name = "sings a quarter of a second a word"
tts = "chimes"
args = { text = "Ding dong." }
expect = { rate = 16000, ms = 500 }
"#;

#[test]
fn it_keeps_the_same_rules_in_each_tier() {
    let place = tempfile::tempdir().unwrap();
    let cases = place.path().join("conformance.toml");
    fs::write(&cases, CASES).unwrap();
    let mut seen: Option<Value> = None;
    for &tier in TIERS {
        let mut program = Command::new(env!("CARGO_BIN_EXE_bespoke"));
        program.args(["plugin", "test", "--yes", "--json", "--cases"]).arg(&cases).arg(built("examples/plugins/chimes", tier));
        program.current_dir(place.path()).env("BESPOKE_HOME", place.path().join("home"));
        let output = program.output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{}", String::from_utf8_lossy(&output.stderr)));
        assert!(output.status.success(), "{}: {report:#}", tier.name());
        assert_eq!(report["tier"], tier.name());
        assert_eq!(report["failed"], 0, "{report:#}");
        // How long each took is no rule.
        let rules: Value = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| format!("{} {}: {}", check["subject"], check["rule"], check["outcome"]))
            .collect();
        assert_eq!(seen.get_or_insert_with(|| rules.clone()), &rules, "{}", tier.name());
    }
}
