//! The table `[plugins.energy]`. Reading and checking only.

use std::time::Duration;

use bespoke_audio::SpeechOptions;
use bespoke_plugin_api::{
    Error, Result,
    serde::{self, Deserialize},
};

/// The table `[plugins.energy]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// How far above the noise a window is speech, in decibels.
    #[cfg_attr(test, schemars(range(min = 1.0, max = 60.0), extend("x-reload" = "live")))]
    pub snr_db: f64,
    /// Loudness must last this long before speech starts, in milliseconds. Longer than for silero: clicks are short.
    #[cfg_attr(test, schemars(range(max = 60_000), extend("x-reload" = "live")))]
    pub min_speech_ms: u32,
    /// Silence must last this long before speech ends, in milliseconds.
    #[cfg_attr(test, schemars(range(max = 60_000), extend("x-reload" = "live")))]
    pub min_silence_ms: u32,
    /// How much sound before the start belongs to the speech, in milliseconds.
    #[cfg_attr(test, schemars(range(max = 60_000), extend("x-reload" = "live")))]
    pub prefix_padding_ms: u32,
    /// The longest speech that is kept whole, in milliseconds; a warning says when it is reached.
    #[cfg_attr(test, schemars(range(max = 3_600_000), extend("x-reload" = "live")))]
    pub max_buffered_speech_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { snr_db: 9.0, min_speech_ms: 100, min_silence_ms: 550, prefix_padding_ms: 500, max_buffered_speech_ms: 60_000 }
    }
}

impl Config {
    /// The options of the segmenter.
    pub(crate) fn speech(&self) -> Result<SpeechOptions> {
        let out_of_range = |key: &str, value: f64, range: &str| {
            Error::invalid_params(format!("plugins.energy.{key} = {value} is out of range; it must be {range}"))
        };
        if !(1.0..=60.0).contains(&self.snr_db) {
            return Err(out_of_range("snr_db", self.snr_db, "1 to 60"));
        }
        for (key, value, most) in [
            ("min_speech_ms", self.min_speech_ms, 60_000),
            ("min_silence_ms", self.min_silence_ms, 60_000),
            ("prefix_padding_ms", self.prefix_padding_ms, 60_000),
            ("max_buffered_speech_ms", self.max_buffered_speech_ms, 3_600_000),
        ] {
            if value > most {
                return Err(out_of_range(key, value.into(), &format!("at most {most}")));
            }
        }
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let mut options = SpeechOptions::default();
        options.min_speech = ms(self.min_speech_ms);
        options.min_silence = ms(self.min_silence_ms);
        options.prefix_padding = ms(self.prefix_padding_ms);
        options.max_buffered_speech = ms(self.max_buffered_speech_ms);
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_beside_the_manifest_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let wrong = |config: Config| config.speech().unwrap_err().message().to_owned();
        assert_eq!(wrong(Config { snr_db: 0.0, ..Config::default() }), "plugins.energy.snr_db = 0 is out of range; it must be 1 to 60");
        assert!(wrong(Config { snr_db: f64::NAN, ..Config::default() }).contains("snr_db"));
        assert!(wrong(Config { min_silence_ms: 60_001, ..Config::default() }).contains("min_silence_ms"));
    }
}
