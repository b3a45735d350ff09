//! Reloads, restarts and shutdowns at once, and callers who stop waiting.

use super::*;

/// A plugin whose every start but the first waits until it is told to go on.
fn waits_from_the_second_start(swap: &str) -> (Plug, Arc<Notify>, Arc<Notify>) {
    let (go, entered, made) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (of_plug, enters) = (go.clone(), entered.clone());
    let plug = Plug::new("a").extra(&format!("swap = \"{swap}\"\n")).starts(move |_, _| {
        let (go, entered, n) = (of_plug.clone(), enters.clone(), made.fetch_add(1, Ordering::SeqCst));
        async move {
            if n > 0 {
                entered.notify_one();
                go.notified().await;
            }
            Ok(())
        }
    });
    (plug, go, entered)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_for_a_reload_or_a_restart_stops_neither() {
    for (swap, restart) in [("overlap", false), ("exclusive", false), ("overlap", true), ("exclusive", true)] {
        let (plug, go, entered) = waits_from_the_second_start(swap);
        let host = Host::builder().config(read("")).plugins([plug]).build().unwrap();
        within(host.start(Selection::All)).await;
        let mut swapped = host.events().subscribe("plugin_updated", None);
        let work = async {
            if restart {
                host.restart("a").await.unwrap();
            } else {
                host.reload(read("[plugins.a]\nvalue = 1\n")).await;
            }
        };
        tokio::select! {
            () = work => panic!("it waits for the new instance"),
            () = within(entered.notified()) => {}
        }
        go.notify_one();
        assert!(within(swapped.next()).await.unwrap().is_ok(), "{swap} {restart}");
        let again = if restart { "" } else { "[plugins.a]\nvalue = 1\n" };
        assert_eq!(within(host.reload(read(again))).await, ReloadReport::default(), "{swap}: it runs with these values");
        assert_eq!(table(&host), "a ready\n");
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_reloads_at_once_are_one_after_the_other() {
    let twin = Twin::new("a");
    let host = running("[plugins.a]\nsize = 0\n", std::slice::from_ref(&twin)).await;
    let reload = |n: i64| host.reload(read(&format!("[plugins.a]\nsize = {n}\n")));
    let (first, second) = within(async { tokio::join!(reload(1), reload(2)) }).await;
    // Whichever goes first, the other begins where it ended.
    let changed = |from: i64, to: i64| format!("  plugins.a.size {from} → {to} Restart\n  a Swapped\n");
    let (orders, told) = ([(changed(0, 1), changed(1, 2)), (changed(2, 1), changed(0, 2))], (shown(&first), shown(&second)));
    let order = orders.iter().position(|order| *order == told).unwrap_or_else(|| panic!("{told:?}"));
    assert!(ask(&host, "a").await.starts_with(["#3 value 0 size 2", "#3 value 0 size 1"][order]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_reload_and_leaves_nothing_running() {
    for twin in [Twin::new("a"), Twin::new("a").exclusive()] {
        let host = running("[plugins]\nstart_timeout_ms = 20000\n[plugins.a]\nsize = 0\n", std::slice::from_ref(&twin)).await;
        let reloading = tokio::spawn({
            let host = host.clone();
            async move { host.reload(read("[plugins]\nstart_timeout_ms = 20000\n[plugins.a]\nsize = 1\nbegin = 'hangs'\n")).await }
        });
        within(async {
            while twin.made.load(Ordering::SeqCst) < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let began = tokio::time::Instant::now();
        within(host.shutdown()).await;
        within(reloading).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "the limit of the start was not waited for");
        assert_eq!((row(&host, "a").state, twin.journal.text().as_str()), (State::Stopped, "+1 -1"));
        // And a reload after it changes nothing that runs.
        let report = within(host.reload(read("[plugins.a]\nsize = 3\n"))).await;
        assert!(report.plugins.iter().all(|p| p.reason.as_deref() == Some("the host is being shut down")), "{report:?}");
        assert_eq!(twin.journal.text(), "+1 -1");
    }
}
