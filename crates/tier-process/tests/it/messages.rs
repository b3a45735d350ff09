//! Plugins speak with each other, whatever tier each of them ships in: one calls the tool of another, and hears its events. Without the
//! permission it does neither, and is told what it lacks.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

use bespoke_host::{Candidate, Host, State};
use bespoke_plugin_api::{
    CallCx, Code, Descriptor, Error, Event, Package, Plugin, PluginApi, PluginContext, Result, Target, Tool, ToolOutput, ToolRequest,
    ToolSpec, async_trait,
    serde_json::{Map, Value, json},
};
use futures_util::StreamExt as _;

use crate::kit::{World, act, row, within};

/// One for each tier: a part of the program, a process in Rust, a process in Python. Each has one tool, of its name.
const IDS: [&str; 3] = ["inside", "binary", "snake"];

/// The two in Rust.
struct Talker<const N: usize> {
    cx: PluginContext,
    heard: Arc<Mutex<Vec<String>>>,
}

struct Talks<const N: usize>(Arc<Talker<N>>);

#[async_trait]
impl<const N: usize> Tool for Talks<N> {
    async fn call(&self, call: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let Talker { cx, heard } = &*self.0;
        let word = |key: &str| request.args[key].as_str().unwrap_or_default().to_owned();
        let said = match word("do").as_str() {
            "name" => cx.id().to_owned(),
            "call" => {
                let answer = cx.call(call, Target::new("tool", word("tool")), json!({ "do": "name" })).await?;
                answer["content"][0]["text"].as_str().unwrap_or_default().to_owned()
            }
            "say" => {
                cx.emit("said", json!({ "word": word("word") }))?;
                "said".to_owned()
            }
            "listen" => {
                let heard = heard.clone();
                let refused = |e: Error| format!("{} {}; {}", e.code().value(), e.message(), e.help().unwrap_or_default());
                match cx.subscribe(&word("topic")) {
                    // In another process the answer is the first that the stream says.
                    Ok(mut events) => cx.spawn(async move {
                        while let Some(event) = events.next().await {
                            let told = |event: Event| format!("{} {}", event.topic, event.payload["word"].as_str().unwrap_or_default());
                            heard.lock().unwrap().push(event.map_or_else(refused, told));
                        }
                    }),
                    Err(error) => heard.lock().unwrap().push(refused(error)),
                }
                "listens".to_owned()
            }
            "heard" => heard.lock().unwrap().join("\n"),
            other => return Err(Error::invalid_params(format!("what is {other}?"))),
        };
        Ok(ToolOutput::text(said))
    }
}

impl<const N: usize> Plugin for Talker<N> {
    type Config = Map<String, Value>;

    fn register(api: &mut PluginApi<Self>) {
        api.tool(ToolSpec::new(IDS[N], "Talks with others.").input(json!({ "type": "object" })), |talker| Arc::new(Talks(talker.clone())));
    }

    async fn start(cx: PluginContext, _: Self::Config) -> Result<Self> {
        Ok(Talker { cx, heard: Arc::default() })
    }
}

const IN_PYTHON: &str = r#"
import asyncio
from contracts.base import PluginError
from contracts.tool_contract import ToolContract


class Snake(ToolContract):
    """Talks with others."""
    name = "snake"

    async def initialize(self, config):
        self.heard, self.tasks = [], []
        return True

    async def call(self, do: str, tool: str = "", topic: str = "", word: str = ""):
        if do == "name":
            return "snake"
        if do == "call":
            return (await self.host.call("tool", tool, {"do": "name"}))["content"][0]["text"]
        if do == "say":
            await self.host.emit("said", {"word": word})
            return "said"
        if do == "listen":
            self.tasks.append(asyncio.create_task(self.listen(topic)))
            # It has asked by then: that is its first step.
            await asyncio.sleep(0)
            return "listens"
        if do == "heard":
            return "\n".join(self.heard)

    async def listen(self, topic):
        try:
            async for event in self.host.subscribe(topic):
                self.heard.append(f"{event['topic']} {event['payload']['word']}")
        except PluginError as e:
            self.heard.append(f"{e.code} {e.message}; {e.help}")
"#;

/// Asks for all that it does here, or for nothing.
fn manifest(id: &str, tier: &str, asks: bool, more: &str) -> String {
    let permissions = if asks {
        let others: Vec<String> =
            IDS.iter().filter(|other| **other != id).flat_map(|o| [format!("tool:{o}"), format!("event:{o}.")]).collect();
        format!("[permissions]\nplugin_communication = {}\nreasons.plugin_communication = \"it talks\"\n", json!(others))
    } else {
        String::new()
    };
    format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \">=1\"\n\
         tiers = [\"{tier}\"]\n[[provides]]\nkind = \"tool\"\nname = \"{id}\"\n{permissions}{more}"
    )
}

fn descriptor<const N: usize>(asks: bool) -> &'static Descriptor {
    let manifest = Box::leak(manifest(IDS[N], "compiled", asks, "").into_boxed_str());
    let package = Package { name: IDS[N], version: "1.0.0", license: "Apache-2.0", manifest, config_schema: "{}" };
    Box::leak(Box::new(Descriptor::of::<Talker<N>>(IDS[N], package)))
}

/// This test program is the program of one of them, too: not a test of its own, so it does nothing where nobody asks for it.
#[test]
fn child() {
    if std::env::args().any(|arg| arg == "as-a-talker") {
        let code = bespoke_guest_process::serve(descriptor::<1>(true));
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
}

fn all(world: &World, asks: bool) -> [Candidate; 3] {
    let plugins = world.path().join("plugins");
    let binary = plugins.join(IDS[1]);
    fs::create_dir_all(&binary).unwrap();
    fs::copy(std::env::current_exe().unwrap(), binary.join("talker")).unwrap();
    fs::set_permissions(binary.join("talker"), fs::Permissions::from_mode(0o755)).unwrap();
    let command = "[process]\ncommand = [\"./talker\", \"--exact\", \"messages::child\", \"as-a-talker\", \"--nocapture\"]\n";
    let binary = world.candidate(binary, &manifest(IDS[1], "process", asks, command));
    let snake = plugins.join(IDS[2]);
    fs::create_dir_all(&snake).unwrap();
    fs::write(snake.join("plugin.py"), IN_PYTHON).unwrap();
    fs::write(snake.join("plugin.toml"), manifest(IDS[2], "process", asks, "[process]\npython = \"plugin\"\n")).unwrap();
    [descriptor::<0>(asks).into(), binary, bespoke_host::open_folder(&snake, &world.grounds())]
}

/// Each with each other one.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    IDS.into_iter().flat_map(|from| IDS.into_iter().filter(move |to| *to != from).map(move |to| (from, to)))
}

/// What one has heard, once it is so much.
async fn heard(host: &Host, id: &str, lines: usize) -> Vec<String> {
    within(async {
        loop {
            let said = act(host, id, json!({ "do": "heard" })).await.unwrap();
            let heard: Vec<_> = said.lines().map(str::to_owned).collect();
            if heard.len() >= lines {
                return heard;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn up(world: &World, asks: bool) -> Host {
    let host = world.host(all(world, asks)).await;
    for id in IDS {
        assert_eq!(row(&host, id).state, State::Ready, "{id}: {:?}", row(&host, id).reason);
    }
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn plugins_of_every_tier_call_each_other_and_hear_each_other() {
    let world = World::new();
    let host = up(&world, true).await;
    for (from, to) in pairs() {
        assert_eq!(act(&host, from, json!({ "do": "call", "tool": to })).await.unwrap(), to, "{from} calls {to}");
        assert_eq!(act(&host, from, json!({ "do": "listen", "topic": format!("{to}.") })).await.unwrap(), "listens", "{from} hears {to}");
    }
    for id in IDS {
        assert_eq!(act(&host, id, json!({ "do": "say", "word": "ahoy" })).await.unwrap(), "said");
    }
    for id in IDS {
        let mut wanted: Vec<_> = IDS.iter().filter(|other| **other != id).map(|other| format!("{other}.said ahoy")).collect();
        wanted.sort();
        let mut heard = heard(&host, id, wanted.len()).await;
        heard.sort();
        assert_eq!(heard, wanted, "{id}");
    }
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_permission_nobody_of_any_tier_does_and_each_is_told_what_it_lacks() {
    let world = World::new();
    let host = up(&world, false).await;
    for (from, to) in pairs() {
        let error = act(&host, from, json!({ "do": "call", "tool": to })).await.unwrap_err();
        assert_eq!((error.code(), error.plugin()), (Code::PERMISSION_DENIED, Some(from)), "{from} to {to}: {error}");
        assert_eq!(error.message(), format!("plugin.toml does not ask for calls of the tool `{to}`"), "{from}");
        let help = format!("add \"tool:{to}\" to plugin_communication under [permissions] in plugin.toml");
        assert_eq!(error.help(), Some(help.as_str()), "{from}");
        act(&host, from, json!({ "do": "listen", "topic": format!("{to}.") })).await.unwrap();
    }
    for from in IDS {
        let told = heard(&host, from, IDS.len() - 1).await;
        for to in IDS.into_iter().filter(|to| *to != from) {
            let item = format!("\"event:{to}.\" to plugin_communication");
            let number = Code::PERMISSION_DENIED.value().to_string();
            let fits = |line: &String| line.starts_with(&number) && line.contains("plugin.toml does not ask for") && line.contains(&item);
            assert!(told.iter().any(fits), "{from} to {to}: {told:?}");
            let used = host.used(from);
            let refused = |item: String| used.iter().any(|used| used.item == item && used.used == 0 && used.refused > 0);
            assert!(refused(format!("tool:{to}")) && refused(format!("event:{to}.")), "{from}: {used:?}");
        }
        act(&host, from, json!({ "do": "say", "word": "ahoy" })).await.unwrap();
    }
    for id in IDS {
        assert_eq!(heard(&host, id, 0).await.len(), IDS.len() - 1, "{id} heard what it may not");
    }
    within(host.shutdown()).await;
}
