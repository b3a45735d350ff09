//! `init`, with questions and without: what it writes, what it leaves alone, and that the model answers.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, thread};

use crate::program::{Ended, User, files_below, shown_on, terminal, wait};

const FAKE: &[&str] = &["init", "--yes", "--provider", "fake"];

fn init(user: &User, args: &[&str]) -> Ended {
    user.run(FAKE.iter().chain(args))
}

/// Runs it on a terminal on which this is typed; what the terminal shows is its `err`.
fn typed(user: &User, args: &[&str], lines: &str) -> Ended {
    let (mut ours, theirs) = terminal();
    // The terminal keeps lines until somebody reads them.
    ours.write_all(lines.as_bytes()).unwrap();
    let mut command = user.command(args);
    command.stdin(theirs.try_clone().unwrap()).stderr(theirs);
    let child = command.spawn().unwrap();
    drop(command);
    let shown = thread::spawn(move || shown_on(ours));
    Ended { err: shown.join().unwrap(), ..wait(child) }
}

#[test]
fn a_file_is_written_and_the_model_answers() {
    let user = User::new();
    let ended = init(&user, &[])
        .ok()
        .says("bespoke.toml is written")
        .says("Next:\n  bespoke chat\n  bespoke doctor\n")
        .says("telegram or webhook others reach it; docs/channels.md")
        .says("\n  bespoke serve\n");
    // The stand-in says what it heard.
    assert_eq!(ended.out, "What is the capital of France?\n");
    assert_eq!(fs::metadata(user.config()).unwrap().permissions().mode() & 0o777, 0o600);
    user.run(["config", "check"]).ok();
    assert_eq!(user.piped("Hello\n", ["chat"]).ok().out.trim(), "Hello");
    let mut names: Vec<_> = files_below(&user.home()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, [".bespoke.toml.lock", "bespoke.log", "bespoke.toml", "state.db"]);
}

#[test]
fn the_small_model_answers_for_real() {
    let user = User::with_models();
    let value = user.json(["init", "--yes", "--json"]);
    assert_eq!((value["provider"].as_str(), value["error"].as_str()), (Some("smol"), None), "{value}");
    assert!(value["answer"].as_str().unwrap().contains("Paris"), "{value}");
    assert_eq!(value["path"], user.config().to_str().unwrap());
    assert_eq!(value["next"], "bespoke chat");
    assert_eq!(value["tools"], serde_json::json!(["clock"]));
    user.run(["config", "check"]).ok();
    assert!(user.run(["ask", "What is the capital of France?"]).ok().out.contains("Paris"));
}

#[test]
fn a_file_that_is_there_stays_unless_it_is_to_be_replaced_and_then_it_is_kept() {
    let user = User::new().configured("# mine\n");
    let refused = init(&user, &[]).code(5).nothing();
    assert!(refused.err.contains("is there already"), "{}", refused.err);
    assert!(refused.err.ends_with("try: bespoke init --yes --provider fake --force\n"), "{}", refused.err);
    assert_eq!(fs::read_to_string(user.config()).unwrap(), "# mine\n");
    for backup in ["bespoke.toml.bak", "bespoke.toml.bak-2"] {
        init(&user, &["--force"]).ok().says(&format!("{backup}."));
    }
    let kept = |name: &str| fs::read_to_string(user.home().join(name)).unwrap();
    assert_eq!(kept("bespoke.toml.bak"), "# mine\n");
    assert_eq!(kept("bespoke.toml.bak-2"), fs::read_to_string(user.config()).unwrap());
}

#[test]
fn a_dry_run_prints_and_writes_nothing() {
    let user = User::new();
    let printed = init(&user, &["--dry-run", "--tools", "clock"]).ok();
    assert!(printed.out.starts_with("# ") && printed.out.contains("provider = [\"fake\"]"), "{}", printed.out);
    assert!(!user.home().exists());
    init(&user, &["--tools", "clock"]).ok();
    assert_eq!(fs::read_to_string(user.config()).unwrap(), printed.out);
}

#[test]
fn the_file_goes_where_it_is_to_go() {
    let user = User::new();
    init(&user, &["--here"]).ok().says("  bespoke chat\n");
    assert!(user.work("bespoke.toml").is_file() && !user.config().exists());
    init(&user, &[]).ok().says("goes before it");
    init(&user, &["--config", "other.toml"]).ok().says("other.toml");
    let named = format!("bespoke chat --config {}", user.work("other.toml").display());
    assert!(init(&user, &["--config", "other.toml", "--force"]).ok().err.contains(&named));
    init(&user, &["--here", "--config", "x.toml"]).code(2).nothing();
    assert!(!user.work("x.toml").exists());
}

#[test]
fn every_combination_is_a_configuration_that_works() {
    let user = User::new();
    fs::create_dir(user.work("notes")).unwrap();
    let mut tried = 0;
    for provider in [
        &["--provider", "fake"][..],
        &["--provider", "smol"],
        &["--provider", "openai:m", "--base-url", "http://127.0.0.1:9/v1"],
        &["--provider", "openai:a:b"],
    ] {
        for tools in [
            &[][..],
            &["--tools", ""],
            &["--tools", "clock,fake_echo"],
            &["--tools", "files,fetch,shell", "--files-root", "notes"],
            &["--files-root", "notes"],
        ] {
            for system in [&[][..], &["--system", "Say \"yes\".\n\\ $5 \u{7f} ü"]] {
                let args = [&["init", "--yes", "--dry-run"], provider, tools, system].concat();
                let text = user.run(&args).ok().out;
                fs::write(user.work("bespoke.toml"), &text).unwrap();
                user.run(["config", "check"]).ok();
                if !system.is_empty() {
                    assert_eq!(user.run(["config", "get", "agent.system", "--json"]).ok().value(), system[1]);
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 40);
}

#[test]
fn what_the_comments_show_may_stand_there() {
    let user = User::new().with("OPENAI_API_KEY", "sk-0123456789");
    fs::create_dir(user.work("notes")).unwrap();
    let mut shown = 0;
    for args in [
        &["--provider", "smol", "--tools", "clock,files,fetch,shell", "--files-root", "notes"][..],
        &["--provider", "openai:m", "--base-url", "http://127.0.0.1:9/v1"],
    ] {
        // The key of a variable that is not set is behind a # as well.
        let text = User::new()
            .run(["init", "--yes", "--dry-run"].iter().chain(args.iter().filter(|a| !["--files-root", "notes"].contains(a))))
            .ok()
            .out;
        let lines: Vec<&str> = text.lines().collect();
        assert!(!text.contains("sk-0123456789"));
        for (n, line) in lines.iter().enumerate() {
            let Some((key, _)) = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")).filter(|(key, _)| !key.contains(' '))
            else {
                continue;
            };
            let mut changed = lines.clone();
            changed[n] = &line[2..];
            fs::write(user.work("bespoke.toml"), changed.join("\n")).unwrap();
            let ended = user.run(["config", "check"]);
            assert_eq!(ended.code, 0, "{key}: {}", ended.err);
            shown += 1;
        }
        // A key that nobody knows would be found, so the above says something.
        fs::write(user.work("bespoke.toml"), text.replace("# max_tokens = ", "max_tokns = ")).unwrap();
        user.run(["config", "check"]).code(2);
    }
    assert!(shown >= 25, "{shown}");
}

#[test]
fn a_key_is_referred_to_and_never_written() {
    let secret = "sk-proj-0123456789";
    let impatient = || User::new().with("BESPOKE_PLUGINS__OPENAI__MAX_RETRIES", "0");
    let user = impatient().with("OPENAI_API_KEY", secret);
    let args = ["init", "--yes", "--provider", "openai:m", "--base-url", "http://127.0.0.1:9/v1"];
    let ended = user.run(args).code(1).says("the file is written, but the model does not answer");
    assert!(ended.err.contains("try: "), "{}", ended.err);
    assert!(fs::read_to_string(user.config()).unwrap().contains("\napi_key = \"${OPENAI_API_KEY}\"\n"));
    for file in files_below(&user.home()) {
        assert!(!String::from_utf8_lossy(&fs::read(&file).unwrap()).contains(secret), "{}", file.display());
    }
    assert!(!ended.out.contains(secret) && !ended.err.contains(secret));
    let value = impatient().run(args.iter().chain(&["--json"])).code(1).value();
    assert!(value["answer"].is_null() && value["error"].is_string(), "{value}");
}

#[test]
fn without_a_fetch_the_file_is_written_and_the_model_not_asked() {
    let user = User::new();
    let value = user.json(["init", "--yes", "--no-fetch", "--provider", "smol", "--json"]);
    assert!(value["answer"].is_null() && value["error"].is_null(), "{value}");
    user.run(["init", "--yes", "--no-fetch", "--provider", "smol", "--force"]).ok().nothing().says("bespoke plugin download-files smol");
    assert!(!user.home().join("models").exists());
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let user = User::new();
    for (args, code, message) in [
        (&["init"][..], 2, "try: bespoke init --yes"),
        (&["init", "--provider", "fake"], 2, "try: bespoke init --yes"),
        (&["init", "--yes", "--provider", "claude"], 3, "no provider named claude"),
        (&["init", "--yes", "--provider", "fake:"], 2, "names no model"),
        (&["init", "--yes", "--provider", "openai"], 2, "try: bespoke init --provider openai:MODEL"),
        (&["init", "--yes", "--provider", "fake", "--base-url", "http://x/v1"], 2, "asks no server"),
        (&["init", "--yes", "--provider", "openai:m", "--base-url", "ftp://x"], 2, "is no address"),
        (&["init", "--yes", "--provider", "fake", "--tools", "clok"], 3, "did you mean `clock`?"),
        (&["init", "--yes", "--provider", "fake", "--tools", "clock,clock"], 2, "twice"),
        (&["init", "--yes", "--provider", "fake", "--files-root", "absent"], 3, "there is no such folder"),
        (&["init", "--yes", "--provider", "fake", "--tools", "clock", "--files-root", "."], 2, "--files-root is for"),
        (&["init", "--yes", "--provider", "fake", "--config", "."], 2, "is a folder"),
        (&["init", "--yes", "--provider", "fake", "--system", "${NOBODY_SET_THIS}"], 2, "NOBODY_SET_THIS"),
    ] {
        let ended = user.run(args).nothing();
        assert!(ended.code == code && ended.err.contains(message), "{args:?}: {ended:?}");
        assert!(!user.home().exists(), "{args:?}: {:?}", files_below(&user.home()));
    }
    fs::write(user.home(), "a file").unwrap();
    init(&user, &[]).code(1).nothing().says("cannot be written").says("BESPOKE_HOME");
}

#[test]
fn the_questions_lead_to_a_file_and_an_answer() {
    let user = User::new().configured("# mine\n");
    fs::create_dir(user.work("notes")).unwrap();
    // Replace it; tools, one of them wrong first; folder, one that is not there first; instructions; no voice.
    let answers = "y\nclok\nclock, files\nabsent\nnotes\nBe brief.\nn\n";
    let ended = typed(&user, &["init", "--provider", "fake"], answers).ok();
    assert_eq!(ended.out, "What is the capital of France?\n");
    for shown in ["is there already", "did you mean clock?", "there is no such folder", "bespoke.toml.bak", "bespoke chat"] {
        assert!(ended.err.contains(shown), "{shown}: {}", ended.err);
    }
    let get = |key: &str| user.json(["config", "get", key, "--json"]);
    assert_eq!(get("agent.tools"), serde_json::json!(["clock", "files"]));
    assert_eq!(get("agent.system"), "Be brief.");
    assert_eq!(get("plugins.files.root"), user.work("notes").to_str().unwrap());
    user.run(["config", "check"]).ok();
}

#[test]
fn the_questions_about_a_server_keep_the_key_out_of_the_file() {
    let user = User::new();
    let answers = "openai\nlocalhost\nhttp://127.0.0.1:9/v1\n\nsk-0123456789\n\nfetch\nhttps://x/y\nexample.com\n\nn\n";
    let ended = typed(&user, &["init", "--dry-run"], answers).ok();
    assert!(ended.err.contains("is no address") && ended.err.contains("that is no name of a variable"), "{}", ended.err);
    for line in [
        "provider = [\"openai\"]",
        "base_url = \"http://127.0.0.1:9/v1\"",
        "# api_key = \"${OPENAI_API_KEY}\"",
        "tools = [\"fetch\"]",
        "allow = [\"example.com\"]",
    ] {
        assert!(ended.out.lines().any(|l| l == line), "{line}: {}", ended.out);
    }
    assert!(!ended.out.contains("sk-0123456789") && !ended.out.contains("[plugins.shell]"), "{}", ended.out);
    assert!(!user.home().exists());
}

#[test]
fn whoever_leaves_in_the_middle_leaves_nothing_behind() {
    for answers in ["\u{4}", "smol\n\u{4}", "smol\nclock\n\u{4}", "a\nb\nc\nd\ne\n"] {
        let user = User::new();
        let ended = typed(&user, &["init"], answers).nothing();
        assert!(ended.code == 130 || ended.code == 2, "{ended:?}");
        assert!(ended.err.contains("nothing is written"), "{}", ended.err);
        assert!(!user.home().exists());
    }
    let user = User::new().configured("# mine\n");
    typed(&user, &["init"], "n\n").code(5).nothing();
    assert_eq!(files_below(&user.home()), [user.config()]);
}

#[test]
fn a_tool_that_is_named_by_its_plugin_runs() {
    let user = User::new();
    init(&user, &["--tools", "files"]).ok();
    let script = "[plugins.fake]\nreplies = [[{ tool = { name = \"list_files\", args = {} } }], [{ text = \"done\" }]]\n";
    let text = fs::read_to_string(user.config()).unwrap().replace("[plugins.fake]\n", script);
    fs::write(user.config(), text).unwrap();
    let ended = user.run(["ask", "What is there?", "--provider", "fake"]).ok().says("[list_files {}]");
    assert_eq!(ended.out, "done\n");
    assert!(!ended.err.contains("[list_files:"), "{}", ended.err);
}
