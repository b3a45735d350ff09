//! What a program answers, and what becomes of it where it fails open and where it fails closed.

use bespoke_plugin_api::CallCx;

use crate::world::World;

/// What a user of the hook gets, open and closed.
async fn both(script: &str, more: &str) -> (String, String) {
    let mut said = Vec::new();
    for on_failure in ["open", "closed"] {
        let world = World::with(script, &format!("on_failure = '{on_failure}', {more}")).await;
        said.push(world.ask(&CallCx::new(), "hello").await);
    }
    let closed = said.pop().unwrap();
    (said.pop().unwrap(), closed)
}

#[tokio::test]
async fn an_answer_is_the_same_open_and_closed() {
    for (script, expected) in [
        ("exit 0", "hello"),
        ("cat >/dev/null; echo ' '", "hello"),
        (r#"echo '{"reply":"continue"}'"#, "hello"),
        (r#"echo '{"reply":"veto","reason":"not on Sundays"}'"#, "exec vetoed: not on Sundays"),
        ("echo 'no such thing' >&2; exit 2", "exec vetoed: no such thing"),
        ("exit 2", "exec vetoed: refused by `guard`"),
        (r#"sed 's/hello/HELLO/; s/^/{"reply":"replace","event":/; s/$/}/'"#, "HELLO"),
        // What it says beside its answer does not matter.
        ("echo chatter >&2; exit 0", "hello"),
        // Nobody waits for what it has started.
        ("sleep 1000 & exit 2", "exec vetoed: refused by `guard`"),
    ] {
        let (open, closed) = both(script, "").await;
        assert_eq!((open.as_str(), closed.as_str()), (expected, expected), "{script}");
    }
}

#[tokio::test]
async fn a_failure_goes_on_where_it_is_open_and_stops_where_it_is_closed() {
    let no = "exec vetoed: `guard` could not decide and fails closed: ";
    for (script, why) in [
        ("echo boom >&2; exit 1", "`guard` ended with exit code 1: boom"),
        ("kill -9 $$", "`guard` was ended by a signal"),
        ("echo junk", "`guard` answered with what is no reply (no JSON)"),
        (r#"printf '\377\376'"#, "`guard` answered with what is no reply (no JSON)"),
        (r#"echo '{"reply":"perhaps"}'"#, "`guard` answered with a `reply` that is none of continue, veto and replace"),
        (
            r#"echo '{"reply":"replace","event":{"hook":"on_gateway_start"}}'"#,
            "answered before_agent_run with an event of on_gateway_start",
        ),
        ("head -c 5000000 /dev/zero", "`guard` answered with more than 4194304 bytes"),
        ("exec /no/such/program", "`guard` ended with exit code 127"),
    ] {
        let (open, closed) = both(script, "").await;
        assert_eq!(open, "hello", "{script}");
        assert!(closed.starts_with(&format!("{no}{why}")), "{script}: {closed}");
    }
}

#[tokio::test]
async fn one_that_hangs_is_late_and_that_is_a_failure() {
    for script in ["sleep 1000", "trap '' TERM INT HUP; sleep 1000", "exec 0<&- 1>&- 2>&-; sleep 1000", "yes"] {
        let (open, closed) = both(script, "timeout_ms = 300").await;
        assert_eq!(open, "hello", "{script}");
        // Whoever of the two clocks sees it first.
        assert!(closed.contains("no answer within 300 ms") || closed.contains("it took longer than"), "{script}: {closed}");
    }
}

#[tokio::test]
async fn an_observer_is_told_and_does_not_count() {
    let world = World::with("cat >seen; exit 2", "observer = true, on_failure = 'closed'").await;
    assert_eq!(world.ask(&CallCx::new(), "hello").await, "hello");
    let seen = std::fs::read_to_string(world.folder("seen")).unwrap();
    assert_eq!(seen, r#"{"hook":"before_agent_run","session":"s1","input":"hello"}"#);
}

#[tokio::test]
async fn a_program_sees_its_arguments_its_folder_and_no_environment() {
    let world = World::with("printf '%s|' \"$@\" >seen; pwd >>seen; env | sed 's/=.*//' | sort >>seen", "").await;
    assert_eq!(world.ask(&CallCx::new(), "hello").await, "hello");
    let seen = std::fs::read_to_string(world.folder("seen")).unwrap();
    let folder = world.folder("").canonicalize().unwrap();
    // A shell sets PWD and the like by itself.
    let lines: Vec<_> = seen.lines().filter(|line| !["PWD", "OLDPWD", "SHLVL", "_"].contains(line)).collect();
    assert_eq!(lines, [&format!("an argument|{}", folder.display()), "PATH"]);
}

#[tokio::test]
async fn what_env_names_is_passed_on() {
    // Set for every test by the test runner and by cargo.
    let world = World::with("printf '%s' \"$CARGO_PKG_NAME\" >seen", "env = ['CARGO_PKG_NAME', 'NO_SUCH_VARIABLE']").await;
    assert_eq!(world.ask(&CallCx::new(), "hello").await, "hello");
    assert_eq!(std::fs::read_to_string(world.folder("seen")).unwrap(), env!("CARGO_PKG_NAME"));
}
