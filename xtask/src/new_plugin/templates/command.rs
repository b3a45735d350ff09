//! A command: here it writes its arguments.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Command, CommandRequest, CommandSpec, Output, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Stands before each line.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub prefix: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { prefix: "> ".into() }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let spec = CommandSpec::new("__NAME__", "Writes its arguments, one on a line").usage("__NAME__ TEXT…".into()).require_auth(false);
        api.command(spec, |plugin| Arc::new(Write(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

struct Write(Arc<__TYPE__>);

#[async_trait]
impl Command for Write {
    async fn run(&self, cx: &CallCx, request: CommandRequest, out: Output) -> Result<i32> {
        for arg in &request.args {
            cx.check()?;
            out.line(&format!("{}{arg}", self.0.config.prefix));
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bespoke_plugin_api::{Contribution, OutputSink, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl OutputSink for Lines {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }

        fn note(&self, _text: &str) {}
    }

    #[test]
    fn writes_its_arguments() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("__ID__"), json!({}))).unwrap();
        let [Contribution::Command(_, command)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let lines = Arc::new(Lines::default());
        let request = CommandRequest::new(vec!["one".into(), "two".into()]);
        assert_eq!(block_on(command.run(&CallCx::new(), request, Output::new(lines.clone()))).unwrap(), 0);
        assert_eq!(*lines.0.lock().unwrap(), ["> one", "> two"]);
    }

    #[test]
    fn behaves_the_same_in_every_tier() {
        Conformance::new(&BESPOKE_PLUGIN).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
