//! Which models the server has: asked seldom, completed by the configuration.

use std::time::Duration;

use bespoke_plugin_api::{
    CallCx, Code, Error, ModelInfo, Result, Timestamp,
    bytes::Bytes,
    serde::{self, Deserialize},
    serde_json::{self, Value},
};

use crate::{
    client::{Ask, Client},
    config::Config,
    failure::Op,
};

/// How long a list of models is good.
const FRESH: Duration = Duration::from_secs(300);

/// Most bytes of a list, and most models of it that are kept.
const MAX_LIST: usize = 8 << 20;
const MAX_MODELS: usize = 2_000;

/// Parts of ids of models that do not chat: where nobody chose a model, the first that does is meant.
const MUTE: &[&str] =
    &["embed", "whisper", "tts", "dall-e", "moderation", "rerank", "transcribe", "image", "sora", "realtime", "davinci", "babbage"];

/// The last list, and when it came.
#[derive(Debug, Default)]
pub(crate) struct Cache(Option<(Timestamp, Vec<ModelInfo>)>);

impl Cache {
    /// Ids of the models of the last list.
    pub(crate) fn known(&self) -> Vec<String> {
        self.0.iter().flat_map(|(_, models)| models.iter().map(|model| model.id.clone())).collect()
    }
}

/// The models, the default one first.
pub(crate) async fn models(client: &Client, call: &CallCx) -> Result<Vec<ModelInfo>> {
    let now = client.cx.now();
    if let Some((at, models)) = &client.cache().0
        && at.until(now) < FRESH
    {
        return Ok(models.clone());
    }
    let ask = Ask { op: Op::Models, content_type: String::new(), body: Bytes::new(), limit: client.settings.timeout() };
    let listed = match client.fetch(call, &ask, MAX_LIST).await {
        Ok((_, bytes)) => match serde_json::from_slice::<List>(&bytes) {
            Ok(list) => list.data,
            Err(e) => {
                let text = String::from_utf8_lossy(&bytes);
                return Err(client.nonsense(Op::Models, &format!("no list of models ({e})"), &text).await);
            }
        },
        // Not every server lists what it has.
        Err(e) if matches!(status(&e), Some(404 | 405 | 501)) && !known(&client.settings.config).is_empty() => Vec::new(),
        Err(e) => return Err(e),
    };
    let models = completed(&client.settings.config, listed);
    if models.is_empty() {
        let error = Error::new(Code::LLM_MODEL_NOT_AVAILABLE, format!("{} lists no models", client.url(Op::Models)));
        return Err(error.with_help("bespoke config set plugins.openai.model NAME"));
    }
    client.cache().0 = Some((now, models.clone()));
    Ok(models)
}

/// The model of a chat that names none.
pub(crate) async fn default_model(client: &Client, call: &CallCx) -> Result<String> {
    if let Some(id) = known(&client.settings.config).first() {
        return Ok((*id).to_owned());
    }
    let models = models(client, call).await?;
    models.into_iter().next().map(|model| model.id).ok_or_else(|| Error::new(Code::LLM_MODEL_NOT_AVAILABLE, "there are no models"))
}

/// Ids of the configuration, the default one first.
fn known(config: &Config) -> Vec<&str> {
    let mut ids: Vec<&str> = config.model.as_deref().into_iter().collect();
    for model in &config.models {
        if !ids.contains(&model.id.as_str()) {
            ids.push(&model.id);
        }
    }
    ids
}

fn status(error: &Error) -> Option<u64> {
    error.data()?.get("status")?.as_u64()
}

/// What the server lists and what the configuration knows, together.
fn completed(config: &Config, listed: Vec<Listed>) -> Vec<ModelInfo> {
    let mut all: Vec<(String, u32)> = known(config).into_iter().map(|id| (id.to_owned(), 0)).collect();
    let (chats, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(|model| {
        let id = model.id.to_lowercase();
        !MUTE.iter().any(|part| id.contains(part))
    });
    for model in chats.into_iter().chain(others).filter(|model| !model.id.is_empty()) {
        let window = model.window();
        match all.iter().position(|(id, _)| *id == model.id) {
            Some(at) => all[at].1 = window,
            None if all.len() < MAX_MODELS => all.push((model.id, window)),
            None => {}
        }
    }
    let info = |(id, window): (String, u32)| {
        let given = config.models.iter().find(|model| model.id == id);
        let window = given.and_then(|model| model.context_window).unwrap_or(window);
        let calls = given.and_then(|model| model.tools).unwrap_or(config.tools.calls());
        let schemas = given.and_then(|model| model.json_schema).unwrap_or(config.tools.schemas());
        ModelInfo::new(id, window).tools(calls).json_schema(schemas)
    };
    all.into_iter().map(info).collect()
}

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct List {
    data: Vec<Listed>,
}

/// A model as a server lists it. How many tokens it takes has no place in the protocol, so each server has its own.
#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Listed {
    id: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Listed {
    fn window(&self) -> u32 {
        let meta = |key: &str| self.rest.get("meta").and_then(|meta| meta.get(key));
        let places = [
            self.rest.get("context_window"),
            self.rest.get("context_length"),
            self.rest.get("max_model_len"),
            meta("n_ctx"),
            meta("n_ctx_train"),
        ];
        let found = places.into_iter().flatten().find_map(|value| value.as_u64().filter(|n| *n > 0));
        found.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::serde_json::json;

    use super::*;
    use crate::{ModelConfig, ToolMode};

    fn list(models: Value) -> Vec<Listed> {
        Vec::deserialize(models).unwrap()
    }

    fn shown(models: &[ModelInfo]) -> Vec<(&str, u32, bool, bool)> {
        models.iter().map(|m| (m.id.as_str(), m.context_window, m.tools, m.json_schema)).collect()
    }

    #[test]
    fn servers_say_in_different_places_how_much_a_model_takes() {
        for (model, window) in [
            (json!({ "id": "a" }), 0),
            (json!({ "id": "a", "context_length": 4096 }), 4096),
            (json!({ "id": "a", "max_model_len": 8192 }), 8192),
            (json!({ "id": "a", "meta": { "n_ctx": 2048, "n_ctx_train": 8192 } }), 2048),
            (json!({ "id": "a", "meta": { "n_ctx_train": 8192 } }), 8192),
            (json!({ "id": "a", "meta": null, "context_window": "big" }), 0),
            (json!({ "id": "a", "context_window": 99_999_999_999u64 }), u32::MAX),
        ] {
            assert_eq!(completed(&Config::default(), list(json!([model])))[0].context_window, window, "{model}");
        }
    }

    #[test]
    fn the_configuration_comes_first_and_knows_better() {
        let listed = || list(json!([{ "id": "text-embedding-x" }, { "id": "b", "context_length": 10 }, { "id": "a" }]));
        let plain = completed(&Config::default(), listed());
        assert_eq!(shown(&plain), [("b", 10, true, true), ("a", 0, true, true), ("text-embedding-x", 0, true, true)]);
        let own = |id: &str| ModelConfig { id: id.into(), context_window: Some(7), tools: Some(true), json_schema: None };
        let config = Config { model: Some("c".into()), models: vec![own("a"), own("d")], tools: ToolMode::Schema, ..Config::default() };
        let mixed = completed(&config, listed());
        let expected = [
            ("c", 0, false, true),
            ("a", 7, true, true),
            ("d", 7, true, true),
            ("b", 10, false, true),
            ("text-embedding-x", 0, false, true),
        ];
        assert_eq!(shown(&mixed), expected);
        let none = Config { tools: ToolMode::None, ..Config::default() };
        assert_eq!(shown(&completed(&none, list(json!([{ "id": "a" }])))), [("a", 0, false, false)]);
    }
}
