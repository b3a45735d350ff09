//! A channel to the person at this terminal: a line in, an answer out as it is written. Native: it owns stdin and stdout.

mod lines;
mod reply;

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, Channel, ChannelSpec, Duplex, Inbound, Inbox, MessageRef, Outbound, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

use crate::{
    lines::{Line, Lines},
    reply::{Reply, Turn},
};

/// The one conversation that a terminal has.
const CHAT: &str = "terminal";

/// The table `[plugins.terminal]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// What stands before the line that the person types.
    pub prompt: String,
    /// Lines of earlier conversations that can be recalled with the arrow keys; 0 keeps none.
    pub history: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config { prompt: "> ".into(), history: 1_000 }
    }
}

/// One instance.
pub struct Terminal {
    cx: PluginContext,
    config: Config,
    turn: Arc<Turn>,
}

impl Plugin for Terminal {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.channel(ChannelSpec::new("terminal").streams(true), |terminal| Arc::new(Talk(terminal.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Terminal { cx, config, turn: Arc::default() })
    }
}

bespoke_plugin_api::plugin!("terminal", Terminal);

struct Talk(Arc<Terminal>);

#[async_trait]
impl Channel for Talk {
    /// Reads line after line until the person leaves. The next line is asked for when the answer to the last one is out.
    async fn run(&self, cx: &CallCx, inbox: Inbox) -> Result<()> {
        let Terminal { cx: plugin, config, turn } = &*self.0;
        let history = plugin.data_dir().map(|dir| dir.join("history"));
        let mut lines = Some(Lines::open(config.prompt.clone(), history, config.history)?);
        for number in 1_u64.. {
            cx.check()?;
            // The editor goes to the working thread and comes back with the line.
            let Some(mut editor) = lines.take() else { break };
            let (line, editor) = plugin.blocking(move || (editor.read(), editor)).await?;
            lines = Some(editor);
            match line? {
                Line::Text(text) => {
                    turn.begin();
                    inbox.accept(Inbound::new(CHAT, "you", number.to_string(), text)).await?;
                    turn.answered(cx).await;
                }
                Line::Empty => {}
                Line::End => break,
            }
        }
        Ok(())
    }

    async fn send(&self, _cx: &CallCx, message: Outbound) -> Result<MessageRef> {
        let mut reply = Reply::open(self.0.turn.clone());
        reply.push(&message.text)?;
        reply.finish()?;
        Ok(reply.reference())
    }

    fn stream(&self, _chat: &str) -> Result<Box<dyn Duplex<str, MessageRef>>> {
        Ok(Box::new(Reply::open(self.0.turn.clone())))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_testkit::{Conformance, check_config_schema};

    use super::*;

    /// The suite's call is cancelled before it begins, so that no line is read: tests may run at a terminal.
    #[test]
    fn declares_starts_and_stops_the_same_in_every_tier() {
        Conformance::new(&BESPOKE_PLUGIN).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
