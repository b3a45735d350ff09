//! The table `[plugins.silero]`: the options of the LiveKit plugin with their defaults, and which
//! engine runs. Reading and checking only.

use std::path::PathBuf;
use std::time::Duration;

use bespoke_audio::SpeechOptions;
use bespoke_onnx::Device;
use bespoke_plugin_api::{
    Error, Result,
    serde::{self, Deserialize},
};

use crate::EngineChoice;

/// The table `[plugins.silero]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Speech must last this long before it starts, in milliseconds. Windows are 32 ms, so 50 means two of them.
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
    /// A window is speech from this probability on. 0.15 to 0.3 hears people far from the microphone better.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0), extend("x-reload" = "live")))]
    pub activation_threshold: f64,
    /// While somebody speaks, a window stays speech above this; activation − 0.15, at least 0.01, when absent.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0), extend("x-reload" = "live")))]
    pub deactivation_threshold: Option<f64>,
    /// Weight of the past in the filter over the probabilities; 0 turns the filter off and decides 15 to 30 ms sooner.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0), extend("x-reload" = "live")))]
    pub smoothing: f64,
    /// What computes the probabilities: `ort` is ONNX Runtime, `builtin` is our own code, `auto` is `ort` where a library is found.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub engine: EngineChoice,
    /// Where ONNX Runtime runs the model: `auto` is CUDA where the pack onnx:cuda is installed and comes up, else the processor.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub device: DeviceChoice,
    /// Whether not to start where `device = "cuda"` cannot be had. When false, one warning says why, and the processor runs it.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub device_required: bool,
    /// The library of ONNX Runtime or its folder; when absent, the first of ORT_DYLIB_PATH, the installed and the bundled pack,
    /// ONNXRUNTIME_ROOT and the system's library folders that there is.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub onnxruntime: Option<PathBuf>,
    /// Another `silero_vad.onnx` than the pinned one.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub model_file: Option<PathBuf>,
    /// Rate at which the model listens: 8000 or 16000. When absent, 8000 for sound at 8000 Hz and 16000 for all other; 16000
    /// hears high voices in telephone sound better.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub sample_rate: Option<u32>,
}

/// Where a model is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(crate = "serde", rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum DeviceChoice {
    /// CUDA where its pack is installed and comes up, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// CUDA.
    Cuda,
}

impl From<DeviceChoice> for Device {
    fn from(choice: DeviceChoice) -> Self {
        match choice {
            DeviceChoice::Auto => Self::Auto,
            DeviceChoice::Cpu => Self::Cpu,
            DeviceChoice::Cuda => Self::Cuda,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let SpeechOptions { min_speech, min_silence, prefix_padding, max_buffered_speech, activation_threshold, smoothing, .. } =
            SpeechOptions::default();
        let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Config {
            min_speech_ms: ms(min_speech),
            min_silence_ms: ms(min_silence),
            prefix_padding_ms: ms(prefix_padding),
            max_buffered_speech_ms: ms(max_buffered_speech),
            activation_threshold,
            deactivation_threshold: None,
            smoothing,
            engine: EngineChoice::Auto,
            device: DeviceChoice::Auto,
            device_required: false,
            onnxruntime: None,
            model_file: None,
            sample_rate: None,
        }
    }
}

impl Config {
    /// The options of the segmenter.
    pub(crate) fn speech(&self) -> Result<SpeechOptions> {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let mut options = SpeechOptions::default();
        options.min_speech = ms(self.min_speech_ms);
        options.min_silence = ms(self.min_silence_ms);
        options.prefix_padding = ms(self.prefix_padding_ms);
        options.max_buffered_speech = ms(self.max_buffered_speech_ms);
        options.activation_threshold = self.activation_threshold;
        options.deactivation_threshold =
            self.deactivation_threshold.unwrap_or_else(|| SpeechOptions::deactivation_for(self.activation_threshold));
        options.smoothing = self.smoothing;
        options.check().map_err(|error| Error::invalid_params(format!("plugins.silero.{error}")))?;
        for (key, value, most) in [
            ("min_speech_ms", self.min_speech_ms, 60_000),
            ("min_silence_ms", self.min_silence_ms, 60_000),
            ("prefix_padding_ms", self.prefix_padding_ms, 60_000),
            ("max_buffered_speech_ms", self.max_buffered_speech_ms, 3_600_000),
        ] {
            if value > most {
                return Err(Error::invalid_params(format!("plugins.silero.{key} = {value} is out of range; it must be at most {most}")));
            }
        }
        if let Some(rate) = self.sample_rate
            && rate != 8_000
            && rate != 16_000
        {
            return Err(Error::invalid_params(format!("plugins.silero.sample_rate = {rate}: Silero VAD only supports 8000 and 16000")));
        }
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
    fn the_defaults_are_those_of_the_livekit_plugin() {
        assert_eq!(Config::default().speech().unwrap(), SpeechOptions::default());
        let low = Config { activation_threshold: 0.1, ..Config::default() };
        assert_eq!(low.speech().unwrap().deactivation_threshold, 0.01);
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let wrong = |config: Config| config.speech().unwrap_err().message().to_owned();
        let base = Config::default;
        assert!(wrong(Config { deactivation_threshold: Some(0.0), ..base() }).contains("silero.deactivation_threshold = 0 "));
        assert!(wrong(Config { activation_threshold: 1.5, ..base() }).contains("silero.activation_threshold = 1.5 "));
        assert!(wrong(Config { sample_rate: Some(44_100), ..base() }).contains("only supports 8000 and 16000"));
        assert!(wrong(Config { max_buffered_speech_ms: u32::MAX, ..base() }).contains("silero.max_buffered_speech_ms"));
    }
}
