//! A guest in another language: the example in JavaScript, as its own script builds it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::Instant,
};

use bespoke_host::{Candidate, Host, State};
use bespoke_plugin_api::{
    CallCx, Code, Tool, ToolOutput, ToolRequest,
    serde_json::{self, Value, json},
};

use crate::kit::{LONG, World, row, within};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plugins/dice-js");

/// The component, with more words for the compiler.
fn built(more: &[&str]) -> Vec<u8> {
    let variable = |name: &str| {
        env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| panic!("{name} is set: `cargo xtask test` does that"))
    };
    let package: Value = serde_json::from_slice(&fs::read(Path::new(EXAMPLE).join("package.json")).unwrap()).unwrap();
    let script: Vec<&str> = package["scripts"]["build"].as_str().unwrap().split(' ').collect();
    let [compiler, words @ .., _file] = &script[..] else { panic!("{script:?}") };
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("plugin.wasm");
    let mut node = Command::new(variable("BESPOKE_NODE"));
    node.arg(PathBuf::from(variable("BESPOKE_COMPONENTIZE")).join(compiler).join("bin").join(compiler));
    let said = node.args(words).arg(&file).args(more).current_dir(EXAMPLE).output().expect("node runs");
    assert!(said.status.success(), "{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    fs::read(file).unwrap()
}

fn dice() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| built(&[]))
}

fn manifest() -> String {
    fs::read_to_string(Path::new(EXAMPLE).join("plugin.toml")).unwrap()
}

fn example(world: &World) -> Candidate {
    world.plugin("dice-js", &manifest(), dice())
}

async fn throw(host: &Host, cx: CallCx, args: Value) -> bespoke_plugin_api::Result<ToolOutput> {
    let slot = host.find::<dyn Tool>("dice_js")?;
    let cx = cx.with_deadline(bespoke_host::now().plus(LONG));
    within(slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(args)).await })).await
}

/// How often any number came, in all.
fn thrown(output: &ToolOutput) -> u64 {
    let tally = &output.data.as_ref().unwrap()["tally"];
    tally.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_javascript_answers_says_how_far_it_is_and_refuses_nonsense() {
    let world = World::new();
    let begun = Instant::now();
    let host = world.host_with("[plugins.dice-js]\npause_ms = 1\n", [example(&world)]).await;
    assert_eq!(row(&host, "dice-js").state, State::Ready, "{:?}", row(&host, "dice-js"));
    println!("{} bytes; started in {:?}, {}", dice().len(), begun.elapsed(), row(&host, "dice-js").facts["component"]);

    let told = Arc::new(Mutex::new(Vec::new()));
    let cx = CallCx::new().with_progress({
        let told = told.clone();
        move |progress| told.lock().unwrap().push(progress)
    });
    let output = throw(&host, cx, json!({ "sides": 20, "times": 5 })).await.unwrap();
    let data = output.data.clone().unwrap();
    let numbers: Vec<u64> = serde_json::from_value(data["numbers"].clone()).unwrap();
    assert!(numbers.len() == 5 && numbers.iter().all(|n| (1..=20).contains(n)), "{numbers:?}");
    assert_eq!(output.to_text(), numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", "));
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 5);
    assert_eq!(told[4], json!({ "thrown": 5, "of": 5, "number": numbers[4] }));

    let error = throw(&host, CallCx::new(), json!({ "sides": "ä€😀" })).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::INVALID_PARAMS, "sides: not a whole number"));
    let error = throw(&host, CallCx::new(), json!({ "ä€😀": 1 })).await.unwrap_err();
    assert_eq!(error.message(), "ä€😀: there is no such argument");
    assert!(throw(&host, CallCx::new(), json!({ "times": 1000 })).await.unwrap().is_error);

    let (calls, begun) = (200, Instant::now());
    for _ in 0..calls {
        throw(&host, CallCx::new(), json!({})).await.unwrap();
    }
    println!("{:?} a call; {}", begun.elapsed() / calls, row(&host, "dice-js").facts["memory"]);
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_keep_no_other_from_its_answer_and_one_that_is_given_up_ends() {
    let world = World::new();
    let host = world.host_with("[plugins.dice-js]\npause_ms = 10000\n", [example(&world)]).await;
    let slow = CallCx::new();
    let (cancel, slot) = (slow.cancel_token().clone(), host.find::<dyn Tool>("dice_js").unwrap());
    let (slow, quick) = within(async {
        tokio::join!(slot.call(&slow, |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({ "times": 100 }))).await }), async {
            let mut quick = throw(&host, CallCx::new(), json!({})).await.unwrap();
            for _ in 0..20 {
                quick = throw(&host, CallCx::new(), json!({})).await.unwrap();
            }
            cancel.cancel();
            quick
        })
    })
    .await;
    assert_eq!(slow.unwrap_err().code(), Code::CANCELLED);
    assert_eq!(thrown(&quick), 22, "those of the quick calls, and the first of the slow one");
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_instance_goes_on_with_what_the_last_one_knew() {
    let world = World::new();
    let exclusive = format!("swap = \"exclusive\"\n{}", manifest());
    let host = world.host([world.plugin("dice-js", &exclusive, dice())]).await;
    throw(&host, CallCx::new(), json!({})).await.unwrap();
    within(host.restart("dice-js")).await.unwrap();
    assert_eq!(thrown(&throw(&host, CallCx::new(), json!({})).await.unwrap()), 2);
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_of_plugins_is_enough_for_a_language_that_can_do_without_wasi() {
    let world = World::new();
    let plain = manifest().lines().filter(|line| !line.starts_with("wasi")).collect::<Vec<_>>().join("\n");
    let host = world.host([world.plugin("dice-js", &plain, &built(&["--stub-wasi"]))]).await;
    assert_eq!(thrown(&throw(&host, CallCx::new(), json!({})).await.unwrap()), 1);
    within(host.shutdown()).await;
}
