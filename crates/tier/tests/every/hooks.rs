//! Every hook, every way of answering or failing, open and closed, in every tier: one rule says what becomes of each.
//!
//! The rule, as docs/hooks.md has it: a handler that goes on, or only takes its time, changes nothing; one that wants another event gets
//! it; one that says no stops what was about to happen, with its reason; one that panics or hangs counts as its subscription says.
//! A handler of events hears all, one after the other, whatever it answers and whatever becomes of it.

use std::path::Path;

use bespoke_host::{Candidate, Hooks, Host, Outcome, State};
use bespoke_plugin_api::{CallCx, Hook, HookEvent, OnFailure, serde_json::json};

use super::{
    actor::{HEARD, modified, name, places, word},
    answers, host, row, until, within,
};

/// What a handler does. Told through the session of the call, which every tier passes on: `DO:CLOSED`.
const BEHAVIOURS: &[&str] = &["observe", "modify", "veto", "slow", "panic", "hang"];

/// The rule.
fn expected(behaviour: &str, failure: OnFailure, event: HookEvent) -> std::result::Result<HookEvent, &'static str> {
    match (behaviour, failure) {
        ("modify", _) => Ok(modified(&event)),
        ("veto", _) => Err("says no"),
        ("panic" | "hang", OnFailure::Closed) => Err("fails closed"),
        _ => Ok(event),
    }
}

/// Asks for every combination at once, and compares with the rule.
///
/// A plugin that a panic ends takes along what is under way, so it panics alone, and once it is there again.
pub(crate) async fn check(tier: &str, place: &Path, more: &str, plugin: Candidate, dies: bool) {
    let host = &host(place, &format!("[plugins.actor]\n{more}\n"), None, vec![plugin]).await;
    assert_eq!(row(host, "actor").state, State::Ready, "{tier}: {:?}", row(host, "actor").reason);
    let cases = places().flat_map(|hook| {
        BEHAVIOURS.iter().flat_map(move |behaviour| [OnFailure::Open, OnFailure::Closed].map(|failure| (hook, *behaviour, failure)))
    });
    let ask = async |(hook, behaviour, failure): (Hook, &str, OnFailure)| {
        let cx = CallCx::new().with_session(&format!("{behaviour}:{}", word(failure)));
        let event = Hooks::example(hook);
        let outcome = within(host.hooks().run(&cx, hook, || event.clone())).await;
        let case = format!("{tier}: {} {behaviour} {}", hook.name(), word(failure));
        match (outcome, expected(behaviour, failure, event)) {
            (Some(Outcome::Proceed(got)), Ok(wanted)) => assert_eq!(got, wanted, "{case}"),
            (Some(Outcome::Vetoed { plugin, reason, .. }), Err(why)) => {
                assert!(plugin == "actor" && reason.contains(why), "{case}: {plugin} says {reason:?}, not {why:?}");
            }
            (got, wanted) => panic!("{case}: {got:?}, not {wanted:?}"),
        }
    };
    let (alone, together): (Vec<_>, Vec<_>) = cases.partition(|(_, behaviour, _)| dies && *behaviour == "panic");
    futures_util::future::join_all(together.into_iter().map(&ask)).await;
    for case in alone {
        answers(host, "actor", json!({ "value": 1 }), "1").await;
        ask(case).await;
    }
    if dies {
        answers(host, "actor", json!({ "value": 1 }), "1").await;
    }
    // What failed is told, once each: twelve hooks, open and closed, that panic and hang; and nobody failed often enough to be left alone.
    let failed = host.events().history("hook_failed", 0).len();
    assert_eq!((failed, host.events().history("hook_tripped", 0).len()), (places().count() * 4, 0), "{tier}");
    check_events(tier, host, dies).await;
    within(host.shutdown()).await;
}

/// Tells an event for each behaviour, and one more, all at once: whoever tells does not wait, each is heard, in order, and what fails or
/// is late is told, whether it is open or closed.
async fn check_events(tier: &str, host: &Host, dies: bool) {
    let told: Vec<&str> = BEHAVIOURS.iter().copied().filter(|behaviour| !(dies && *behaviour == "panic")).chain(["last"]).collect();
    told.iter().for_each(|behaviour| _ = host.events().emit(HEARD, None, json!({ "do": behaviour })));
    for failure in [OnFailure::Open, OnFailure::Closed] {
        let heard = || -> Vec<String> {
            let heard = host.events().history("actor.heard", 0).into_iter().filter(|event| event.payload["by"] == word(failure));
            heard.map(|event| event.payload["do"].as_str().unwrap_or_default().to_owned()).collect()
        };
        until(&format!("{tier}: events {} that are not heard", word(failure)), || heard().len() >= told.len()).await;
        assert_eq!(heard(), told, "{tier}: {}", word(failure));
        let failed = host.events().history("hook_failed", 0).into_iter().map(|event| event.payload);
        let failed = failed.filter(|payload| payload["name"] == name(Hook::OnEvent, failure)).count();
        assert_eq!(failed, if dies { 1 } else { 2 }, "{tier}: {} fails by the panic and the time that is over", word(failure));
    }
    for topic in ["hook_tripped", "hook_lost"] {
        assert!(host.events().history(topic, 0).is_empty(), "{tier}: {topic}");
    }
}
