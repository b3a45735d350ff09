//! `plugin` and `models`: the truth about what is in this binary.

use expect_test::expect;
use serde_json::Value;

use crate::program::{User, files_below};

/// All plugins of the workspace: these tests run the binary that has them all.
const ALL: &[&str] = &[
    "clock",
    "cuda",
    "energy",
    "exec",
    "fake",
    "fetch",
    "files",
    "flite",
    "moonshine",
    "openai",
    "post",
    "shell",
    "silero",
    "smol",
    "telegram",
    "terminal",
    "webhook",
];

/// Those that have to be configured before they do anything.
const OFF: &[&str] = &["exec", "fetch", "post", "shell", "telegram", "webhook"];
/// Those that may load a heavy library: they are not started to be listed.
const HEAVY: &[&str] = &["cuda", "silero"];

fn rows(user: &User) -> Vec<Value> {
    user.json(["plugin", "list", "--json"]).as_array().unwrap().clone()
}

#[track_caller]
fn row<'r>(rows: &'r [Value], id: &str) -> &'r Value {
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no row {id}"))
}

#[test]
fn every_plugin_has_a_row_with_everything_in_it() {
    let all = rows(&User::with_models());
    let (packs, rows): (Vec<&Value>, Vec<&Value>) = all.iter().partition(|row| row["kinds"][0] == "runtime");
    let ids = |rows: &[&Value]| rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&rows), ALL);
    assert_eq!(ids(&packs), ["onnx:cpu", "onnx:cuda", "xla:cpu", "xla:cuda", "xla:tpu", "cuda:nvrtc"]);
    for row in packs {
        for key in ["tier", "version", "state", "health", "reason", "fix", "size", "download", "path"] {
            assert!(row.get(key).is_some(), "{key}: {row}");
        }
    }
    for row in rows {
        let keys = ["id", "kinds", "tier", "version", "state", "health", "reason", "fix"];
        assert!(keys.iter().all(|key| row.get(key).is_some()), "{row}");
        let is_heavy = HEAVY.iter().any(|id| row["id"] == *id);
        let state = if is_heavy { "unloaded" } else { "ready" };
        assert_eq!((&row["tier"], &row["state"]), (&"compiled".into(), &state.into()), "{row}");
        if !is_heavy && OFF.iter().all(|id| row["id"] != *id) {
            assert_eq!((&row["health"], &row["reason"], &row["fix"]), (&"ok".into(), &Value::Null, &Value::Null), "{row}");
        }
        assert!(row["kinds"].as_array().is_some_and(|kinds| !kinds.is_empty()), "{row}");
        assert_eq!(row["version"], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn a_missing_model_is_a_failure_with_the_command_that_mends_it() {
    let user = User::new();
    let rows = rows(&user);
    for id in ["moonshine", "smol"] {
        let row = row(&rows, id);
        assert_eq!((&row["state"], &row["health"]), (&"failed".into(), &"failed".into()), "{row}");
        assert!(row["reason"].as_str().unwrap().contains("is missing"), "{row}");
        assert_eq!(row["fix"], format!("bespoke plugin download-files {id}"));
    }
    for id in ["clock", "energy", "flite", "terminal"] {
        assert_eq!(row(&rows, id)["state"], "ready", "{id}");
    }
    let models = user.json(["models", "--json"]);
    let state = |file: &str| models.as_array().unwrap().iter().find(|m| m["file"] == file).unwrap()["state"].clone();
    assert_eq!((state("encoder_model.onnx"), state("silero_vad.onnx")), ("missing".into(), "not needed".into()));
    user.run(["models"]).ok().says("try: bespoke plugin download-files");
    assert!(files_below(&user.home().join("models")).is_empty());
}

#[test]
fn a_kind_narrows_the_list_and_an_unknown_kind_is_refused() {
    let user = User::new();
    let listed = user.json(["plugin", "list", "vad", "--json"]);
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["energy", "fake", "silero"]);
    let refused = user.run(["plugin", "list", "nonsense"]).code(2).nothing().says("`nonsense`");
    for kind in ["channel", "tool", "provider", "stt", "tts", "vad", "embedder", "command", "hook", "http", "accelerator"] {
        assert!(refused.err.contains(kind), "{kind}");
    }
}

#[test]
fn one_bad_plugin_is_told_with_its_place_and_the_others_run() {
    let user = User::with_models().configured(
        "config_version = 1\n\n[plugins.silero]\nactivation_treshold = 0.5\n\n[plugins.clock]\ntime_zone = 7\n\n[plugins.smol]\nenabled = false\n",
    );
    let rows = rows(&user);
    let silero = row(&rows, "silero");
    assert_eq!(silero["state"], "failed");
    let place = format!("{}:4:1: plugins.silero.activation_treshold: ", user.config().display());
    let reason = silero["reason"].as_str().unwrap();
    assert!(reason.starts_with(&place) && reason.contains("did you mean `activation_threshold`?"), "{reason}");
    assert_eq!(silero["fix"], "bespoke config check");
    let clock = row(&rows, "clock");
    assert_eq!(clock["state"], "failed");
    assert!(clock["reason"].as_str().unwrap().contains("bespoke.toml:7:1: plugins.clock.time_zone: "), "{clock}");
    let smol = row(&rows, "smol");
    assert_eq!((&smol["state"], &smol["fix"]), (&"disabled".into(), &"bespoke config set plugins.smol.enabled true".into()));
    for id in ["energy", "fake", "flite", "moonshine", "terminal"] {
        assert_eq!(row(&rows, id)["state"], "ready", "{id}");
    }
    // The next detector stands in for the one that failed, and that is told.
    let file = crate::program::fixtures().join("audio/librivox_0890.wav");
    let found = user
        .run(["vad".as_ref(), file.as_os_str(), "--format".as_ref(), "jsonl".as_ref()])
        .ok()
        .says("the next detector stands in: silero");
    assert_eq!(found.lines()[0]["engine"], "energy");
    let energy = row(&rows, "energy");
    assert_eq!(energy["health"], "degraded");
    assert!(energy["reason"].as_str().unwrap().starts_with("stands in for silero: "), "{energy}");
}

#[test]
fn without_its_model_and_without_consent_another_detector_takes_over() {
    let user = User::new().configured("[plugins.silero]\nmodel_file = \"/nonexistent/silero_vad.onnx\"\n");
    let file = crate::program::fixtures().join("audio/librivox_0890.wav");
    let found = user
        .run(["vad".as_ref(), file.as_os_str(), "--format".as_ref(), "jsonl".as_ref()])
        .ok()
        .says("the next detector stands in: silero");
    assert_eq!(found.lines()[0]["engine"], "energy");
    // Asked for by name, there is no other.
    let named = user.run(["vad".as_ref(), file.as_os_str(), "--engine".as_ref(), "builtin".as_ref()]);
    assert_ne!(named.code, 0, "{named:?}");
}

#[test]
fn the_next_detector_serves_for_one_that_is_switched_off() {
    let user = User::new().configured("[plugins.silero]\nenabled = false\n");
    let file = crate::program::fixtures().join("audio/librivox_0890.wav");
    let found = user.run(["vad".as_ref(), file.as_os_str(), "--format".as_ref(), "jsonl".as_ref()]).ok();
    assert_eq!(found.lines()[0]["engine"], "energy");
}

#[test]
fn what_is_configured_but_not_here_has_a_row() {
    let user = User::new()
        .configured("[agent]\ntools = [\"clock\", \"clok\"]\n[voice]\nvad = [\"silero\", \"nonesuch\"]\n[plugins.silro]\nx = 1\n");
    let rows = rows(&user);
    for (id, close) in [("clok", Some("clock")), ("silro", Some("silero")), ("nonesuch", None)] {
        let row = row(&rows, id);
        assert_eq!((&row["state"], &row["tier"], &row["health"]), (&"missing".into(), &"none".into(), &"unknown".into()));
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.contains("nobody knows it"), "{reason}");
        assert!(close.is_none_or(|close| reason.contains(&format!("did you mean `{close}`?"))), "{reason}");
        assert!(row["fix"].as_str().unwrap().contains("bespoke.toml"), "{row}");
    }
    assert_eq!(row(&rows, "nonesuch")["kinds"], serde_json::json!(["vad"]));
    user.run(["config", "check"]).code(3).says("nonesuch").says("silro").says("clok");
}

#[test]
fn one_plugin_in_detail() {
    let user = User::with_models();
    let info = user.json(["plugin", "info", "smol", "--json"]);
    assert_eq!((&info["id"], &info["state"], &info["license"]), (&"smol".into(), &"ready".into(), &"Apache-2.0".into()));
    assert_eq!(info["models"][0]["file"], "smollm2-135m-instruct-q4_1.gguf");
    let shown = user.run(["plugin", "info", "silero"]).ok();
    for part in ["silero", "vad:silero", "compiled", "ready", "silero_vad.onnx 6.2.3 (2.3 MB, MIT)"] {
        assert!(shown.out.contains(part), "`{part}` is not in:\n{}", shown.out);
    }
    user.run(["plugin", "info", "silro"]).code(3).nothing().says("did you mean `silero`?").says("try: bespoke plugin list");
    user.run(["plugin", "download-files", "nonesuch"]).code(3).nothing().says("no plugin `nonesuch`");
}

#[test]
fn permissions_are_told_with_what_holds() {
    let user = User::new().configured("[plugins.fetch]\nallow = [\"example.com\"]\n");
    let told = |id: &str| -> String {
        let shown = user.run(["plugin", "info", id]).ok().out;
        let lines: Vec<&str> =
            shown.lines().skip_while(|line| !line.starts_with("permissions ")).take_while(|line| !line.starts_with("methods ")).collect();
        lines.iter().map(|line| format!("{line}\n")).collect()
    };
    let all: String = ["openai", "fetch", "files", "shell", "clock"].into_iter().map(|id| format!("{id}\n{}", told(id))).collect();
    expect![[r#"
        openai
        permissions  network_access: hosts in plugins.openai.base_url (private too), default api.openai.com — sends it what is to be answered, heard or spoken
                     secrets: api_key (OPENAI_API_KEY: not set) — shows the server that the request is yours
                     checked where it asks the host: network_access, secrets; nothing else holds a plugin of the tier `compiled`
        fetch
        permissions  network_access: hosts in plugins.fetch.allow; hosts in plugins.fetch.allow_private (private too) — fetches pages from the hosts that you name
                     checked where it asks the host: network_access; nothing else holds a plugin of the tier `compiled`
        files
        permissions  write_files: ~/ — works in the folder that you name
                     shown only: write_files; nothing else holds a plugin of the tier `compiled`
        shell
        permissions  system_access: any program — runs the programs that you name
                     shown only: system_access; nothing else holds a plugin of the tier `compiled`
        clock
        permissions  asks for none
    "#]]
    .assert_eq(&all);
    let info = user.json(["plugin", "info", "openai", "--json"]);
    let permissions = &info["permissions"];
    let http = serde_json::json!([{ "key": "plugins.openai.base_url", "default": ["api.openai.com"], "private": true }]);
    let secrets = serde_json::json!([{ "name": "api_key", "variable": "OPENAI_API_KEY", "set": false }]);
    assert_eq!((&permissions["network_access"], &permissions["secrets"]), (&http, &secrets));
    let user = user.with("OPENAI_API_KEY", "sk-not-to-be-seen");
    let shown = user.run(["plugin", "info", "openai"]).ok();
    assert!(shown.out.contains("api_key (OPENAI_API_KEY: set)") && !shown.out.contains("not-to-be-seen"), "{}", shown.out);
}

#[test]
fn what_is_off_says_how_it_is_switched_on_and_is_not_there() {
    let user = User::new();
    let rows = rows(&user);
    for (id, key) in [("shell", "plugins.shell.allow"), ("fetch", "plugins.fetch.allow")] {
        let row = row(&rows, id);
        assert_eq!((&row["state"], &row["health"]), (&"ready".into(), &"degraded".into()), "{row}");
        assert!(row["reason"].as_str().unwrap().contains(&format!("bespoke config set {key} ")), "{row}");
    }
    let files = row(&rows, "files");
    assert_eq!(
        (&files["health"], &files["facts"]["write_file"]),
        (&"ok".into(), &"off: bespoke config set plugins.files.write true".into())
    );
}

#[test]
fn the_examples_of_the_docs_are_configurations() {
    let text = include_str!("../../../../docs/tools.md");
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        User::new().configured(&format!("config_version = 1\n{block}")).run(["config", "check"]).ok();
    }
}
