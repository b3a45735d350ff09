//! No call is lost on the way to a new generation.

use super::*;

/// Eight callers that never pause, and fifty generations under them.
async fn hammer(twin: Twin) {
    let host = running("[plugins.a]\nsize = 0\n", std::slice::from_ref(&twin)).await;
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (host, over) = (host.clone(), over.clone());
            tokio::spawn(async move {
                let slot = host.registry().get::<dyn Tool>("a").unwrap();
                let mut answered = 0_u32;
                while !over.load(Ordering::SeqCst) {
                    let cx = CallCx::new();
                    let ask = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({}))).await });
                    ask.await.map_err(|e| e.to_string())?;
                    let outcome = host.hooks().run(&CallCx::new(), BEFORE, || before_run("")).await;
                    if !matches!(outcome, Some(Outcome::Proceed(_))) {
                        return Err(format!("{outcome:?}"));
                    }
                    answered += 1;
                    tokio::task::yield_now().await;
                }
                Ok::<u32, String>(answered)
            })
        })
        .collect();
    for n in 1..=50 {
        let report = within(host.reload(read(&format!("[plugins.a]\nsize = {n}\n")))).await;
        assert_eq!(shown(&report), format!("  plugins.a.size {} → {n} Restart\n  a Swapped\n", n - 1));
    }
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        let answered = within(caller).await.unwrap().unwrap();
        assert!(answered > 0);
    }
    assert!(ask(&host, "a").await.starts_with("#51 value 0 size 50"));
    assert_eq!(row(&host, "a").errors, 0);
    within(host.shutdown()).await;
    let ends = twin.journal.read().iter().filter(|note| note.starts_with('-')).count();
    assert_eq!(ends, 51, "every generation was ended");
    assert_eq!(host.late_threads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_lost_in_fifty_swaps_beside_each_other() {
    hammer(Twin::new("a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_lost_in_fifty_swaps_of_one_at_a_time() {
    hammer(Twin::new("a").exclusive()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_ends_on_the_generation_that_it_began_on() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nsize = 1\n", std::slice::from_ref(&twin)).await;
    let slot = host.registry().get::<dyn Tool>("a").unwrap();
    let waiting = tokio::spawn({
        let slot = slot.clone();
        let wait = || ToolRequest::new(json!({ "wait": true }));
        async move { slot.call(&CallCx::new(), |tool, cx| async move { tool.call(&cx, wait()).await }).await }
    });
    within(twin.entered.notified()).await;
    within(host.reload(read("[plugins.a]\nsize = 2\n"))).await;
    assert!(ask(&host, "a").await.starts_with("#2 value 0 size 2"), "others are served by the new one at once");
    twin.gate.notify_one();
    assert!(within(waiting).await.unwrap().unwrap().to_text().starts_with("#1 value 0 size 1"));
    ended(&twin, 1).await;
    assert_eq!(twin.journal.text(), "+1 +2 -1");
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_and_published_names_are_those_of_the_new_generation() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\npublish = ['one', 'two']\n", std::slice::from_ref(&twin)).await;
    let slot = host.registry().get::<dyn Tool>("two").unwrap();
    let turn = async || within(host.hooks().run(&CallCx::new(), BEFORE, || before_run(""))).await.unwrap();
    assert!(matches!(turn().await, Outcome::Proceed(_)));
    let report = within(host.reload(read("[plugins.a]\npublish = ['two', 'three']\nveto = true\n"))).await;
    assert_eq!(report.plugins.len(), 1);
    assert!(matches!(turn().await, Outcome::Vetoed { reason, .. } if reason == "#2 says no"));
    assert_eq!(host.registry().names(bespoke_plugin_api::Kind::Tool), ["a", "three", "two"]);
    let cx = CallCx::new();
    let again = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({}))).await });
    assert_eq!(within(again).await.unwrap().to_text(), "published", "whoever held a name that stays goes on with it");
    // Dependents, too, go on: they hold slots.
    within(host.restart("a")).await.unwrap();
    assert!(ask(&host, "a").await.starts_with("#3"));
    assert_eq!(within(host.restart("b")).await.unwrap_err().to_string(), "no plugin `b`");
}
