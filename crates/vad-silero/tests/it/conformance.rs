//! The same bytes compiled in and behind the wire, with either engine.

use bespoke_plugin_api::{Audio, serde_json::json};
use bespoke_plugin_testkit::Conformance;
use bespoke_vad_silero::BESPOKE_PLUGIN;

use crate::kit::{model_path, recordings};
use crate::support;

#[test]
fn behaves_the_same_in_every_tier() {
    for config in [json!({ "engine": "builtin" }), json!({ "engine": "ort", "onnxruntime": support::onnxruntime() })] {
        let mut suite = Conformance::new(&BESPOKE_PLUGIN).config(config).model("silero_vad.onnx", model_path());
        for (reference, samples) in recordings().into_iter().filter(|(r, _)| r.name.starts_with("librivox")) {
            let wide = bespoke_audio::resample(&samples, reference.sr, 44_100).expect("usual rates");
            suite = suite.audio(Audio::new(samples, reference.sr)).audio(Audio::new(wide, 44_100));
        }
        suite.check();
    }
}
