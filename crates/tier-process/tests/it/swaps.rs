//! Another process in the place of the one that runs, while callers hammer it: no call is lost, none is made twice, a caller's calls are
//! answered in its order, and where the plugin says so, the count goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Candidate, Host};
use bespoke_plugin_api::{
    CallCx, Tool, ToolRequest,
    serde_json::{self, Value, json},
};

use crate::kit::World;

const CALLERS: usize = 8;
/// Of each caller. Two tests of these are 100,000 calls, for each of the two verbs.
const CALLS: usize = 6_250;
/// Most times that the plugin is replaced meanwhile.
const MOST: usize = 40;
/// Longer than it takes where two cores are shared by many.
const LONG: Duration = Duration::from_secs(300);

fn counter(world: &World, id: &str, swap: &str) -> Candidate {
    let folder = world.path().join("plugins").join(id);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/counter.py"), folder.join("counter.py")).unwrap();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\nswap = \"{swap}\"\n[[provides]]\nkind = \"tool\"\nname = \"{id}\"\n\
         [process]\ncommand = [\"python3\", \"counter.py\", \"{id}\"]\n"
    );
    world.candidate(folder, &manifest)
}

/// An answer: which process, its how-manieth, the count.
#[derive(Debug, Clone, Copy)]
struct Answer {
    born: u64,
    nth: u64,
    count: u64,
}

/// Hammers the tool of `first` while `replace` is done again and again; what each caller was answered, in its order.
async fn hammered(host: &Host, replace: impl AsyncFn(usize)) -> (Vec<Vec<Answer>>, usize) {
    let busy = Arc::new(AtomicUsize::new(CALLERS));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (host, busy) = (host.clone(), busy.clone());
            tokio::spawn(async move {
                let held = host.find::<dyn Tool>("first").unwrap();
                let mut answers = Vec::with_capacity(CALLS);
                for n in 0..CALLS {
                    // Some hold what they call, some look for it each time.
                    let slot = if caller % 2 == 0 { held.clone() } else { host.find::<dyn Tool>("first").unwrap() };
                    let request = ToolRequest::new(json!([caller, n]));
                    let answer = slot.call(&CallCx::new(), |tool, cx| async move { tool.call(&cx, request).await }).await;
                    let text = answer.unwrap_or_else(|e| panic!("call {n} of {caller}: {e}")).to_text();
                    let (born, nth, count, echo): (u64, u64, u64, Value) = serde_json::from_str(&text).unwrap();
                    assert_eq!(echo, json!([caller, n]), "somebody else's answer");
                    answers.push(Answer { born, nth, count });
                }
                busy.fetch_sub(1, Ordering::SeqCst);
                answers
            })
        })
        .collect();
    let mut replaced = 0;
    while busy.load(Ordering::SeqCst) > 0 && replaced < MOST {
        replace(replaced).await;
        replaced += 1;
    }
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(tokio::time::timeout(LONG, caller).await.expect("it hangs").unwrap());
    }
    (answers, replaced)
}

/// What holds in both modes.
fn none_lost_none_twice(callers: &[Vec<Answer>], replaced: usize) {
    let mut processes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for answers in callers {
        let mut left = BTreeSet::new();
        for pair in answers.windows(2) {
            if pair[0].born == pair[1].born {
                assert!(pair[0].nth < pair[1].nth, "out of order: {pair:?}");
            } else {
                left.insert(pair[0].born);
                assert!(!left.contains(&pair[1].born), "back to a process that was replaced: {pair:?}");
            }
        }
        answers.iter().for_each(|answer| processes.entry(answer.born).or_default().push(answer.nth));
    }
    for (born, mut calls) in processes.clone() {
        calls.sort_unstable();
        // A call that was made and not answered, or made twice, would leave a gap.
        assert!(calls.iter().copied().eq(0..calls.len() as u64), "the process of {born} did not answer each of its calls once");
    }
    assert_eq!(processes.values().map(Vec::len).sum::<usize>(), CALLERS * CALLS);
    assert!(replaced >= 3 && processes.len() >= 3, "{} processes in {replaced} replacements", processes.len());
    println!("{} calls, {replaced} replacements, {} processes", CALLERS * CALLS, processes.len());
}

/// Where each process goes on with the count of the one before.
fn the_count_went_on(callers: &[Vec<Answer>]) {
    let mut counts: Vec<u64> = callers.iter().flatten().map(|answer| answer.count).collect();
    counts.sort_unstable();
    assert!(counts.into_iter().eq(0..(CALLERS * CALLS) as u64), "a count was lost or given twice");
}

async fn reloads(swap: &str) -> Vec<Vec<Answer>> {
    let world = World::new();
    let host = world.host([counter(&world, "first", swap)]).await;
    let (answers, replaced) = hammered(&host, async |_| host.restart("first").await.unwrap()).await;
    none_lost_none_twice(&answers, replaced);
    host.shutdown().await;
    answers
}

async fn swaps(swap: &str) -> Vec<Vec<Answer>> {
    let world = World::new();
    let host = world.host([counter(&world, "first", swap), counter(&world, "second", swap)]).await;
    let turns = async |n| {
        let (old, new) = if n % 2 == 0 { ("first", "second") } else { ("second", "first") };
        host.swap(old, new).await.unwrap();
    };
    let (answers, replaced) = hammered(&host, turns).await;
    none_lost_none_twice(&answers, replaced);
    host.shutdown().await;
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_calls_while_it_is_reloaded_beside_itself() {
    let answers = reloads("overlap").await;
    assert!(answers.iter().flatten().filter(|answer| answer.count == 0).count() >= 3, "each began anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_calls_while_it_is_reloaded_in_its_place() {
    the_count_went_on(&reloads("exclusive").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_calls_while_two_take_turns_beside_each_other() {
    swaps("overlap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn app_factory_defect_16_a_swap_drains_and_hands_over_its_state() {
    the_count_went_on(&swaps("exclusive").await);
}
