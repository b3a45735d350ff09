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
