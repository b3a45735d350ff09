//! Whatever a plugin does, in every tier: the host lives, its caller is told what became of it within its deadline, the calls of somebody
//! else that are in flight meanwhile are all answered, and the plugin answers again.
//!
//! The rule: what a plugin says that makes no sense is passed over, or ends that instance; what it does for too long is left to the
//! caller's deadline; what ends code ends it as far as its tier reaches. A panic is an error of one call where the tier unwinds, and the end
//! of the instance where it does not. What no program survives that has the code inside is not tried here in the tier without a wall: it is
//! the end of a subprocess, in `fatal` of that tier.

use std::{
    future::poll_fn,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_host::{Candidate, Host, KeyValue, State};
use bespoke_plugin_api::{
    Code, Result, Vad, VadOptions,
    bytes::Bytes,
    serde_json::{Value, json},
};
use bespoke_protocol::{Kind, method, put_call, put_plain};

use super::{LONG, Tier, answers, call, host, row, until, within};

/// How long a caller waits who will wait in vain.
const SHORT: Duration = Duration::from_millis(300);

/// What a caller gets.
enum Gets {
    Text(&'static str),
    Error(Code, &'static str),
    /// Nothing: the program would end, or would use all of the machine.
    Fatal,
    /// This tier has another way of saying things, and a test of its own for it.
    Elsewhere,
}

use Gets::{Elsewhere, Error, Fatal, Text};

struct Fault {
    does: &'static str,
    args: Value,
    limit: Duration,
    /// In a process, a library, a component.
    gets: [Gets; 3],
}

fn fault(does: &'static str, args: Value, gets: [Gets; 3]) -> Fault {
    Fault { does, args, limit: LONG, gets }
}

fn all(gets: impl Fn() -> Gets) -> [Gets; 3] {
    [gets(), gets(), gets()]
}

/// Bytes beside the frames of the plugin: in memory, where they can be written.
fn raw(what: &'static str, bytes: &[u8], times: usize, from: Option<u32>, gets: impl Fn() -> Gets) -> Fault {
    let args = json!({ "do": "raw", "bytes": bytes, "n": times, "from": from });
    Fault { does: what, args, limit: LONG, gets: [Elsewhere, gets(), gets()] }
}

fn faults() -> Vec<Fault> {
    let crashed = |words| Error(Code::PLUGIN_CRASHED, words);
    let panicked = |words| Error(Code::PLUGIN_EXCEPTION, words);
    let late = || Error(Code::EXECUTION_TIMEOUT, "");
    let short = |does, args| Fault { does, args, limit: SHORT, gets: all(late) };
    let plain = |kind| {
        let mut bytes = Vec::new();
        put_plain(&mut bytes, kind, 0, 1_000_000);
        bytes
    };
    let reply = |body: &str| framed(Kind::REPLY, body.len(), 0, body.as_bytes());
    let first = r#"{"ok":{"content":[{"type":"text","text":"first"}]}}"#;
    let mut asks = Vec::new();
    put_call(&mut asks, Kind::HOST_CALL, 0, method::HOST_SLEEP, "", &Default::default(), &bespoke_protocol::SleepArgs { us: u64::MAX })
        .unwrap();
    let mut unknown = Vec::new();
    put_call(&mut unknown, Kind::HOST_CALL, 0, "host.conjure", "", &Default::default(), &bespoke_protocol::SleepArgs { us: 0 }).unwrap();
    vec![
        // What it does.
        fault("fail", json!({}), all(|| Error(Code::INTERNAL_ERROR, "as told"))),
        fault("panic", json!({}), [panicked("on purpose"), panicked("on purpose"), crashed("on purpose")]),
        fault("abort", json!({}), [crashed("SIGABRT"), Fatal, crashed("aborted")]),
        fault("stack", json!({}), [crashed(""), Fatal, crashed("was ended")]),
        fault("memory", json!({}), [crashed("limit of memory"), Fatal, Error(Code::RESOURCE_EXHAUSTED, "MiB of memory")]),
        // What it does for too long: it waits, it computes and hears of no cancel.
        short("waits", json!({})),
        short("computes", json!({ "n": 1500 })),
        // What it asks of the host, again and again: each function of the host, and each lane of calls.
        fault("log", json!({ "n": 10_000 }), all(|| Text("10000"))),
        fault("asks", json!({ "n": 100_000 }), all(|| Text("100000"))),
        fault("emits", json!({ "n": 10_000 }), all(|| Text("10000"))),
        fault("stores", json!({ "n": 300 }), all(|| Text("300"))),
        fault("loads", json!({ "n": 2000 }), all(|| Text("2000 answered"))),
        fault("calls itself", json!({}), all(|| Error(Code::RESOURCE_EXHAUSTED, "is there a cycle?"))),
        // What it says: too much, twice, for nobody, nonsense.
        fault("many", json!({ "n": 65 << 20 }), all(|| Error(Code::RESOURCE_EXHAUSTED, ""))),
        raw("answers twice", &reply(first), 2000, Some(1), || Text("first")),
        raw("answers with another type", &reply(r#"{"ok":{"content":7}}"#), 2000, Some(1), || {
            Error(Code::INVALID_REQUEST, "from the peer")
        }),
        raw("answers nobody", &reply(first), 10_000, Some(1_000_000), || Text("said")),
        raw("ends streams of nobody", &plain(Kind::END), 10_000, Some(1_000_000), || Text("said")),
        raw("gives credit without end", &framed(Kind::CREDIT, 0, 4, &u32::MAX.to_le_bytes()), 10_000, Some(1), || Text("said")),
        raw("cancels what is not", &plain(Kind::CANCEL), 10_000, Some(1), || Text("said")),
        raw("says what is not known", &plain(Kind(200)), 10_000, Some(1), || Text("said")),
        raw("pings without end", &plain(Kind::PING), 50_000, Some(1), || Text("said")),
        raw("asks for more than is served", &asks, 20_000, Some(1_000_000), || Text("said")),
        raw("asks for what there is not", &unknown, 10_000, Some(1_000_000), || Text("said")),
        raw("says no frames", b"hello from print", 1, None, || crashed("no frame header")),
        raw("lies about a length", &framed(Kind::LOG, 1000, 1000, &[]), 1, None, || crashed("")),
        raw("announces more than there may be", &framed(Kind::LOG, usize::MAX, 0, &[]), 1, None, || crashed("")),
        raw("says goodbye", &plain(Kind::GOODBYE), 1, None, || crashed("has ended itself")),
    ]
}

/// A frame by hand.
fn framed(kind: Kind, head: usize, blob: usize, body: &[u8]) -> Vec<u8> {
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    [&[kind.0, 0, 0, 0, 0, 0, 0, 0][..], &length(head), &length(blob), body].concat()
}

/// Tries all of them with `acts`, beside calls of `actor`. `more` are settings of both.
pub(crate) async fn check(tier: Tier, place: &Path, more: &str, acts: Candidate, actor: Candidate) {
    let store = Arc::new(Store::default());
    let config = format!("[plugins.acts]\n{more}\n[plugins.actor]\n{more}\n");
    let host = host(place, &config, Some(store.clone()), vec![acts.clone(), actor.clone()]).await;
    for id in ["acts", "actor"] {
        assert_eq!(row(&host, id).state, State::Ready, "{id}: {:?}", row(&host, id).reason);
    }
    for Fault { does, mut args, limit, gets } in faults() {
        let [process, dylib, wasm] = gets;
        let gets = match tier {
            Tier::Process => process,
            Tier::Dylib => dylib,
            Tier::Wasm => wasm,
        };
        if args.get("do").is_none() {
            args["do"] = json!(does);
        }
        if matches!(gets, Fatal | Elsewhere) {
            continue;
        }
        let begun = Instant::now();
        let got = beside(&host, call(&host, "acts", args, limit)).await;
        match (got, gets) {
            (Ok(text), Text(wanted)) => assert_eq!(text, wanted, "{does}"),
            (Err(error), Error(code, words)) => {
                assert_eq!((error.code(), error.plugin()), (code, Some("acts")), "{does}: {error}");
                assert!(error.message().contains(words), "{does}: {error}");
            }
            (Ok(text), _) => panic!("{does}: {text}"),
            (Err(error), _) => panic!("{does}: {error:?}"),
        }
        // Far from the deadline of those that wait in vain only where the machine stands still.
        assert!(limit == LONG || begun.elapsed() < LONG / 2, "{does}: {:?}", begun.elapsed());
        answers(&host, "acts", json!({ "do": "echo", "value": does }), &json!(does).to_string()).await;
    }
    streams(tier, &host).await;
    a_host_call_that_blocks(&host, &store).await;
    assert!(host.events().history("", 0).len() < 20_000, "what is kept of events has an end");
    within(host.shutdown()).await;
    until("nothing is left behind", || host.late_threads() == 0).await;
    begins_and_ends(place, more, acts, actor).await;
}

/// Does something beside calls of somebody else, of which one is on its way all the while: each is answered with its own.
async fn beside<T>(host: &Host, work: impl Future<Output = T>) -> T {
    let (over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let others = async {
        while !over.load(Ordering::SeqCst) || count.load(Ordering::SeqCst) < 5 {
            let n = count.fetch_add(1, Ordering::SeqCst);
            let said = call(host, "actor", json!({ "value": n }), LONG).await;
            assert_eq!(said.as_deref(), Ok(&*n.to_string()));
        }
    };
    let under_way = call(host, "actor", json!({ "value": "long", "ms": 100 }), LONG);
    let done = async {
        let done = work.await;
        over.store(true, Ordering::SeqCst);
        done
    };
    let (done, waited, ()) = tokio::join!(done, under_way, others);
    assert_eq!(waited.as_deref(), Ok("\"long\""));
    done
}

/// One that goes wrong in the midst of a stream ends it with an error; what came before it is there.
async fn streams(tier: Tier, host: &Host) {
    for (sample, abrupt) in [(8.0, false), (9.0, true)] {
        if tier == Tier::Dylib && abrupt {
            continue;
        }
        let slot = host.find::<dyn Vad>("acts").unwrap();
        let mut stream = slot.lease().unwrap().open(&VadOptions::new(16_000)).unwrap();
        let error = beside(host, async {
            for frame in [0.0, 0.9, 0.0, sample] {
                within(poll_fn(|cx| stream.poll_ready(cx))).await.unwrap();
                stream.push(&[frame; 320]).unwrap();
            }
            let mut events = 0;
            loop {
                match within(poll_fn(|cx| stream.poll_next(cx))).await {
                    Some(Ok(_)) => events += 1,
                    Some(Err(error)) => break (error, events),
                    None => panic!("it ended without an error, after {events} events"),
                }
            }
        });
        let (error, events) = error.await;
        let code = if abrupt || tier == Tier::Wasm { Code::PLUGIN_CRASHED } else { Code::PLUGIN_EXCEPTION };
        assert_eq!(error.code(), code, "{tier:?}: {error}");
        assert!(events <= 2, "{tier:?}: {events}");
        // What is over says nothing more, whoever asks.
        for _ in 0..3 {
            assert!(within(poll_fn(|cx| stream.poll_next(cx))).await.is_none_or(|said| said.is_err()), "{tier:?}");
        }
        drop(stream);
        answers(host, "acts", json!({ "do": "echo", "value": 1 }), "1").await;
    }
}

/// Who waits for the host is let go at the deadline; the plugin's other calls, and everybody else's, are answered meanwhile.
async fn a_host_call_that_blocks(host: &Host, store: &Store) {
    store.hold(true);
    let waits = json!({ "do": "store", "key": "held", "value": "x" });
    let error = beside(host, call(host, "acts", waits.clone(), SHORT)).await.unwrap_err();
    assert_eq!(error.code(), Code::EXECUTION_TIMEOUT, "{error:?}");
    answers(host, "acts", json!({ "do": "echo", "value": 2 }), "2").await;
    store.hold(false);
    assert_eq!(call(host, "acts", waits, LONG).await.as_deref(), Ok("x"));
}

/// What its start and its end do wrong.
async fn begins_and_ends(place: &Path, more: &str, acts: Candidate, actor: Candidate) {
    for (begin, words) in [("panic", "at the start"), ("fail", "it does not want to"), ("hang", "did not")] {
        let limit = if begin == "hang" { "[plugins]\nstart_timeout_ms = 3000\n" } else { "" };
        let config = format!("{limit}[plugins.acts]\n{more}\nbegin = \"{begin}\"\n[plugins.actor]\n{more}\n");
        let host = host(place, &config, None, vec![acts.clone(), actor.clone()]).await;
        let failed = row(&host, "acts");
        assert_eq!((failed.state, row(&host, "actor").state), (State::Failed, State::Ready), "{begin}: {failed:?}");
        assert!(failed.reason.as_ref().is_some_and(|reason| reason.contains(words)), "{begin}: {failed:?}");
        beside(&host, async {}).await;
        within(host.shutdown()).await;
        until("nothing is left behind", || host.late_threads() == 0).await;
    }
    for end in ["hang", "panic"] {
        let config = format!("[plugins.acts]\n{more}\nend = \"{end}\"\n[plugins.actor]\n{more}\n");
        let host = host(place, &config, None, vec![acts.clone(), actor.clone()]).await;
        assert_eq!(row(&host, "acts").state, State::Ready, "{:?}", row(&host, "acts"));
        beside(&host, host.unload("acts")).await.unwrap();
        within(host.shutdown()).await;
        until("nothing is left behind", || host.late_threads() == 0).await;
    }
}

/// What plugins store, which may be held up.
#[derive(Default)]
struct Store {
    kept: Mutex<Option<Bytes>>,
    held: Mutex<bool>,
    released: Condvar,
}

impl Store {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.released.notify_all();
    }
}

impl KeyValue for Store {
    fn load(&self, _: &str, _: &str) -> Result<Option<Bytes>> {
        Ok(self.kept.lock().unwrap().clone())
    }

    fn store(&self, _: &str, key: &str, value: Option<Bytes>) -> Result<()> {
        if key == "held" {
            let held = self.held.lock().unwrap();
            drop(self.released.wait_timeout_while(held, LONG, |held| *held).unwrap());
        }
        *self.kept.lock().unwrap() = value;
        Ok(())
    }
}
