//! Adding, taking out, replacing and calling one plugin while the others run.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use bespoke_host::{Config, Host, Selection, State};
use bespoke_plugin_api::{
    CallCx, Code, Tool, ToolRequest,
    serde_json::{Value, json},
};

use crate::{
    kit::{call, row, told, within},
    mortal::Mortal,
};

async fn host(plugins: &[&Mortal]) -> Host {
    let host = Host::builder().config(Config::empty()).plugins(plugins.iter().map(|p| p.candidate())).build().unwrap();
    within(host.start(Selection::All)).await;
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_is_added_with_its_configuration_and_taken_out_again() {
    let (first, second) = (Mortal::new("first"), Mortal::new("second"));
    let host = host(&[&first]).await;
    within(host.load(second.candidate(), Some(json!({ "greeting": "hi" })))).await.unwrap();
    assert_eq!(call(&host, "second").await.unwrap(), "hi second #1 second 0");
    let again = within(host.load(second.candidate(), None)).await.unwrap_err();
    let slot = host.registry().find::<dyn Tool>("second").unwrap();
    within(host.unload("second")).await.unwrap();
    let gone = call(&host, "second").await.unwrap_err();
    let held = slot.call(&CallCx::new(), |t, cx| async move { t.call(&cx, ToolRequest::new(json!({}))).await }).await.unwrap_err();
    let unknown = within(host.unload("second")).await.unwrap_err();
    expect_test::expect![[r#"
        ALREADY_LOADED second: the plugin `second` is loaded already: it is ready
            help: bespoke plugin reload second
        PLUGIN_NOT_FOUND no tool named `second`; there is first
            help: bespoke plugin list
        NOT_READY second: is stopped: was unloaded
        PLUGIN_NOT_FOUND no plugin `second`
            help: bespoke plugin list
    "#]]
    .assert_eq(&[again, gone, held, unknown].iter().map(told).collect::<String>());
    assert_eq!(second.instances(), (1, 1));
    // And in again, without the table that it was loaded with before.
    within(host.load(second.candidate(), None)).await.unwrap();
    assert_eq!(call(&host, "second").await.unwrap(), "hi second #2 second 0", "its table stays as it was given");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_added_is_not_there() {
    let (first, other, broken) = (Mortal::new("first"), Mortal::with("other", &["first"], ""), Mortal::new("broken"));
    let needy = Mortal::with("needy", &["needy"], "[[requires]]\nplugin = \"nobody\"\n");
    let host = host(&[&first]).await;
    broken.fails.store(true, Ordering::SeqCst);
    let errors = [
        within(host.load(other.candidate(), None)).await.unwrap_err(),
        within(host.load(broken.candidate(), None)).await.unwrap_err(),
        within(host.load(needy.candidate(), None)).await.unwrap_err(),
        within(host.load(broken.candidate(), Some(json!({ "greeting": 3 })))).await.unwrap_err(),
        within(host.load(broken.candidate(), Some(json!([1])))).await.unwrap_err(),
    ];
    expect_test::expect![[r#"
        ALREADY_LOADED other: tool `first` is provided by both `first` and `other`; that of `first` counts
            help: bespoke config set plugins.first.enabled false
        INITIALIZE_FAILED broken: the disk is full
        DEPENDENCY_MISSING needy: needs `nobody`, which is not in this program
            help: build with the feature `nobody`
        INVALID_PARAMS broken: (no bespoke.toml): plugins.broken.greeting: must be a string, is 3
            help: bespoke config check
        INVALID_PARAMS broken: the configuration is an array, not an object
    "#]]
    .assert_eq(&errors.iter().map(told).collect::<String>());
    assert_eq!(host.rows().iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["first"]);
    assert_eq!(broken.instances().0, 1, "what does not fit never reaches the plugin");
    // The host is none the worse for it.
    broken.fails.store(false, Ordering::SeqCst);
    within(host.load(broken.candidate(), None)).await.unwrap();
    assert_eq!(call(&host, "broken").await.unwrap(), "hello broken #2 broken 0");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_others_need_is_not_taken_out() {
    let (base, user) = (Mortal::new("base"), Mortal::with("user", &["user"], "[[requires]]\nplugin = \"base\"\n"));
    let host = host(&[&base, &user]).await;
    let error = within(host.unload("base")).await.unwrap_err();
    assert_eq!(told(&error), "DEPENDENCY_MISSING base: user cannot do without `base`\n    help: bespoke plugin unload user\n");
    within(host.unload("user")).await.unwrap();
    within(host.unload("base")).await.unwrap();
    assert!(host.rows().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn other_values_are_applied_or_refused_and_never_ignored() {
    let plugin = Mortal::new("a");
    let host = host(&[&plugin]).await;
    within(host.configure("a", json!({ "greeting": "salut" }))).await.unwrap();
    assert_eq!(call(&host, "a").await.unwrap(), "salut a #2 a 0");
    let wrong = within(host.configure("a", json!({ "greeting": 1 }))).await.unwrap_err();
    let unknown = within(host.configure("a", json!({ "greting": "x" }))).await.unwrap_err();
    assert_eq!((wrong.code(), unknown.code()), (Code::INVALID_PARAMS, Code::INVALID_PARAMS), "{wrong} {unknown}");
    assert_eq!(call(&host, "a").await.unwrap(), "salut a #2 a 1", "it runs on as it was");
    plugin.fails.store(true, Ordering::SeqCst);
    let kept = within(host.configure("a", json!({ "greeting": "ciao" }))).await.unwrap_err();
    assert_eq!(kept.code(), Code::HOTSWAP_FAILED, "{kept}");
    assert_eq!(call(&host, "a").await.unwrap(), "salut a #2 a 2");
    host.shutdown().await;
}

/// Whoever may give a plugin its values may not take down its wall.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_keys_of_the_host_are_not_a_callers_to_set() {
    let (first, second) = (Mortal::new("first"), Mortal::new("second"));
    let host = host(&[&first]).await;
    for key in ["enabled", "sandbox", "allow_native", "limits", "secrets", "path", "start", "idle_stop_ms", "auto_install_deps"] {
        let table = json!({ (key): "off" });
        let loaded = within(host.load(second.candidate(), Some(table.clone()))).await.unwrap_err();
        let configured = within(host.configure("first", table)).await.unwrap_err();
        for error in [loaded, configured] {
            assert_eq!(error.code(), Code::INVALID_PARAMS, "{key}: {error}");
            assert!(error.message().contains(key) && error.help().unwrap().contains(key), "{key}: {error}");
        }
    }
    assert_eq!((first.instances(), second.instances()), ((1, 0), (0, 0)));
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_plugin_takes_the_place_and_gives_it_back() {
    for (mode, kept) in [("", [0, 1, 0]), ("swap = \"exclusive\"\n", [2, 3, 4])] {
        let (old, new) = (Mortal::with("old", &["old", "more"], mode), Mortal::with("new", &["new"], mode));
        let host = host(&[&old, &new]).await;
        within(host.unload("new")).await.unwrap();
        within(host.load(new.candidate(), None)).await.unwrap();
        let held = host.registry().find::<dyn Tool>("old").unwrap();
        assert_eq!(call(&host, "old").await.unwrap(), "hello old #1 old 0");
        assert_eq!(call(&host, "old").await.unwrap(), "hello old #1 old 1");
        within(host.swap("old", "new")).await.unwrap();
        assert_eq!(call(&host, "old").await.unwrap(), format!("hello new #2 new {}", kept[0]), "{mode}");
        // Who held the slot goes on with the new one, and so does a name that has no like.
        let of_held = held.call(&CallCx::new(), |t, cx| async move { t.call(&cx, ToolRequest::new(json!({}))).await }).await.unwrap();
        assert_eq!(of_held.to_text(), format!("hello new #2 new {}", kept[1]), "{mode}");
        assert_eq!(row(&host, "old").state, State::Stopped);
        assert_eq!(row(&host, "old").fix.as_deref(), Some("bespoke plugin swap new old"));
        // Through a reload of the new one, too.
        within(host.restart("new")).await.unwrap();
        assert!(call(&host, "more").await.unwrap().starts_with("hello new #3 new "), "{mode}");
        // And back: the names are the old one's own again.
        within(host.swap("new", "old")).await.unwrap();
        let answer = call(&host, "old").await.unwrap();
        assert!(answer.starts_with("hello old #2 old "), "{mode}: {answer}");
        assert!(call(&host, "more").await.unwrap().starts_with("hello old #2 more "), "{mode}");
        assert!(call(&host, "new").await.unwrap().starts_with("hello old #2 "), "{mode}");
        let of_held = held.call(&CallCx::new(), |t, cx| async move { t.call(&cx, ToolRequest::new(json!({}))).await }).await.unwrap();
        assert!(of_held.to_text().starts_with("hello old #2 old "), "{mode}");
        host.shutdown().await;
        let (made, ended) = old.instances();
        assert_eq!(made, ended, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swap_that_fails_leaves_the_old_one_as_it_was() {
    let exclusive = "swap = \"exclusive\"\n";
    let (old, new, other) =
        (Mortal::with("old", &["old"], exclusive), Mortal::with("new", &["new"], exclusive), Mortal::with("other", &[], ""));
    let host = host(&[&old, &new, &other]).await;
    new.stubborn.store(true, Ordering::SeqCst);
    assert_eq!(call(&host, "old").await.unwrap(), "hello old #1 old 0");
    let errors = [
        within(host.swap("old", "new")).await.unwrap_err(),
        within(host.swap("old", "other")).await.unwrap_err(),
        within(host.swap("old", "old")).await.unwrap_err(),
        within(host.swap("old", "nobody")).await.unwrap_err(),
        within(host.swap("nobody", "old")).await.unwrap_err(),
    ];
    expect_test::expect![[r#"
        HOTSWAP_FAILED old: `old` goes on: this state is not mine
        CONTRACT_MISMATCH other: `other` offers no tool, as `old` does
        INVALID_PARAMS `old` cannot take its own place
            help: bespoke plugin reload old
        PLUGIN_NOT_FOUND no plugin `nobody`
            help: bespoke plugin list
        PLUGIN_NOT_FOUND no plugin `nobody`
            help: bespoke plugin list
    "#]]
    .assert_eq(&errors.iter().map(told).collect::<String>());
    assert_eq!(call(&host, "old").await.unwrap(), "hello old #1 old 1");
    assert_eq!(call(&host, "new").await.unwrap(), "hello new #1 new 0");
    host.shutdown().await;
}

/// Callers hammer one name while plugins take each other's place under it: no call is lost, none is answered twice, and the
/// count goes on where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_lost_while_two_plugins_take_each_others_place() {
    let exclusive = "swap = \"exclusive\"\n";
    let (a, b) = (Mortal::with("a", &["a"], exclusive), Mortal::with("b", &["b"], exclusive));
    let host = host(&[&a, &b]).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let host = host.clone();
        callers.spawn(async move {
            let slot = host.registry().find::<dyn Tool>("a").unwrap();
            let mut counts = Vec::new();
            for _ in 0..400 {
                let answer =
                    slot.call(&CallCx::new(), |t, cx| async move { t.call(&cx, ToolRequest::new(json!({}))).await }).await.unwrap();
                counts.push(answer.to_text().rsplit(' ').next().unwrap().parse::<u64>().unwrap());
            }
            assert!(counts.windows(2).all(|w| w[0] < w[1]), "the order of a caller is kept");
            counts
        });
    }
    let swapping = {
        let host = host.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                let (old, new) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
                host.swap(old, new).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let counts = within(callers.join_all()).await;
    within(swapping).await.unwrap();
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    counts.into_iter().flatten().for_each(|count| *seen.entry(count).or_default() += 1);
    assert!(seen.values().all(|n| *n == 1) && seen.len() == 3200, "{} of 3200 counts", seen.len());
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn methods_are_called_by_name() {
    let plugin = Mortal::new("a");
    let host = host(&[&plugin]).await;
    let cx = CallCx::new();
    let own = within(host.invoke(&cx, "a", "reverse", json!({ "text": "abc" }))).await.unwrap();
    assert_eq!(own, json!("cba"));
    let tool = within(host.invoke(&cx, "a", "a", Value::Null)).await.unwrap();
    assert_eq!(tool["content"][0]["text"], "hello a #1 a 0", "{tool}");
    // What acts goes through its contract, whatever the plugin calls its own.
    for method in ["call", "tool/call", "tool.call"] {
        let tool = within(host.invoke(&cx, "a", method, Value::Null)).await.unwrap();
        assert!(tool["content"][0]["text"].as_str().unwrap().starts_with("hello a #1 a "), "{method}: {tool}");
    }
    assert_eq!((row(&host, "a").calls, row(&host, "a").errors), (5, 0), "each counts, and a name that it lacks is no failure");
    let errors = [
        within(host.invoke(&cx, "a", "tts.synthesize", json!({}))).await.unwrap_err(),
        within(host.invoke(&cx, "b", "x", json!({}))).await.unwrap_err(),
    ];
    expect_test::expect![[r#"
        METHOD_NOT_FOUND a: no method `tts.synthesize`; there is a
            help: bespoke plugin info a
        PLUGIN_NOT_FOUND no plugin `b`
            help: bespoke plugin list
    "#]]
    .assert_eq(&errors.iter().map(told).collect::<String>());
    host.shutdown().await;
    let stopped = within(host.invoke(&cx, "a", "a", json!({}))).await.unwrap_err();
    assert_eq!(stopped.code(), Code::NOT_READY, "{stopped}");
}
