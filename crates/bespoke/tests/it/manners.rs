//! How the program behaves towards shells and people: help, exit codes, streams, places that cannot be written.

use std::fs;

use crate::program::{User, files_below, fixtures};

#[test]
fn every_verb_has_help() {
    fn visit(user: &User, path: &[String], seen: &mut usize) {
        let help = user.run(path.iter().map(String::as_str).chain(["--help"])).ok();
        assert_eq!(help.err, "");
        assert!(help.out.contains("Usage: bespoke"), "{path:?}: {}", help.out);
        *seen += 1;
        let verbs = help.out.split("Commands:\n").nth(1).map(|rest| rest.split("\n\n").next().unwrap_or_default());
        for line in verbs.into_iter().flat_map(str::lines).filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let verb = line.split_whitespace().next().unwrap().to_owned();
            visit(user, &[path, &[verb]].concat(), seen);
        }
    }
    let mut seen = 0;
    visit(&User::new(), &[], &mut seen);
    assert!(seen >= 20, "only {seen} verbs");
}

#[test]
fn mistakes_on_the_command_line_are_told_on_stderr() {
    let user = User::new();
    for args in
        [&[][..], &["nonsense"], &["vad"], &["vad", "x.wav", "--engine", "best"], &["speak", "hi"], &["plugin"], &["completions", "dos"]]
    {
        let ended = user.run(args).code(2).nothing();
        assert!(ended.err.contains("Usage: bespoke") || ended.err.contains("try '--help'"), "{args:?}: {}", ended.err);
    }
    assert!(user.run(["--version"]).ok().out.starts_with("bespoke "));
}

#[test]
fn completions_for_every_shell() {
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef bespoke"), ("fish", "complete -c bespoke")] {
        let ended = User::new().run(["completions", shell]).ok();
        assert!(ended.out.contains(sign) && ended.out.contains("download-files"), "{shell}");
        assert_eq!(ended.err, "");
    }
}

#[test]
fn a_pipe_gets_no_colours_and_no_cut_lines() {
    let user = User::new().with("COLUMNS", "20");
    let listed = user.run(["plugin", "list"]).ok();
    assert!(!listed.out.contains('\x1b') && listed.out.contains("→ bespoke plugin download-files moonshine"), "{}", listed.out);
    let rows = user.json(["plugin", "list", "--json"]).as_array().unwrap().len();
    // Plugins, an empty line, runtimes; each with a heading.
    assert_eq!(listed.out.lines().count(), 3 + rows, "{}", listed.out);
}

#[test]
fn data_goes_to_stdout_and_all_else_to_stderr() {
    let user = User::with_models();
    let file = fixtures().join("audio/librivox_0890.wav");
    let file = file.to_str().unwrap();
    for args in [
        &["plugin", "list", "--json"][..],
        &["models", "--json"],
        &["plugin", "info", "clock", "--json"],
        &["config", "show", "--json"],
        &["config", "schema"],
        &["doctor", "--json"],
        &["ask", "hi", "--json"],
        &["say", file, "--json"],
        &["transcribe", file, "--json"],
        &["speak", "hi", "--out", "hi.wav", "--json"],
        &["vad", file, "--json"],
    ] {
        let loud: Vec<&str> = args.iter().copied().chain(["--log-level", "trace"]).collect();
        user.run(loud).ok().value();
    }
}

#[test]
fn files_that_are_not_there_or_no_recordings() {
    let user = User::with_models();
    fs::write(user.work("song.mp3"), b"ID3\x04\0\0\0\0\0\0".repeat(100)).unwrap();
    fs::write(user.work("empty.wav"), b"").unwrap();
    fs::create_dir(user.work("folder")).unwrap();
    user.run(["say", "absent.wav"]).code(3).nothing().says("absent.wav");
    user.run(["say", "song.mp3"]).code(1).nothing().says("song.mp3: not a usable WAV file").says("try: ffmpeg");
    user.run(["say", "empty.wav"]).code(1).nothing().says("the file is empty");
    user.run(["say", "folder"]).code(1).nothing().says("not a regular file");
    user.run(["say", &"x".repeat(5_000)]).code(1).nothing().says("too long");
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_the_work() {
    let user = User::new();
    let question = fixtures().join("audio/librivox_0890.wav");
    let question = question.to_str().unwrap();
    // There are no models: whatever were to begin would ask for them first.
    for args in
        [&["demo", "--out", "absent/x.wav"][..], &["say", question, "--out", "absent/x.wav"], &["speak", "hi", "--out", "absent/x.wav"]]
    {
        user.run(args).code(3).nothing().says("there is no folder absent");
    }
    fs::create_dir(user.work("folder")).unwrap();
    user.run(["speak", "hi", "--out", "folder"]).code(2).nothing().says("is a folder");
}

#[test]
fn a_home_that_cannot_be_is_survived_and_told() {
    let user = User::new();
    fs::write(user.home(), b"a file").unwrap();
    assert!(user.json(["plugin", "list", "--json"]).as_array().unwrap().len() >= 8);
    let refused = user.run(["config", "set", "agent.system", "x"]).code(1).nothing();
    assert!(refused.err.contains("cannot be written") && refused.err.contains("BESPOKE_HOME"), "{}", refused.err);
    let ended = user.run(["doctor"]).code(1);
    assert!(ended.out.contains("cannot be written"), "{}", ended.out);
    assert_eq!(fs::read(user.home()).unwrap(), b"a file");
}

#[test]
fn speaking_takes_its_options_seriously() {
    let user = User::new();
    let seconds =
        |speed: &str| user.json(["speak", "one two three four", "--out", "x.wav", "--speed", speed, "--json"])["seconds"].as_f64().unwrap();
    assert!(seconds("0.5") > 1.5 * seconds("1.5"));
    for speed in ["0", "99", "nan"] {
        user.run(["speak", "hi", "--out", "y.wav", "--speed", speed]).code(2).nothing().says("between 0.5 and 2");
    }
    user.run(["speak", "hi", "--out", "y.wav", "--voice", "nobody"]).code(3).nothing().says("no voice `nobody`");
    user.run(["speak", "...", "--out", "y.wav"]).code(1).nothing();
    assert!(!user.work("y.wav").exists());
}

#[test]
fn a_run_leaves_nothing_but_its_log() {
    let user = User::new();
    user.run(["plugin", "list"]).ok();
    assert_eq!(files_below(&user.home()), [user.home().join("logs/bespoke.log")]);
    assert!(files_below(&user.work("")).is_empty());
}
