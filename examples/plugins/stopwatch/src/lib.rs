//! A stopwatch: a native plugin in a page. It is native for one line: `Instant::now`, a clock that never jumps, which is the operating
//! system's and not the host's. The host's is `cx.now()`; with that, and good enough for most, it would be portable.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bespoke_plugin_api::{
    CallCx, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    serde::{self, Deserialize},
    serde_json::json,
};

/// The table `[plugins.stopwatch]`: nothing can be set.
#[derive(Default, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
pub struct Config {}

/// One instance: when it was pressed last.
pub struct Stopwatch {
    pressed: Mutex<Option<Instant>>,
}

impl Plugin for Stopwatch {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let spec = ToolSpec::new("stopwatch", "Presses a stopwatch, and says how long ago it was pressed before.");
        api.tool(spec, |watch| Arc::new(Press(watch.clone())));
    }

    async fn start(_cx: PluginContext, _config: Config) -> Result<Self> {
        Ok(Stopwatch { pressed: Mutex::new(None) })
    }
}

bespoke_plugin_api::plugin!("stopwatch", Stopwatch);

struct Press(Arc<Stopwatch>);

#[async_trait]
impl Tool for Press {
    async fn call(&self, _cx: &CallCx, _request: ToolRequest) -> Result<ToolOutput> {
        let before = self.0.pressed.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        Ok(match before.map(|before| before.elapsed().as_secs_f64()) {
            Some(seconds) => ToolOutput::text(format!("{seconds:.3} s")).with_data(json!({ "seconds": seconds })),
            None => ToolOutput::text("It runs."),
        })
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::Contribution;
    use bespoke_plugin_testkit::{TestHost, block_on};

    use super::*;

    #[test]
    fn the_second_press_tells_the_time() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("stopwatch"), json!({}))).unwrap();
        let [Contribution::Tool(_, tool)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let press = || block_on(tool.call(&CallCx::new(), ToolRequest::new(json!({})))).unwrap();
        assert_eq!(press().to_text(), "It runs.");
        assert!(press().data.unwrap()["seconds"].as_f64().unwrap() >= 0.0);
    }
}
