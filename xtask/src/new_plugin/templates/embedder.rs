//! An embedder: here a text is counted by its letters.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, EmbedRequest, Embedder, EmbedderSpec, Embeddings, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// Whether capital letters are the same as small ones.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub fold_case: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { fold_case: true }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.embedder(EmbedderSpec::new("__NAME__", LETTERS), |plugin| Arc::new(Letters(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

/// Length of a vector: one number per letter.
const LETTERS: u32 = 26;

struct Letters(Arc<__TYPE__>);

#[async_trait]
impl Embedder for Letters {
    async fn embed(&self, cx: &CallCx, request: EmbedRequest) -> Result<Embeddings> {
        let mut vectors = Vec::with_capacity(request.texts.len());
        for text in &request.texts {
            cx.check()?;
            let mut vector = vec![0.0_f32; LETTERS as usize];
            for c in text.chars() {
                let c = if self.0.config.fold_case { c.to_ascii_lowercase() } else { c };
                if c.is_ascii_lowercase() {
                    vector[usize::from(c as u8 - b'a')] += 1.0;
                }
            }
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            if length > 0.0 {
                vector.iter_mut().for_each(|x| *x /= length);
            } else {
                vector[0] = 1.0;
            }
            vectors.push(vector);
        }
        Ok(Embeddings::new(vectors))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn the_same_letters_give_the_same_vector() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("__ID__"), json!({}))).unwrap();
        let [Contribution::Embedder(_, embedder)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let request = EmbedRequest::new(vec!["Listen".into(), "silent".into(), "other".into()]);
        let vectors = block_on(embedder.embed(&CallCx::new(), request)).unwrap().vectors;
        assert_eq!(vectors[0], vectors[1]);
        assert_ne!(vectors[0], vectors[2]);
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
