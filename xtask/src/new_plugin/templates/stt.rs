//! Speech to text: here every recording that is not silent says the same.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Plugin, PluginApi, PluginContext, Result, Segment, Stt, SttRequest, SttSpec, Transcript, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// What every recording says.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub text: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { text: "something was said".into() }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.stt(SttSpec::new("__NAME__"), |plugin| Arc::new(Engine(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

/// Samples below this are silence: −60 dB of full scale.
const SILENCE: f32 = 0.001;

struct Engine(Arc<__TYPE__>);

#[async_trait]
impl Stt for Engine {
    async fn transcribe(&self, cx: &CallCx, request: SttRequest) -> Result<Transcript> {
        cx.check()?;
        let audio = request.audio;
        if !audio.samples.iter().any(|s| s.abs() > SILENCE) {
            return Ok(Transcript::default());
        }
        let end = u64::try_from(audio.duration().as_millis()).unwrap_or(u64::MAX);
        let text = &self.0.config.text;
        Ok(Transcript::new(text).segments(vec![Segment::new(0, end, text)]))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Audio, Contribution, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn hears_what_is_loud() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("__ID__"), json!({}))).unwrap();
        let [Contribution::Stt(_, stt)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let hear = |level: f32| {
            let request = SttRequest::new(Audio::new(vec![level; 16_000], 16_000));
            block_on(stt.transcribe(&CallCx::new(), request)).unwrap()
        };
        assert_eq!(hear(0.0).text, "");
        assert_eq!(hear(0.5).text, "something was said");
        assert_eq!(hear(0.5).segments[0].end_ms, 1000);
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
