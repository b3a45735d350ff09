//! Whatever is in an argument, it arrives as one argument; and only what is named is run.

use bespoke_plugin_api::{CallCx, Code, serde_json::json};

use crate::world::{World, data, refused};

#[test]
fn nothing_in_an_argument_is_read_by_anybody_but_the_program() {
    let world = World::new(json!({ "allow": ["printf"] }));
    for argument in [
        "two words",
        " ",
        "\"quoted\"",
        "'quoted",
        "; touch pwned",
        "&& touch pwned",
        "| touch pwned",
        "> pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "$PATH ${HOME}",
        "line\nbreak; touch pwned",
        "\r\ntouch pwned",
        "*",
        "~",
        "{a,b}",
        "!!",
        "\\",
        "--help",
        "-rf",
        "a\tb\u{1b}[0m",
        "äöü €",
    ] {
        let output = world.run("printf", &["%s|", argument, "end"]);
        assert_eq!(data(&output)["stdout"], format!("{argument}|end|"), "{output:?}");
        assert_eq!(data(&output)["code"], 0);
    }
    assert_eq!(std::fs::read_dir(world.folder("")).unwrap().count(), 0, "something was made");
}

#[test]
fn only_programs_that_are_named_are_run() {
    let world = World::new(json!({ "allow": ["printf", "cat"] }));
    // A program in the folder of work, under an allowed name and under another.
    for name in ["printf", "evil"] {
        let path = world.folder(name);
        std::fs::write(&path, "#!/bin/sh\necho pwned\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let attempts = [
        ("evil", "not_allowed"),
        ("sh", "not_allowed"),
        ("", "not_allowed"),
        ("printf ", "not_allowed"),
        ("PRINTF", "not_allowed"),
        ("printf; evil", "not_allowed"),
        ("printf\0", "not_allowed"),
        ("printf\nevil", "not_allowed"),
        ("-c", "not_allowed"),
        ("~", "not_allowed"),
        ("*", "not_allowed"),
        (".", "not_allowed"),
        ("..", "not_allowed"),
        ("./evil", "path"),
        ("./printf", "path"),
        ("../own/evil", "path"),
        ("/bin/sh", "path"),
        ("/usr/bin/printf", "path"),
        ("//bin/sh", "path"),
        ("/proc/self/exe", "path"),
        ("~/evil", "path"),
        ("bin\\sh", "path"),
    ];
    for (program, reason) in attempts {
        let output = world.run(program, &["x"]);
        assert_eq!(refused(&output), reason, "{program:?}");
        assert!(!output.to_text().contains(|c: char| c.is_control()), "{output:?}");
    }
    assert_eq!(world.warnings(), attempts.len());
    assert_eq!(data(&world.run("printf", &["mine"]))["stdout"], "mine", "the one in the folder of work was run");
    assert!(world.run("evil", &[]).to_text().contains("there is cat, printf"));
}

#[test]
fn the_first_argument_can_be_limited() {
    let world = World::new(json!({ "allow": ["printf", "echo"], "first_args": { "printf": ["one", "two"] } }));
    assert_eq!(data(&world.run("printf", &["two", "three"]))["stdout"], "two");
    assert_eq!(data(&world.run("echo", &["three"]))["stdout"], "three\n");
    for args in [&["three"][..], &[], &["--", "one"], &["-v", "x", "one"], &["one "], &["One"]] {
        let output = world.run("printf", args);
        assert_eq!(refused(&output), "first_argument", "{args:?}");
        assert!(output.to_text().ends_with("it has to be one of `one`, `two`"), "{output:?}");
    }
}

#[test]
fn what_no_program_can_take_is_refused() {
    let world = World::new(json!({ "allow": ["printf"], "max_args_bytes": 100, "max_stdin_bytes": 10 }));
    assert_eq!(refused(&world.run("printf", &["a\0b"])), "nul");
    assert_eq!(refused(&world.run("printf", &[&"x".repeat(100)])), "too_much");
    assert_eq!(refused(&world.run("printf", &["x"; 51])), "too_much");
    let cx = CallCx::new();
    assert_eq!(refused(&world.try_call(&cx, json!({ "program": "printf", "stdin": "12345678901" })).unwrap()), "too_much");
    for args in
        [json!({}), json!({ "program": "printf", "args": "x" }), json!({ "program": "printf", "cwd": "/" }), json!({ "program": 1 })]
    {
        assert_eq!(world.try_call(&cx, args).unwrap_err().code(), Code::INVALID_PARAMS);
    }
}
