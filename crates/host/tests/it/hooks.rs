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
        Some(Outcome::Vetoed { plugin, reason }) => format!("{plugin} vetoed: {reason}"),
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
