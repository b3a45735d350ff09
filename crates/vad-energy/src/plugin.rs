//! The plugin `energy`, which says of itself that it is a last resort.

use std::sync::Arc;

use bespoke_plugin_api::{Duplex, Facts, Plugin, PluginApi, PluginContext, Reload, Result, Vad, VadEvent, VadOptions, VadSpec};

use crate::Config;
use crate::stream::{LiveOptions, Options, Stream};

/// One instance.
pub struct Energy {
    cx: PluginContext,
    live: Arc<LiveOptions>,
}

impl Plugin for Energy {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.vad(VadSpec::new("energy"), |energy| Arc::new(Detector(energy.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Energy { cx, live: Arc::new(LiveOptions::new(options(&config)?)) })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        self.live.set(options(&new)?);
        Ok(Reload::Applied)
    }

    fn facts(&self) -> Facts {
        Facts::from([
            ("engine".into(), "energy".into()),
            ("engine_reason".into(), "loudness against the noise: a last resort that takes noises for speech".into()),
        ])
    }
}

bespoke_plugin_api::plugin!("energy", Energy);

fn options(config: &Config) -> Result<Options> {
    Ok(Options { speech: config.speech()?, snr: config.snr_db })
}

struct Detector(Arc<Energy>);

impl Vad for Detector {
    fn open(&self, options: &VadOptions) -> Result<Box<dyn Duplex<[f32], VadEvent>>> {
        Ok(Box::new(Stream::new(self.0.cx.clone(), options.sample_rate, self.0.live.clone())?))
    }
}
