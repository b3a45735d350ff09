//! What the host does for a plugin: events, publishing, secrets, models, time, work beside its calls.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Config, Host, ModelStore, RuntimeStore, SecretSource, Selection};
use bespoke_plugin_api::{
    CallCx, Code, Contribution, Error, HookReply, HookSpec, Kind, Level, PluginContext, Result, RuntimePack, Tool, ToolOutput, ToolRequest,
    ToolSpec, async_trait,
    serde_json::{Value, json},
};
use expect_test::expect;
use futures_util::StreamExt;

use crate::kit::{BEFORE, Plug, before_run, call, hook, says, started, table, told, within};

/// A plugin that hands its context to the test.
fn open(id: &str) -> (Plug, Arc<Mutex<Option<PluginContext>>>) {
    let context: Arc<Mutex<Option<PluginContext>>> = Arc::default();
    let given = context.clone();
    let plug = Plug::new(id).starts(move |cx, _| {
        *given.lock().unwrap() = Some(cx);
        async { Ok(()) }
    });
    (plug, context)
}

fn take(context: &Mutex<Option<PluginContext>>) -> PluginContext {
    context.lock().unwrap().take().unwrap()
}

#[tokio::test]
async fn a_plugin_hears_others_under_their_ids_but_not_itself() {
    let ((a, cx_a), (b, cx_b)) = (open("a"), open("b"));
    let a = a.extra("[permissions]\nplugin_communication = [\"event:*\"]\n");
    let host = started("", [a, b]).await;
    let (a, b) = (take(&cx_a), take(&cx_b));
    let mut heard = a.subscribe("").unwrap();
    a.emit("said", json!(1)).unwrap();
    b.emit("said", json!(2)).unwrap();
    host.events().emit("turn", None, json!(3));
    let mut lines = Vec::new();
    for _ in 0..2 {
        let event = within(heard.next()).await.unwrap().unwrap();
        lines.push(format!("{} from {:?}: {}", event.topic, event.source, event.payload));
    }
    assert_eq!(lines, ["b.said from Some(\"b\"): 2", "turn from None: 3"]);
}

const DYNAMIC: &str = "[[provides]]\nkind = \"tool\"\ndynamic = true\n[[provides]]\nkind = \"hook\"\ndynamic = true\n";

#[tokio::test]
async fn a_published_set_replaces_the_one_before_and_keeps_what_stays() {
    let (plug, cx) = open("mcp");
    let host = started("", [plug.provides(says("fixed", "fixed")).extra(DYNAMIC)]).await;
    let cx = take(&cx);
    cx.host().publish(vec![says("one", "1"), says("two", "2")]).unwrap();
    let (one, two) = (host.registry().get::<dyn Tool>("one").unwrap(), host.registry().get::<dyn Tool>("two").unwrap());
    assert_eq!(call(&host, "one").await.unwrap(), "1");

    cx.host().publish(vec![says("two", "zwei"), says("three", "3")]).unwrap();
    assert_eq!(host.registry().names(Kind::Tool), ["fixed", "three", "two"]);
    // Whoever holds a slot that stays gets the new object, and one that went says so.
    let ask = async |slot: &bespoke_host::Slot<dyn Tool>| {
        slot.call(&CallCx::new(), |tool, cx| async move { tool.call(&cx, bespoke_plugin_api::ToolRequest::new(Value::Null)).await }).await
    };
    assert_eq!(ask(&two).await.unwrap().to_text(), "zwei");
    assert_eq!(told(&ask(&one).await.unwrap_err()), "NOT_READY mcp: no longer offers the tool `one`\n");

    cx.host().publish(Vec::new()).unwrap();
    assert_eq!(host.registry().names(Kind::Tool), ["fixed"]);
    within(host.shutdown()).await;
    assert_eq!(
        told(&cx.host().publish(vec![says("four", "")]).unwrap_err()),
        "NOT_READY the plugin has stopped, so nothing can be published\n"
    );
}

#[tokio::test]
async fn what_may_not_be_published_is_refused_whole() {
    let ((plug, cx), (plain, plain_cx)) = (open("mcp"), open("plain"));
    let host = started("", [plug.provides(says("fixed", "")).extra(DYNAMIC), plain.provides(says("taken", "plain"))]).await;
    let (cx, plain) = (take(&cx), take(&plain_cx));
    cx.host().publish(vec![says("one", "1")]).unwrap();
    let mut said = String::new();
    for set in [vec![says("new", ""), says("taken", "")], vec![says("new", ""), says("fixed", "")], vec![says("new", ""), says("new", "")]]
    {
        said += &told(&cx.host().publish(set).unwrap_err());
    }
    said += &told(&plain.host().publish(vec![says("new", "")]).unwrap_err());
    expect![[r#"
        ALREADY_LOADED tool `taken` is provided by both `plain` and `mcp`; that of `plain` counts
            help: bespoke config set plugins.plain.enabled false
        CONTRACT_MISMATCH publishes tool `fixed`, which plugin.toml declares
        CONTRACT_MISMATCH publishes tool `new` twice
        CONTRACT_MISMATCH publishes tool `new`, but plugin.toml marks no tool of this name as dynamic
            help: write [[provides]] kind = "tool", name = "new", dynamic = true into plugin.toml
    "#]]
    .assert_eq(&said);
    assert_eq!(host.registry().names(Kind::Tool), ["fixed", "one", "taken"], "the set before still stands");
    assert_eq!(call(&host, "taken").await.unwrap(), "plain");
}

#[tokio::test]
async fn a_name_that_may_be_published_is_known_before_and_no_other_is() {
    let (plug, cx) = open("shell");
    let named = "[[provides]]\nkind = \"tool\"\nname = \"run\"\ndynamic = true\n";
    let second = Plug::new("zsh").provides(says("run", "zsh"));
    let host = started("", [plug.extra(named), second]).await;
    let cx = take(&cx);
    // Nobody else gets the name while it is not published, and who asks for it is told of the plugin.
    assert_eq!(host.rows().iter().find(|row| row.id == "zsh").unwrap().state, bespoke_host::State::Failed);
    assert_eq!(host.provider_of(Kind::Tool, "run").as_deref(), Some("shell"));
    assert!(host.registry().names(Kind::Tool).is_empty());
    assert_eq!(
        told(&host.find::<dyn Tool>("run").unwrap_err()),
        "NOT_READY shell: does not offer the tool `run`, as it is configured\n    help: bespoke plugin info shell\n"
    );
    let refused = cx.host().publish(vec![says("walk", "")]).unwrap_err();
    assert!(refused.message().contains("no tool of this name"), "{refused}");
    cx.host().publish(vec![says("run", "ran")]).unwrap();
    assert_eq!(call(&host, "run").await.unwrap(), "ran");
}

#[tokio::test]
async fn what_is_published_during_the_start_is_there_when_the_plugin_is_ready() {
    let plug = Plug::new("mcp").extra(DYNAMIC).starts(|cx, _| async move {
        cx.host().publish(vec![says("never", "")])?;
        cx.host().publish(vec![says("one", "1"), hook(HookSpec::new("h", BEFORE), |_, _| async { Ok(HookReply::veto("heard")) })])
    });
    let host = started("", [plug]).await;
    assert_eq!(table(&host), "mcp ready\n");
    assert_eq!(host.registry().names(Kind::Tool), ["one"]);
    assert_eq!(call(&host, "one").await.unwrap(), "1");
    let outcome = within(host.hooks().run(&CallCx::new(), BEFORE, || before_run(""))).await;
    assert!(matches!(outcome, Some(bespoke_host::Outcome::Vetoed { .. })), "a published hook is asked too");
}

/// A tool that publishes when it is dropped, as one does that tells others that it is gone.
struct Farewell(&'static str, PluginContext, std::sync::mpsc::Sender<Result<()>>);

#[async_trait]
impl Tool for Farewell {
    async fn call(&self, _: &CallCx, _: ToolRequest) -> Result<ToolOutput> {
        Ok(ToolOutput::text(""))
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let _ = self.2.send(self.1.host().publish(vec![says(self.0, "")]));
    }
}

#[tokio::test]
async fn what_is_dropped_when_another_set_is_published_may_publish() {
    let ((plug, cx), (starting, early)) = (open("mcp"), (Plug::new("early").extra(DYNAMIC), Arc::new(Mutex::new(None))));
    let (ended, ends) = std::sync::mpsc::channel();
    let (of_start, seen) = (ended.clone(), early.clone());
    let starting = starting.starts(move |cx, _| {
        let farewell = Farewell("left-early", cx.clone(), of_start.clone());
        *seen.lock().unwrap() = Some(cx.clone());
        async move {
            // Neither of the two was ever served.
            cx.host().publish(vec![Contribution::Tool(ToolSpec::new("early", "A test."), Arc::new(farewell))])?;
            cx.host().publish(Vec::new())
        }
    });
    // All on a thread of its own: what waits for itself would wait for ever.
    let (done, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let host = runtime.block_on(started("", [plug.extra(DYNAMIC), starting]));
        let cx = take(&cx);
        let farewell =
            |name: &str| Contribution::Tool(ToolSpec::new(name, "A test."), Arc::new(Farewell("left", cx.clone(), ended.clone())));
        // Replaced; refused for a name that stands there twice; published too late.
        let first = cx.host().publish(vec![farewell("one")]);
        let second = cx.host().publish(vec![says("two", "")]);
        let refused = cx.host().publish(vec![farewell("three"), says("four", ""), says("four", "")]);
        let names = host.registry().names(Kind::Tool);
        runtime.block_on(host.shutdown());
        let late = cx.host().publish(vec![farewell("five")]);
        done.send((first, second, refused.map_err(|e| e.code()), late.map_err(|e| e.code()), names)).unwrap();
    });
    let (first, second, refused, late, names) = told.recv_timeout(crate::kit::LONG).expect("it waits for itself");
    first.unwrap();
    second.unwrap();
    assert_eq!((refused, late), (Err(Code::CONTRACT_MISMATCH), Err(Code::NOT_READY)));
    assert_eq!(names, ["left", "left-early"], "what was published last, by whatever was dropped last");
    let all: Vec<_> = ends.try_iter().map(|published| published.map_err(|e| e.code())).collect();
    assert_eq!(all, [Ok(()), Ok(()), Ok(()), Err(Code::NOT_READY)]);
}

/// A keyring that asks a person, once it is there at all.
#[derive(Default)]
struct Slow {
    asked: AtomicU32,
    go: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

impl SecretSource for Slow {
    fn scheme(&self) -> &str {
        "slow"
    }
    fn find(&self, _: &str) -> std::result::Result<Option<String>, String> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err("it is locked".into());
        }
        if let Some(go) = self.go.lock().unwrap().take() {
            let _ = go.recv_timeout(crate::kit::LONG);
        }
        Ok(Some("s3cret-value".into()))
    }
    fn store_with(&self, _: &str) -> Option<String> {
        None
    }
}

#[tokio::test]
async fn a_secret_that_takes_long_holds_nobody_and_an_error_is_not_kept() {
    let (plug, cx) = open("a");
    let (tell, go) = std::sync::mpsc::channel();
    let slow = Arc::new(Slow { asked: AtomicU32::new(0), go: Mutex::new(Some(go)) });
    let config = Config::parse("bespoke.toml", "").unwrap().with_source(slow.clone());
    let host = Host::builder().config(config).plugins([plug.extra("[permissions]\nsecrets = [\"token\"]\n")]).build().unwrap();
    within(host.start(Selection::All)).await;
    let cx = take(&cx);
    // Read while it runs, so that nobody looked the reference up before.
    let config = Config::parse("bespoke.toml", "[plugins.a.secrets]\ntoken = '${slow:token}'\n").unwrap().with_source(slow.clone());
    within(host.reload(config)).await;
    let error = within(cx.secret("token")).await.unwrap_err();
    assert!(error.message().contains("cannot be asked for `token`: it is locked"), "{error}");
    // The only thread of this runtime is free while the store waits.
    let (secret, ()) = within(async { tokio::join!(cx.secret("token"), async { tell.send(()).unwrap() }) }).await;
    assert_eq!(secret.unwrap(), "s3cret-value");
    assert_eq!((within(cx.secret("token")).await.unwrap().as_str(), slow.asked.load(Ordering::SeqCst)), ("s3cret-value", 2));
}

#[tokio::test]
async fn a_secret_is_given_to_whoever_declared_it_and_shown_to_nobody() {
    let (plug, cx) = open("tele-gram");
    let plug = plug.extra("[permissions]\nsecrets = [\"token\", \"other\"]\n");
    let talks = Plug::new("talks").starts(|_, _| async { Err(Error::internal("refused hunter2hunter2 and s3cret-value")) });
    let env = [("TELE_GRAM_TOKEN", "hunter2hunter2"), ("KEY", "s3cret-value"), ("HARMLESS", "harmless")];
    let config = Config::parse("bespoke.toml", "[plugins.x]\nkey = '${KEY}'\nnot = '$${HARMLESS}'\n").unwrap();
    let config = config.with_env(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let host = Host::builder().config(config).plugins([plug, talks]).build().unwrap();
    within(host.start(Selection::All)).await;
    let cx = take(&cx);
    assert_eq!(cx.secret("token").await.unwrap(), "hunter2hunter2");
    let mut said = String::new();
    for name in ["other", "undeclared"] {
        let error = cx.secret(name).await.unwrap_err();
        assert_eq!(error.data().and_then(|data| data["unset"].as_str()), Some(name).filter(|name| *name == "other"));
        said += &told(&error);
    }
    expect![[r#"
        INVALID_PARAMS the secret `other` is not set: it is read from TELE_GRAM_OTHER
            help: export TELE_GRAM_OTHER=…, or bespoke config set-secret plugins.tele-gram.secrets.other < FILE
        PERMISSION_DENIED plugin.toml does not ask for the secret `undeclared`
            help: add "undeclared" to secrets under [permissions] in plugin.toml
    "#]]
    .assert_eq(&said);
    assert_eq!(table(&host), "talks failed: refused *** and ***\ntele-gram ready\n");
    assert_eq!(host.redactor().redact("hunter2hunter2, s3cret-value, harmless"), "***, ***, harmless");
    assert!(!format!("{:?} {host:?}", host.config()).contains("hunter2"));
}

struct Shelf;

impl ModelStore for Shelf {
    fn find(&self, plugin: &str, model: &bespoke_manifest::Model) -> Result<PathBuf> {
        match model.file.as_str() {
            "here.onnx" => Ok(PathBuf::from(plugin).join(&model.file)),
            _ => Err(Error::new(Code::MODEL_NOT_FOUND, format!("{} is not here", model.file))
                .with_help(format!("bespoke plugin download-files {plugin}"))),
        }
    }
}

#[tokio::test]
async fn a_model_is_looked_up_by_the_manifest_and_found_by_the_store() {
    let entry = |file: &str| {
        format!(
            "[[models]]\nfile = \"{file}\"\nversion = \"1\"\nsize = 1\nsha256 = \"{}\"\nlicense = \"MIT\"\n[[models.sources]]\nurl = \"https://example.com/{file}\"\n",
            "0".repeat(64)
        )
    };
    let make = || {
        let (plug, cx) = open("a");
        (plug.extra(&(entry("here.onnx") + &entry("gone.onnx"))), cx)
    };
    let (plug, cx) = make();
    let host = Host::builder().plugins([plug]).models(Arc::new(Shelf)).build().unwrap();
    within(host.start(Selection::All)).await;
    let with_store = take(&cx);
    let (plug, cx) = make();
    let _other = started("", [plug]).await;
    let without = take(&cx);
    assert_eq!(with_store.model("here.onnx").unwrap(), PathBuf::from("a/here.onnx"));
    let mut said = String::new();
    for error in [with_store.model("gone.onnx"), with_store.model("other.onnx"), without.model("here.onnx")] {
        said += &told(&error.unwrap_err());
    }
    expect![[r#"
        MODEL_NOT_FOUND gone.onnx is not here
            help: bespoke plugin download-files a
        INTERNAL_ERROR plugin.toml names no model file `other.onnx`
        MODEL_NOT_FOUND here.onnx: this host keeps no models
    "#]]
    .assert_eq(&said);
}

struct Rack;

impl RuntimeStore for Rack {
    fn find(&self, spec: &str) -> Result<RuntimePack> {
        match spec {
            "onnx:cpu" => Ok(RuntimePack::new(spec, "1.28.0", "installed", "/r/onnx", "/r/onnx/lib.so")),
            _ => Err(Error::new(Code::DEPENDENCY_MISSING, format!("{spec} is not installed")).with_help("bespoke plugin install")),
        }
    }
}

#[tokio::test]
async fn a_runtime_is_looked_up_by_the_manifest_and_found_by_the_store() {
    let make = || {
        let (plug, cx) = open("a");
        (plug.extra("runtimes = [\"onnx:cpu\", \"onnx:cuda\"]\n"), cx)
    };
    let (plug, cx) = make();
    let host = Host::builder().plugins([plug]).runtimes(Arc::new(Rack)).build().unwrap();
    within(host.start(Selection::All)).await;
    let with_store = take(&cx);
    let (plug, cx) = make();
    let _other = started("", [plug]).await;
    let without = take(&cx);
    assert_eq!(with_store.runtime("onnx:cpu").unwrap().version, "1.28.0");
    let mut said = String::new();
    for error in [with_store.runtime("onnx:cuda"), with_store.runtime("xla:cpu"), without.runtime("onnx:cpu")] {
        said += &told(&error.unwrap_err());
    }
    expect![[r#"
        DEPENDENCY_MISSING onnx:cuda is not installed
            help: bespoke plugin install
        INTERNAL_ERROR plugin.toml names no runtime `xla:cpu`
        DEPENDENCY_MISSING onnx:cpu: this host keeps no runtimes
    "#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn what_a_plugin_cannot_use_as_it_is_configured_is_none_of_its_runtimes() {
    let used = |table: &str| {
        let config = Config::parse("bespoke.toml", &format!("[plugins.a]\n{table}\n")).unwrap();
        let plug = Plug::new("a").extra("runtimes = [\"onnx:cpu\", \"onnx:cuda\"]\n");
        Host::builder().config(config).plugins([plug]).build().unwrap().runtimes("a")
    };
    assert_eq!(used(""), ["onnx:cpu", "onnx:cuda"]);
    assert_eq!(used("never = \"onnx:cuda\""), ["onnx:cpu"]);
    assert_eq!(used("enabled = false"), [""; 0]);
    assert_eq!(used("never = \"panics\""), [""; 0]);
}

#[tokio::test]
async fn of_the_address_of_an_index_only_the_password_is_a_secret() {
    for (url, shown) in [
        ("https://me:hunter2hunter2@index.example/simple", "https://me:***@index.example/simple"),
        ("https://hunter2hunter2@index.example/simple", "https://***@index.example/simple"),
        ("https://index.example/a@b", "https://index.example/a@b"),
    ] {
        let config = Config::parse("bespoke.toml", &format!("[plugins]\nindex_url = \"{url}\"\n")).unwrap();
        let host = Host::builder().config(config).build().unwrap();
        assert_eq!(host.redactor().redact(url), shown);
    }
}

#[tokio::test]
async fn a_plugin_reaches_time_chance_and_threads_through_its_context() {
    let (plug, cx) = open("a");
    let home = tempfile::tempdir().unwrap();
    let config = Config::parse("bespoke.toml", "[plugins]\ncpu_budget = 3\n").unwrap();
    let host = Host::builder()
        .config(config)
        .plugins([plug.extra("[resources]\nthreads = 2\n")])
        .data_dir(home.path().to_owned())
        .build()
        .unwrap();
    within(host.start(Selection::All)).await;
    let cx = take(&cx);
    assert_eq!((cx.cpu_budget(), cx.data_dir()), (2, Some(&home.path().join("a"))));
    let before = cx.now();
    within(cx.sleep(Duration::from_millis(2))).await;
    assert!(before.until(cx.now()) >= Duration::from_millis(2));
    assert_eq!(within(cx.blocking(|| 6 * 7)).await.unwrap(), 42);
    let error = within(cx.blocking(|| panic!("on purpose"))).await.unwrap_err();
    assert_eq!(error.code(), Code::PLUGIN_EXCEPTION);
    let mut bytes = [0; 32];
    cx.host().random(&mut bytes).unwrap();
    assert_ne!(bytes, [0; 32]);
    cx.log(Level::Info, "still here");
}

/// A plugin may wait from a thread that is not the host's.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_sleeps_on_a_thread_of_its_own() {
    let (plug, cx) = open("a");
    let _host = started("", [plug]).await;
    let cx = take(&cx);
    let slept = tokio::task::spawn_blocking(move || {
        let thread = std::thread::spawn(move || futures_executor(cx.sleep(Duration::from_millis(1))));
        thread.join().is_ok()
    });
    assert!(within(slept).await.unwrap());
}

/// Runs a future on this thread, without a runtime.
fn futures_executor<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test]
async fn what_a_host_does_not_offer_says_so() {
    let (plug, cx) = open("a");
    let _host = started("", [plug]).await;
    let error = take(&cx).host().load("key").await.unwrap_err();
    assert_eq!(error.code(), Code::METHOD_NOT_FOUND);
    let _: ToolOutput = ToolOutput::text("");
}
