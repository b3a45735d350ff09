//! The guard around every call: time, panics, cancellation, leases, depth; the same whoever calls.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bespoke_host::{Host, Selection};
use bespoke_plugin_api::{
    CallCx, CancelToken, ChatDelta, ChatRequest, Code, Contribution, Duplex, EmbedRequest, Embedder, EmbedderSpec, Embeddings, Error, Hook,
    HookEvent, HookReply, HookSpec, Provider, Result, Target, Timestamp, Tool, ToolCall, ToolOutput, ToolRequest, ToolSpec, Vad, VadEvent,
    VadOptions, VadSpec,
    serde_json::{Value, json},
};
use expect_test::expect;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::sync::Notify;

use crate::kit::{Alive, Journal, Plug, built, call, call_with, provider, row, says, started, strict, told, within};

fn in_ms(ms: u64) -> CallCx {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    CallCx::new().with_deadline(Timestamp(now.as_micros() as u64).plus(Duration::from_millis(ms)))
}

#[tokio::test]
async fn errors_are_stamped_with_the_plugin_whatever_it_wrote() {
    let plug = Plug::new("a")
        .tool("returns", |_, _| async { Err(Error::internal("on purpose").with_plugin("somebody-else")) })
        .tool("panics", |_, _| async { panic!("on purpose") })
        .tool("panics-early", |_, _| -> std::future::Ready<Result<ToolOutput>> { panic!("before the first poll") });
    let host = started("", [plug]).await;
    let mut said = String::new();
    for name in ["returns", "panics", "panics-early"] {
        said += &told(&call(&host, name).await.unwrap_err());
    }
    expect![[r#"
        INTERNAL_ERROR a: on purpose
        PLUGIN_EXCEPTION a: the call panicked: on purpose
        PLUGIN_EXCEPTION a: the call panicked: before the first poll
    "#]]
    .assert_eq(&said);
    assert_eq!((row(&host, "a").errors, row(&host, "a").in_flight), (3, 0));
}

#[tokio::test]
async fn a_call_that_is_late_is_cancelled_and_its_siblings_are_not() {
    let seen: Arc<Mutex<Vec<CancelToken>>> = Arc::default();
    let tokens = seen.clone();
    let plug = Plug::new("a").tool("x", move |cx, args| {
        tokens.lock().unwrap().push(cx.cancel_token().clone());
        async move {
            if args == json!("wait") {
                std::future::pending::<()>().await;
            }
            Ok(ToolOutput::text("done"))
        }
    });
    let host = started("[plugins]\ncall_timeout_ms = 30\n", [plug]).await;
    let slot = host.registry().get::<dyn Tool>("x").unwrap();
    let outer = CallCx::new();
    let ask = |word: &'static str| slot.call(&outer, move |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!(word))).await });
    let error = within(ask("wait")).await.unwrap_err();
    assert_eq!(told(&error), "EXECUTION_TIMEOUT a: no answer within 30 ms\n");
    assert!(error.is_retryable());
    assert!(seen.lock().unwrap()[0].is_cancelled(), "whoever still works for it is told");
    assert!(!outer.is_cancelled());
    assert_eq!(within(ask("go")).await.unwrap().to_text(), "done");
}

#[tokio::test]
async fn an_earlier_deadline_of_the_caller_wins() {
    let plug = Plug::new("a").tool("x", |_, _| std::future::pending());
    let host = started("", [plug]).await;
    let error = call_with(&host, &in_ms(40), "x").await.unwrap_err();
    assert_eq!(error.code(), Code::EXECUTION_TIMEOUT);
    // One that has passed already leaves no time at all.
    let past = CallCx::new().with_deadline(Timestamp(1));
    assert_eq!(told(&call_with(&host, &past, "x").await.unwrap_err()), "EXECUTION_TIMEOUT a: no answer within 0 ms\n");
}

#[tokio::test]
async fn the_caller_that_goes_away_cancels_what_it_asked_for() {
    let seen: Arc<Mutex<Option<CancelToken>>> = Arc::default();
    let token = seen.clone();
    let plug = Plug::new("a").tool("x", move |cx, _| {
        *token.lock().unwrap() = Some(cx.cancel_token().clone());
        std::future::pending()
    });
    let host = started("", [plug]).await;
    let mut asked = Box::pin(call(&host, "x"));
    assert!(asked.as_mut().now_or_never().is_none());
    assert_eq!(row(&host, "a").in_flight, 1);
    drop(asked);
    assert!(seen.lock().unwrap().take().unwrap().is_cancelled());
    assert_eq!(row(&host, "a").in_flight, 0);
}

fn deltas(items: impl IntoIterator<Item = Option<&'static str>>) -> impl Stream<Item = Result<ChatDelta>> + Send {
    let items: Vec<_> = items.into_iter().collect();
    futures_util::stream::iter(items).map(|item| item.map(ChatDelta::text).ok_or(())).map(|item| match item {
        Ok(delta) => Ok(delta),
        Err(()) => panic!("midway"),
    })
}

async fn chat(host: &Host) -> Result<bespoke_host::Leased<dyn Provider, bespoke_plugin_api::BoxStream<ChatDelta>>> {
    let slot = host.registry().get::<dyn Provider>("p").unwrap();
    slot.call_leased(&CallCx::new(), |p, cx| async move { p.chat(&cx, ChatRequest::new(Vec::new())).await }).await
}

#[tokio::test]
async fn a_stream_that_panics_midway_ends_with_one_error() {
    let host = started("", [Plug::new("a").provides(provider("p", |_| Box::pin(deltas([Some("one"), None, Some("two")]))))]).await;
    let mut stream = chat(&host).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(told(&stream.next().await.unwrap().unwrap_err()), "PLUGIN_EXCEPTION a: the stream panicked: midway\n");
    assert!(stream.next().await.is_none());
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn an_open_stream_holds_its_plugin_and_tells_it_when_it_is_dropped() {
    let seen: Arc<Mutex<Option<CancelToken>>> = Arc::default();
    let (token, ended) = (seen.clone(), Arc::new(AtomicBool::new(false)));
    let at_end = ended.clone();
    let plug = Plug::new("a").provides(provider("p", move |cx| {
        *token.lock().unwrap() = Some(cx.cancel_token().clone());
        Box::pin(futures_util::stream::pending())
    }));
    let plug = plug.lives(Alive::ends(move || {
        at_end.store(true, Ordering::SeqCst);
        async {}
    }));
    let host = started("", [plug]).await;
    let stream = chat(&host).await.unwrap();
    let token = seen.lock().unwrap().take().unwrap();
    assert!(!token.is_cancelled(), "the call has returned, but its answer goes on");
    let mut stopping = Box::pin(host.shutdown());
    for _ in 0..10 {
        assert!(stopping.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert!(!ended.load(Ordering::SeqCst));
    drop(stream);
    assert!(token.is_cancelled());
    within(stopping).await;
    assert!(ended.load(Ordering::SeqCst));
}

struct Counts(u32);

impl Duplex<[f32], VadEvent> for Counts {
    fn push(&mut self, item: &[f32]) -> Result<()> {
        self.0 += item.len() as u32;
        Ok(())
    }
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        Poll::Ready(None)
    }
}

struct Ear;

impl Vad for Ear {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        match options.sample_rate {
            0 => Err(Error::new(Code::STT_AUDIO_INVALID, "0 Hz is no rate")),
            1 => panic!("one"),
            _ => Ok(Box::new(Counts(0))),
        }
    }
}

#[tokio::test]
async fn a_duplex_is_opened_under_the_guard_and_keeps_its_lease() {
    let host = started("", [Plug::new("a").provides(Contribution::Vad(VadSpec::new("ear"), Arc::new(Ear)))]).await;
    let slot = host.registry().get::<dyn Vad>("ear").unwrap();
    let mut stream = slot.enter(|vad| vad.open(&VadOptions::new(16_000))).unwrap();
    stream.push(&[0.0; 512]).unwrap();
    assert_eq!(row(&host, "a").in_flight, 1);
    drop(stream);
    assert_eq!(row(&host, "a").in_flight, 0);
    let mut said = String::new();
    for rate in [0, 1] {
        said += &told(&slot.enter(|vad| vad.open(&VadOptions::new(rate))).map(|_| ()).unwrap_err());
    }
    expect![[r#"
        STT_AUDIO_INVALID a: 0 Hz is no rate
        PLUGIN_EXCEPTION a: the call panicked: one
    "#]]
    .assert_eq(&said);
    assert_eq!((row(&host, "a").in_flight, row(&host, "a").errors), (0, 2));
}

/// A plugin that starts when it is told to.
fn waits(go: Arc<Notify>, entered: Arc<Notify>) -> Plug {
    Plug::new("a").provides(says("x", "up")).starts(move |_, _| {
        let (go, entered) = (go.clone(), entered.clone());
        async move {
            entered.notify_one();
            go.notified().await;
            Ok(())
        }
    })
}

#[tokio::test]
async fn a_call_to_a_plugin_that_starts_waits_for_it_but_not_past_the_deadline() {
    let (go, entered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let host = built("", [waits(go.clone(), entered.clone())]);
    let starting = tokio::spawn({
        let host = host.clone();
        async move { host.start(Selection::All).await }
    });
    within(entered.notified()).await;
    assert_eq!(told(&call_with(&host, &in_ms(20), "x").await.unwrap_err()), "NOT_READY a: is starting\n");
    assert_eq!(told(&host.registry().get::<dyn Tool>("x").unwrap().lease().unwrap_err()), "NOT_READY a: is starting\n");
    let asked = tokio::spawn({
        let host = host.clone();
        async move { call(&host, "x").await }
    });
    tokio::task::yield_now().await;
    go.notify_one();
    assert_eq!(within(asked).await.unwrap().unwrap(), "up");
    within(starting).await.unwrap();
}

#[tokio::test]
async fn a_call_to_a_plugin_that_does_not_serve_fails_at_once_and_says_why() {
    let host = started("", [Plug::new("a").provides(says("x", ""))]).await;
    let slot = host.registry().get::<dyn Tool>("x").unwrap();
    within(host.shutdown()).await;
    let begun = std::time::Instant::now();
    let error = slot.lease_ready(&CallCx::new()).await.map(|_| ()).unwrap_err();
    assert_eq!(told(&error), "NOT_READY a: is stopped\n");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn plugins_that_call_each_other_in_a_circle_end_at_the_depth_limit() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let context: Arc<Mutex<Option<bespoke_plugin_api::PluginContext>>> = Arc::default();
    let (mine, given) = (context.clone(), context);
    let plug = Plug::new("a")
        .tool("x", move |cx, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let context = mine.lock().unwrap().clone().unwrap();
            async move {
                assert_eq!(cx.caller().is_some(), cx.depth() > 0);
                let answer = context.call(&cx, Target::new("tool", "x"), Value::Null).await?;
                Ok(ToolOutput::text(answer.to_string()))
            }
        })
        .starts(move |cx, _| {
            *given.lock().unwrap() = Some(cx);
            async { Ok(()) }
        });
    let host = started("", [plug]).await;
    let error = call(&host, "x").await.unwrap_err();
    assert_eq!(told(&error), "RESOURCE_EXHAUSTED a: a calls deeper than 8 plugins: is there a cycle?\n");
    assert_eq!(calls.load(Ordering::Relaxed), 9);
}

#[tokio::test]
async fn a_guard_of_tools_is_not_passed_by_going_through_a_plugin() {
    let ran = Arc::new(AtomicBool::new(false));
    let seen = ran.clone();
    let guarded = Plug::new("b").tool("echo", move |_, _| {
        seen.store(true, Ordering::SeqCst);
        async { Ok(ToolOutput::text("it ran")) }
    });
    let guard =
        Plug::new("guard").hook(HookSpec::new("guard", Hook::BeforeToolExecute), |_, _| async { Ok(HookReply::veto("not this one")) });
    let host = started("", [guarded, guard, calls_once("a", Target::new("tool", "echo"))]).await;
    let answer = call(&host, "a").await.unwrap();
    assert!(answer.contains("refused by guard: not this one"), "{answer}");
    assert!(!ran.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_plugin_calls_tools_of_others_and_learns_what_it_may_not_call() {
    let host = started(
        "",
        [
            Plug::new("b").tool("echo", |cx, args| async move {
                Ok(ToolOutput::text(format!("{} for {}", args["word"], cx.caller().unwrap_or("nobody"))))
            }),
            calls_once("a", Target::new("tool", "echo")),
            calls_once("c", Target::new("tool", "nothing")),
            calls_once("d", Target::new("vad", "ear")),
            calls_once("e", Target::new("toll", "echo")),
        ],
    )
    .await;
    let mut said = call(&host, "a").await.unwrap() + "\n";
    for name in ["c", "d", "e"] {
        said += &told(&call(&host, name).await.unwrap_err());
    }
    expect![[r#"
        {"content":[{"type":"text","text":"\"ahoy\" for a"}]}
        PLUGIN_NOT_FOUND c: no tool named `nothing`; there is a, c, d, e, echo
            help: bespoke plugin list
        METHOD_NOT_FOUND d: calling a vad from a plugin is not supported
        CONTRACT_NOT_FOUND e: `toll` is no kind of contribution
    "#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn hooks_see_a_failed_tool_and_may_make_an_answer_of_it() {
    let fails = || Plug::new("a").tool("fails", |_, _| async { Err(Error::internal("no disk").with_help("mount it")) });
    let ask = async |host: &Host| within(host.call_tool(&CallCx::new(), ToolCall::new("1", "fails", Value::Null))).await;
    let looks = Journal::default();
    let seen = looks.clone();
    let watch = Plug::new("watch").hook(HookSpec::new("watch", Hook::AfterToolExecute), move |_, event| {
        let HookEvent::AfterToolExecute { output, .. } = &event else { panic!("{event:?}") };
        seen.note(format!("{} {}", output.is_error, output.to_text()));
        async { Ok(HookReply::Continue) }
    });
    let error = ask(&started("", [fails(), watch]).await).await.unwrap_err();
    assert_eq!(told(&error), "INTERNAL_ERROR a: no disk\n    help: mount it\n", "left as it was, it stays the error");
    assert_eq!(looks.text(), "true INTERNAL_ERROR: no disk");

    let mends = Plug::new("mends").hook(HookSpec::new("mends", Hook::AfterToolExecute), |_, event| {
        let mut event = event;
        if let HookEvent::AfterToolExecute { output, .. } = &mut event {
            *output = ToolOutput::text("from a copy");
        }
        async { Ok(HookReply::replace(event)) }
    });
    assert_eq!(ask(&started("", [fails(), mends]).await).await.unwrap().1.to_text(), "from a copy");
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_refused_before_the_plugin_sees_them() {
    let seen = Journal::default();
    let note = seen.clone();
    let spec = ToolSpec::new("write", "Writes.").input(json!({
        "type": "object", "required": ["path"], "additionalProperties": false,
        "properties": { "path": { "type": "string" }, "lines": { "type": "integer", "minimum": 1 } },
    }));
    let writes = Plug::new("a").provides(strict(spec, move |_, args| {
        note.note(args.to_string());
        async { Ok(ToolOutput::text("done")) }
    }));
    let open = Plug::new("b").tool("any", |_, args| async move { Ok(ToolOutput::text(args.to_string())) });
    // A hook's change is checked as the model's own words are.
    let breaks = Plug::new("breaks").hook(HookSpec::new("h", Hook::BeforeToolExecute), |_, event| async move {
        let HookEvent::BeforeToolExecute { mut call, .. } = event else { panic!("{event:?}") };
        if call.args["path"] == "hooked" {
            call.args["lines"] = json!(0);
        }
        Ok(HookReply::replace(HookEvent::before_tool_execute("", call)))
    });
    let host = started("", [writes, open, breaks]).await;
    let mut said = String::new();
    for args in [
        json!({ "path": "a.txt", "lines": 2 }),
        json!({ "lines": 0, "mode": "w" }),
        json!({ "path": 1 }),
        json!("a.txt"),
        Value::Null,
        json!({ "path": "hooked" }),
    ] {
        said += &match within(host.call_tool(&CallCx::new(), ToolCall::new("", "write", args.clone()))).await {
            Ok((_, output)) => format!("{args}: {}\n", output.to_text()),
            Err(error) => format!("{args}: {}", told(&error)),
        };
    }
    expect![[r#"
        {"path":"a.txt","lines":2}: done
        {"lines":0,"mode":"w"}: INVALID_PARAMS the arguments do not fit the tool `write`: lines: 0 is out of range; it has to be at least 1; mode: is unknown; there is path, lines; path: is missing
        {"path":1}: INVALID_PARAMS the arguments do not fit the tool `write`: path: must be a string, is 1
        "a.txt": INVALID_PARAMS the arguments do not fit the tool `write`: must be an object, is "a.txt"
        null: INVALID_PARAMS the arguments do not fit the tool `write`: path: is missing
        {"path":"hooked"}: INVALID_PARAMS the arguments do not fit the tool `write`: lines: 0 is out of range; it has to be at least 1
    "#]].assert_eq(&said);
    assert_eq!(seen.text(), r#"{"path":"a.txt","lines":2}"#);
    assert_eq!(row(&host, "a").errors, 0, "what a caller did wrong is no error of the plugin");
    let (_, output) = within(host.call_tool(&CallCx::new(), ToolCall::new("", "any", Value::Null))).await.unwrap();
    assert_eq!(output.to_text(), "{}", "no arguments are an empty object");
}

#[tokio::test]
async fn what_a_caller_does_not_admit_does_not_run_even_when_a_hook_asks_for_it() {
    let renames = Plug::new("renames").hook(HookSpec::new("h", Hook::BeforeToolExecute), |_, _| async {
        Ok(HookReply::replace(HookEvent::before_tool_execute("", ToolCall::new("", "shell", Value::Null))))
    });
    let shell = Plug::new("shell").tool("shell", |_, _| async { panic!("it ran") });
    let host = started("", [renames, shell, Plug::new("clock").provides(says("clock", "noon"))]).await;
    let admit = |call: &ToolCall| if call.name == "clock" { Ok(()) } else { Err(Error::new(Code::PERMISSION_DENIED, call.name.clone())) };
    let error = within(host.call_tool_if(&CallCx::new(), ToolCall::new("", "clock", Value::Null), admit)).await.unwrap_err();
    assert_eq!(told(&error), "PERMISSION_DENIED shell\n");
}

#[tokio::test]
async fn a_plugin_calls_only_what_its_manifest_asks_for_and_itself() {
    let mut said = String::new();
    for (calls, target) in [
        ("[]", Target::new("tool", "echo")),
        ("[\"tool:other\", \"vad:echo\"]", Target::new("tool", "echo")),
        ("[\"embedder\"]", Target::new("tool", "echo")),
        ("[\"tool:echo\"]", Target::new("tool", "echo")),
        ("[\"tool\"]", Target::new("tool", "echo")),
        ("[\"embedder:unit\"]", Target::new("embedder", "unit")),
    ] {
        let context: Arc<Mutex<Option<bespoke_plugin_api::PluginContext>>> = Arc::default();
        let given = context.clone();
        let plug = Plug::new("a").provides(says("own", "mine")).extra(&format!("[permissions]\nplugin_communication = {calls}\n")).starts(
            move |cx, _| {
                *given.lock().unwrap() = Some(cx);
                async { Ok(()) }
            },
        );
        let unit = Contribution::Embedder(EmbedderSpec::new("unit", 1), Arc::new(Unit));
        let host = started("", [plug, Plug::new("b").provides(says("echo", "ahoy")).provides(unit)]).await;
        let cx = context.lock().unwrap().take().unwrap();
        let own = cx.call(&CallCx::new(), Target::new("tool", "own"), json!({})).await;
        assert!(own.is_ok(), "its own it may always call: {own:?}");
        let args = if target.kind == "tool" { json!({}) } else { json!({ "texts": ["x", "y"] }) };
        said += &match within(cx.call(&CallCx::new(), target, args)).await {
            Ok(answer) => format!("{calls}: {answer}\n"),
            Err(error) => format!("{calls}: {}", told(&error)),
        };
        drop(host);
    }
    expect![[r#"
        []: PERMISSION_DENIED plugin.toml does not ask for calls of the tool `echo`
            help: add "tool:echo" to plugin_communication under [permissions] in plugin.toml
        ["tool:other", "vad:echo"]: PERMISSION_DENIED plugin.toml does not ask for calls of the tool `echo`
            help: add "tool:echo" to plugin_communication under [permissions] in plugin.toml
        ["embedder"]: PERMISSION_DENIED plugin.toml does not ask for calls of the tool `echo`
            help: add "tool:echo" to plugin_communication under [permissions] in plugin.toml
        ["tool:echo"]: {"content":[{"type":"text","text":"ahoy"}]}
        ["tool"]: {"content":[{"type":"text","text":"ahoy"}]}
        ["embedder:unit"]: {"vectors":[[1.0],[1.0]]}
    "#]]
    .assert_eq(&said);
}

struct Unit;

#[bespoke_plugin_api::async_trait]
impl Embedder for Unit {
    async fn embed(&self, _: &CallCx, request: EmbedRequest) -> Result<Embeddings> {
        Ok(Embeddings::new(vec![vec![1.0]; request.texts.len()]))
    }
}

/// A plugin whose one tool calls another plugin.
fn calls_once(id: &str, target: Target) -> Plug {
    let context: Arc<Mutex<Option<bespoke_plugin_api::PluginContext>>> = Arc::default();
    let given = context.clone();
    Plug::new(id)
        .needs("b", "")
        .extra_more("[permissions]\nplugin_communication = [\"tool\", \"vad\"]\n")
        .tool(id, move |cx, _| {
            let (context, target) = (context.lock().unwrap().clone().unwrap(), target.clone());
            async move { context.call(&cx, target, json!({ "word": "ahoy" })).await.map(|answer| ToolOutput::text(answer.to_string())) }
        })
        .starts(move |cx, _| {
            *given.lock().unwrap() = Some(cx);
            async { Ok(()) }
        })
}

/// A future that never yields the budget of its task would keep a timer of the same task from firing.
#[tokio::test]
async fn a_request_that_is_always_busy_is_late_all_the_same() {
    struct Busy;
    impl Future for Busy {
        type Output = Result<ToolOutput>;
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            // Uses the whole budget up, then asks to be polled again.
            while let Poll::Ready(()) = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx) {}
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let host = started("[plugins]\ncall_timeout_ms = 20\n", [Plug::new("a").tool("x", |_, _| Busy)]).await;
    assert_eq!(call(&host, "x").await.unwrap_err().code(), Code::EXECUTION_TIMEOUT);
}

/// The caller of a tool that blocks inside its poll gets its answer in time; the plugin is named, and the next call too is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_blocks_its_thread_is_late_left_behind_and_named() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let plug = Plug::new("a").tool("x", move |_, _| {
        let blocked = blocked.clone();
        async move {
            let _ = blocked.lock().unwrap().recv();
            Ok(ToolOutput::text("at last"))
        }
    });
    let host = started("[plugins]\ncall_timeout_ms = 50\n", [plug, Plug::new("b").provides(says("y", "well"))]).await;
    let ask = async |name: &str| within(host.call_tool(&CallCx::new(), ToolCall::new("", name, Value::Null))).await;
    for n in 1..=2 {
        assert_eq!(told(&ask("x").await.unwrap_err()), "EXECUTION_TIMEOUT a: no answer within 50 ms\n");
        within(async {
            while host.late_threads() < n {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(host.late_names(), ["call-a", "call-a"]);
    let ill = row(&host, "a");
    assert_eq!((ill.health.as_str(), ill.errors, ill.in_flight), ("degraded", 2, 2));
    assert!(ill.reason.unwrap().starts_with("2 calls block their threads, the first for "));
    assert_eq!(ask("y").await.unwrap().1.to_text(), "well");
    drop(release);
    within(async {
        while host.late_threads() > 0 || row(&host, "a").in_flight > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((row(&host, "a").health.as_str(), ask("x").await.unwrap().1.to_text().as_str()), ("ok", "at last"));
}

/// As many calls block at once as the runtime has threads, before the first of them is known to block: time goes on for everybody.
#[test]
fn calls_that_block_all_at_once_leave_threads_to_the_others() {
    const WORKERS: usize = 4;
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let (done, told) = std::sync::mpsc::channel();
    // A runtime that stands still cannot tell that it does.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let plug = Plug::new("a").tool("x", move |_, _| {
                let blocked = blocked.clone();
                async move {
                    let _ = blocked.lock().unwrap().recv();
                    Ok(ToolOutput::text("at last"))
                }
            });
            let host = started("[plugins]\ncall_timeout_ms = 200\n", [plug, Plug::new("b").provides(says("y", "well"))]).await;
            let ask = async |name: &'static str| {
                let host = host.clone();
                let asked = tokio::spawn(async move { host.call_tool(&CallCx::new(), ToolCall::new("", name, Value::Null)).await });
                asked.await.unwrap().map(|(_, output)| output.to_text()).map_err(|error| error.code())
            };
            let all = futures_util::future::join_all((0..WORKERS).map(|_| ask("x"))).await;
            done.send((all, ask("y").await)).unwrap();
        });
    });
    let answers = told.recv_timeout(crate::kit::LONG);
    drop(release);
    let (all, healthy) = answers.expect("it hangs");
    assert_eq!(all, vec![Err(Code::EXECUTION_TIMEOUT); WORKERS]);
    assert_eq!(healthy, Ok("well".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_whose_calls_all_block_gets_no_more_threads() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, begun) = (Arc::new(Mutex::new(blocked)), Arc::new(AtomicUsize::new(0)));
    let begins = begun.clone();
    let plug = Plug::new("a").tool("x", move |_, _| {
        let (blocked, begins) = (blocked.clone(), begins.clone());
        async move {
            begins.fetch_add(1, Ordering::SeqCst);
            let _ = blocked.lock().unwrap().recv();
            Ok(ToolOutput::text(""))
        }
    });
    let host = started("[plugins]\ncall_timeout_ms = 50\n", [plug]).await;
    let refused = within(async {
        loop {
            let error = host.call_tool(&CallCx::new(), ToolCall::new("", "x", Value::Null)).await.unwrap_err();
            if error.code() != Code::EXECUTION_TIMEOUT {
                break error;
            }
            // One that was given up before it began blocks nothing: on a busy machine there are such.
            while host.late_threads() < begun.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    assert_eq!(begun.load(Ordering::SeqCst), 8);
    expect![[r#"
        RESOURCE_EXHAUSTED a: 8 of its calls block their threads and never came back, so it gets no more
            help: bespoke config set plugins.a.enabled false, and restart the program
    "#]]
    .assert_eq(&told(&refused));
    drop(release);
}

#[tokio::test]
async fn a_plugin_sees_the_limit_of_its_call_as_its_deadline() {
    let deadline: Arc<Mutex<Option<Timestamp>>> = Arc::default();
    let seen = deadline.clone();
    let plug = Plug::new("a").tool("x", move |cx, _| {
        *seen.lock().unwrap() = cx.deadline();
        async { Ok(ToolOutput::text("")) }
    });
    let host = started("[plugins]\ncall_timeout_ms = 60000\n", [plug]).await;
    let day = || Timestamp(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64);
    for (cx, most) in [(CallCx::new(), 60), (CallCx::new().with_deadline(bespoke_host::now().plus(Duration::from_secs(7))), 7)] {
        let (before, most) = (day(), Duration::from_secs(most));
        call_with(&host, &cx, "x").await.unwrap();
        let at = deadline.lock().unwrap().take().unwrap();
        assert!(before.until(at) <= most + before.until(day()) && before.until(at) > most / 2, "{:?}", before.until(at));
    }
}

/// What a plugin gave panics wherever it can.
struct Brittle {
    at: &'static str,
}

impl Brittle {
    fn may(&self, at: &str) {
        assert!(self.at != at, "{at}");
    }
}

impl Duplex<[f32], VadEvent> for Brittle {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.may("poll_ready");
        Poll::Ready(Ok(()))
    }
    fn push(&mut self, _: &[f32]) -> Result<()> {
        self.may("push");
        if self.at == "error" { Err(Error::internal("deaf")) } else { Ok(()) }
    }
    fn finish(&mut self) -> Result<()> {
        self.may("finish");
        Ok(())
    }
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        self.may("poll_next");
        Poll::Pending
    }
}

impl Drop for Brittle {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.at != "drop", "on drop");
    }
}

struct Fragile;

impl Vad for Fragile {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        let at = ["poll_ready", "push", "finish", "poll_next", "drop", "error"][options.sample_rate as usize];
        Ok(Box::new(Brittle { at }))
    }
}

#[tokio::test]
async fn a_frame_that_panics_is_an_error_and_the_stream_is_over() {
    let host = started("", [Plug::new("a").provides(Contribution::Vad(VadSpec::new("ear"), Arc::new(Fragile)))]).await;
    let slot = host.registry().get::<dyn Vad>("ear").unwrap();
    let mut said = String::new();
    for n in 0..6 {
        let mut stream = slot.enter(|vad| vad.open(&VadOptions::new(n))).unwrap();
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut steps: Vec<String> = Vec::new();
        // Twice: what comes after a panic must be calm.
        for _ in 0..2 {
            steps.push(format!("{:?}", stream.poll_ready(cx).map(|r| r.map_err(|e| e.to_string()))));
            steps.push(format!("{:?}", stream.push(&[0.0]).map_err(|e| e.to_string())));
            steps.push(format!("{:?}", stream.finish().map_err(|e| e.to_string())));
            steps.push(format!("{:?}", stream.poll_next(cx).map(|o| o.map(|r| r.map_err(|e| e.to_string())))));
        }
        drop(stream);
        said += &format!("{}\n", steps.join(", "));
    }
    expect![[r#"
        Ready(Err("a: the stream panicked: poll_ready")), Err("a: the stream is over: it panicked"), Ok(()), Ready(None), Ready(Ok(())), Err("a: the stream is over: it panicked"), Ok(()), Ready(None)
        Ready(Ok(())), Err("a: the stream panicked: push"), Ok(()), Ready(None), Ready(Ok(())), Err("a: the stream is over: it panicked"), Ok(()), Ready(None)
        Ready(Ok(())), Ok(()), Err("a: the stream panicked: finish"), Ready(None), Ready(Ok(())), Err("a: the stream is over: it panicked"), Ok(()), Ready(None)
        Ready(Ok(())), Ok(()), Ok(()), Ready(Some(Err("a: the stream panicked: poll_next"))), Ready(Ok(())), Err("a: the stream is over: it panicked"), Ok(()), Ready(None)
        Ready(Ok(())), Ok(()), Ok(()), Pending, Ready(Ok(())), Ok(()), Ok(()), Pending
        Ready(Ok(())), Err("a: deaf"), Ok(()), Pending, Ready(Ok(())), Err("a: deaf"), Ok(()), Pending
    "#]].assert_eq(&said);
    assert_eq!(row(&host, "a").in_flight, 0);
}

/// Futures and answers of a plugin are dropped on their caller's thread.
#[tokio::test]
async fn what_panics_when_it_is_dropped_harms_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "boom");
        }
    }
    let plug = Plug::new("a")
        .tool("late", |_, _| {
            let bomb = Bomb;
            async move {
                let _bomb = bomb;
                std::future::pending().await
            }
        })
        .provides(provider("p", |_| {
            let bomb = Bomb;
            Box::pin(futures_util::stream::poll_fn(move |_| {
                let _ = &bomb;
                Poll::Pending
            }))
        }));
    let host = started("[plugins]\ncall_timeout_ms = 20\n", [plug]).await;
    assert_eq!(call(&host, "late").await.unwrap_err().code(), Code::EXECUTION_TIMEOUT);
    let mut asked = Box::pin(call(&host, "late"));
    assert!(asked.as_mut().now_or_never().is_none());
    drop(asked);
    drop(chat(&host).await.unwrap());
    assert_eq!(row(&host, "a").in_flight, 0);
    within(host.shutdown()).await;
}
