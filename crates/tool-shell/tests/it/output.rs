//! What the model sees of the output, and that no amount of it does harm.

use bespoke_plugin_api::{CallCx, serde_json::json};

use crate::world::{World, data};

#[test]
fn codes_signals_output_and_errors_are_told() {
    let world = World::with_sh(json!({}));
    let both = world.sh("echo one; echo two >&2; exit 3");
    assert_eq!(both.to_text(), "exit code 3\noutput:\none\nerrors:\ntwo");
    assert!(!both.is_error);
    assert_eq!(
        *data(&both),
        json!({
            "code": 3, "signal": null, "timed_out": false, "truncated": false,
            "stdout": "one\n", "stderr": "two\n", "stdout_bytes": 4, "stderr_bytes": 4,
        })
    );
    assert_eq!(world.sh("true").to_text(), "exit code 0");
    let killed = world.sh("kill -TERM $$");
    assert_eq!(killed.to_text(), "sh was ended by signal 15");
    assert!(killed.is_error);
    assert_eq!((&data(&killed)["code"], &data(&killed)["signal"]), (&json!(null), &json!(15)));
}

#[test]
fn a_flood_is_cut_to_its_beginning_and_its_end() {
    let world = World::with_sh(json!({ "max_output_bytes": 1000 }));
    let output = world.sh("echo begin; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo end; echo oops >&2");
    let data = data(&output);
    assert_eq!((&data["stdout_bytes"], &data["truncated"]), (&json!(30_000_011), &json!(true)));
    let stdout = data["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("begin\nxxx") && stdout.ends_with("xxx\nend\n"), "{stdout}");
    assert!(stdout.contains("\n[29999017 bytes left out]\n") && stdout.len() < 1100, "{stdout}");
    assert_eq!(data["stderr"], "oops\n");
}

#[test]
fn both_pipes_full_at_the_same_time_do_not_block() {
    let world = World::with_sh(json!({}));
    let output = world.sh("head -c 2000000 /dev/zero >&2; head -c 2000000 /dev/zero; head -c 2000000 /dev/zero >&2");
    assert_eq!((&data(&output)["stdout_bytes"], &data(&output)["stderr_bytes"]), (&json!(2_000_000), &json!(4_000_000)));
}

#[test]
fn long_input_is_fed_while_output_is_read() {
    let world = World::new(json!({ "allow": ["cat", "head"], "max_stdin_bytes": 4_000_000 }));
    let stdin = "0123456789".repeat(300_000);
    let echoed = world.try_call(&CallCx::new(), json!({ "program": "cat", "stdin": stdin })).unwrap();
    assert_eq!(data(&echoed)["stdout_bytes"], 3_000_000);
    // A program that does not read it all ends as it likes.
    let some = world.try_call(&CallCx::new(), json!({ "program": "head", "args": ["-c", "5"], "stdin": stdin })).unwrap();
    assert_eq!((&data(&some)["stdout"], &data(&some)["code"]), (&json!("01234"), &json!(0)));
}

#[test]
fn output_that_is_no_unicode_is_shown_as_well_as_it_can() {
    let world = World::new(json!({ "allow": ["printf"] }));
    assert_eq!(data(&world.run("printf", &["caf\\351"]))["stdout"], "caf\u{fffd}");
}

#[test]
fn a_program_that_can_not_be_started_is_told() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tool");
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let world = World::new(json!({ "allow": [path] }));
    let output = world.run("tool", &[]);
    assert!(output.is_error && output.to_text().starts_with("tool could not be run: "), "{output:?}");
}
