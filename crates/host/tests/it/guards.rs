//! Plugins that are there for nothing but hooks, and came to nothing before they said which: nobody knows what they would have stopped.

use std::sync::Arc;

use bespoke_host::{Config, Hooks, Host, Outcome, Tier};
use bespoke_plugin_api::{CallCx, Error, Hook, HookEvent, HookReply, HookSpec};
use expect_test::expect;
use tokio::sync::Notify;

use crate::kit::{BEFORE, Plug, before_run, built, hook, says, started, within};

/// What becomes of each hook, one letter each: nobody wants it, it goes on, it is stopped.
async fn outcomes(host: &Host) -> String {
    let mut said = String::new();
    for hook in Hook::ALL.iter().copied().filter(|hook| *hook != Hook::OnEvent) {
        said.push(match within(host.hooks().run(&CallCx::new(), hook, || Hooks::example(hook))).await {
            None => '-',
            Some(Outcome::Proceed(_)) => 'o',
            Some(Outcome::Vetoed { .. }) => 'x',
        });
    }
    said
}

async fn run(host: &Host) -> String {
    match within(host.hooks().run(&CallCx::new(), BEFORE, || before_run("hi"))).await {
        None => "nobody".into(),
        Some(Outcome::Proceed(HookEvent::BeforeAgentRun { input, .. })) => input,
        Some(Outcome::Proceed(other)) => format!("{other:?}"),
        Some(Outcome::Vetoed { plugin, reason, .. }) => format!("{plugin} vetoed: {reason}"),
    }
}

/// A plugin whose hooks are the user's to say: its table has `broken`, or the reason of a veto before a turn.
fn watch(id: &str) -> Plug {
    watch_and(id, "")
}

fn watch_and(id: &str, more: &str) -> Plug {
    let manifest = format!(
        "id = \"{id}\"\ndescription = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n\
         [[provides]]\nkind = \"hook\"\ndynamic = true\n{more}"
    );
    Plug::new(id).manifest(&manifest).starts(|cx, config| async move {
        if let Some(why) = config["broken"].as_str() {
            return Err(Error::internal(why).with_help("write another word"));
        }
        let Some(reason) = config["says"].as_str().map(str::to_owned) else { return Ok(()) };
        let name = format!("{}-says", cx.id());
        cx.host().publish(vec![hook(HookSpec::new(name, BEFORE), move |_, _| {
            let reason = reason.clone();
            async move { Ok(HookReply::veto(reason)) }
        })])
    })
}

#[tokio::test]
async fn whatever_a_hook_can_stop_is_stopped_for_want_of_one_that_the_user_counts_on() {
    let broken = "[plugins.a]\nbroken = 'no such program'\n";
    let fails = |plug: Plug| plug.starts(|_, _| async { Err(Error::internal("no such program")) });
    let mut said = String::new();
    for (name, config, plug) in [
        ("configured", broken, watch("a")),
        ("a key of the host is wrong", "[plugins.a]\nstart = 'lazzy'\n", watch("a")),
        ("what it needs is not there", "[plugins.a]\nsays = 'no'\n", watch_and("a", "[[requires]]\nplugin = \"b\"\n")),
        ("it waits for its first call", "[plugins.a]\nsays = 'no'\nstart = 'lazy'\n", watch("a")),
        ("an empty table", "[plugins.a]\n", fails(watch("a"))),
        ("no table", "", fails(watch("a"))),
        ("no table, in a folder", "", fails(watch("a")).tier(Tier::Process)),
        ("switched off", "[plugins.a]\nbroken = 'x'\nenabled = false\n", watch("a")),
        ("without hooks", "[plugins.a]\n", watch("a")),
        ("with a tool, too", "[plugins.a]\n", fails(Plug::new("a").provides(says("t", "t")).hook(HookSpec::new("h", BEFORE), no))),
        ("known, open", "[plugins.a]\n", fails(Plug::new("a").hook(HookSpec::new("h", BEFORE), no))),
        ("known, closed", "[plugins.a]\n", fails(Plug::new("a").hook(HookSpec::new("h", BEFORE).fail_closed(), no))),
        ("unknown", "[plugins.a]\n", Plug::new("a").hook(HookSpec::new("h", BEFORE), no).registers(|_| panic!("on purpose"))),
    ] {
        let host = started(config, [plug]).await;
        said += &format!("{} {name}\n", outcomes(&host).await);
        assert_eq!(host.hooks().missed().is_empty(), !run(&host).await.contains("does not run"), "{name}");
    }
    expect![[r#"
        xxxxxx----x- configured
        xxxxxx----x- a key of the host is wrong
        xxxxxx----x- what it needs is not there
        x----------- it waits for its first call
        xxxxxx----x- an empty table
        ------------ no table
        xxxxxx----x- no table, in a folder
        ------------ switched off
        ------------ without hooks
        ------------ with a tool, too
        ------------ known, open
        x----------- known, closed
        xxxxxx----x- unknown
    "#]]
    .assert_eq(&said);
    let host = started(broken, [watch("a")]).await;
    expect!["a vetoed: a does not run: no such program; write another word; or go on without it: bespoke plugin disable a"]
        .assert_eq(&run(&host).await);
    let (tried, outcome) = within(host.hooks().dry_run(&CallCx::new(), before_run("hi"))).await;
    assert!(tried.is_empty() && matches!(&outcome, Outcome::Vetoed { plugin, .. } if plugin == "a"), "{outcome:?}");
}

async fn no(_: CallCx, _: HookEvent) -> bespoke_plugin_api::Result<HookReply> {
    Ok(HookReply::veto("no"))
}

#[tokio::test]
async fn a_running_host_stops_and_goes_on_as_the_table_is_wrong_and_right() {
    let host = started("", [watch("a"), watch("b")]).await;
    let mut said = Vec::new();
    for config in [
        "[plugins.a]\nbroken = 'x'\n",
        "[plugins.a]\nbroken = 'y'\n",
        "[plugins.a]\nbroken = 'y'\nenabled = false\n",
        "[plugins.a]\nbroken = 'y'\n",
        "",
        "[plugins.a]\nsays = 'no'\n",
        // One that runs goes on as it was.
        "[plugins.a]\nbroken = 'z'\n",
    ] {
        within(host.reload(Config::parse("bespoke.toml", config).unwrap())).await;
        said.push(run(&host).await);
    }
    expect![[r#"
        a vetoed: a does not run as it is configured: the old instance goes on: x; write another word; or go on without it: bespoke plugin disable a
        a vetoed: a does not run as it is configured: the old instance goes on: y; write another word; or go on without it: bespoke plugin disable a
        nobody
        a vetoed: a does not run: y; write another word; or go on without it: bespoke plugin disable a
        nobody
        a vetoed: no
        a vetoed: no"#]]
    .assert_eq(&said.join("\n"));
    // A host that begins so, and is put right.
    let host = started("[plugins.a]\nbroken = 'x'\n", [watch("a")]).await;
    assert!(run(&host).await.contains("does not run"));
    within(host.reload(Config::parse("bespoke.toml", "[plugins.a]\nsays = 'no'\n").unwrap())).await;
    assert_eq!(run(&host).await, "a vetoed: no");
}

#[tokio::test]
async fn while_it_is_tried_again_it_is_waited_for() {
    let (go, entered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, enter) = (go.clone(), entered.clone());
    let plug = watch("a").starts(move |cx, config| {
        let (wait, enter) = (wait.clone(), enter.clone());
        async move {
            if config["broken"].is_string() {
                return Err(Error::internal("broken"));
            }
            enter.notify_one();
            wait.notified().await;
            cx.host().publish(vec![hook(HookSpec::new("h", BEFORE), no)])
        }
    });
    let host = built("[plugins.a]\nbroken = 'x'\n", [plug]);
    within(host.start(bespoke_host::Selection::All)).await;
    let (reloading, asking) = (host.clone(), host.clone());
    let reloading = tokio::spawn(async move { reloading.reload(Config::empty()).await });
    within(entered.notified()).await;
    let asked = tokio::spawn(async move { run(&asking).await });
    tokio::task::yield_now().await;
    assert!(!asked.is_finished());
    go.notify_one();
    assert_eq!(within(asked).await.unwrap(), "a vetoed: no");
    within(reloading).await.unwrap();
}

#[tokio::test]
async fn what_a_handler_says_of_a_secret_is_shown_to_nobody() {
    let config = "[plugins.a]\n[plugins.a.secrets]\nkey = 's3cr3t-w0rd'\n";
    for (closed, fails) in [(true, true), (false, true), (true, false)] {
        let spec = HookSpec::new("h", BEFORE);
        let spec = if closed { spec.fail_closed() } else { spec };
        let plug =
            Plug::new("a").extra("[permissions]\nsecrets = [\"key\"]\nreasons.secrets = \"a test\"\n").hook(spec, move |_, _| async move {
                if fails { Err(Error::internal("refused: key=s3cr3t-w0rd")) } else { Ok(HookReply::veto("no s3cr3t-w0rd here")) }
            });
        let host = started(config, [plug]).await;
        let said = run(&host).await;
        assert!(!said.contains("s3cr3t"), "{said}");
        assert!(said.contains("***") || !closed, "{said}");
        let (tried, _) = within(host.hooks().dry_run(&CallCx::new(), before_run("hi"))).await;
        assert!(tried[0].reason.as_ref().is_some_and(|reason| reason.contains("***")), "{tried:?}");
        let told = host.events().history("", 0);
        assert!(told.iter().any(|event| event.topic == "hook_failed") == fails, "{told:?}");
        assert!(told.iter().all(|event| !event.payload.to_string().contains("s3cr3t")), "{told:?}");
    }
}

#[tokio::test]
async fn hooks_are_asked_by_priority_then_by_plugin_then_by_name() {
    let letter = |name: &str, priority: i32, letter: &'static str| {
        hook(HookSpec::new(name, BEFORE).priority(priority), move |_, event| async move {
            let HookEvent::BeforeAgentRun { input, .. } = event else { panic!("{event:?}") };
            Ok(HookReply::replace(before_run(&(input + letter))))
        })
    };
    // Written and started in another order than they are asked in.
    let b = watch("b").starts(move |cx, _| {
        let all = vec![letter("z", 0, "4"), letter("y", 9, "1"), letter("c", 0, "3"), letter("x", -1, "6")];
        async move { cx.host().publish(all) }
    });
    let c = Plug::new("c").provides(letter("a", 0, "5"));
    let a = Plug::new("a").provides(letter("zz", 0, "2"));
    let host = started("", [c, b, a]).await;
    assert_eq!(run(&host).await, "hi123456");
    let listed: Vec<_> = host.hooks().list().into_iter().map(|row| row.name).collect();
    assert_eq!(listed, ["y", "zz", "c", "z", "a", "x"]);
}
