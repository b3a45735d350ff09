//! Two hundred plugins, many of which break in every way there is: the healthy ones serve, each row says what became of its
//! plugin, and the end comes in bounded time.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll},
};

use bespoke_host::{Host, Selection, State};
use bespoke_plugin_api::{
    CallCx, ChatDelta, ChatRequest, Code, Contribution, Duplex, Error, Provider, Result, Tool, ToolCall, ToolOutput, ToolSpec, Vad,
    VadEvent, VadOptions, VadSpec, serde_json::json,
};
use futures_util::StreamExt;

use crate::kit::{Alive, Journal, Plug, built, provider, row, says, within};

/// A number generator whose sequence is the same everywhere (splitmix64), so that a seed that fails can be played again.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % below as u64) as usize
    }
}

/// Blocks threads until the test is over, however it ends.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn block(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// Opens when the test is over, also when it fails: nothing may keep the process from ending.
struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// What goes wrong with a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    DeclaresMore,
    RegisterPanics,
    CheckFails,
    CheckPanics,
    StartFails,
    StartPanics,
    StartBlocks,
    StartNeverEnds,
    HealthPanics,
    CallFails,
    CallPanics,
    CallNeverEnds,
    CallBlocks,
    ShutdownPanics,
    ShutdownBlocks,
    DropPanics,
    Publishes,
    Floods,
    SpawnsWithoutEnd,
    StreamDropPanics,
    FramePanics,
}

const FAULTS: &[Fault] = &[
    Fault::DeclaresMore,
    Fault::RegisterPanics,
    Fault::CheckFails,
    Fault::CheckPanics,
    Fault::StartFails,
    Fault::StartPanics,
    Fault::StartBlocks,
    Fault::StartNeverEnds,
    Fault::HealthPanics,
    Fault::CallFails,
    Fault::CallPanics,
    Fault::CallNeverEnds,
    Fault::CallBlocks,
    Fault::ShutdownPanics,
    Fault::ShutdownBlocks,
    Fault::DropPanics,
    Fault::Publishes,
    Fault::Floods,
    Fault::SpawnsWithoutEnd,
    Fault::StreamDropPanics,
    Fault::FramePanics,
];

impl Fault {
    fn comes_up(self) -> bool {
        self >= Fault::HealthPanics
    }

    /// What its row says after the start: health, reason, fix.
    fn row(self) -> (&'static str, Option<&'static str>) {
        match self {
            Fault::DeclaresMore => ("failed", Some("does not declare tool `extra`")),
            Fault::RegisterPanics => ("failed", Some("register() panicked: on purpose")),
            Fault::CheckFails => ("failed", Some("bad word")),
            Fault::CheckPanics => ("failed", Some("the check of its configuration panicked: on purpose")),
            Fault::StartFails => ("failed", Some("no disk")),
            Fault::StartPanics => ("failed", Some("start panicked: on purpose")),
            Fault::StartBlocks | Fault::StartNeverEnds => ("failed", Some("did not start within 1500 ms; its thread was left behind")),
            Fault::HealthPanics => ("failed", Some("health() panicked: on purpose")),
            Fault::SpawnsWithoutEnd => ("degraded", Some("runs 4096 tasks already; further ones are not run")),
            _ => ("ok", None),
        }
    }
}

/// Panics when it is dropped, once.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

struct Ear;

impl Vad for Ear {
    fn open(&self, _: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        Ok(Box::new(Frames(Some(Bomb))))
    }
}

struct Frames(Option<Bomb>);

impl Duplex<[f32], VadEvent> for Frames {
    fn push(&mut self, _: &[f32]) -> Result<()> {
        panic!("on purpose")
    }
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        let _ = &self.0;
        Poll::Pending
    }
}

/// One plugin; its tool has its name, and answers its name when nothing is wrong with it.
fn plug(id: &str, fault: Fault, gate: &Gate) -> Plug {
    let (gate, name) = (gate.clone(), id.to_owned());
    let of_call = gate.clone();
    let plug = Plug::new(id).tool(id, move |_, _| {
        let (gate, name) = (of_call.clone(), name.clone());
        async move {
            match fault {
                Fault::CallFails => Err(Error::internal("no answer").with_help("ask again")),
                Fault::CallPanics => panic!("on purpose"),
                Fault::CallNeverEnds => std::future::pending().await,
                Fault::CallBlocks => {
                    gate.block();
                    Ok(ToolOutput::text("late"))
                }
                _ => Ok(ToolOutput::text(name)),
            }
        }
    });
    match fault {
        Fault::None | Fault::CallFails | Fault::CallPanics | Fault::CallNeverEnds | Fault::CallBlocks => plug,
        Fault::DeclaresMore => plug.registers(|mut specs| {
            specs.push(bespoke_plugin_api::Spec::Tool(ToolSpec::new("extra", "Not in plugin.toml.")));
            specs
        }),
        Fault::RegisterPanics => plug.registers(|_| panic!("on purpose")),
        Fault::CheckFails => plug.checks(|_| Err(Error::invalid_params("bad word"))),
        Fault::CheckPanics => plug.checks(|_| panic!("on purpose")),
        Fault::StartFails => plug.starts(|_, _| async { Err(Error::internal("no disk").with_help("mount it")) }),
        Fault::StartPanics => plug.starts(|_, _| async { panic!("on purpose") }),
        Fault::StartBlocks => plug.starts(move |_, _| {
            gate.block();
            async { Ok(()) }
        }),
        Fault::StartNeverEnds => plug.starts(|_, _| std::future::pending()),
        Fault::HealthPanics => plug.lives(Alive { health: || panic!("on purpose"), ..Alive::default() }),
        Fault::ShutdownPanics => plug.lives(Alive::ends(|| async { panic!("on purpose") })),
        Fault::ShutdownBlocks => plug.makes(move || {
            let gate = gate.clone();
            Alive::ends(move || {
                let gate = gate.clone();
                async move { gate.block() }
            })
        }),
        Fault::DropPanics => plug.makes(|| {
            let bomb = Bomb;
            Alive::ends(move || {
                let _ = &bomb;
                async {}
            })
        }),
        Fault::Publishes => plug.starts(|cx, _| async move {
            let error = cx.host().publish(vec![says("sneaked", "in")]).unwrap_err();
            assert_eq!(error.code(), Code::CONTRACT_MISMATCH);
            Ok(())
        }),
        Fault::Floods => plug.starts(|cx, _| async move {
            for n in 0..5_000 {
                cx.emit("flood", json!({ "n": n, "text": "x".repeat(64) }))?;
            }
            Ok(())
        }),
        Fault::SpawnsWithoutEnd => plug.starts(|cx, _| async move {
            for _ in 0..6_000 {
                cx.spawn(std::future::pending());
            }
            Ok(())
        }),
        Fault::StreamDropPanics => plug.provides(provider(&format!("chat_{id}"), |_| {
            let bomb = Bomb;
            Box::pin(futures_util::stream::repeat_with(move || {
                let _ = &bomb;
                Ok(ChatDelta::text("word"))
            }))
        })),
        Fault::FramePanics => plug.provides(Contribution::Vad(VadSpec::new(format!("ear_{id}")), Arc::new(Ear))),
    }
}

async fn ask(host: &Host, id: &str) -> Result<String> {
    let cx = CallCx::new();
    within(host.call_tool(&cx, ToolCall::new("", id, json!({})))).await.map(|(_, output)| output.to_text())
}

/// What an answer of a plugin with this fault is.
fn expected(id: &str, fault: Fault, answer: &Result<String>) -> bool {
    match (fault, answer) {
        (Fault::CallFails, Err(error)) => error.message() == "no answer" && error.help() == Some("ask again"),
        (Fault::CallPanics, Err(error)) => error.code() == Code::PLUGIN_EXCEPTION,
        (Fault::CallNeverEnds | Fault::CallBlocks, Err(error)) => error.code() == Code::EXECUTION_TIMEOUT,
        (_, Ok(text)) => text == id,
        (_, Err(_)) => false,
    }
}

const CONFIG: &str = "[plugins]\nstart_timeout_ms = 1500\nstop_timeout_ms = 1000\ncall_timeout_ms = 1500\nshutdown_timeout_ms = 60000\n";

/// Panics that are meant are not written: a hundred of them, each with a stack, take seconds, and others wait for them.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload_as_str().is_some_and(|said| said == "on purpose" || said == "dropped") {
                before(panic);
            }
        }));
    });
}

async fn play(seed: u64) {
    quiet();
    let (mut dice, gate) = (Dice(seed), Gate::default());
    let _opens = Opens(gate.clone());
    let (mut faults, mut plugs, mut needs) = (BTreeMap::new(), Vec::new(), BTreeMap::<String, Vec<String>>::new());
    // Each fault at least once, then at random, two in five; those that hold a thread of the runtime for good only once.
    for n in 0..200 {
        let id = format!("p{n:03}");
        let fault = match FAULTS.get(n) {
            Some(fault) => *fault,
            None if dice.next(5) < 2 => FAULTS[dice.next(FAULTS.len())],
            None => Fault::None,
        };
        let fault = if n >= FAULTS.len() && matches!(fault, Fault::CallBlocks | Fault::SpawnsWithoutEnd) { Fault::None } else { fault };
        let mut plug = plug(&id, fault, &gate);
        // Needs point back only, so that there is no circle.
        if fault == Fault::None && n > FAULTS.len() {
            for _ in 0..dice.next(3) {
                let need = format!("p{:03}", dice.next(n));
                if !needs.get(&id).is_some_and(|all| all.contains(&need)) {
                    plug = plug.needs(&need, "");
                    needs.entry(id.clone()).or_default().push(need);
                }
            }
        }
        faults.insert(id, fault);
        plugs.push(plug);
    }
    let up = |id: &str| {
        let mut open = vec![id.to_owned()];
        while let Some(id) = open.pop() {
            if faults[&id] != Fault::None && !faults[&id].comes_up() {
                return false;
            }
            open.extend(needs.get(&id).cloned().unwrap_or_default());
        }
        true
    };
    let host = built(CONFIG, plugs);
    within(host.start(Selection::All)).await;

    for row in host.rows() {
        let fault = faults[&row.id];
        let (health, reason) = fault.row();
        let said = row.reason.as_deref().unwrap_or_default();
        assert_eq!(row.state, if up(&row.id) { State::Ready } else { State::Failed }, "seed {seed}: {} {fault:?}: {said}", row.id);
        if fault == Fault::None && !up(&row.id) {
            assert!(said.starts_with("needs `p") && row.health == "failed", "seed {seed}: {}: {said}", row.id);
        } else {
            assert_eq!(
                (row.health.as_str(), reason.is_some()),
                (health, row.reason.is_some()),
                "seed {seed}: {} {fault:?}: {said}",
                row.id
            );
            assert!(said.contains(reason.unwrap_or_default()), "seed {seed}: {} {fault:?}: {said}", row.id);
        }
        if fault == Fault::StartFails {
            assert_eq!(row.fix.as_deref(), Some("mount it"));
        }
    }
    let named = |what: &str, of: &[Fault]| -> Vec<String> {
        faults.iter().filter(|(_, fault)| of.contains(fault)).map(|(id, _)| format!("{what}-{id}")).collect()
    };
    // Of the late ones, those that hang without blocking hold their threads just as well.
    let late_starts = named("start", &[Fault::StartBlocks, Fault::StartNeverEnds]);
    assert_eq!(host.late_names(), late_starts, "seed {seed}");

    // All at once: those that hang must not keep the others from answering.
    let ready: Vec<String> = faults.keys().filter(|id| up(id)).cloned().collect();
    let wrong = Journal::default();
    futures_util::future::join_all(ready.iter().map(async |id| {
        let answer = ask(&host, id).await;
        if !expected(id, faults[id], &answer) {
            wrong.note(format!("{id} {:?} answered {answer:?}", faults[id]));
        }
    }))
    .await;
    assert_eq!(wrong.text(), "", "seed {seed}");
    for (id, fault) in &faults {
        match fault {
            Fault::StreamDropPanics => {
                let slot = host.registry().get::<dyn Provider>(&format!("chat_{id}")).unwrap();
                let cx = CallCx::new();
                let asked = slot.call_leased(&cx, |p, cx| async move { p.chat(&cx, ChatRequest::new(Vec::new())).await });
                let mut stream = within(asked).await.unwrap();
                assert!(within(stream.next()).await.unwrap().is_ok());
                drop(stream);
            }
            Fault::FramePanics => {
                let slot = host.registry().get::<dyn Vad>(&format!("ear_{id}")).unwrap();
                let mut stream = slot.enter(|vad| vad.open(&VadOptions::new(16_000))).unwrap();
                assert_eq!(stream.push(&[0.0]).unwrap_err().code(), Code::PLUGIN_EXCEPTION);
                assert!(Pin::new(&mut stream).poll_next(&mut Context::from_waker(std::task::Waker::noop())).is_ready());
            }
            Fault::Publishes => assert!(host.registry().get::<dyn Tool>("sneaked").is_none()),
            Fault::CallBlocks => {
                within(async {
                    while row(&host, id).health != "degraded" {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
                assert!(host.late_names().contains(&format!("call-{id}")));
            }
            _ => {}
        }
    }
    // Whoever flooded the bus has pushed out nothing but old events.
    assert_eq!(host.events().history("", 0).len(), 1024);

    within(host.shutdown()).await;
    for row in host.rows() {
        let fault = faults[&row.id];
        let said = row.reason.clone().unwrap_or_default();
        let (state, reason) = match fault {
            _ if !up(&row.id) => (State::Failed, ""),
            Fault::ShutdownPanics => (State::Failed, "shutdown panicked: on purpose"),
            Fault::DropPanics => (State::Failed, "shutdown panicked: dropped"),
            Fault::ShutdownBlocks => (State::Failed, "did not stop within 1 s; its thread was left behind"),
            Fault::CallBlocks => (State::Stopped, "1 call was still running after 1 s"),
            _ => (State::Stopped, ""),
        };
        assert_eq!(row.state, state, "seed {seed}: {} {fault:?}: {said}", row.id);
        assert!(said.contains(reason), "seed {seed}: {} {fault:?}: {said}", row.id);
        assert!(row.state == State::Failed || fault == Fault::CallBlocks || row.in_flight == 0);
    }
    let mut late = named("call", &[Fault::CallBlocks]);
    late.extend(late_starts);
    late.extend(named("stop", &[Fault::ShutdownBlocks]));
    late.sort();
    assert_eq!(host.late_names(), late, "seed {seed}");

    // What was left behind comes to its end when it can, and is counted no more. A start that never ends never does.
    gate.open();
    let never = named("start", &[Fault::StartNeverEnds]);
    within(async {
        while host.late_names() != never {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_plugins_and_every_fault_seed_1() {
    play(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_plugins_and_every_fault_seed_2() {
    play(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_plugins_and_every_fault_seed_3() {
    play(0xB35_90CE).await;
}
