//! Commands of plugins against hostile names, arguments, handlers and callers. Where a test is named after a number, it is that of a defect
//! of the system that this contract comes from.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Caller, Candidate, Config, Host, Selection, Tier};
use bespoke_plugin_api::{
    CallCx, Code, Command, CommandRequest, CommandSpec, Contribution, Output, OutputSink, PluginContext, Result, async_trait,
};
use expect_test::expect;
use tokio::sync::Notify;

use crate::kit::{LONG, Plug, call, row, says, table, told, within};

struct FnCommand<C>(C);

#[async_trait]
impl<F: Future<Output = Result<i32>> + Send + 'static, C: Fn(CallCx, CommandRequest, Output) -> F + Send + Sync> Command for FnCommand<C> {
    async fn run(&self, cx: &CallCx, request: CommandRequest, out: Output) -> Result<i32> {
        (self.0)(cx.clone(), request, out).await
    }
}

fn command<F: Future<Output = Result<i32>> + Send + 'static>(
    spec: CommandSpec,
    run: impl Fn(CallCx, CommandRequest, Output) -> F + Send + Sync + 'static,
) -> Contribution {
    Contribution::Command(spec, Arc::new(FnCommand(run)))
}

/// A command that returns a number.
fn returns(name: &str, code: i32) -> Contribution {
    command(CommandSpec::new(name, "A test."), move |_, _, _| async move { Ok(code) })
}

/// A command that prints what it got.
fn echo(name: &str) -> Contribution {
    command(CommandSpec::new(name, "Prints its arguments.").require_auth(false), |_, request, out| async move {
        request.args.iter().for_each(|arg| out.line(arg));
        Ok(0)
    })
}

/// Remembers what was said.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Said {
    fn output() -> (Arc<Self>, Output) {
        let said = Arc::new(Said::default());
        (said.clone(), Output::new(said))
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl OutputSink for Said {
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }

    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(format!("({text})"));
    }
}

async fn run(host: &Host, name: &str, args: &[&str]) -> (Result<i32>, Vec<String>) {
    run_by(host, name, args, Caller::local()).await
}

async fn run_by(host: &Host, name: &str, args: &[&str], caller: Caller) -> (Result<i32>, Vec<String>) {
    let (said, out) = Said::output();
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let code = within(host.run_command(&CallCx::new(), name, args, caller, out)).await;
    (code, said.lines())
}

/// A host whose program has some verbs of its own.
fn built(config: &str, plugs: impl IntoIterator<Item = impl Into<Candidate>>) -> Host {
    let verbs = ["sessions", "gateway", "models"].map(str::to_owned);
    let config = Config::parse("bespoke.toml", config).unwrap();
    Host::builder().config(config).plugins(plugs).reserved_commands(verbs).build().unwrap()
}

async fn started(config: &str, plugs: impl IntoIterator<Item = impl Into<Candidate>>) -> Host {
    let host = built(config, plugs);
    within(host.start(Selection::All)).await;
    host
}

fn visitor(user: &str) -> Caller {
    Caller { user: user.into(), authenticated: false }
}

#[tokio::test]
async fn a_command_runs_and_its_number_comes_back() {
    let host = started("", [Plug::new("a").provides(echo("say")).provides(returns("three", 3))]).await;
    let (code, said) = run(&host, "say", &["one", "two words"]).await;
    assert_eq!((code.unwrap(), said), (0, vec!["one".to_owned(), "two words".into()]));
    assert_eq!(run(&host, "three", &[]).await.0.unwrap(), 3);
    for (code, fits) in [(0, true), (255, true), (256, false), (-1, false), (i32::MIN, false)] {
        let host = started("", [Plug::new("a").provides(returns("any", code))]).await;
        assert_eq!(run(&host, "any", &[]).await.0.ok(), fits.then_some(code));
    }
}

/// Names that a command may not have.
const HOSTILE: &[&str] = &[
    // The defects: other scripts, a hyphen or nothing but one first, an underscore, a digit, upper case.
    "ｈｅｌｐ",
    "hеlp",
    "-x",
    "_",
    "1",
    "SECRETX",
    "Secretx",
    "",
    // Reserved, generic and the program's own, in every case.
    "help",
    "HELP",
    "config",
    "exec",
    "sudo\u{0}",
    "sessions",
    "gateway",
    "models",
    "completions",
    "login",
    // Look-alikes of those.
    "he1p",
    "heip",
    "l0g",
    "1og",
    "10gin",
    "log1n",
    "l0gs",
    "re-load\u{301}",
    "sess1ons",
    "gatevvay",
    "rnodels",
    "con-fig",
    "e-xec",
    "plu-gin",
    "check-",
    "5tart",
    "1ist",
    "llst",
    "te5t",
    // What a shell, a terminal or a file system would take for something else.
    "a b",
    "a\tb",
    "a\nb",
    "a;b",
    "a|b",
    "a&b",
    "$(a)",
    "`a`",
    "a>b",
    "../a",
    "a/b",
    "a.b",
    "~",
    "a\u{1b}[31m",
    "a\u{202e}b",
    "a\u{200b}",
    "\u{feff}a",
    "a\u{7f}",
    "ａ",
    "é",
    "ß",
    "a_b",
    "a:b",
    "--help",
    "-",
    "abcdefghijklmnopqrstuvwxyzabcdefg",
];

#[tokio::test]
async fn hostile_names_are_refused_and_sink_nothing_else() {
    assert!(HOSTILE.len() >= 60);
    for name in HOSTILE {
        // What plugin.toml cannot even spell is published at run time.
        let published = command(CommandSpec::new(*name, "Hostile."), |_, _, _| async { Ok(0) });
        let result = Arc::new(Mutex::new(None));
        let told = result.clone();
        let plug = Plug::new("a").provides(says("x", "well")).extra("[[provides]]\nkind = \"command\"\ndynamic = true\n");
        let plug = plug.starts(move |cx: PluginContext, _| {
            let (published, told) = (published.clone(), told.clone());
            async move {
                *told.lock().unwrap() = Some(cx.host().publish(vec![published]));
                Ok(())
            }
        });
        let host = started("", [plug]).await;
        let refused = result.lock().unwrap().take().unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::CONTRACT_MISMATCH, "{name:?}");
        assert!(!refused.message().contains(|c: char| c.is_control() || c == '\u{202e}'), "{name:?}: {refused}");
        assert_eq!(host.commands(), [], "{name:?}");
        assert_eq!(run(&host, name, &[]).await.0.unwrap_err().code(), Code::PLUGIN_NOT_FOUND, "{name:?}");
        assert_eq!(call(&host, "x").await.unwrap(), "well", "{name:?}");
    }
}

#[tokio::test]
async fn a_declared_name_that_is_refused_is_told_in_the_row_and_the_rest_serves() {
    let a = Plug::new("a").provides(returns("help", 0)).provides(returns("bill", 1)).provides(says("x", "well"));
    let b = Plug::new("b").provides(returns("bi11", 2)).provides(returns("b0ok", 2)).provides(returns("book", 4));
    let host = built("", [a, b]);
    let names = |host: &Host| host.commands().iter().map(|c| format!("{} of {}", c.name, c.plugin)).collect::<Vec<_>>().join(", ");
    for _ in 0..2 {
        assert_eq!(names(&host), "b0ok of b, bill of a, book of b");
        assert_eq!(row(&host, "a").reason.unwrap(), "the command `help` is refused: the name is reserved for the program");
        assert_eq!(row(&host, "b").reason.unwrap(), "the command `bi11` is refused: it looks like `bill` of the plugin `a`");
        within(host.start(Selection::All)).await;
    }
    assert_eq!((row(&host, "a").health.as_str(), row(&host, "a").state.name()), ("degraded", "ready"));
    assert_eq!(call(&host, "x").await.unwrap(), "well");
    assert_eq!(run(&host, "bill", &[]).await.0.unwrap(), 1);
    let errors: String = ["help", "bi11", "bil", "\u{1b}]0;x\u{7}evil\u{202e}"].map(|name| told(&host.command(name).unwrap_err())).concat();
    expect![[r#"
        PLUGIN_NOT_FOUND a: the command `help` is refused: the name is reserved for the program
        PLUGIN_NOT_FOUND b: the command `bi11` is refused: it looks like `bill` of the plugin `a`
        PLUGIN_NOT_FOUND there is no command `bil`; did you mean `bill`?
            help: bespoke --help
        PLUGIN_NOT_FOUND there is no command `evil`
            help: bespoke --help
    "#]]
    .assert_eq(&errors);
}

#[tokio::test]
async fn defect_8_two_plugins_have_no_name_that_differs_by_case_or_look() {
    // Only one spelling fits the rule at all, so that there is nothing left to differ by case.
    let host = built("", [Plug::new("a").provides(returns("secretx", 0)), Plug::new("b").provides(returns("secretx", 0))]);
    expect![[r#"
        a unloaded
        b failed: command `secretx` is provided by both `a` and `b`; that of `a` counts
            fix: bespoke config set plugins.a.enabled false
    "#]]
    .assert_eq(&table(&host));
}

#[tokio::test]
async fn arguments_arrive_without_what_steers_and_what_is_not_seen() {
    let host = started("", [Plug::new("a").provides(echo("say"))]).await;
    for (arg, arrives) in [
        ("plain", "plain"),
        ("", ""),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\u{1b}[31mred\u{1b}[0m", "red"),
        ("\u{1b}[2J\u{1b}[H", ""),
        ("\u{1b}]0;title\u{7}x", "x"),
        ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
        ("\u{1b}]52;c;ZXZpbA==", ""),
        ("\u{1b}Pq\u{1b}\\x", "x"),
        ("\u{1b}OAx", "x"),
        ("\u{9b}31mx", "x"),
        ("\u{9d}0;t\u{9c}x", "x"),
        ("cut \u{1b}[38;5", "cut "),
        ("cut \u{1b}", "cut "),
        ("nul\u{0}bell\u{7}back\u{8}del\u{7f}", "nulbellbackdel"),
        ("over\rwrite", "overwrite"),
        ("next\u{85}line", "nextline"),
        ("abc\u{202e}txt.exe", "abctxt.exe"),
        ("\u{2066}a\u{2069}\u{200e}\u{200f}\u{61c}", "a"),
        ("a\u{200b}b\u{2060}c\u{feff}d\u{ad}e", "abcde"),
        ("\u{e0041}\u{e0042}x", "x"),
        ("日本語 äöü 👩\u{200d}👧", "日本語 äöü 👩\u{200d}👧"),
    ] {
        let (code, said) = run(&host, "say", &[arg]).await;
        assert_eq!((code.unwrap(), said), (0, vec![arrives.to_owned()]), "{arg:?}");
    }
}

#[tokio::test]
async fn too_much_is_refused_and_says_how_much() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let count = command(CommandSpec::new("count", "Counts."), move |_, _, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(0) }
    });
    let host = started("", [Plug::new("a").provides(count)]).await;
    let (most, more) = ("x".repeat(4096), "x".repeat(4097));
    let wide = "é".repeat(2049);
    let halves = ["x".repeat(2048), "x".repeat(2049)];
    let many = vec!["x"; 257];
    let mut errors = String::new();
    for args in [vec![more.as_str()], vec![&wide], halves.iter().map(String::as_str).collect(), many, vec!["\u{1b}"; 4097]] {
        errors += &told(&run(&host, "count", &args).await.0.unwrap_err());
    }
    expect![[r#"
        INVALID_PARAMS the arguments have 4097 bytes; a command takes 4096 at most
            help: put what is long into a file, and name the file
        INVALID_PARAMS the arguments have 4098 bytes; a command takes 4096 at most
            help: put what is long into a file, and name the file
        INVALID_PARAMS the arguments have 4097 bytes; a command takes 4096 at most
            help: put what is long into a file, and name the file
        INVALID_PARAMS 257 arguments; a command takes 256 at most
        INVALID_PARAMS 4097 arguments; a command takes 256 at most
    "#]]
    .assert_eq(&errors);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    for args in [vec![most.as_str()], vec!["x"; 256], vec![]] {
        run(&host, "count", &args).await.0.unwrap();
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn defect_8_who_has_no_login_runs_only_what_needs_none() {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let noted = runs.clone();
    let who = move |name: &str, require_auth| {
        let noted = noted.clone();
        command(CommandSpec::new(name, "Who.").require_auth(require_auth), move |_, request, _| {
            noted.lock().unwrap().push(format!("{} {}", request.user, request.authenticated));
            async { Ok(0) }
        })
    };
    let host = started("", [Plug::new("a").provides(who("inner", true)).provides(who("open", false))]).await;
    let denied = run_by(&host, "inner", &[], visitor("telegram:4711")).await.0.unwrap_err();
    expect![[r#"
        PERMISSION_DENIED the command `inner` is for users with a login, and telegram:4711 has none
            help: add "telegram:4711" to owners under [serve] in bespoke.toml, if that is you
    "#]]
    .assert_eq(&told(&denied));
    run_by(&host, "open", &[], visitor("telegram:4711\u{1b}[31m")).await.0.unwrap();
    run_by(&host, "inner", &[], Caller { user: "telegram:1".into(), authenticated: true }).await.0.unwrap();
    run(&host, "inner", &[]).await.0.unwrap();
    assert_eq!(*runs.lock().unwrap(), ["telegram:4711 false", "telegram:1 true", "local true"]);
    // Nobody who may not run it starts its plugin.
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = starts.clone();
    let plug = Plug::new("b").provides(returns("late", 7)).starts(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    });
    let host = built("", [plug]);
    assert_eq!(run_by(&host, "late", &[], visitor("x")).await.0.unwrap_err().code(), Code::PERMISSION_DENIED);
    assert_eq!(starts.load(Ordering::SeqCst), 0);
    assert_eq!(run(&host, "late", &[]).await.0.unwrap(), 7);
    assert_eq!(starts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_stricter_of_manifest_and_plugin_says_who_may() {
    for (manifest, spec, needed) in [("true", false, true), ("false", true, true), ("false", false, false), ("true", true, true)] {
        let lines = format!("[[provides]]\nkind = \"command\"\nname = \"c\"\nabout = \"Says it.\"\nrequire_auth = {manifest}\n");
        let contribution = command(CommandSpec::new("c", "A test.").require_auth(spec), |_, _, _| async { Ok(0) });
        let head = "id = \"a\"\ndescription = \"A test.\"\nauthor = \"x\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";
        let host = built("", [Plug::new("a").provides(contribution).manifest(&format!("{head}{lines}"))]);
        assert_eq!(host.commands()[0].require_auth, needed);
        let denied = run_by(&host, "c", &[], visitor("x")).await.0.is_err();
        assert_eq!(denied, needed, "{manifest} {spec}");
    }
}

#[tokio::test]
async fn what_is_listed_needs_no_start() {
    let text = r#"
        id = "weather"
        version = "1.0.0"
        license = "MIT"
        description = "A test."
        author = "x"
        protocol = "1"
        tiers = ["process"]
        [process]
        command = ["./run"]
        [[provides]]
        kind = "command"
        name = "weather"
        about = "Tells the weather."
        usage = "weather CITY [--days N]"
        require_auth = false
        [[provides]]
        kind = "command"
        name = "storms"
    "#;
    let host = built("", [Plug::new("weather").tier(Tier::Process).manifest(text)]);
    let listed: String = host.commands().iter().map(|c| format!("{} | {} | {} | {}\n", c.name, c.usage, c.about, c.require_auth)).collect();
    expect![[r#"
        storms | storms |  | true
        weather | weather CITY [--days N] | Tells the weather. | false
    "#]]
    .assert_eq(&listed);
    let host = built(
        "[plugins.weather]\nenabled = false\n",
        [Plug::new("weather").manifest(&text.replace("process", "compiled").replace("[compiled]\n        command = [\"./run\"]\n", ""))],
    );
    assert_eq!(host.commands(), []);
    let error = host.command("weather").unwrap_err();
    assert!(error.message().contains("switched off"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn defect_8_publishing_while_a_command_runs_is_refused_and_deadlocks_nobody() {
    let cell: Arc<Mutex<Option<PluginContext>>> = Arc::default();
    let (given, inner) = (cell.clone(), cell.clone());
    let own = command(CommandSpec::new("own", "Publishes."), move |_, request, out| {
        let cx = inner.lock().unwrap().clone().unwrap();
        async move {
            let new = match request.args.first().map(String::as_str) {
                Some("same") => vec![returns("more", 1)],
                Some("tool") => vec![returns("more", 1), says("helper", "well")],
                _ => vec![returns("more", 1), returns("other", 2)],
            };
            let told = match cx.host().publish(new) {
                Ok(()) => "published".to_owned(),
                Err(error) => told(&error),
            };
            out.line(&told);
            Ok(0)
        }
    });
    let dynamic = "[[provides]]\nkind = \"command\"\ndynamic = true\n[[provides]]\nkind = \"tool\"\ndynamic = true\n";
    let plug = Plug::new("a").provides(own).extra(dynamic).starts(move |cx: PluginContext, _| {
        *given.lock().unwrap() = Some(cx.clone());
        async move { cx.host().publish(vec![returns("more", 1)]) }
    });
    let host = started("", [plug]).await;
    let (code, said) = run(&host, "own", &[]).await;
    code.unwrap();
    expect![[r#"
        CONFLICT its commands cannot change while one of them runs; what it offered before stays
            help: publish them when the command has returned
    "#]]
    .assert_eq(&said.concat());
    // What leaves the commands as they are is nobody's conflict.
    assert_eq!(run(&host, "own", &["same"]).await.1, ["published"]);
    assert_eq!(run(&host, "own", &["tool"]).await.1, ["published"]);
    assert_eq!((call(&host, "helper").await.unwrap().as_str(), run(&host, "more", &[]).await.0.unwrap()), ("well", 1));
    // And when it has returned, nothing is in the way.
    let cx = cell.lock().unwrap().clone().unwrap();
    cx.host().publish(vec![returns("other", 2)]).unwrap();
    assert_eq!(host.commands().iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["other", "own"]);
    assert_eq!(run(&host, "other", &[]).await.0.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn defect_13_a_handler_that_blocks_blocks_nobody_else() {
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    // Also when this test fails: the runtime waits for the thread that is blocked.
    let opens = Opens(gate);
    let blocks = command(CommandSpec::new("blocks", "Blocks its thread."), move |_, _, _| {
        let held = held.clone();
        async move {
            held.pass();
            Ok(0)
        }
    });
    let config = "[plugins.a]\ncommand_timeout_ms = 50\n";
    let host = started(config, [Plug::new("a").provides(blocks), Plug::new("b").provides(echo("say"))]).await;
    let late = run(&host, "blocks", &[]).await.0.unwrap_err();
    expect![[r#"
        EXECUTION_TIMEOUT a: no answer within 50 ms
            help: bespoke config set plugins.a.command_timeout_ms 100
    "#]]
    .assert_eq(&told(&late));
    assert_eq!(run(&host, "say", &["well"]).await.1, ["well"]);
    drop(opens);
    within(host.shutdown()).await;
}

/// Holds threads until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, std::sync::Condvar);

impl Gate {
    fn pass(&self) {
        let mut open = self.0.lock().unwrap();
        while !*open {
            open = self.1.wait(open).unwrap();
        }
    }
}

struct Opens(Arc<Gate>);

impl Drop for Opens {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

#[tokio::test]
async fn what_hangs_panics_or_fails_ends_itself_and_nothing_else() {
    let hangs = command(CommandSpec::new("hangs", "Never ends."), |_, _, out| async move {
        out.line("before");
        std::future::pending::<()>().await;
        Ok(0)
    });
    let panics = command(CommandSpec::new("panics", "Panics."), |_, _, _| async move {
        if LONG > Duration::ZERO {
            panic!("oh");
        }
        Ok(0)
    });
    let at_once =
        command(CommandSpec::new("panics-at-once", "Panics."), |_, _, _| -> std::future::Ready<Result<i32>> { panic!("at once") });
    let fails = command(CommandSpec::new("fails", "Fails."), |_, _, _| async { Err(bespoke_plugin_api::Error::internal("broken")) });
    let plug = Plug::new("a").provides(hangs).provides(panics).provides(at_once).provides(fails).provides(echo("say"));
    let host = started("[plugins]\ncommand_timeout_ms = 40\n", [plug]).await;
    let mut errors = String::new();
    for name in ["hangs", "panics", "panics-at-once", "fails"] {
        errors += &told(&run(&host, name, &[]).await.0.unwrap_err());
    }
    expect![[r#"
        EXECUTION_TIMEOUT a: no answer within 40 ms
            help: bespoke config set plugins.a.command_timeout_ms 80
        PLUGIN_EXCEPTION a: the call panicked: oh
        PLUGIN_EXCEPTION a: the call panicked: at once
        INTERNAL_ERROR a: broken
    "#]]
    .assert_eq(&errors);
    assert_eq!(run(&host, "say", &["well"]).await.1, ["well"]);
}

#[tokio::test]
async fn output_without_end_is_cut_and_output_after_the_end_is_heard_by_nobody() {
    let outs: Arc<Mutex<Option<Output>>> = Arc::default();
    let kept = outs.clone();
    let floods = command(CommandSpec::new("floods", "Says too much."), move |_, _, out| {
        let kept = kept.clone();
        async move {
            (0..100_000).for_each(|n| out.line(&format!("{n} {}", "x".repeat(1000))));
            out.line(&"y".repeat(4 << 20));
            out.note("the end");
            *kept.lock().unwrap() = Some(out);
            Ok(0)
        }
    });
    let host = started("", [Plug::new("a").provides(floods)]).await;
    let (said, out) = Said::output();
    assert_eq!(within(host.run_command(&CallCx::new(), "floods", Vec::new(), Caller::local(), out)).await.unwrap(), 0);
    let lines = said.lines();
    assert!(lines.iter().map(String::len).sum::<usize>() <= 1 << 20);
    assert!(lines.len() > 900 && lines[899].starts_with("899 "), "{}", lines.len());
    assert_eq!(lines.last().unwrap(), "(the command says more than 1024 KiB; the rest is left out)");
    outs.lock().unwrap().take().unwrap().line("from beyond");
    assert_eq!(said.lines().len(), lines.len());
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_is_told_so() {
    let ended = Arc::new(Notify::new());
    let told = ended.clone();
    let waits = command(CommandSpec::new("waits", "Waits."), move |cx, _, out| {
        let told = told.clone();
        async move {
            out.line("on its way");
            tokio::spawn(async move {
                cx.cancelled().await;
                told.notify_one();
            });
            std::future::pending::<()>().await;
            Ok(0)
        }
    });
    let host = started("", [Plug::new("a").provides(waits)]).await;
    let (said, out) = Said::output();
    let running = tokio::spawn({
        let host = host.clone();
        async move { host.run_command(&CallCx::new(), "waits", Vec::new(), Caller::local(), out).await }
    });
    within(async {
        while said.lines().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    running.abort();
    within(ended.notified()).await;
}

#[tokio::test]
async fn defects_5_and_6_nothing_that_is_registered_is_lost_and_no_failure_is_swallowed() {
    // 6: tools and commands of a registration serve, not only its hooks. 5: one that contributes what it does not declare does not start.
    let host = started(
        "",
        [
            Plug::new("a").provides(echo("say")).provides(says("x", "well")),
            Plug::new("b").provides(returns("one", 0)).registers(|mut specs| {
                specs.push(bespoke_plugin_api::Spec::Command(CommandSpec::new("two", "Undeclared.")));
                specs
            }),
            Plug::new("c").provides(returns("three", 3)),
        ],
    )
    .await;
    assert_eq!(host.commands().iter().map(|c| c.name.clone()).collect::<Vec<_>>(), ["one", "say", "three"]);
    assert_eq!((call(&host, "x").await.unwrap().as_str(), run(&host, "three", &[]).await.0.unwrap()), ("well", 3));
    let error = run(&host, "one", &[]).await.0.unwrap_err();
    assert!(error.message().contains("does not declare command `two`"), "{error}");
    assert_eq!(row(&host, "b").state.name(), "failed");
}
