//! Plugins that are switched off and on, with those that need them, and those that failed.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_switched_off_and_on_with_those_that_need_them() {
    let (a, b) = (Twin::new("a").extra(""), Twin::new("b"));
    let needs = |id: &str, of: &str, more: &str| Plug::new(id).provides(says(id, "here")).needs(of, more);
    let host = Host::builder()
        .config(read("[plugins.b]\nenabled = false\n"))
        .plugins([a.candidate(), b.candidate()])
        .plugins([needs("c", "a", ""), needs("d", "c", ""), needs("e", "a", "optional = true"), needs("f", "b", "")])
        .build()
        .unwrap();
    within(host.start(Selection::All)).await;
    let mut said = table(&host);
    for config in ["[plugins.a]\nenabled = false\n", "", "[plugins.nobody]\n", "[plugins]\ncall_timeout_ms = 0\n"] {
        let report = within(host.reload(read(config))).await;
        said += &format!("--- {}\n{}{}", config.trim().replace('\n', " "), shown(&report), table(&host));
        said += &format!("  a: {}, b: {}, d: {}\n", ask(&host, "a").await, ask(&host, "b").await, ask(&host, "d").await);
    }
    expect![[r#"
        a ready
        b disabled: switched off in the configuration
            fix: bespoke config set plugins.b.enabled true
        c ready
        d ready
        e ready
        f failed: needs `b`, which is disabled: switched off in the configuration
            fix: bespoke config set plugins.b.enabled true
        --- [plugins.a] enabled = false
          plugins.a.enabled true → false Live
          plugins.b.enabled false → true Live
          a Stopped
          b Started
          c Stopped: needs `a`, which was stopped
          d Stopped: needs `c`, which was stopped
          f Started
        a disabled: switched off in the configuration
            fix: bespoke config set plugins.a.enabled true
        b ready
        c failed: needs `a`, which was stopped
            fix: bespoke config set plugins.a.enabled true
        d failed: needs `c`, which was stopped
            fix: bespoke config set plugins.c.enabled true
        e ready
        f ready
          a: a: is disabled: switched off in the configuration, b: #1 value 0 size 0 counted 0, d: d: is failed: needs `c`, which was stopped
        --- 
          plugins.a.enabled false → true Live
          a Started
          c Started
          d Started
        a ready
        b ready
        c ready
        d ready
        e ready
        f ready
          a: #2 value 0 size 0 counted 0, b: #1 value 0 size 0 counted 1, d: here
        --- [plugins.nobody]
          bespoke.toml:1:10 plugins.nobody: no plugin of this id is in this program
        a ready
        b ready
        c ready
        d ready
        e ready
        f ready
          a: #2 value 0 size 0 counted 1, b: #1 value 0 size 0 counted 2, d: here
        --- [plugins] call_timeout_ms = 0
          plugins.call_timeout_ms – → 0 Live
          bespoke.toml:2:1 plugins.call_timeout_ms: 0 is no limit
        a ready
        b ready
        c ready
        d ready
        e ready
        f ready
          a: #2 value 0 size 0 counted 2, b: #1 value 0 size 0 counted 3, d: here
    "#]].assert_eq(&said);
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_failed_is_started_again_when_its_configuration_changes() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nbegin = 'fails'\n", std::slice::from_ref(&twin)).await;
    assert_eq!(table(&host), "a failed: no disk\n    fix: mount it\n");
    let report = within(host.reload(read("[plugins.a]\nbegin = 'fails'\n"))).await;
    assert_eq!(report, ReloadReport::default(), "nothing has changed, so nothing is tried");
    let report = within(host.reload(read(""))).await;
    assert_eq!(shown(&report), "  plugins.a.begin \"fails\" → – Restart\n  a Started\n");
    assert_eq!(ask(&host, "a").await, "#2 value 0 size 0 counted 0");
}

/// Whatever is written into its table: what could not run before its values were read does not run because of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_may_not_run_is_not_started_by_a_change_of_its_table() {
    let ran = Journal::default();
    let plug = |id: &'static str| {
        let ran = ran.clone();
        Plug::new(id).provides(says(id, "")).starts(move |_, _| {
            ran.note(id);
            async { Ok(()) }
        })
    };
    let plugs = [
        plug("broken").manifest("id = 'broken'\n"),
        plug("round").needs("trip", ""),
        plug("trip").needs("round", ""),
        plug("missing").needs("nobody", ""),
        plug("old"),
        plug("picky").needs("old", "version = \"^2\""),
    ];
    let host = Host::builder().config(read("")).plugins(plugs).build().unwrap();
    within(host.start(Selection::All)).await;
    let before = table(&host);
    let values: String = ["broken", "round", "trip", "missing", "picky"].map(|id| format!("[plugins.{id}]\nvalue = 1\n")).concat();
    let report = within(host.reload(read(&values))).await;
    assert_eq!(table(&host), before);
    assert_eq!(ran.text(), "old");
    expect![[r#"
          plugins.broken.value – → 1 Restart
          plugins.missing.value – → 1 Restart
          plugins.picky.value – → 1 Restart
          plugins.round.value – → 1 Restart
          plugins.trip.value – → 1 Restart
          broken Failed: test-broken/plugin.toml:1:1: author: it is missing; say who wrote it
        test-broken/plugin.toml:1:1: description: it is missing; say in one line what the plugin is
        test-broken/plugin.toml:1:1: protocol: it is missing; write protocol = "1"
        test-broken/plugin.toml:1:1: tiers: it is missing; list those in which the plugin can ship: compiled, dylib, wasm, process
          missing Failed: needs `nobody`, which is not in this program; build with the feature `nobody`
          picky Failed: needs `old` ^2, but 1.0.0 is here; build with a version of `old` that fits
          round Failed: waits for itself: round → trip → round; take one [[requires]] out of the circle
          trip Failed: waits for itself: trip → round → trip; take one [[requires]] out of the circle
    "#]]
    .assert_eq(&shown(&report));
}

/// Two that failed and are both repaired: the order of their ids is not that of their needs.
#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_started_again_after_what_it_needs() {
    let twin = Twin::new("b");
    let needs = Plug::new("a").provides(says("x", "here")).needs("b", "");
    let config = |b: &str, a: &str| read(&format!("[plugins.b]\n{b}\n[plugins.a]\n{a}\n"));
    let host = Host::builder().config(config("begin = 'fails'", "")).plugins([needs]).plugins([twin.candidate()]).build().unwrap();
    within(host.start(Selection::All)).await;
    assert_eq!((row(&host, "a").state, row(&host, "b").state), (State::Failed, State::Failed));
    let report = within(host.reload(config("", "value = 1"))).await;
    assert_eq!(report.plugins.iter().map(|p| format!("{} {:?}", p.plugin, p.outcome)).collect::<Vec<_>>(), ["a Started", "b Started"]);
    assert_eq!(table(&host), "a ready\nb ready\n");
}
