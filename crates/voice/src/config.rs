//! The section `[voice]` of bespoke.toml. Thresholds of a detector belong to its plugin, not here.

use std::time::Duration;

use bespoke_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Speeds that engines understand.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// How the agent hears and speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct VoiceConfig {
    /// Names of detectors, tried in order.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub vad: Vec<String>,
    /// Names of engines that transcribe, tried in order.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub stt: Vec<String>,
    /// Names of engines that speak, tried in order.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub tts: Vec<String>,
    /// Language that is spoken, as a BCP 47 tag; the engine's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub language: Option<String>,
    /// Voice that answers; the engine's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub voice: Option<String>,
    /// Speed of the answer, 0.5–2.0, 1.0 is natural; the engine's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub speed: Option<f32>,
    /// Whether somebody who speaks stops a reply. Without it, what is said during a reply is ignored: right for a loudspeaker
    /// that the microphone hears.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub barge_in: bool,
    /// How much speech stops a reply, in milliseconds: windows of at least even odds, counted from the detector's start of
    /// speech. What is shorter is a cough or a "mhm" and is ignored. 0 stops at once.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub barge_in_min_ms: u64,
    /// A live utterance is answered after this many seconds even if nobody has paused; the rest up to the next pause is not
    /// heard. A recording is transcribed in pieces of at most this length, and nothing of it is lost.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub max_utterance_s: u64,
}

impl Default for VoiceConfig {
    fn default() -> Self {
        VoiceConfig {
            vad: vec!["silero".into(), "energy".into()],
            stt: vec!["moonshine".into()],
            tts: vec!["flite".into()],
            language: None,
            voice: None,
            speed: None,
            barge_in: true,
            barge_in_min_ms: 200,
            // The LiveKit plugin's max_buffered_speech.
            max_utterance_s: 60,
        }
    }
}

impl VoiceConfig {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// `INVALID_PARAMS`; `data.path` is the offending key.
    pub fn check(&self) -> Result<()> {
        let fault =
            |key: &str, message: String| Err(Error::invalid_params(format!("voice.{key} {message}")).with_data(json!({ "path": key })));
        for (key, names) in [("vad", &self.vad), ("stt", &self.stt), ("tts", &self.tts)] {
            if names.is_empty() {
                return fault(key, "names no engine".into());
            }
        }
        if let Some(speed) = self.speed.filter(|speed| !SPEEDS.contains(speed)) {
            return fault("speed", format!("is {speed}; it has to be between {} and {}", SPEEDS.start(), SPEEDS.end()));
        }
        if !(1..=600).contains(&self.max_utterance_s) {
            return fault("max_utterance_s", format!("is {}; it has to be between 1 and 600", self.max_utterance_s));
        }
        Ok(())
    }

    pub(crate) fn max_utterance(&self) -> Duration {
        Duration::from_secs(self.max_utterance_s)
    }

    pub(crate) fn barge_in_min(&self) -> Duration {
        Duration::from_millis(self.barge_in_min_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_keys_and_refuses_others() {
        let config: VoiceConfig = serde_json::from_value(json!({ "vad": ["energy"], "speed": 1.5 })).unwrap();
        assert_eq!(config, VoiceConfig { vad: vec!["energy".into()], speed: Some(1.5), ..VoiceConfig::default() });
        assert_eq!(config.check(), Ok(()));
        assert!(serde_json::from_value::<VoiceConfig>(json!({ "vads": [] })).is_err());
    }

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(VoiceConfig));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let path = |config: VoiceConfig| config.check().unwrap_err().data().unwrap()["path"].clone();
        assert_eq!(path(VoiceConfig { stt: Vec::new(), ..VoiceConfig::default() }), "stt");
        assert_eq!(path(VoiceConfig { speed: Some(f32::NAN), ..VoiceConfig::default() }), "speed");
        assert_eq!(path(VoiceConfig { max_utterance_s: 0, ..VoiceConfig::default() }), "max_utterance_s");
    }
}
