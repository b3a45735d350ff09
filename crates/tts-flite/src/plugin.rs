//! The plugin around the voice: configuration and contract.

use std::sync::Arc;

use bespoke_plugin_api::{
    AudioChunk, CallCx, Code, Duplex, Error, Facts, Plugin, PluginApi, PluginContext, Result, Tts, TtsOptions, TtsSpec, Voice, async_trait,
    serde::{self, Deserialize},
};

use crate::speaker::{SAMPLE_RATE, SPEEDS, Speaker, VOICE};
use crate::stream::SpeechStream;

/// The table `[plugins.flite]`.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Speed of speech where a call names none; 1.0 is the natural one.
    #[cfg_attr(test, schemars(range(min = 0.5, max = 2.0), extend("x-reload" = "restart")))]
    pub speed: f32,
}

impl Default for Config {
    fn default() -> Self {
        Config { speed: 1.0 }
    }
}

/// One instance.
pub struct Flite {
    cx: PluginContext,
    speed: f32,
}

impl Plugin for Flite {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.tts(TtsSpec::new("flite", SAMPLE_RATE), |flite| Arc::new(Speech(flite.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let speed = checked(config.speed, "plugins.flite.speed")?;
        // Made once here, so that damaged data is found at the start and not in the first reply.
        Speaker::new(speed).map_err(|e| Error::new(Code::INITIALIZE_FAILED, e))?;
        Ok(Flite { cx, speed })
    }

    fn facts(&self) -> Facts {
        Facts::from([("engine".into(), "flite-rs".into()), ("voice".into(), VOICE.into())])
    }
}

bespoke_plugin_api::plugin!("flite", Flite);

fn checked(speed: f32, what: &str) -> Result<f32> {
    if SPEEDS.contains(&speed) {
        return Ok(speed);
    }
    let message = format!("{what} is {speed}; it has to be between {} and {}", SPEEDS.start(), SPEEDS.end());
    Err(Error::invalid_params(message))
}

struct Speech(Arc<Flite>);

#[async_trait]
impl Tts for Speech {
    async fn voices(&self, _cx: &CallCx) -> Result<Vec<Voice>> {
        Ok(vec![Voice::new(VOICE, "en-US")])
    }

    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        if let Some(voice) = options.voice.as_deref().filter(|voice| *voice != VOICE) {
            let message = format!("flite has no voice `{voice}`");
            return Err(Error::new(Code::TTS_VOICE_NOT_FOUND, message).with_help(format!("use `{VOICE}`, or name no voice")));
        }
        let speed = options.speed.map_or(Ok(self.0.speed), |speed| checked(speed, "speed"))?;
        let speaker = Speaker::new(speed).map_err(|e| Error::new(Code::TTS_SYNTHESIS_FAILED, e))?;
        Ok(Box::new(SpeechStream::new(self.0.cx.clone(), speaker)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_beside_the_manifest_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
