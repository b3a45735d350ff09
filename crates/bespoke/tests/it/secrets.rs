//! What came through `${NAME}` is shown nowhere.

use std::fs;

use crate::program::{User, files_below};

const SECRET: &str = "correct-horse-battery-staple";

#[test]
fn a_secret_is_in_no_output_and_in_no_file() {
    // `ort` fails without its library; `auto` goes on without it and says so in its health and its facts.
    for engine in ["ort", "auto"] {
        shown_nowhere(engine);
    }
}

fn shown_nowhere(engine: &str) {
    let user = User::with_models().with("BESPOKE_TEST_SECRET", SECRET).configured(&format!(
        "[agent]
system = \"The password is ${{BESPOKE_TEST_SECRET}}.\"
[voice]
voice = \"${{BESPOKE_TEST_SECRET}}\"
language = \"${{BESPOKE_TEST_SECRET}}\"
[plugins.silero]
engine = \"{engine}\"
onnxruntime = \"/nowhere/${{BESPOKE_TEST_SECRET}}/lib.so\"
[plugins.energy]
snr_db = \"${{BESPOKE_TEST_SECRET}}\"
[plugins.clock]
time_zone = \"${{BESPOKE_TEST_SECRET}}\"
[plugins.terminal]
prompt = \"${{BESPOKE_TEST_SECRET}}\"
",
    ));
    let recording = crate::program::fixtures().join("audio/librivox_0890.wav");
    let recording = recording.to_str().unwrap();
    let mut shown = 0;
    for args in [
        &["plugin", "list"][..],
        &["plugin", "list", "--json"],
        &["plugin", "info", "silero"],
        &["plugin", "info", "clock", "--json"],
        &["models"],
        &["config", "check"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["config", "get", "agent.system"],
        &["config", "schema"],
        &["config", "set", "agent.max_tokens", "64", "--dry-run"],
        &["config", "set", "plugins.energy.snr_db", "${BESPOKE_TEST_SECRET}", "--dry-run"],
        &["doctor"],
        &["doctor", "--json"],
        &["speak", "hello", "--out", "x.wav"],
        &["vad", recording],
        &["transcribe", recording],
        &["say", recording],
        &["demo"],
    ] {
        let ended = user.run(args.iter().copied().chain(["--log-level", "trace"]));
        assert!(!ended.out.contains(SECRET), "{args:?}: {}", ended.out);
        assert!(!ended.err.contains(SECRET), "{args:?}: {}", ended.err);
        shown += usize::from(ended.out.contains("***") || ended.err.contains("***"));
    }
    // Or nothing was proved: the errors do speak of these values.
    assert!(shown >= 3, "{shown}");
    let files = files_below(&user.home());
    assert!(files.iter().any(|file| file.ends_with("bespoke.log")));
    for file in files {
        assert!(!String::from_utf8_lossy(&fs::read(&file).unwrap()).contains(SECRET), "{}", file.display());
    }
}

/// Characters that JSON, URLs and Base64 write in another way.
const ODD: &str = "s3cr\"t/with+odd chars=";

#[test]
fn secrets_from_every_source_are_in_no_output_of_any_verb() {
    let user = User::new()
        .with("OPENAI_API_KEY", "env-secret-0001")
        .with("BESPOKE_TEST_SECRET", ODD)
        .with("BESPOKE_PLUGINS__TERMINAL__PROMPT", "${file:prompt.key}")
        .with("BESPOKE_PLUGINS__OPENAI__SECRETS__API_KEY", "override-secret-0002");
    let user = user.configured(
        "[agent]
provider = [\"fake\"]
system = \"${BESPOKE_TEST_SECRET} and ${file:agent.key}\"
[plugins.clock]
time_zone = \"${file:agent.key}\"
[plugins.openai.secrets]
api_key = \"literal-secret-0003\"
[plugins.fake]
replies = [[{ text = \"It is ${file:agent.key}, I think.\" }, { error = { code = -32603, message = \"refused ${BESPOKE_TEST_SECRET}\" } }]]
",
    );
    fs::write(user.home().join("agent.key"), "file-secret-0004\n").unwrap();
    fs::write(user.home().join("prompt.key"), "file-secret-0005").unwrap();
    fs::write(user.work("other.toml"), "[plugins.openai.secrets]\napi_key = \"other-secret-0006\"\n[agent]\nsystem = \"x\"\n").unwrap();
    let json = serde_json::to_string(ODD).unwrap();
    let secrets = [
        "env-secret-0001",
        ODD,
        json.trim_matches('"'),
        "override-secret-0002",
        "literal-secret-0003",
        "file-secret-0004",
        "file-secret-0005",
        "other-secret-0006",
    ];
    let mut masked = 0;
    for args in [
        &["plugin", "list", "--json"][..],
        &["plugin", "info", "openai", "--json"],
        &["plugin", "info", "clock"],
        &["models", "--json"],
        &["config", "check"],
        &["config", "check", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["config", "get", "plugins.openai.secrets.api_key"],
        &["config", "get", "plugins.openai.secrets", "--json"],
        &["config", "get", "plugins", "--json"],
        &["config", "set", "agent.max_tokens", "64", "--dry-run"],
        &["config", "diff", "other.toml"],
        &["config", "diff", "other.toml", "--json"],
        &["config", "schema"],
        &["doctor"],
        &["doctor", "--json"],
        &["ask", "hello"],
        &["ask", "hello", "--json"],
    ] {
        let ended = user.run(args.iter().copied().chain(["--log-level", "trace"]));
        for secret in secrets {
            assert!(!ended.out.contains(secret), "{args:?}: {}", ended.out);
            assert!(!ended.err.contains(secret), "{args:?}: {}", ended.err);
        }
        masked += usize::from(ended.out.contains("***") || ended.err.contains("***"));
    }
    assert!(masked >= 6, "{masked}");
    let logs = files_below(&user.home().join("logs"));
    assert!(!logs.is_empty());
    for file in logs {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{}: {text}", file.display());
    }
}

#[test]
fn a_panic_with_a_secret_is_told_without_it() {
    let user = User::new()
        .with("BESPOKE_TEST_SECRET", SECRET)
        .configured("[agent]\nprovider = [\"fake\"]\n[plugins.fake]\nreplies = [[{ panic = \"it was ${BESPOKE_TEST_SECRET}!\" }]]\n");
    for level in ["error", "trace"] {
        let ended = user.run(["ask", "hello", "--log-level", level]);
        assert_ne!(ended.code, 0);
        assert!(ended.err.contains("it was ***!"), "{}", ended.err);
        assert!(!ended.err.contains(SECRET) && !ended.out.contains(SECRET), "{ended:?}");
    }
}

#[test]
fn a_secret_that_is_typed_in_is_warned_about_and_moved_out() {
    let user = User::new().configured("[plugins.openai.secrets]\napi_key = \"literal-secret-0003\"\n");
    user.run(["config", "check"]).ok().says("bespoke.toml:2:1: plugins.openai.secrets.api_key: a secret is typed into the configuration");
    let moved = user.piped("piped-secret-0007\n", ["config", "set-secret", "plugins.openai.secrets.api_key"]).ok().nothing();
    assert!(!moved.err.contains("piped-secret"), "{}", moved.err);
    let file = user.home().join("secrets/plugins.openai.secrets.api_key");
    assert_eq!(fs::read_to_string(&file).unwrap(), "piped-secret-0007");
    assert!(fs::read_to_string(user.config()).unwrap().contains("api_key = \"${file:"));
    let checked = user.run(["config", "check"]).ok();
    assert!(!checked.err.contains("warning"), "{}", checked.err);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        user.run(["config", "check"]).ok().says("others can read").says("chmod 600");
    }
    user.piped("x", ["config", "set-secret", "plugins.openai.secrets.api_kye"]).code(2).says("did you mean `api_key`?");
    assert!(!user.home().join("secrets/plugins.openai.secrets.api_kye").exists());
    // One that the configuration cannot refer to leaves the one before as it was.
    let old = user.home().join("secrets/plugins.openai.secrets.api_kye");
    fs::write(&old, "older").unwrap();
    user.piped("newer", ["config", "set-secret", "plugins.openai.secrets.api_kye"]).code(2);
    assert_eq!(fs::read_to_string(&old).unwrap(), "older");
    user.piped("x", ["config", "set-secret", "../../etc"]).code(2).nothing();
}
