//! The plugin around the engine: configuration, contract, errors.

use std::sync::Arc;
use std::time::Duration;

use bespoke_plugin_api::{
    CallCx, CancelToken, Code, Duplex, Error, Facts, Plugin, PluginApi, PluginContext, Result, Segment, Stt, SttEvent, SttOptions,
    SttRequest, SttSpec, Transcript, async_trait,
    serde::{self, Deserialize},
};

use crate::engine::{Engine, ModelFiles};
use crate::error::EngineError;
use crate::stream::ListenStream;
use crate::transcript::{joined, transcribe};

/// The only language of the tiny model.
pub(crate) const LANGUAGE: &str = "en";

/// The table `[plugins.moonshine]`.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Threads of the model; the plugin's CPU budget when absent. More than one brings little for a model this small.
    #[cfg_attr(test, schemars(range(min = 1, max = 64), extend("x-reload" = "restart")))]
    pub threads: Option<u16>,
    /// How much new speech a live stream collects before each guess at the unfinished sentence, in milliseconds; 0 for no
    /// guesses. A guess costs 10 to 20 ms of one core per second of the sentence so far.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub interim_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { threads: None, interim_ms: 1000 }
    }
}

/// One instance, with its model loaded.
pub struct Moonshine {
    cx: PluginContext,
    engine: Arc<Engine>,
    threads: u16,
    guess_every: Duration,
}

impl Plugin for Moonshine {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let spec = SttSpec::new("moonshine").languages(vec![LANGUAGE.into()]).streaming(true);
        api.stt(spec, |moonshine| Arc::new(Ears(moonshine.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let threads = config.threads.unwrap_or(cx.cpu_budget());
        if !(1..=64).contains(&threads) {
            return Err(Error::invalid_params(format!("plugins.moonshine.threads is {threads}; it has to be between 1 and 64")));
        }
        let files = ModelFiles {
            encoder: cx.model("encoder_model.onnx")?,
            decoder: cx.model("decoder_model_merged.onnx")?,
            tokenizer: cx.model("tokenizer.json")?,
        };
        let engine = cx.blocking(move || Engine::load(&files, threads.into())).await?.map_err(plugin_error)?;
        let guess_every = Duration::from_millis(config.interim_ms.into());
        Ok(Moonshine { cx, engine: Arc::new(engine), threads, guess_every })
    }

    fn facts(&self) -> Facts {
        Facts::from([
            ("engine".into(), "rten".into()),
            ("model".into(), "Moonshine tiny, int8, English".into()),
            ("threads".into(), self.threads.to_string()),
        ])
    }
}

bespoke_plugin_api::plugin!("moonshine", Moonshine);

/// The engine's error as it crosses the border.
pub(crate) fn plugin_error(error: EngineError) -> Error {
    let code = match &error {
        EngineError::Cancelled => return Error::cancelled(),
        EngineError::Read { .. } => Code::MODEL_NOT_FOUND,
        EngineError::Graph { .. } | EngineError::NotMoonshine { .. } | EngineError::Tokenizer { .. } => Code::INITIALIZE_FAILED,
        EngineError::Run { .. } | EngineError::Output { .. } => Code::STT_TRANSCRIPTION_FAILED,
        EngineError::NotFinite { .. } | EngineError::Rate(_) => Code::STT_AUDIO_INVALID,
    };
    let message = error.to_string();
    match code {
        Code::MODEL_NOT_FOUND | Code::INITIALIZE_FAILED => Error::new(code, message).with_help("bespoke plugin download-files moonshine"),
        _ => Error::new(code, message),
    }
}

struct Ears(Arc<Moonshine>);

#[async_trait]
impl Stt for Ears {
    async fn transcribe(&self, cx: &CallCx, request: SttRequest) -> Result<Transcript> {
        understands(request.language.as_deref())?;
        let audio = request.audio;
        if audio.samples.is_empty() {
            return Err(Error::new(Code::STT_AUDIO_INVALID, "the recording has no samples"));
        }
        let rate = audio.rate;
        let cancel = CancelOnDrop(cx.cancel_token().child());
        let (engine, token) = (self.0.engine.clone(), cancel.0.clone());
        let work = self.0.cx.blocking(move || transcribe(&engine, &audio.samples, rate, &|| token.is_cancelled()));
        let heard = work.await?.map_err(plugin_error)?;
        let millis = |sample: usize| sample as u64 * 1000 / u64::from(rate);
        let segments = heard.iter().map(|h| Segment::new(millis(h.range.start), millis(h.range.end), h.text.clone())).collect();
        Ok(Transcript::new(joined(&heard)).language(LANGUAGE.into()).segments(segments))
    }

    fn open(&self, options: &SttOptions) -> Result<Box<dyn Duplex<[f32], SttEvent>>> {
        understands(options.language.as_deref())?;
        let rate = options.sample_rate;
        if !(bespoke_audio::MIN_RATE..=bespoke_audio::MAX_RATE).contains(&rate) {
            return Err(plugin_error(bespoke_audio::ResampleError::Rate { rate }.into()));
        }
        let Moonshine { cx, engine, guess_every, .. } = &*self.0;
        Ok(Box::new(ListenStream::new(cx.clone(), engine.clone(), rate, *guess_every)))
    }
}

/// `en`, `en-GB`, …: regional English is English.
fn understands(language: Option<&str>) -> Result<()> {
    match language {
        Some(tag) if !tag.split(['-', '_']).next().is_some_and(|primary| primary.eq_ignore_ascii_case(LANGUAGE)) => {
            Err(Error::new(Code::STT_LANGUAGE_NOT_SUPPORTED, format!("Moonshine tiny hears English only, not `{tag}`"))
                .with_help("name another engine in `voice.stt`"))
        }
        _ => Ok(()),
    }
}

/// A call whose future is dropped no longer needs its work.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
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
    fn regional_english_is_english() {
        for tag in [None, Some("en"), Some("en-GB"), Some("EN_us")] {
            understands(tag).unwrap();
        }
        for tag in ["de", "es-MX", "", "eng"] {
            assert_eq!(understands(Some(tag)).unwrap_err().code(), Code::STT_LANGUAGE_NOT_SUPPORTED, "{tag}");
        }
    }
}
