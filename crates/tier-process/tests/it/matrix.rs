//! Every hook in every way, as `every/hooks` has it: compiled in, behind the wire, and in processes in Rust and in Python. This test program is
//! the process in Rust, too, and that of the faults.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use bespoke_host::{Artifact, Candidate, Terms};
use bespoke_plugin_api::{BoxFuture, Descriptor, Instance, Package, PluginContext, Result, Spec, serde_json::Value};
use bespoke_plugin_proxy::StartOptions;
use bespoke_plugin_testkit::loopback;

use crate::{
    acts::Acts,
    every::{self, actor::Actor, actor_manifest, hooks::check},
    kit::World,
};

fn descriptor() -> &'static Descriptor {
    let manifest = Box::leak(actor_manifest("compiled", "").into_boxed_str());
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
    let served: &'static Descriptor = match std::env::args().find(|arg| arg.starts_with("as-")).as_deref() {
        Some("as-actor") => descriptor(),
        Some("as-acts") => {
            let package = Package { name: "acts", version: "1.0.0", license: "Apache-2.0", manifest: "", config_schema: "{}" };
            Box::leak(Box::new(Descriptor::of::<Acts>("acts", package)))
        }
        _ => return,
    };
    let code = bespoke_guest_process::serve(served);
    std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
}

/// The folder of a plugin whose program is this one, and the section of its manifest that says so.
pub(crate) fn this_program(world: &World, id: &str) -> (PathBuf, String) {
    let folder = world.path().join("plugins").join(id);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(std::env::current_exe().unwrap(), folder.join(id)).unwrap();
    fs::set_permissions(folder.join(id), fs::Permissions::from_mode(0o755)).unwrap();
    let section = format!("[process]\ncommand = [\"./{id}\", \"--exact\", \"matrix::child\", \"as-{id}\", \"--nocapture\"]\n");
    (folder, section)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn compiled_in() {
    check("compiled", World::new().path(), "", descriptor().into(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn behind_the_wire() {
    let candidate = Candidate { artifact: Arc::new(Wired(descriptor())), ..descriptor().into() };
    check("loopback", World::new().path(), "", candidate, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_in_rust() {
    let world = World::new();
    let (folder, section) = this_program(&world, "actor");
    let candidate = world.candidate(folder, &actor_manifest("process", &section));
    check("process in Rust", world.path(), "", candidate, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_in_python() {
    let world = World::new();
    let folder = world.path().join("plugins/actor");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("plugin.py"), IN_PYTHON).unwrap();
    // It has the hooks alone.
    let text =
        actor_manifest("process", "[process]\npython = \"plugin\"\n").replace("[[provides]]\nkind = \"tool\"\nname = \"actor\"\n", "");
    fs::write(folder.join("plugin.toml"), &text).unwrap();
    let candidate = bespoke_host::open_folder(&folder, &world.grounds());
    check("process in Python", world.path(), "", candidate, false).await;
}

/// The faults that every tier has, in a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn faults() {
    let world = World::new();
    let plugin = |id: &str, manifest: &dyn Fn(&str) -> String| {
        let (folder, section) = this_program(&world, id);
        world.candidate(folder, &manifest(&section))
    };
    let acts = plugin("acts", &|section| every::acts_manifest(every::Tier::Process, &format!("{section}[resources]\nmemory_mb = 512\n")));
    let actor = plugin("actor", &|section| actor_manifest("process", section));
    every::faults::check(every::Tier::Process, world.path(), "", acts, actor).await;
}
