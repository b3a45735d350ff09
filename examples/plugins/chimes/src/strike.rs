//! The tool: strikes the bell, says how far it is, and remembers how often.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    serde::{self, Deserialize},
    serde_json::json,
};

use crate::Chimes;

/// A bell that is struck more often in one call does not count, it annoys.
const MOST: u32 = 24;

pub(crate) fn spec() -> ToolSpec {
    ToolSpec::new("strike", "Strikes a bell a number of times. Call it when the user wants to hear the bell.").input(json!({
        "type": "object",
        "properties": { "times": { "type": "integer", "minimum": 1, "maximum": MOST, "description": "How many times; once when absent" } },
        "additionalProperties": false
    }))
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct Args {
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

pub(crate) struct Strike(pub(crate) Arc<Chimes>);

#[async_trait]
impl Tool for Strike {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let Args { times } = request.parse()?;
        if !(1..=MOST).contains(&times) {
            // The model can mend that, so it is told instead of failing the turn.
            return Ok(ToolOutput::error(format!("the bell is struck 1 to {MOST} times, not {times}")));
        }
        let Chimes { cx: host, config, struck } = &*self.0;
        for n in 1..=times {
            // Somebody may have hung up.
            cx.check()?;
            if n > 1 {
                host.sleep(Duration::from_millis(config.pause_ms.into())).await;
            }
            struck.fetch_add(1, Ordering::Relaxed);
            cx.progress(json!({ "struck": n, "of": times }));
        }
        let total = struck.load(Ordering::Relaxed);
        let text = format!("{}. That makes {total} in all.", vec!["Dong"; times as usize].join(", "));
        Ok(ToolOutput::text(text).with_data(json!({ "struck": times, "total": total })))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bespoke_plugin_api::{Contribution, Instance, PluginContext};
    use bespoke_plugin_testkit::{TestHost, block_on};

    use super::*;
    use crate::BESPOKE_PLUGIN;

    fn started(cx: PluginContext) -> Instance {
        block_on(BESPOKE_PLUGIN.start(cx, json!({ "pause_ms": 0 }))).unwrap()
    }

    fn strike(instance: &Instance, cx: &CallCx, times: u32) -> ToolOutput {
        let [Contribution::Tool(_, tool), _] = &instance.contributions[..] else { panic!("{instance:?}") };
        block_on(tool.call(cx, ToolRequest::new(json!({ "times": times })))).unwrap()
    }

    #[test]
    fn says_how_far_it_is_and_counts() {
        let instance = started(TestHost::new().context("chimes"));
        let told = Arc::new(Mutex::new(Vec::new()));
        let cx = CallCx::new().with_progress({
            let told = told.clone();
            move |progress| told.lock().unwrap().push(progress)
        });
        assert_eq!(strike(&instance, &cx, 2).to_text(), "Dong, Dong. That makes 2 in all.");
        assert_eq!(strike(&instance, &cx, 1).data.unwrap()["total"], 3);
        assert_eq!(told.lock().unwrap()[..2], [json!({ "struck": 1, "of": 2 }), json!({ "struck": 2, "of": 2 })]);
        assert!(strike(&instance, &cx, 25).is_error);
    }

    #[test]
    fn the_next_instance_goes_on_counting() {
        let host = TestHost::new();
        let (first, cx) = (started(host.context("chimes")), CallCx::new());
        strike(&first, &cx, 5);
        let state = block_on(first.life.capture_state()).unwrap().unwrap();
        let second = started(host.context("chimes"));
        block_on(second.life.restore_state(state)).unwrap();
        assert_eq!(strike(&second, &cx, 1).data.unwrap()["total"], 6);
    }
}
