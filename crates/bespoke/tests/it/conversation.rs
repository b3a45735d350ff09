//! `ask` and `chat`: text in, text out.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use crate::program::{User, wait};

/// Stand-ins that repeat what they hear: the conversation is looked at, not the model.
const ECHO: &str = "[agent]\nprovider = [\"fake\"]\n";

#[test]
fn a_question_is_answered_on_stdout_and_nothing_else_is() {
    let answered = User::with_models().run(["ask", "What is the capital of France?"]).ok();
    assert!(answered.out.contains("Paris") && answered.out.ends_with('\n'), "{}", answered.out);
    assert_eq!(answered.err, "");
}

#[test]
fn the_answer_as_data() {
    let answered = User::with_models().json(["ask", "--json", "What is the capital of France?"]);
    assert!(answered["text"].as_str().unwrap().contains("Paris"));
    assert_eq!((&answered["provider"], &answered["finish"]), (&"smol".into(), &"stop".into()));
    assert!(answered["usage"]["completion_tokens"].as_u64().unwrap() > 3);
    assert!(answered["first_token_ms"].as_f64().unwrap() <= answered["total_ms"].as_f64().unwrap());
}

#[test]
fn what_is_piped_in_is_the_question_or_follows_it() {
    let user = User::new().configured(ECHO);
    assert_eq!(user.piped("from a pipe\n", ["ask"]).ok().out, "from a pipe\n");
    let both = user.piped("from a pipe\n", ["ask", "typed"]).ok().out;
    assert_eq!(both, "typed\n\nfrom a pipe\n");
    assert_eq!(user.piped("", ["ask", "typed"]).ok().out, "typed\n");
    assert_eq!(user.run(["ask", "typed"]).ok().out, "typed\n");
}

#[test]
fn no_text_is_a_mistake_and_too_much_is_too() {
    let user = User::new().configured(ECHO);
    for input in ["", "\n \n"] {
        user.piped(input, ["ask"]).code(2).nothing().says("the text is empty");
    }
    user.run(["ask", ""]).code(2).nothing().says("the text is empty");
    user.piped(&"long ".repeat(300_000), ["ask"]).code(2).nothing().says("longer than 1 MiB");
    user.piped("", ["speak", "--out", "x.wav"]).code(2).nothing();
    assert!(!user.work("x.wav").exists());
}

#[test]
fn a_conversation_over_a_pipe_ends_with_quit_or_with_the_input() {
    let user = User::new().configured(ECHO);
    assert_eq!(user.piped("one\n\ntwo\n/quit\nthree\n", ["chat"]).ok().out, "one\ntwo\n");
    let ended = user.piped("one\nlast line without an end", ["chat"]).ok();
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("one\nlast line without an end\n", ""));
    assert_eq!(user.run(["chat"]).ok().out, "");
}

#[test]
fn a_conversation_has_a_memory() {
    let ended = User::with_models().piped("My dog is called Rex.\nWhat is my dog called?\n", ["chat"]).ok();
    assert_eq!(ended.out.lines().count(), 2, "{}", ended.out);
    assert!(ended.out.lines().last().unwrap().contains("Rex"), "{}", ended.out);
}

#[test]
fn what_goes_wrong_in_a_turn_is_told_and_the_next_one_works() {
    let user = User::new().configured(&format!(
        "{ECHO}[plugins.fake]\nreplies = [[{{ text = \"half \" }}, {{ error = {{ code = -32603, message = \"broke off\" }} }}]]\n"
    ));
    let ended = user.piped("one\ntwo\n", ["chat"]).ok().says("broke off");
    assert_eq!(ended.out.lines().last(), Some("two"), "{}", ended.out);
    // A question that stands alone fails as a whole, and what was said ends its line.
    let ended = user.run(["ask", "one"]).code(1).says("broke off");
    assert_eq!(ended.out.lines().count(), 1);
    assert!(ended.out.ends_with('\n'));
}

/// What a program reads of a conversation of one message.
fn told_as_data(user: &User, input: &str) -> Vec<(String, String)> {
    let ended = user.piped(input, ["chat", "--json"]).ok();
    let word = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = ended.lines().into_iter().filter(|line| line["type"] != "session");
    lines.map(|line| (word(&line, "type"), ["text", "message", "reason"].iter().map(|key| word(&line, key)).collect())).collect()
}

#[test]
fn hooks_guard_the_messages_of_a_conversation_whatever_it_is_told_in() {
    let pairs = |told: &[(&str, &str)]| told.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    let other = [("text", "other"), ("turn", "other")];
    for (script, shown, noted, told) in [
        ("received = { replace = \"other\" }", "other\n", "", &other[..]),
        ("received = { veto = \"not here\" }", "", "refused by fake: not here", &[("error", "refused by fake: not here")]),
        // Guards fail closed.
        ("received = { fail = \"broken\" }", "", "refused by fake: ", &[("error", "refused by fake: ")]),
        ("sent = { replace = \"other\" }", "other\n", "", &other),
        ("sent = \"continue\"", "one two\n", "", &[("text", "one two"), ("turn", "one two")]),
        ("sent = { veto = \"not here\" }", "[withheld by fake: not here]\n", "", &[("withheld", "not here"), ("turn", "")]),
        ("sent = { panic = \"boom\" }", "[withheld by fake: ", "", &[("withheld", ""), ("turn", "")]),
    ] {
        let user = User::new().configured(&format!("{ECHO}[plugins.fake]\n{script}\n"));
        let ended = user.piped("one two\n", ["chat"]).ok().says(noted);
        assert!(ended.out.starts_with(shown) && !ended.out.replace(shown, "").contains("one"), "{script}: {ended:?}");
        let said = told_as_data(&user, "one two\n");
        let is_close = said.iter().zip(pairs(told)).all(|(a, b)| a.0 == b.0 && a.1.starts_with(&b.1));
        assert!(is_close && said.len() == told.len(), "{script}: {said:?}");
        // A question that stands alone passes by no guard, either.
        let passes = told.iter().any(|(kind, text)| *kind == "turn" && !text.is_empty());
        for args in [&["ask", "one two"][..], &["ask", "one two", "--json"]] {
            let asked = user.run(args).code(if passes { 0 } else { 4 });
            let answer = if args.len() == 2 {
                asked.out.clone()
            } else {
                asked.out.lines().find(|line| line.contains("\"text\"")).unwrap_or_default().to_owned()
            };
            if passes {
                assert!(answer.contains(shown.trim_end()), "{script}: {asked:?}");
            } else {
                assert!(!asked.out.contains("one") && asked.err.contains("by fake: "), "{script}: {asked:?}");
            }
        }
    }
    // What breaks off in the middle does not pass by the hook.
    let script =
        "replies = [[{ text = \"half \" }, { error = { code = -32603, message = \"broke off\" } }]]\nsent = { replace = \"other\" }";
    let user = User::new().configured(&format!("{ECHO}[plugins.fake]\n{script}\n"));
    let said = told_as_data(&user, "one\n");
    assert_eq!(said.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["text", "error"], "{said:?}");
    assert_eq!(said[0].1, "other");
}

#[test]
fn a_conversation_as_data_takes_what_a_question_may_be_long() {
    let user = User::new().configured(ECHO);
    let said = told_as_data(&user, "one\n\n{\"text\": \"two\"}\r\nthree");
    let turns: Vec<_> = said.iter().filter(|(kind, _)| kind == "turn").map(|(_, text)| text.as_str()).collect();
    assert_eq!(turns, ["one", "two", "three"]);
    let long = format!("one\n{}\ntwo\n", "long ".repeat(300_000));
    let ended = user.piped(&long, ["chat", "--json"]).code(2).says("longer than 1 MiB");
    assert_eq!(ended.lines().last().unwrap()["text"], "one");
}

#[test]
fn an_answer_that_is_asked_for_again_stays_until_there_is_another() {
    let failing = "[plugins.fake]\nreplies = [[{ text = \"first\" }], [{ text = \"half \" }, { error = { code = -32603, message = \"broke off\" } }], \
        [{ text = \"second\" }]]\n";
    let user = User::new().configured(&format!("{ECHO}{failing}"));
    let ended = user.piped("/retry\none\n/retry\n/history\n", ["chat"]).ok().says("broke off").says("The answer before stays.");
    assert!(ended.out.starts_with("Nothing was said yet.\nfirst\n") && ended.out.ends_with("you: one\nagent: first\n"), "{}", ended.out);
    let kept = user.json(["sessions", "show", "--json", &latest(&user)]);
    assert_eq!((kept["messages"].as_array().unwrap().len(), &kept["messages"][1]["text"]), (2, &"first".into()), "{kept}");
    // Another answer takes its place, also where it is kept.
    let user = User::new().configured(&format!("{ECHO}[plugins.fake]\nreplies = [[{{ text = \"first\" }}], [{{ text = \"second\" }}]]\n"));
    let ended = user.piped("one\n/retry\n/history\n", ["chat"]).ok();
    assert_eq!(ended.out, "first\nsecond\nyou: one\nagent: second\n");
    let kept = user.json(["sessions", "show", "--json", &latest(&user)]);
    assert_eq!((kept["messages"].as_array().unwrap().len(), &kept["messages"][1]["text"]), (2, &"second".into()), "{kept}");
}

fn latest(user: &User) -> String {
    user.json(["sessions", "list", "--json"])[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn who_has_read_enough_ends_the_program_quietly() {
    let user = User::new().configured(ECHO);
    for args in [&["ask", "word ".repeat(20_000).as_str()][..], &["config", "schema"], &["--help"], &["completions", "bash"]] {
        let mut child = user.command(args).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut first = [0; 1];
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let ended = wait(child);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{:?}", args[0]);
    }
}

#[test]
fn a_conversation_that_nobody_reads_ends_though_its_input_is_open() {
    let user = User::new().configured(ECHO);
    let mut child = user.command(["chat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    drop(stdout);
    // The program may be gone before it has read both.
    _ = stdin.write_all(b"two\n");
    let ended = wait(child);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    drop(stdin);
}

/// An answer that breaks off in the middle for longer than anybody waits.
const STUCK: &str = "[plugins.fake]\nreplies = [[{ text = \"half \" }, { delay_ms = 600000 }]]\n";

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupted_question_ends_its_line_and_the_program() {
    let user = User::new().configured(&format!("{ECHO}{STUCK}"));
    let mut child = user.command(["ask", "one"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut begun = [0; 4];
    stdout.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"half");
    interrupt(&child);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let ended = wait(child);
    assert_eq!((ended.code, rest.trim_start_matches(' ')), (130, "\n"));
    assert!(ended.err.contains("interrupted"), "{}", ended.err);
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_answer_and_without_one_the_conversation() {
    let user = User::new().configured(&format!("{ECHO}{STUCK}"));
    let mut child = user.command(["chat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdin.write_all(b"one\n").unwrap();
    let mut begun = [0; 4];
    stdout.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"half");
    interrupt(&child);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.ends_with("…\n"), "{line}");
    stdin.write_all(b"two\n").unwrap();
    line.clear();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "two\n");
    interrupt(&child);
    // Its input stays open: an end of it would end the program too.
    assert_eq!(wait(child).code, 130);
    drop(stdin);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_conversation_as_data() {
    let user = User::new().configured(&format!("{ECHO}{STUCK}"));
    // In an answer, and while nothing is asked.
    for question in [&b"one\n"[..], b""] {
        let mut child = user.command(["chat", "--json"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdin.write_all(question).unwrap();
        let mut line = String::new();
        for kind in if question.is_empty() { &["session"][..] } else { &["session", "text"] } {
            line.clear();
            stdout.read_line(&mut line).unwrap();
            assert!(line.contains(&format!("\"type\":\"{kind}\"")), "{line}");
        }
        interrupt(&child);
        assert_eq!(wait(child).code, 130);
        drop(stdin);
    }
}

#[test]
fn a_full_disk_is_an_error() {
    if let Ok(full) = std::fs::File::options().write(true).open("/dev/full") {
        let user = User::new().configured(ECHO);
        let ended = wait(user.command(["ask", "hello"]).stdout(full).spawn().unwrap());
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains("No space left"), "{}", ended.err);
    }
}
