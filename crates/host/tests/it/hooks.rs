//! Hook dispatch: order, replies, failures, and that a hook which nobody wants costs nothing.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Host, Outcome};
use bespoke_plugin_api::{CallCx, Code, Error, Hook, HookEvent, HookReply, HookSpec, Result};
use expect_test::expect;
use tokio::sync::Barrier;

use crate::kit::{BEFORE, Journal, Plug, before_run, started, within};

async fn run(host: &Host, input: &str) -> String {
    match within(host.hooks().run(&CallCx::new(), BEFORE, || before_run(input))).await {
        None => "nobody".into(),
        Some(Outcome::Proceed(HookEvent::BeforeAgentRun { input, .. })) => input,
        Some(Outcome::Proceed(other)) => format!("{other:?}"),
        Some(Outcome::Vetoed { plugin, reason, .. }) => format!("{plugin} vetoed: {reason}"),
    }
}

fn input(event: &HookEvent) -> String {
    match event {
        HookEvent::BeforeAgentRun { input, .. } => input.clone(),
        other => format!("{other:?}"),
    }
}

/// Adds a letter to the input.
fn adds(id: &str, spec: HookSpec, letter: &'static str) -> Plug {
    Plug::new(id).hook(spec, move |_, event| async move { Ok(HookReply::replace(before_run(&(input(&event) + letter)))) })
}

fn answers(id: &str, spec: HookSpec, reply: impl Fn() -> Result<HookReply> + Send + Sync + 'static) -> Plug {
    Plug::new(id).hook(spec, move |_, _| {
        let reply = reply();
        async move { reply }
    })
}

#[tokio::test]
async fn nobody_subscribed_and_the_payload_is_not_even_built() {
    let host = started("", [adds("a", HookSpec::new("a", BEFORE), "a")]).await;
    assert!(!host.hooks().wants(Hook::AfterAgentRun));
    let outcome = host.hooks().run(&CallCx::new(), Hook::AfterAgentRun, || panic!("built for nobody")).await;
    assert!(outcome.is_none());
}

#[tokio::test]
async fn modifiers_run_by_priority_and_then_by_plugin_and_each_sees_what_came_before() {
    let host = started(
        "",
        [
            adds("low", HookSpec::new("h1", BEFORE).priority(-5), "l"),
            adds("b", HookSpec::new("h2", BEFORE), "b"),
            adds("a", HookSpec::new("h3", BEFORE), "a"),
            adds("high", HookSpec::new("h4", BEFORE).priority(5), "h"),
        ],
    )
    .await;
    assert_eq!(run(&host, "-").await, "-habl");
}

#[tokio::test]
async fn a_veto_stops_what_comes_after_it() {
    let journal = Journal::default();
    let after = journal.clone();
    let host = started(
        "",
        [
            answers("guard", HookSpec::new("guard", BEFORE).priority(1), || Ok(HookReply::veto("not on Sundays"))),
            answers("later", HookSpec::new("later", BEFORE), move || {
                after.note("ran");
                Ok(HookReply::Continue)
            }),
        ],
    )
    .await;
    assert_eq!(run(&host, "-").await, "guard vetoed: not on Sundays");
    assert_eq!(journal.text(), "");
}

#[tokio::test]
async fn what_fails_open_goes_on_with_the_event_as_it_was_and_is_logged() {
    let log = Log::listen();
    let short = |name: &str| HookSpec::new(name, BEFORE).timeout(Duration::from_millis(20));
    let host = started(
        "",
        [
            Plug::new("late").hook(short("h1"), |_, _| std::future::pending()),
            Plug::new("panics").hook(short("h2"), |_, _| async { panic!("on purpose") }),
            answers("errs", short("h3"), || Err(Error::new(Code::LLM_RATE_LIMITED, "try later"))),
            answers("lost", short("h4"), || Ok(HookReply::replace(HookEvent::on_gateway_start()))),
            adds("well", HookSpec::new("h5", BEFORE).priority(-1), "w"),
        ],
    )
    .await;
    assert_eq!(run(&host, "-").await, "-w");
    expect![[r#"
        WARN message=hook handler failed plugin="errs" hook="before_agent_run" error=errs: try later closed=false
        WARN message=hook handler failed plugin="late" hook="before_agent_run" error=late: no answer within 20 ms closed=false
        WARN message=hook handler failed plugin="lost" hook="before_agent_run" error=answered before_agent_run with an event of on_gateway_start closed=false
        WARN message=hook handler failed plugin="panics" hook="before_agent_run" error=panics: the call panicked: on purpose closed=false"#]].assert_eq(&log.lines());
}

#[tokio::test]
async fn what_fails_closed_is_a_veto_with_the_reason() {
    let mut said = String::new();
    let closed = || HookSpec::new("guard", BEFORE).timeout(Duration::from_millis(20)).fail_closed();
    for plug in [
        Plug::new("a").hook(closed(), |_, _| std::future::pending()),
        Plug::new("a").hook(closed(), |_, _| async { panic!("on purpose") }),
        answers("a", closed(), || Err(Error::internal("no list of words"))),
        answers("a", closed(), || Ok(HookReply::replace(HookEvent::on_gateway_start()))),
        answers("a", closed(), || Ok(HookReply::Unknown)),
    ] {
        let host = started("", [plug]).await;
        said += &(run(&host, "-").await + "\n");
    }
    expect![[r#"
        a vetoed: `guard` could not decide and fails closed: no answer within 20 ms
        a vetoed: `guard` could not decide and fails closed: the call panicked: on purpose
        a vetoed: `guard` could not decide and fails closed: no list of words
        a vetoed: `guard` could not decide and fails closed: answered before_agent_run with an event of on_gateway_start
        a vetoed: `guard` could not decide and fails closed: answered something that this host does not know
    "#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn observers_run_side_by_side_after_the_rest_and_harm_nobody() {
    let seen = Journal::default();
    // Each waits for the other two: one after the other they would never end.
    let together = Arc::new(Barrier::new(3));
    let watches = |id: &'static str| {
        let (seen, together) = (seen.clone(), together.clone());
        Plug::new(id).hook(HookSpec::new(id, BEFORE).observer().priority(9), move |_, event| {
            let (seen, together) = (seen.clone(), together.clone());
            async move {
                together.wait().await;
                seen.note(input(&event));
                match id {
                    "w1" => Err(Error::internal("on purpose")),
                    "w2" => panic!("on purpose"),
                    _ => Ok(HookReply::veto("nobody asked")),
                }
            }
        })
    };
    let log = Log::listen();
    let host = started("", [watches("w1"), watches("w2"), watches("w3"), adds("a", HookSpec::new("a", BEFORE), "a")]).await;
    assert_eq!(run(&host, "-").await, "-a");
    assert_eq!(seen.text(), "-a -a -a");
    let mut lines: Vec<_> = log.lines().lines().map(str::to_owned).collect();
    lines.sort();
    expect![[r#"
        WARN message=observer failed plugin="w1" hook="before_agent_run" error=w1: on purpose
        WARN message=observer failed plugin="w2" hook="before_agent_run" error=w2: the call panicked: on purpose"#]]
    .assert_eq(&lines.join("\n"));
}

#[tokio::test]
async fn what_a_handler_does_does_not_fire_its_own_hook_but_others() {
    let host: Arc<Mutex<Option<Host>>> = Arc::default();
    let (inside, runs) = (host.clone(), Arc::new(AtomicU32::new(0)));
    let counted = runs.clone();
    let again = Plug::new("again").hook(HookSpec::new("again", BEFORE), move |cx, _| {
        let (host, counted) = (inside.lock().unwrap().clone().unwrap(), counted.clone());
        async move {
            counted.fetch_add(1, Ordering::Relaxed);
            assert!(host.hooks().run(&cx, BEFORE, || before_run("again")).await.is_none());
            let other = host.hooks().run(&cx, Hook::OnGatewayStart, HookEvent::on_gateway_start).await;
            assert_eq!(other, Some(Outcome::Proceed(HookEvent::on_gateway_start())));
            Ok(HookReply::Continue)
        }
    });
    let other = answers("other", HookSpec::new("other", Hook::OnGatewayStart).fail_closed(), || Ok(HookReply::Continue));
    let running = started("", [again, other]).await;
    *host.lock().unwrap() = Some(running.clone());
    assert_eq!(run(&running, "-").await, "-");
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    *host.lock().unwrap() = None;
}

#[tokio::test]
async fn a_plugin_that_stopped_is_asked_no_more() {
    let host = started("", [adds("a", HookSpec::new("a", BEFORE), "a")]).await;
    assert!(host.hooks().wants(BEFORE));
    within(host.shutdown()).await;
    assert!(!host.hooks().wants(BEFORE));
    assert_eq!(run(&host, "-").await, "nobody");
}

fn closed(name: &str) -> HookSpec {
    HookSpec::new(name, BEFORE).timeout(Duration::from_secs(5)).fail_closed()
}

#[tokio::test]
async fn a_guard_whose_plugin_does_not_run_says_no_and_why() {
    let guard = |id: &str| answers(id, closed(&format!("guard_{id}")), || Ok(HookReply::Continue));
    let mut said = String::new();
    for (name, plugs) in [
        ("start", vec![guard("a").starts(|_, _| async { Err(Error::internal("no list").with_help("write one")) })]),
        ("config", vec![guard("a").checks(|_| Err(Error::invalid_params("no such word")))]),
        ("need", vec![guard("a").needs("b", ""), Plug::new("b").starts(|_, _| async { Err(Error::internal("broken")) })]),
        ("register", vec![guard("a").registers(|_| panic!("on purpose"))]),
        (
            "observer",
            vec![answers("a", closed("watch").observer(), || Ok(HookReply::Continue)).starts(|_, _| async { Err(Error::internal("")) })],
        ),
        ("open", vec![adds("a", HookSpec::new("h", BEFORE), "a").starts(|_, _| async { Err(Error::internal("")) })]),
    ] {
        let host = started("", plugs).await;
        said += &format!("{name}: {}\n", run(&host, "-").await);
    }
    let host = started("", [guard("a")]).await;
    said += &format!("running: {}\n", run(&host, "-").await);
    within(host.shutdown()).await;
    said += &format!("stopped: {}\n", run(&host, "-").await);
    let host = started("[plugins.a]\nenabled = false\n", [guard("a")]).await;
    said += &format!("switched off: {}\n", run(&host, "-").await);
    let host = started("", [guard("a"), Plug::new("b")]).await;
    within(host.reload(bespoke_host::Config::parse("x", "[plugins.a]\nenabled = false\n").unwrap())).await;
    said += &format!("switched off while it ran: {}\n", run(&host, "-").await);
    expect![[r#"
        start: a vetoed: guard `guard_a` is not running: its plugin is failed: no list; write one
        config: a vetoed: guard `guard_a` is not running: its plugin is failed: bespoke.toml: plugins.a: no such word; bespoke config check
        need: a vetoed: guard `guard_a` is not running: its plugin is failed: needs `b`, which is failed: broken
        register: nobody
        observer: nobody
        open: nobody
        running: -
        stopped: a vetoed: guard `guard_a` is not running: its plugin is stopped
        switched off: nobody
        switched off while it ran: nobody
    "#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn a_guard_that_is_about_to_run_is_waited_for() {
    let (go, entered) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (wait, enter) = (go.clone(), entered.clone());
    let guard = answers("a", closed("guard"), || Ok(HookReply::veto("I see"))).starts(move |_, _| {
        let (wait, enter) = (wait.clone(), enter.clone());
        async move {
            enter.notify_one();
            wait.notified().await;
            Ok(())
        }
    });
    let host = crate::kit::built("", [guard]);
    let starting = tokio::spawn({
        let host = host.clone();
        async move { host.start(bespoke_host::Selection::All).await }
    });
    within(entered.notified()).await;
    let asked = tokio::spawn({
        let host = host.clone();
        async move { run(&host, "-").await }
    });
    tokio::task::yield_now().await;
    assert!(!asked.is_finished());
    go.notify_one();
    assert_eq!(within(asked).await.unwrap(), "a vetoed: I see");
    within(starting).await.unwrap();
}

/// The clock stands still but for what the test lets pass, and while plugins start, which happens on threads.
#[tokio::test]
async fn a_handler_that_keeps_failing_is_left_alone_and_comes_back() {
    let (asked, broken) = (Arc::new(AtomicU32::new(0)), Arc::new(std::sync::atomic::AtomicBool::new(true)));
    let fails = |id: &'static str, spec: HookSpec| {
        let (asked, broken) = (asked.clone(), broken.clone());
        answers(id, spec, move || {
            asked.fetch_add(1, Ordering::SeqCst);
            if broken.load(Ordering::SeqCst) { Err(Error::internal("no list of words")) } else { Ok(HookReply::Continue) }
        })
    };
    let host = started("", [fails("open", HookSpec::new("open", BEFORE))]).await;
    tokio::time::pause();
    for n in 1..=7 {
        assert_eq!(run(&host, "-").await, "-");
        assert_eq!(asked.load(Ordering::SeqCst), n.min(5));
    }
    let ill = crate::kit::row(&host, "open");
    assert_eq!((ill.health.as_str(), ill.reason.as_deref()), ("degraded", Some("hook `open` tripped")));
    tokio::time::advance(Duration::from_secs(31)).await;
    run(&host, "-").await;
    run(&host, "-").await;
    assert_eq!(asked.load(Ordering::SeqCst), 6, "one tries it again");
    broken.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(31)).await;
    run(&host, "-").await;
    run(&host, "-").await;
    assert_eq!(asked.load(Ordering::SeqCst), 8);
    assert_eq!(crate::kit::row(&host, "open").health, "ok");
    let told: Vec<_> = host.events().history("hook_", 0).into_iter().map(|e| e.topic).collect();
    let expected =
        ["hook_failed", "hook_failed", "hook_failed", "hook_failed", "hook_failed", "hook_tripped", "hook_failed", "hook_recovered"];
    assert_eq!(told, expected);
    let payload = host.events().history("hook_tripped", 0).remove(0).payload.to_string();
    assert_eq!(payload, r#"{"plugin":"open","hook":"before_agent_run","name":"open","reason":"no list of words"}"#);

    broken.store(true, Ordering::SeqCst);
    tokio::time::resume();
    let host = started("", [fails("shut", closed("shut"))]).await;
    let mut said = Vec::new();
    for _ in 0..6 {
        said.push(run(&host, "-").await);
    }
    assert_eq!(said[4], "shut vetoed: `shut` could not decide and fails closed: no list of words");
    assert_eq!(said[5], "shut vetoed: guard `shut` has failed too often and is left alone for a while");
    within(host.restart("shut")).await.unwrap();
    assert_eq!(crate::kit::row(&host, "shut").health, "ok", "a new instance begins without a record");
    for _ in 0..6 {
        run(&host, "-").await;
    }
    let tripped = |host: &Host| host.hooks().list().remove(0).tripped;
    assert!(tripped(&host));
    let switch = |on: bool| bespoke_host::Config::parse("bespoke.toml", &format!("[plugins.shut]\nenabled = {on}\n")).unwrap();
    within(host.reload(switch(false))).await;
    within(host.reload(switch(true))).await;
    assert!(!tripped(&host));
    assert_eq!(crate::kit::row(&host, "shut").health, "ok", "so does one that was switched off and on");
}

/// Two that come up at once each made a list of subscriptions; the older list must not overwrite the newer one.
#[tokio::test(flavor = "multi_thread")]
async fn no_subscription_is_lost_when_many_plugins_start_at_once() {
    for _ in 0..20 {
        let plugs = (0..12).map(|n| adds(&format!("p{n:02}"), HookSpec::new(format!("h{n}"), BEFORE), "x"));
        let host = started("", plugs).await;
        assert_eq!(run(&host, "").await.len(), 12);
    }
}

thread_local! {
    static HEARD: Journal = Journal::default();
}

/// What is logged on this thread. One subscriber for the process: whether a line is of interest at all is remembered for all
/// threads, so a subscriber of one test alone would race with the other tests.
struct Log(Journal);

impl Log {
    fn listen() -> Self {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
        Log(HEARD.with(Journal::clone))
    }

    fn lines(&self) -> String {
        self.0.read().join("\n")
    }
}

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("bespoke_host")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        HEARD.with(|heard| heard.note(fields.0));
    }
}

struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}
