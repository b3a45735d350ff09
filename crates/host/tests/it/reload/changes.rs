//! What each change of a configuration leads to, and what is left as it was.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_change_has_its_consequence_and_no_other() {
    let mut said = String::new();
    for (name, twin, old, new, ends) in [
        ("live", Twin::new("a"), "value = 1", "value = 2", 0),
        ("live, refused", Twin::new("a"), "value = 1", "value = 2\nlive = 'refuse'", 0),
        ("live, panics", Twin::new("a"), "value = 1", "value = 2\nlive = 'panic'", 0),
        ("live, hangs", Twin::new("a"), "value = 1", "value = 2\nlive = 'hang'", 0),
        ("live, wants a restart", Twin::new("a"), "value = 1", "value = 2\nlive = 'restart'", 1),
        ("restart", Twin::new("a"), "size = 1", "size = 2", 1),
        ("fixed", Twin::new("a"), "port = 1", "port = 2", 0),
        ("fixed, back to what is the default anyway", Twin::new("a"), "port = 0", "", 0),
        ("mixed", Twin::new("a"), "value = 1\nsize = 1\nport = 1", "value = 2\nsize = 2\nport = 2", 0),
        ("nothing", Twin::new("a"), "value = 1", "value = 1 # a comment", 0),
        ("a value of another type", Twin::new("a"), "value = 1", "value = 'one'", 0),
        ("an unknown key", Twin::new("a"), "value = 1", "vlaue = 2", 0),
        ("a variable that is not set", Twin::new("a"), "secret = '${TOKEN}'", "secret = '${TOKEN_2}'", 0),
        ("a reference instead of a value", Twin::new("a"), "secret = 'plain'", "secret = '${TOKEN}'", 0),
        ("the new one fails", Twin::new("a"), "size = 1", "size = 2\nbegin = 'fails'", 0),
        ("the new one panics", Twin::new("a"), "size = 1", "size = 2\nbegin = 'panics'", 0),
        ("the new one hangs", Twin::new("a"), "size = 1", "size = 2\nbegin = 'hangs'", 0),
        ("the new one publishes a name that is taken", Twin::new("a"), "size = 1", "size = 2\npublish = ['b']", 1),
        ("exclusive", Twin::new("a").exclusive(), "size = 1", "size = 2", 1),
        ("exclusive, no state", Twin::new("a").exclusive(), "size = 1\nstate = 'none'", "size = 2", 1),
        ("exclusive, the state cannot be had", Twin::new("a").exclusive(), "size = 1\nstate = 'locked'", "size = 2", 0),
        ("exclusive, the state is not known", Twin::new("a").exclusive(), "size = 1", "size = 2\nstate = 'newer'", 2),
        ("exclusive, the new one fails", Twin::new("a").exclusive(), "size = 1", "size = 2\nbegin = 'fails'", 1),
    ] {
        let b = Twin::new("b");
        // Short only where somebody hangs: everything else must not depend on how busy the machine is.
        let limits = if new.contains("hang") { QUICK } else { "" };
        let host = running(&format!("{limits}[plugins.a]\n{old}\n"), &[twin.clone(), b.clone()]).await;
        ask(&host, "a").await;
        let report = within(host.reload(read(&format!("{limits}[plugins.a]\n{new}\n")))).await;
        ended(&twin, ends).await;
        let answer = ask(&host, "a").await;
        said += &format!("{name}\n{}  → {answer} [{}] {}\n", shown(&report), twin.journal.text(), table(&host).replace('\n', " ").trim());
        assert_eq!(b.journal.text(), "+1", "{name}: the other plugin is left alone");
        within(host.shutdown()).await;
    }
    expect![[r#"
        live
          plugins.a.value 1 → 2 Live
          a Applied
          → #1 value 2 size 0 counted 1 [+1 =1] a ready b ready
        live, refused
          plugins.a.live – → "refuse" Live
          plugins.a.value 1 → 2 Live
          a Kept: not now
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        live, panics
          plugins.a.live – → "panic" Live
          plugins.a.value 1 → 2 Live
          a Kept: reconfigure panicked: on purpose
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        live, hangs
          plugins.a.live – → "hang" Live
          plugins.a.value 1 → 2 Live
          a Kept: did not take its new configuration within 300 ms; its thread was left behind
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        live, wants a restart
          plugins.a.live – → "restart" Live
          plugins.a.value 1 → 2 Live
          a Swapped
          → #2 value 2 size 0 counted 0 [+1 +2 -1] a ready b ready
        restart
          plugins.a.size 1 → 2 Restart
          a Swapped
          → #2 value 0 size 2 counted 0 [+1 +2 -1] a ready b ready
        fixed
          plugins.a.port 1 → 2 Fixed
          a Rejected: plugins.a.port cannot change while the program runs; the old values stay; restart the program
          → #1 value 0 size 0 counted 1 [+1] a ready b ready
        fixed, back to what is the default anyway
          → #1 value 0 size 0 counted 1 [+1] a ready b ready
        mixed
          plugins.a.port 1 → 2 Fixed
          plugins.a.size 1 → 2 Restart
          plugins.a.value 1 → 2 Live
          a Rejected: plugins.a.port cannot change while the program runs; the old values stay; restart the program
          → #1 value 1 size 1 counted 1 [+1] a ready b ready
        nothing
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        a value of another type
          plugins.a.value 1 → "one" Live
          a Kept: bespoke.toml:1:10: plugins.a: string "one" does not fit here: expected a whole number; bespoke config check
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        an unknown key
          plugins.a.value 1 → – Live
          plugins.a.vlaue – → 2 Restart
          a Kept: bespoke.toml:2:1: plugins.a.vlaue: unknown key; did you mean `value`?; bespoke config check
          → #1 value 1 size 0 counted 1 [+1] a ready b ready
        a variable that is not set
          plugins.a.secret "${TOKEN}" → "${TOKEN_2}" Live
          a Kept: bespoke.toml:2:1: plugins.a.secret: refers to ${TOKEN_2}, which is not set; export TOKEN_2=…; bespoke config check
          → #1 value 0 size 0 counted 1 [+1] a ready b ready
        a reference instead of a value
          plugins.a.secret "plain" → "${TOKEN}" Live
          a Applied
          → #1 value 0 size 0 counted 1 [+1 =1] a ready b ready
        the new one fails
          plugins.a.begin – → "fails" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: no disk; mount it
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        the new one panics
          plugins.a.begin – → "panics" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: start panicked: on purpose
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        the new one hangs
          plugins.a.begin – → "hangs" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: did not start within 300 ms; its thread was left behind; raise plugins.start_timeout_ms, or switch the plugin off
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        the new one publishes a name that is taken
          plugins.a.publish – → ["b"] Restart
          plugins.a.size 1 → 2 Restart
          a Kept: the old instance goes on: tool `b` is provided by both `b` and `a`; that of `b` counts; bespoke config set plugins.b.enabled false
          → #1 value 0 size 1 counted 1 [+1 +2 -2] a ready b ready
        exclusive
          plugins.a.size 1 → 2 Restart
          a Swapped
          → #2 value 0 size 2 counted 1 [+1 -1 +2] a ready b ready
        exclusive, no state
          plugins.a.size 1 → 2 Restart
          plugins.a.state "none" → – Restart
          a Swapped
          → #2 value 0 size 2 counted 0 [+1 -1 +2] a ready b ready
        exclusive, the state cannot be had
          plugins.a.size 1 → 2 Restart
          plugins.a.state "locked" → – Restart
          a Kept: the old instance goes on: the state is locked
          → #1 value 0 size 1 counted 1 [+1] a ready b ready
        exclusive, the state is not known
          plugins.a.size 1 → 2 Restart
          plugins.a.state – → "newer" Restart
          a Kept: it was started again as it was: could not go on from the state before: version 1 of the state is not known
          → #3 value 0 size 1 counted 1 [+1 -1 +2 -2 +3] a ready b ready
        exclusive, the new one fails
          plugins.a.begin – → "fails" Restart
          plugins.a.size 1 → 2 Restart
          a Kept: it was started again as it was: no disk; mount it
          → #3 value 0 size 1 counted 1 [+1 -1 +3] a ready b ready
    "#]].assert_eq(&said);
}

/// Only the host's own `enabled` is a switch.
#[tokio::test]
async fn a_key_further_down_may_be_called_enabled() {
    let cached = Plug::new("a").tool("x", |_, _| async { Ok(ToolOutput::text("")) });
    let host = Host::builder().config(read("[plugins.a.cache]\nenabled = true\n")).plugins([cached]).build().unwrap();
    within(host.start(Selection::All)).await;
    let report = within(host.reload(read("[plugins.a.cache]\nenabled = false\n"))).await;
    assert_eq!(shown(&report), "  plugins.a.cache.enabled true → false Restart\n  a Swapped\n");
}

#[tokio::test]
async fn defaults_of_all_plugins_hold_from_the_next_call_on() {
    let twin = Twin::new("a");
    let host = running("", std::slice::from_ref(&twin)).await;
    let report = within(host.reload(read("config_version = 1\n[plugins]\ncall_timeout_ms = 30\n"))).await;
    assert_eq!(shown(&report), "  plugins.call_timeout_ms – → 30 Live\n");
    let slot = host.registry().get::<dyn Tool>("a").unwrap();
    let cx = CallCx::new();
    let waits = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({ "wait": true }))).await });
    assert_eq!(within(waits).await.unwrap_err().to_string(), "a: no answer within 30 ms");
    assert_eq!(host.config().plugin_defaults().unwrap().call_timeout_ms, 30);
}

#[tokio::test]
async fn sections_of_the_program_are_compared_and_left_to_it() {
    let host = running("[agent]\nsystem = 'a'\nport = 1\n", &[]).await;
    let schema = r#"{ "properties": { "system": { "x-reload": "live" }, "port": { "x-reload": "fixed" }, "x": { "default": 3 } } }"#;
    let new = read("[agent]\nsystem = 'b'\nport = 2\nx = 3\n");
    let changes: Vec<_> = host.diff(&new, &[("agent", schema)]).iter().map(|c| format!("{} {:?}", c.key, c.class)).collect();
    assert_eq!(changes, ["agent.port Fixed", "agent.system Live"]);
    assert!(host.diff(&read("[agent]\nsystem = 'a'\nport = 1\n"), &[("agent", schema)]).is_empty());
}

#[tokio::test]
async fn what_a_change_shows_is_a_reference_and_no_secret() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nsecret = '${TOKEN}'\n", std::slice::from_ref(&twin)).await;
    let changes = host.diff(&read("[plugins.a]\nsecret = 'hunter2hunter2 or so'\n"), &[]);
    assert_eq!((changes[0].old.clone(), changes[0].new.clone()), (Some(json!("${TOKEN}")), Some(json!("*** or so"))));
    // The same reference to another value is a change, too.
    let other = read("[plugins.a]\nsecret = '${TOKEN}'\n").with_env([("TOKEN".to_owned(), "another-secret".to_owned())]);
    let report = within(host.reload(other)).await;
    assert_eq!(shown(&report), "  plugins.a.secret \"${TOKEN}\" → \"${TOKEN}\" Live\n  a Applied\n");
    assert_eq!(host.redactor().redact("another-secret"), "***", "and it is known as one");
}
