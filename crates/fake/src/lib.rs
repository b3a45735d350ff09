//! Scripted, deterministic plugins of every kind, for tests. Portable: time is the host's, and there is nothing else.
//!
//! One plugin `fake` contributes one thing of each kind. Without a configuration the provider echoes, the STT names a checksum
//! of what it heard, the TTS beeps once per word, the VAD takes |sample| > 0.5 for speech. [`Config`] scripts the rest.

mod channel;
mod config;
mod provider;
mod small;
mod stt;
mod tool;
mod tts;
mod vad;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use bespoke_plugin_api::{
    AcceleratorSpec, ChannelSpec, Code, CommandSpec, Contribution, EmbedderSpec, EndpointSpec, Error, Facts, Hook, HookSpec, Outbound,
    Plugin, PluginApi, PluginContext, ProviderSpec, Reload, Result, State, SttSpec, TtsSpec, VadSpec,
    serde_json::{self, json},
};

pub use crate::config::{Config, HookScript, Incoming, Step};

/// One instance.
pub struct Fake {
    cx: PluginContext,
    script: RwLock<Arc<Config>>,
    /// Requests that the provider has answered.
    replied: AtomicUsize,
    /// Recordings without a scripted checksum that the STT has heard.
    heard: AtomicUsize,
    sent: Mutex<Vec<Sent>>,
}

/// A message that left over the channel.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    id: String,
    message: Outbound,
}

impl Plugin for Fake {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.channel(ChannelSpec::new("fake").edits(true).typing(true).streams(true), |fake| Arc::new(channel::Wire(fake.clone())));
        api.tool(tool::echo_spec(), |_| Arc::new(tool::Echo));
        api.tool(tool::wait_spec(), |fake| Arc::new(tool::Wait(fake.clone())));
        api.provider(ProviderSpec::new("fake"), |fake| Arc::new(provider::Mind(fake.clone())));
        api.stt(SttSpec::new("fake").languages(vec!["en".into()]).streaming(true), |fake| Arc::new(stt::Ear(fake.clone())));
        api.tts(TtsSpec::new("fake", tts::RATE), |_| Arc::new(tts::Mouth));
        api.vad(VadSpec::new("fake"), |_| Arc::new(vad::Detector));
        api.embedder(EmbedderSpec::new("fake", small::DIMENSIONS), |_| Arc::new(small::Hasher));
        let command = CommandSpec::new("fake", "Prints its arguments.").usage("fake [CODE] [ARG]…".into()).require_auth(false);
        api.command(command, |_| Arc::new(small::Print));
        api.hook(HookSpec::new("fake", Hook::BeforeAgentRun), |fake| Arc::new(small::Handler(fake.clone())));
        api.http(EndpointSpec::new("fake"), |_| Arc::new(small::Mirror));
        api.accelerator(AcceleratorSpec::new("fake"), |_| Arc::new(small::Card));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        let places = [("fake_received", Hook::AfterMessageReceive, &config.received), ("fake_sent", Hook::BeforeMessageSend, &config.sent)];
        let guards = places.into_iter().filter_map(|(name, hook, script)| {
            let guard = small::Guard { cx: cx.clone(), script: script.clone()? };
            Some(Contribution::Hook(HookSpec::new(name, hook).fail_closed(), Arc::new(guard)))
        });
        let guards: Vec<_> = guards.collect();
        if !guards.is_empty() {
            cx.host().publish(guards)?;
        }
        Ok(Fake {
            cx,
            script: RwLock::new(Arc::new(config)),
            replied: AtomicUsize::new(0),
            heard: AtomicUsize::new(0),
            sent: Mutex::default(),
        })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        *self.script.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(Reload::Applied)
    }

    fn facts(&self) -> Facts {
        let counts =
            [("replied", self.replied.load(Ordering::Relaxed)), ("heard", self.heard.load(Ordering::Relaxed)), ("sent", self.sent().len())];
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.to_string())).collect()
    }

    async fn capture_state(&self) -> Result<Option<State>> {
        let counts = json!([self.replied.load(Ordering::Relaxed), self.heard.load(Ordering::Relaxed)]);
        Ok(Some(State::new(1, counts.to_string().into_bytes())))
    }

    async fn restore_state(&self, state: State) -> Result<()> {
        if state.version != 1 {
            return Err(Error::new(Code::INVALID_PARAMS, format!("a state of version {}, this plugin knows 1", state.version)));
        }
        let [replied, heard]: [usize; 2] = serde_json::from_slice(&state.bytes)?;
        self.replied.store(replied, Ordering::Relaxed);
        self.heard.store(heard, Ordering::Relaxed);
        Ok(())
    }
}

bespoke_plugin_api::plugin!("fake", Fake);

impl Fake {
    fn script(&self) -> Arc<Config> {
        self.script.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sent(&self) -> MutexGuard<'_, Vec<Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// FNV-1a, 64 bits: enough to tell fixtures apart.
fn checksum(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
