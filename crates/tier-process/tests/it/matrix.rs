//! Every hook, every way of answering or failing, open and closed, in every tier: one rule says what becomes of each.
//!
//! The rule, as docs/hooks.md has it: a handler that goes on, or only takes its time, changes nothing; one that wants another event gets
//! it; one that says no stops what was about to happen, with its reason; one that panics or hangs counts as its subscription says.
//! A handler of events hears all, one after the other, whatever it answers and whatever becomes of it.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use bespoke_host::{Artifact, Candidate, Hooks, Host, Outcome, Terms};
use bespoke_plugin_api::{
    BoxFuture, CallCx, Descriptor, Hook, HookEvent, HookHandler, HookReply, HookSpec, Instance, OnFailure, Package, Plugin, PluginApi,
    PluginContext, Result, Spec, async_trait,
    serde_json::{Map, Value, json},
};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::loopback;

use crate::kit::{World, until, within};

/// The longest that a handler may take: far more than an answer needs on a busy machine, as each that hangs is waited for so long.
const LIMIT: Duration = Duration::from_secs(8);

/// What a handler does. Told through the session of the call, which every tier passes on: `DO:CLOSED`.
const BEHAVIOURS: &[&str] = &["observe", "modify", "veto", "slow", "panic", "hang"];

/// Hooks at which something is asked before it happens, or is over.
fn places() -> impl Iterator<Item = Hook> {
    Hook::ALL.iter().copied().filter(|hook| *hook != Hook::OnEvent)
}

/// What the topics begin with of the events that are heard.
const HEARD: &str = "custom.matrix";

fn name(hook: Hook, failure: OnFailure) -> String {
    format!("{}_{}", hook.name(), word(failure))
}

fn word(failure: OnFailure) -> &'static str {
    if failure == OnFailure::Closed { "closed" } else { "open" }
}

/// The same event, changed where a handler may change it.
fn modified(event: &HookEvent) -> HookEvent {
    let mut event = event.clone();
    match &mut event {
        HookEvent::BeforeAgentRun { input, .. } => *input += "!",
        HookEvent::AfterAgentRun { output, .. } => *output += "!",
        HookEvent::BeforeMessageSend { message, .. } => message.text += "!",
        HookEvent::AfterMessageReceive { message, .. } => message.text += "!",
        HookEvent::BeforeToolExecute { call, .. } | HookEvent::AfterToolExecute { call, .. } => call.name += "!",
        HookEvent::OnSessionCreate { session, .. } | HookEvent::OnSessionEnd { session, .. } => *session += "!",
        HookEvent::OnClientConnect { client, .. } | HookEvent::OnClientDisconnect { client, .. } => *client += "!",
        // Nothing of it can be changed.
        _ => {}
    }
    event
}

/// The rule.
fn expected(behaviour: &str, failure: OnFailure, event: HookEvent) -> std::result::Result<HookEvent, &'static str> {
    match (behaviour, failure) {
        ("modify", _) => Ok(modified(&event)),
        ("veto", _) => Err("says no"),
        ("panic" | "hang", OnFailure::Closed) => Err("fails closed"),
        _ => Ok(event),
    }
}

/// The plugin, in Rust.
struct Actor(PluginContext);

struct Acts(OnFailure);

#[async_trait]
impl HookHandler for Acts {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        let told = cx.session().and_then(|told| told.split_once(':'));
        behave(told.filter(|(_, failure)| *failure == word(self.0)).map_or("observe", |(behaviour, _)| behaviour), event).await
    }
}

/// Tells that it has heard an event, and does as that says.
struct Hears(PluginContext, OnFailure);

#[async_trait]
impl HookHandler for Hears {
    async fn on(&self, _: &CallCx, event: &HookEvent) -> Result<HookReply> {
        let HookEvent::OnEvent { event: heard, .. } = event else { panic!("{event:?}") };
        let behaviour = heard.payload["do"].as_str().unwrap_or_default();
        self.0.emit("heard", json!({ "by": word(self.1), "do": behaviour }))?;
        behave(behaviour, event).await
    }
}

async fn behave(behaviour: &str, event: &HookEvent) -> Result<HookReply> {
    match behaviour {
        "modify" => Ok(HookReply::replace(modified(event))),
        "veto" => Ok(HookReply::veto("says no")),
        "panic" => panic!("on purpose"),
        "hang" => std::future::pending().await,
        "slow" => {
            slowly().await;
            Ok(HookReply::Continue)
        }
        _ => Ok(HookReply::Continue),
    }
}

/// Takes many turns of its executor, in every tier and on every clock.
async fn slowly() {
    for _ in 0..200 {
        let mut first = true;
        std::future::poll_fn(|cx| {
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(())
        })
        .await;
    }
}

impl Plugin for Actor {
    type Config = Map<String, Value>;

    fn register(api: &mut PluginApi<Self>) {
        for hook in places() {
            let spec = |failure| HookSpec::new(name(hook, failure), hook).timeout(LIMIT);
            api.hook(spec(OnFailure::Open), |_| Arc::new(Acts(OnFailure::Open)));
            api.hook(spec(OnFailure::Closed).fail_closed(), |_| Arc::new(Acts(OnFailure::Closed)));
        }
        let spec = |failure| HookSpec::new(name(Hook::OnEvent, failure), Hook::OnEvent).timeout(LIMIT).topics([HEARD]);
        api.hook(spec(OnFailure::Open), |p| Arc::new(Hears(p.0.clone(), OnFailure::Open)));
        api.hook(spec(OnFailure::Closed).fail_closed(), |p| Arc::new(Hears(p.0.clone(), OnFailure::Closed)));
    }

    async fn start(cx: PluginContext, _: Self::Config) -> Result<Self> {
        Ok(Actor(cx))
    }
}

fn manifest(tiers: &str, more: &str) -> String {
    let provides: String = places()
        .chain([Hook::OnEvent])
        .flat_map(|hook| [OnFailure::Open, OnFailure::Closed].map(|failure| name(hook, failure)))
        .map(|name| format!("[[provides]]\nkind = \"hook\"\nname = \"{name}\"\n"))
        .collect();
    format!(
        "id = \"actor\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \">=1\"\n\
         tiers = [\"{tiers}\"]\n{provides}[permissions]\nplugin_communication = [\"event:{HEARD}\"]\n\
         reasons.plugin_communication = \"hears what the test tells\"\n{more}"
    )
}

fn descriptor() -> &'static Descriptor {
    let manifest = Box::leak(manifest("compiled", "").into_boxed_str());
    let package = Package { name: "actor", version: "1.0.0", license: "Apache-2.0", manifest, config_schema: "{}" };
    Box::leak(Box::new(Descriptor::of::<Actor>("actor", package)))
}

/// The same plugin behind the wire, in this process.
struct Wired(&'static Descriptor);

impl Artifact for Wired {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok(Descriptor::declare(self.0))
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, cx: PluginContext, config: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let descriptor = self.0;
        Box::pin(async move {
            let (instance, _) = loopback(descriptor, cx.host().clone(), StartOptions::new("actor", config)).await?;
            Ok(instance)
        })
    }
}

/// This test program is the plugin's program, too: not a test of its own, so it does nothing where nobody asks for it.
#[test]
fn child() {
    if std::env::args().any(|arg| arg == "as-a-guest") {
        let code = bespoke_guest_process::serve(descriptor());
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
}

const IN_PYTHON: &str = r#"
import asyncio
from bespoke_sdk.call import current_call
from contracts.hook_contract import HookContract, Veto, hook

PLACES = {
    "before_agent_run": "input", "after_agent_run": "output", "before_message_send": "message", "after_message_receive": "message",
    "before_tool_execute": "call", "after_tool_execute": "call", "on_session_create": "session", "on_session_end": "session",
    "on_gateway_start": None, "on_gateway_shutdown": None, "on_client_connect": "client", "on_client_disconnect": "client",
}
LIMIT = 8000


def acts(place, key, failure):
    async def on(self, event):
        what, _, of = (current_call().session or ":").partition(":")
        if of != failure:
            return None
        if what == "modify":
            if key in ("message", "call"):
                part = "text" if key == "message" else "name"
                return {**event, key: {**event[key], part: event[key][part] + "!"}}
            return {**event, key: event[key] + "!"} if key else dict(event)
        if what == "veto":
            return Veto("says no")
        if what == "panic":
            raise RuntimeError("on purpose")
        if what == "hang":
            await asyncio.Event().wait()
        if what == "slow":
            await asyncio.sleep(0.05)
        return None

    return hook(place, name=f"{place}_{failure}", timeout_ms=LIMIT, on_failure=failure)(on)


def hears(failure):
    async def on(self, event):
        what = event["event"]["payload"]["do"]
        await self.host.emit("heard", {"by": failure, "do": what})
        if what == "modify":
            return dict(event)
        if what == "veto":
            return Veto("says no")
        if what == "panic":
            raise RuntimeError("on purpose")
        if what == "hang":
            await asyncio.Event().wait()
        if what == "slow":
            await asyncio.sleep(0.05)
        return None

    return hook("on_event", name=f"on_event_{failure}", timeout_ms=LIMIT, on_failure=failure, topics=["custom.matrix"])(on)


class Plugin(HookContract):
    hears_open, hears_closed = hears("open"), hears("closed")
    for _place, _key in PLACES.items():
        for _failure in ("open", "closed"):
            locals()[f"at_{_place}_{_failure}"] = acts(_place, _key, _failure)
"#;

/// Asks for every combination at once, and compares with the rule.
async fn check(tier: &str, host: &Host) {
    let asked = places().flat_map(|hook| {
        BEHAVIOURS.iter().flat_map(move |behaviour| [OnFailure::Open, OnFailure::Closed].map(|failure| (hook, *behaviour, failure)))
    });
    let asked = asked.map(async |(hook, behaviour, failure)| {
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
    });
    futures_util::future::join_all(asked).await;
    // What failed is told, once each: twelve hooks, open and closed, that panic and hang; and nobody failed often enough to be left alone.
    let failed = host.events().history("hook_failed", 0).len();
    assert_eq!((failed, host.events().history("hook_tripped", 0).len()), (places().count() * 4, 0), "{tier}");
    check_events(tier, host).await;
    within(host.shutdown()).await;
}

/// Tells an event for each behaviour, and one more, all at once: whoever tells does not wait, each is heard, in order, and what fails or
/// is late is told, whether it is open or closed.
async fn check_events(tier: &str, host: &Host) {
    let told: Vec<&str> = BEHAVIOURS.iter().copied().chain(["last"]).collect();
    told.iter().for_each(|behaviour| host.events().emit(HEARD, None, json!({ "do": behaviour })));
    for failure in [OnFailure::Open, OnFailure::Closed] {
        let heard = || -> Vec<String> {
            let heard = host.events().history("actor.heard", 0).into_iter().filter(|event| event.payload["by"] == word(failure));
            heard.map(|event| event.payload["do"].as_str().unwrap_or_default().to_owned()).collect()
        };
        until(&format!("{tier}: events {} that are not heard", word(failure)), || heard().len() >= told.len()).await;
        assert_eq!(heard(), told, "{tier}: {}", word(failure));
        let failed = host.events().history("hook_failed", 0).into_iter().map(|event| event.payload);
        let failed = failed.filter(|payload| payload["name"] == name(Hook::OnEvent, failure)).count();
        assert_eq!(failed, 2, "{tier}: {} fails by the panic and the time that is over", word(failure));
    }
    for topic in ["hook_tripped", "hook_lost"] {
        assert!(host.events().history(topic, 0).is_empty(), "{tier}: {topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn compiled_in() {
    check("compiled", &World::new().host([descriptor().into()]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn behind_the_wire() {
    let candidate = Candidate { artifact: Arc::new(Wired(descriptor())), ..descriptor().into() };
    check("loopback", &World::new().host([candidate]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_in_rust() {
    let world = World::new();
    let folder = world.path().join("plugins/actor");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(std::env::current_exe().unwrap(), folder.join("actor")).unwrap();
    fs::set_permissions(folder.join("actor"), fs::Permissions::from_mode(0o755)).unwrap();
    let command = "[process]\ncommand = [\"./actor\", \"--exact\", \"matrix::child\", \"as-a-guest\", \"--nocapture\"]\n";
    let candidate = world.candidate(folder, &manifest("process", command));
    check("process in Rust", &world.host([candidate]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_in_python() {
    let world = World::new();
    let folder = world.path().join("plugins/actor");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("plugin.py"), IN_PYTHON).unwrap();
    let text = manifest("process", "[process]\npython = \"plugin\"\n");
    fs::write(folder.join("plugin.toml"), &text).unwrap();
    let candidate = bespoke_host::open_folder(&folder, &world.grounds());
    check("process in Python", &world.host([candidate]).await).await;
}
