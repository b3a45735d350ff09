//! The plugin around the server: what it contributes, and how it does.

use std::sync::Arc;

use bespoke_plugin_api::{
    AudioChunk, BoxStream, CallCx, ChatDelta, ChatRequest, Duplex, EmbedRequest, Embedder, EmbedderSpec, Embeddings, Facts, Health,
    ModelInfo, Plugin, PluginApi, PluginContext, Provider, ProviderSpec, Result, Stt, SttRequest, SttSpec, Transcript, Tts, TtsOptions,
    TtsSpec, Voice, async_trait,
};

use crate::{
    chat,
    client::Client,
    config::{Config, Settings},
    embed, models, stt,
    tts::{self, Speech},
};

/// One instance.
pub struct Openai {
    client: Arc<Client>,
}

impl Plugin for Openai {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.provider(ProviderSpec::new("openai"), |plugin| Arc::new(Server(plugin.client.clone())));
        api.stt(SttSpec::new("openai"), |plugin| Arc::new(Server(plugin.client.clone())));
        api.tts(TtsSpec::new("openai", tts::RATE), |plugin| Arc::new(Server(plugin.client.clone())));
        // How long vectors are is known when the first one is here: it depends on the model that the user configured.
        api.embedder(EmbedderSpec::new("openai", 0), |plugin| Arc::new(Server(plugin.client.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Openai { client: Arc::new(Client::new(cx, Settings::new(config)?)) })
    }

    fn health(&self) -> Health {
        self.client.trouble().map_or(Health::Ok, Health::Degraded)
    }

    fn facts(&self) -> Facts {
        let settings = &self.client.settings;
        let mut facts = Facts::from([("server".to_owned(), settings.base.clone())]);
        facts.extend(settings.config.model.clone().map(|model| ("model".to_owned(), model)));
        facts
    }
}

bespoke_plugin_api::plugin!("openai", Openai);

struct Server(Arc<Client>);

#[async_trait]
impl Provider for Server {
    async fn models(&self, cx: &CallCx) -> Result<Vec<ModelInfo>> {
        models::models(&self.0, cx).await
    }

    async fn chat(&self, cx: &CallCx, request: ChatRequest) -> Result<BoxStream<ChatDelta>> {
        chat::chat(self.0.clone(), cx, request).await
    }
}

#[async_trait]
impl Stt for Server {
    async fn transcribe(&self, cx: &CallCx, request: SttRequest) -> Result<Transcript> {
        stt::transcribe(&self.0, cx, request).await
    }
}

#[async_trait]
impl Tts for Server {
    /// The one that is configured: the protocol has no way to ask for others. Any that the server has can be asked for.
    async fn voices(&self, _cx: &CallCx) -> Result<Vec<Voice>> {
        // `mul`: it speaks the language of the text.
        Ok(vec![Voice::new(self.0.settings.config.voice.clone(), "mul")])
    }

    fn open(&self, options: &TtsOptions) -> Result<Box<dyn Duplex<str, AudioChunk>>> {
        Ok(Box::new(Speech::open(self.0.clone(), options)?))
    }
}

#[async_trait]
impl Embedder for Server {
    async fn embed(&self, cx: &CallCx, request: EmbedRequest) -> Result<Embeddings> {
        embed::embed(&self.0, cx, request).await
    }
}
