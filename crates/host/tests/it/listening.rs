//! Handlers of events: who hears what, in which order, and what becomes of one that is slow, fails or was not asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Config, Host, ReloadReport};
use bespoke_plugin_api::{
    BoxFuture, CallCx, Code, Error, Event, Facts, Health, Hook, HookEvent, HookReply, HookSpec, Life, Reload, Result, State,
    serde_json::{Value, json},
};
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};

use crate::kit::{Plug, built, row, started, within};

type Heard = mpsc::UnboundedReceiver<Event>;

fn spec(topics: &[&str]) -> HookSpec {
    HookSpec::new("ear", Hook::OnEvent).topics(topics.iter().copied())
}

fn event_of(event: HookEvent) -> Event {
    match event {
        HookEvent::OnEvent { event, .. } => event,
        other => panic!("{other:?}"),
    }
}

/// A plugin that hears these, and what it heard.
fn hears(id: &str, spec: HookSpec) -> (Plug, Heard) {
    let (heard, all) = mpsc::unbounded_channel();
    let plug = Plug::new(id).hook(spec, move |_, event| {
        let _ = heard.send(event_of(event));
        async { Ok(HookReply::Continue) }
    });
    (plug, all)
}

const MAY_HEAR_ALL: &str = "[permissions]\nplugin_communication = [\"event:*\"]\n";

async fn next(heard: &mut Heard) -> (String, Value) {
    let event = within(heard.recv()).await.unwrap();
    (event.topic, event.payload)
}

/// What it has heard until this mark.
async fn until_mark(host: &Host, heard: &mut Heard) -> Vec<String> {
    host.events().emit("mark", None, json!(null));
    let mut topics = Vec::new();
    loop {
        match next(heard).await.0 {
            topic if topic == "mark" => return topics,
            topic => topics.push(topic),
        }
    }
}

#[tokio::test]
async fn a_handler_hears_what_its_topics_say_in_order_and_nothing_of_its_own() {
    let (plug, mut heard) = hears("a", spec(&["x.", "a.", "mark"]));
    let host = started("", [plug.extra(MAY_HEAR_ALL)]).await;
    for n in 0..500 {
        host.events().emit("x.n", Some("x"), json!(n));
        host.events().emit("xy.n", Some("xy"), json!(n));
        host.events().emit("a.n", Some("a"), json!(n));
    }
    for n in 0..500 {
        assert_eq!(next(&mut heard).await, ("x.n".to_owned(), json!(n)));
    }
    assert_eq!(until_mark(&host, &mut heard).await, [""; 0]);
    within(host.shutdown()).await;
}

#[tokio::test]
async fn topics_of_others_need_a_permission_and_without_it_that_is_told() {
    let (plug, mut heard) = hears("a", spec(&["x.", "mark", "a."]));
    let plug = plug.extra("[permissions]\nplugin_communication = [\"event:mark\"]\n");
    let host = built("", [plug]);
    let mut told = host.events().subscribe("hook_failed", None);
    within(host.start(bespoke_host::Selection::All)).await;
    host.events().emit("x.n", Some("x"), json!(1));
    // Under its own name, by somebody else.
    host.events().emit("a.n", None, json!(1));
    assert_eq!(until_mark(&host, &mut heard).await, ["a.n"]);
    let told = within(told.next()).await.unwrap().unwrap();
    let reason = "may not hear events `x.`, which it asks for: plugin.toml does not ask for \"event:x.\", or the user has not granted it";
    assert_eq!(told.payload, json!({ "plugin": "a", "hook": "on_event", "name": "ear", "reason": reason }));
    assert_eq!(host.events().history("hook_failed", 0).len(), 1, "once");
    let used: Vec<_> = host.used("a").into_iter().map(|used| (used.item, used.refused)).collect();
    assert!(used.contains(&("event:x.".to_owned(), 1)), "{used:?}");
    within(host.shutdown()).await;
}

#[tokio::test]
async fn the_user_says_who_else_hears_what_and_a_reload_changes_it() {
    let read = |text: &str| Config::parse("bespoke.toml", text).unwrap();
    let entry = |events: &str| format!("[[hooks]]\nplugin = \"a\"\ncallback = \"ear\"\nevents = [{events}]\n");
    let (plug, mut heard) = hears("a", spec(&[]));
    let host = started(&entry("'one', 'mark', 'plugin_*'"), [plug, Plug::new("b")]).await;
    let emit = |topics: &[&str]| topics.iter().for_each(|topic| _ = host.events().emit(topic, None, json!(null)));
    // They may have come up in either order.
    let before = until_mark(&host, &mut heard).await;
    assert!(before.iter().all(|topic| topic == "plugin_loaded"), "{before:?}");
    emit(&["one", "two", "one.more", "plugin_error"]);
    assert_eq!(until_mark(&host, &mut heard).await, ["one", "plugin_error"]);

    let report: ReloadReport = within(host.reload(read(&entry("'two', 'mark'")))).await;
    assert!(report.problems.is_empty(), "{report:?}");
    emit(&["one", "two"]);
    assert_eq!(until_mark(&host, &mut heard).await, ["two"]);

    within(host.reload(read(""))).await;
    emit(&["two", "mark"]);
    within(host.reload(read(&entry("'three', 'mark'")))).await;
    emit(&["three"]);
    assert_eq!(until_mark(&host, &mut heard).await, ["three"]);

    let report = within(host.reload(read("[[hooks]]\nplugin = \"a\"\n"))).await;
    assert!(!report.problems.is_empty() && report.problems.iter().all(|p| p.key.starts_with("hooks[0].")), "{report:?}");
    within(host.reload(read("[[hooks]]\nplugin = \"nobody\"\ncallback = \"x\"\nevents = [\"y\"]\n"))).await;
    let problem = host.check_config().await.unwrap_err().problems.remove(0);
    assert_eq!((problem.key.as_str(), problem.fix.as_deref()), ("hooks[0].plugin", Some("bespoke plugin list")));
    within(host.shutdown()).await;
}

/// A life with a method of its own.
struct Own(mpsc::UnboundedSender<Value>);

impl Life for Own {
    fn health(&self) -> Health {
        Health::Ok
    }
    fn facts(&self) -> Facts {
        Facts::new()
    }
    fn reconfigure(&self, _: Value) -> BoxFuture<'_, Result<Reload>> {
        Box::pin(async { Ok(Reload::Applied) })
    }
    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>> {
        Box::pin(async { Ok(None) })
    }
    fn restore_state(&self, _: State) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    fn invoke<'a>(&'a self, _: &'a CallCx, method: &'a str, args: Value) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            if method != "on_it" {
                return Err(Error::new(Code::METHOD_NOT_FOUND, format!("there is no method `{method}`")));
            }
            let _ = self.0.send(args);
            Ok(Value::Null)
        })
    }
    fn methods(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async { Ok(vec!["on_it".into()]) })
    }
}

#[tokio::test]
async fn a_method_of_a_plugin_hears_what_the_user_names() {
    let (sent, mut heard) = mpsc::unbounded_channel();
    let hooks = "[[hooks]]\nplugin = \"a\"\ncallback = \"on_it\"\nevents = [\"it\"]\n[[hooks]]\nplugin = \"a\"\ncallback = \"of_it\"\nevents = [\"it\"]\n";
    let host = built(hooks, [Plug::new("a").lives(Own(sent))]);
    let mut failed = host.events().subscribe("hook_failed", None);
    within(host.start(bespoke_host::Selection::All)).await;
    assert_eq!(within(host.own_methods("a")).await.unwrap(), ["on_it"]);
    host.events().emit("it", None, json!({ "n": 1 }));
    let args = within(heard.recv()).await.unwrap();
    assert_eq!((&args[0]["topic"], &args[0]["payload"], args.as_array().unwrap().len()), (&json!("it"), &json!({ "n": 1 }), 1));
    // A name that it does not have is told, and harms nobody.
    let told = within(failed.next()).await.unwrap().unwrap().payload;
    assert_eq!((&told["name"], &told["reason"]), (&json!("of_it"), &json!("there is no method `of_it`")));
    within(host.shutdown()).await;
}

#[tokio::test]
async fn one_that_is_stuck_holds_nobody_and_what_it_lost_is_told_exactly() {
    const BEHIND: usize = 1024;
    let (go, held) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
    let (heard, mut all) = mpsc::unbounded_channel();
    let (waits, stuck) = (go.clone(), held.clone());
    let plug = Plug::new("a").hook(spec(&["n", "mark"]).timeout(Duration::from_secs(3600)), move |_, event| {
        let (waits, stuck, heard) = (waits.clone(), stuck.clone(), heard.clone());
        async move {
            let _ = heard.send(event_of(event));
            if stuck.load(Ordering::SeqCst) {
                waits.notified().await;
            }
            Ok(HookReply::Continue)
        }
    });
    let host = started("", [plug.extra(MAY_HEAR_ALL)]).await;
    let mut lost = host.events().subscribe("hook_lost", None);
    host.events().emit("n", None, json!(0));
    assert_eq!(next(&mut all).await.1, json!(0));
    // It sits in the first; so many more wait, and the rest of the oldest fall out.
    for n in 1..=BEHIND + 50 {
        host.events().emit("n", None, json!(n));
    }
    held.store(false, Ordering::SeqCst);
    go.notify_one();
    for n in 51..=BEHIND + 50 {
        assert_eq!(next(&mut all).await.1, json!(n));
    }
    let told = within(lost.next()).await.unwrap().unwrap().payload;
    assert_eq!(told, json!({ "plugin": "a", "name": "ear", "lost": 50 }));
    assert_eq!(row(&host, "a").facts["events lost"], "50 by `ear`");
    assert_eq!(host.events().history("hook_lost", 0).len(), 1, "once for the burst");
    within(host.shutdown()).await;
}

#[tokio::test]
async fn one_that_fails_is_left_alone_and_does_not_feed_itself() {
    let (heard, mut all) = mpsc::unbounded_channel();
    let plug = Plug::new("a").hook(spec(&[""]), move |_, event| {
        let _ = heard.send(event_of(event));
        async { Err(Error::internal("on purpose")) }
    });
    let host = started("", [plug.extra(MAY_HEAR_ALL)]).await;
    for n in 0..20 {
        host.events().emit("n", None, json!(n));
    }
    within(host.shutdown()).await;
    let mut topics = Vec::new();
    while let Ok(event) = all.try_recv() {
        topics.push(event.topic);
    }
    // Its own start, and events until it tripped; nothing of its own failures.
    assert_eq!(topics, ["plugin_loaded", "n", "n", "n", "n"]);
    let told = |topic: &str| host.events().history(topic, 0).len();
    assert_eq!((told("hook_failed"), told("hook_tripped")), (5, 1));
}

#[tokio::test]
async fn what_happened_before_the_end_is_heard() {
    let (plug, mut heard) = hears("a", spec(&["n"]));
    let host = started("", [plug.extra(MAY_HEAR_ALL)]).await;
    for n in 0..300 {
        host.events().emit("n", None, json!(n));
    }
    within(host.shutdown()).await;
    let mut count = 0;
    while heard.try_recv().is_ok() {
        count += 1;
    }
    assert_eq!(count, 300);
}

#[tokio::test]
async fn a_handler_goes_on_when_its_plugin_is_replaced_or_comes_late() {
    let (plug, mut heard) = hears("a", spec(&["n", "mark"]));
    let host = started("", [plug.extra(MAY_HEAR_ALL)]).await;
    host.events().emit("n", None, json!(0));
    within(host.restart("a")).await.unwrap();
    host.events().emit("n", None, json!(1));
    assert_eq!(until_mark(&host, &mut heard).await, ["n", "n"]);
    within(host.unload("a")).await.unwrap();
    host.events().emit("n", None, json!(2));
    assert!(!host.events().is_heard(), "nobody is left");
    let (plug, mut heard) = hears("a", spec(&["n", "mark"]));
    within(host.load(plug.extra(MAY_HEAR_ALL).into(), None)).await.unwrap();
    assert_eq!(until_mark(&host, &mut heard).await, [""; 0]);
    within(host.shutdown()).await;
}

#[tokio::test]
async fn an_event_that_breaks_its_own_promise_is_refused_where_it_is_told() {
    let (told, mut all) = mpsc::unbounded_channel();
    let plug = Plug::new("a").starts(move |cx, _| {
        let told = told.clone();
        async move {
            for (topic, payload) in [
                ("found", json!({ "place": "here" })),
                ("found", json!({ "plaice": 1 })),
                ("other", json!({ "plaice": 1 })),
                ("bare", json!(1)),
            ] {
                let _ = told.send(cx.emit(topic, payload).map_err(|e| format!("{} {}", e.kind(), e.message())));
            }
            Ok(())
        }
    });
    let schema =
        "{ type = \"object\", properties = { place = { type = \"string\" } }, required = [\"place\"], additionalProperties = false }";
    let plug = plug.extra(&format!("[[events]]\nname = \"found\"\nschema = {schema}\n[[events]]\nname = \"bare\"\n"));
    let host = started("", [plug]).await;
    let mut results = Vec::new();
    while let Ok(result) = all.try_recv() {
        results.push(result);
    }
    let refusal = results.remove(1).unwrap_err();
    assert!(refusal.starts_with("INVALID_PARAMS the event `found` is not what plugin.toml says of it: "), "{refusal}");
    assert!(refusal.contains("place"), "{refusal}");
    assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
    let heard: Vec<_> = host.events().history("a.", 0).into_iter().map(|e| e.topic).collect();
    assert_eq!(heard, ["a.found", "a.other", "a.bare"]);
    within(host.shutdown()).await;
}

#[test]
fn the_page_names_every_event_of_the_host() {
    let page = include_str!("../../../../docs/events.md");
    for topic in bespoke_host::topics::TOPICS {
        assert!(page.contains(&format!("\n| `{topic}` | ")), "docs/events.md does not name {topic}");
    }
    let page = include_str!("../../../../docs/hooks.md");
    for hook in Hook::ALL {
        assert!(page.contains(&format!("\n| `{}` | ", hook.name())), "docs/hooks.md does not name {}", hook.name());
    }
}
