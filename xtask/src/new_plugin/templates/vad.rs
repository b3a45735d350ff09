//! Voice activity detection: here speech is what is loud.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{
    Code, Duplex, Error, Plugin, PluginApi, PluginContext, Result, Vad, VadEvent, VadOptions, VadSpec,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Windows louder than this are speech: root mean square, 0.0–1.0.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub threshold: f32,
}

impl Default for Config {
    fn default() -> Self {
        Config { threshold: 0.02 }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.vad(VadSpec::new("__NAME__"), |plugin| Arc::new(Detector(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

struct Detector(Arc<__TYPE__>);

impl Vad for Detector {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        let rate = options.sample_rate;
        // Windows of 32 ms.
        let window = usize::try_from(rate).unwrap_or(0) * 4 / 125;
        if window == 0 {
            return Err(Error::new(Code::STT_AUDIO_INVALID, format!("{rate} Hz is too low to hear speech")));
        }
        let threshold = self.0.config.threshold;
        Ok(Box::new(Stream { threshold, window, buffer: Vec::new(), at: 0, speaking: false, events: VecDeque::new(), finished: false, waiting: None }))
    }
}

struct Stream {
    threshold: f32,
    window: usize,
    buffer: Vec<f32>,
    at: u64,
    speaking: bool,
    events: VecDeque<VadEvent>,
    finished: bool,
    /// Who waits for the next event; `push` and `finish` wake it.
    waiting: Option<Waker>,
}

impl Stream {
    fn window(&mut self, samples: &[f32]) {
        let start = self.at;
        self.at += samples.len() as u64;
        let level = (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt();
        let loud = level > self.threshold;
        self.events.push_back(VadEvent::window(self.at, if loud { 1.0 } else { 0.0 }, 0));
        match (self.speaking, loud) {
            (false, true) => self.events.push_back(VadEvent::speech_start(self.at, start)),
            (true, false) => self.events.push_back(VadEvent::speech_end(self.at, start)),
            _ => {}
        }
        self.speaking = loud;
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl Duplex<[f32], VadEvent> for Stream {
    fn push(&mut self, samples: &[f32]) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("audio after the end"));
        }
        self.buffer.extend_from_slice(samples);
        let buffer = std::mem::take(&mut self.buffer);
        let windows = buffer.chunks_exact(self.window);
        self.buffer = windows.remainder().to_vec();
        windows.for_each(|window| self.window(window));
        self.wake();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if !self.finished && self.speaking {
            self.events.push_back(VadEvent::speech_end(self.at, self.at));
        }
        self.finished = true;
        self.wake();
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<VadEvent>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None if self.finished => Poll::Ready(None),
            None => {
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, serde_json::json, try_next};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn finds_what_is_loud() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("__ID__"), json!({}))).unwrap();
        let [Contribution::Vad(_, vad)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let mut stream = vad.open(&VadOptions::new(16_000)).unwrap();
        for level in [0.0, 0.5, 0.0] {
            stream.push(&[level; 1024]).unwrap();
        }
        stream.finish().unwrap();
        let events = std::iter::from_fn(|| try_next(&mut *stream)).map(Result::unwrap);
        let edges: Vec<_> = events.filter(|e| !matches!(e, VadEvent::Window { .. })).collect();
        assert_eq!(edges, [VadEvent::speech_start(1536, 1024), VadEvent::speech_end(2560, 2048)]);
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
