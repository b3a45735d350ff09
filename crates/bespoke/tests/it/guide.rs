//! The guide of App Factory, with no changed line: its plugins, its requests, both ways to call a method; through the host for other
//! programs, and from the command line. Its Python host and its test file are tried with the SDK.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{host_stdio::Served, program::User};

/// A block of code of the guide.
fn block(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tier-process/sdk/tests/guide").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The plugin that the guide begins with.
fn quick_start(plugins: &Path) {
    let folder = plugins.join("my_tts_plugin");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json"), block("block_01.json")).unwrap();
    fs::write(folder.join("__init__.py"), block("block_02.python")).unwrap();
}

/// The one that it ends with. It leaves the engine to its author: that is a module beside it.
fn complete(plugins: &Path) {
    let folder = plugins.join("example");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("main.py"), block("block_24.python")).unwrap();
    let engine = "from main import ExampleTTSPlugin\n\
        class Engine:\n    def get_voices(self): return [{'id': 'a', 'language': 'en'}, {'id': 'b', 'language': 'fr'}]\n    \
        def synthesize(self, text, voice): return (voice + ': ' + text).encode()\n    def unload(self): pass\n\
        class Plugin(ExampleTTSPlugin):\n    def _load_engine(self, path): return Engine()\n";
    fs::write(folder.join("engine.py"), engine).unwrap();
    let manifest = json!({
        "name": "example", "version": "1.0.0", "contract": "tts", "entry_point": "engine", "display_name": "Example",
        "description": "The guide's complete plugin.", "author": "The guide", "dependencies": [],
        "config_schema": { "type": "object", "properties": { "model_path": { "type": "string" }, "sample_rate": { "type": "integer" } } }
    });
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn the_requests_of_the_guide_are_answered_as_they_are_written() {
    let user = User::new();
    // The guide calls one plugin by two names; its folder and its manifest say the one that its requests say.
    let folder = user.work("plugins/my_plugin");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json"), block("block_01.json").replace("my_tts_plugin", "my_plugin")).unwrap();
    fs::write(folder.join("__init__.py"), block("block_02.python")).unwrap();
    let text = block("block_16.bash");
    let requests: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("echo '")?.strip_suffix('\'')).collect();
    assert_eq!(requests.len(), 2, "{text}");
    let input = requests.join("\n") + "\n";
    let flags = block("block_23.bash");
    let level: Vec<&str> = flags.split_whitespace().skip_while(|word| *word != "--log-level").collect();
    let ended = user.piped(&input, ["host", "--stdio", "--plugins-dir", "./plugins"].iter().chain(&level)).code(4);
    let answers = ended.lines();
    assert_eq!(answers.len(), 2, "{}", ended.out);
    assert_eq!((&answers[0]["id"], &answers[0]["result"]["initialized"]), (&json!(1), &json!(true)), "{}", ended.out);
    let spoken = &answers[1]["result"]["base64"];
    assert!(answers[1]["id"] == 2 && spoken.as_str().is_some_and(|base64| base64.len() > 1000), "{}", ended.out);
}

#[test]
fn its_plugins_are_called_by_name_and_by_contract() {
    let user = User::new();
    quick_start(&user.work("plugins"));
    complete(&user.work("plugins"));
    let mut host = Served::new(&user, &["--plugins-dir", "plugins"]);
    for name in ["my_tts_plugin", "example"] {
        let loaded = host.ok("plugin/load", json!({ "name": name }));
        assert_eq!((&loaded["initialized"], &loaded["status"]), (&json!(true), &json!("ready")), "{loaded}");
    }
    let voices = json!([{ "id": "default", "name": "Default Voice", "language": "en-US" }]);
    let call = |plugin: &str, method: &str, args: Value| json!({ "plugin": plugin, "method": method, "args": args });
    assert_eq!(host.ok("plugin/call", call("my_tts_plugin", "get_voices", json!({}))), voices);
    // By contract, the one that was loaded first is asked, unless one is named.
    assert_eq!(host.ok("tts/get_voices", json!({})), voices);
    let health = host.ok("plugin/health", json!({ "name": "my_tts_plugin" }));
    assert_eq!((&health["status"], &health["message"]), (&json!("ready"), &json!("Plugin operational")), "{health}");

    let engine = json!([{ "id": "a", "language": "en" }, { "id": "b", "language": "fr" }]);
    for by_contract in [false, true] {
        let mut ask = |method: &str, args: Value| {
            if by_contract {
                let mut params = args;
                params["plugin"] = json!("example");
                host.ask(&format!("tts/{method}"), params)
            } else {
                host.ask("plugin/call", call("example", method, args))
            }
        };
        let spoken = ask("synthesize", json!({ "text": "Hi", "voice_id": "b" }));
        assert_eq!(Served::spoken(&spoken["result"]), "b: Hi", "{spoken}");
        assert_eq!(ask("get_voices", json!({}))["result"], engine);
        assert_eq!(ask("get_voice_info", json!({ "voice_id": "b" }))["result"], engine[1]);
        for (method, args, message) in [
            ("get_voice_info", json!({ "voice_id": "z" }), "Voice not found: z"),
            ("synthesize", json!({ "text": " " }), "Text cannot be empty"),
        ] {
            let error = ask(method, args)["error"].clone();
            assert_eq!((&error["message"], &error["plugin"]), (&json!(message), &json!("example")), "{error}");
        }
    }
    assert_eq!(host.ok("shutdown", json!({}))["status"], "shutting_down");
    assert_eq!(host.code(), 0);
}

#[test]
fn its_plugins_are_called_from_the_command_line() {
    let user = User::new();
    quick_start(&user.home().join("plugins"));
    complete(&user.home().join("plugins"));
    let call = |plugin: &str, method: &str, args: Value| user.run(["plugin", "call", plugin, method, &args.to_string()]);
    let speech = call("my_tts_plugin", "synthesize", json!({ "text": "Hello" })).ok().value();
    assert!(speech["base64"].as_str().is_some_and(|base64| base64.len() > 1000), "{speech}");
    assert_eq!(call("my_tts_plugin", "get_voices", json!({})).ok().value()[0]["name"], "Default Voice");
    assert_eq!(Served::spoken(&call("example", "synthesize", json!({ "text": "Hi" })).ok().value()), "a: Hi");
    assert_eq!(call("example", "get_voices", json!({})).ok().value()[1]["id"], "b");
    assert_eq!(call("example", "get_voice_info", json!({ "voice_id": "b" })).ok().value()["language"], "fr");
    let refused = call("example", "get_voice_info", json!({ "voice_id": "z" }));
    assert!(refused.code != 0 && refused.err.contains("Voice not found: z"), "{refused:?}");
    user.run(["plugin", "config", "my_tts_plugin", "voice", "anna"]).ok();
    user.run(["plugin", "config", "my_tts_plugin", "voice", "7"]).code(2);
    user.run(["plugin", "health", "my_tts_plugin"]).ok();
}

/// The guide's manifest of a real plugin, whose packages are not here: they are named, with the command that would install them.
#[test]
fn packages_that_the_guide_asks_for_are_named_and_not_installed() {
    let user = User::new();
    let folder = user.home().join("plugins/tts_kokoro");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("manifest.json"), block("block_07.json")).unwrap();
    fs::write(folder.join("main.py"), block("block_24.python")).unwrap();
    fs::write(folder.join("requirements.txt"), block("block_13.txt")).unwrap();
    let user = user.configured("[plugins.tts_kokoro]\nmodel_path = \"./models\"\n");
    let ended = user.run(["plugin", "call", "tts_kokoro", "get_voices"]);
    assert!(ended.code != 0 && ended.err.contains("torch>=2.0.0"), "{ended:?}");
    assert!(!user.home().join("cache/venv").exists());
}
