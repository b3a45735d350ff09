//! The places where a plugin may look at, change or stop what the host does. One enum, one event type per place.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CallCx, Event, Inbound, Outbound, Result, ToolCall, ToolOutput};

macro_rules! hooks {
    ($($(#[$doc:meta])* $hook:ident $make:ident $name:literal $fields:tt),+ $(,)?) => {
        /// A place in the host's work.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Hook {
            $($(#[$doc])* #[serde(rename = $name)] $hook),+
        }

        impl Hook {
            /// All hooks, in the order of their bits.
            pub const ALL: &[Hook] = &[$(Hook::$hook),+];

            /// The name in manifests and on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Hook::$hook => $name),+ }
            }
        }

        hooks!(@event $($(#[$doc])* $hook $make $name $fields),+);
    };
    (@event $($(#[$doc:meta])* $hook:ident $make:ident $name:literal { $($(#[$fdoc:meta])* $field:ident: $ty:ty),* $(,)? }),+) => {
        /// What happens at a [`Hook`]. A handler that wants it otherwise returns a changed copy:
        ///
        /// ```
        /// use bespoke_plugin_api::{HookEvent, HookReply};
        ///
        /// fn masked(event: &HookEvent) -> HookReply {
        ///     let mut changed = event.clone();
        ///     let HookEvent::BeforeAgentRun { input, .. } = &mut changed else { return HookReply::Continue };
        ///     *input = input.replace("1234", "****");
        ///     HookReply::replace(changed)
        /// }
        ///
        /// let event = HookEvent::before_agent_run("session", "My code is 1234.");
        /// assert_eq!(masked(&event), HookReply::replace(HookEvent::before_agent_run("session", "My code is ****.")));
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "hook")]
        #[non_exhaustive]
        pub enum HookEvent {
            $($(#[$doc])* #[serde(rename = $name)] #[non_exhaustive] $hook { $($(#[$fdoc])* $field: $ty),* }),+
        }

        impl HookEvent {
            /// Where this happens.
            pub const fn hook(&self) -> Hook {
                match self { $(HookEvent::$hook { .. } => Hook::$hook),+ }
            }

            $($(#[$doc])* pub fn $make($($field: impl Into<$ty>),*) -> Self {
                HookEvent::$hook { $($field: $field.into()),* }
            })+
        }
    };
}

hooks! {
    /// A user's turn is about to be answered. `input` may be replaced.
    BeforeAgentRun before_agent_run "before_agent_run" {
        /// Id of the session.
        session: String,
        /// What the user said.
        input: String,
    },
    /// The answer is complete. `output` may be replaced before it is stored; what was streamed already is out.
    AfterAgentRun after_agent_run "after_agent_run" {
        /// Id of the session.
        session: String,
        /// What the agent said.
        output: String,
    },
    /// A message is about to leave over a channel. It may be replaced.
    BeforeMessageSend before_message_send "before_message_send" {
        /// Name of the channel.
        channel: String,
        /// The message.
        message: Outbound,
    },
    /// A message came in over a channel. It may be replaced.
    AfterMessageReceive after_message_receive "after_message_receive" {
        /// Name of the channel.
        channel: String,
        /// The message.
        message: Inbound,
    },
    /// The model asked for a tool. The call may be replaced.
    BeforeToolExecute before_tool_execute "before_tool_execute" {
        /// Id of the session.
        session: String,
        /// The call.
        call: ToolCall,
    },
    /// A tool has answered. The output may be replaced.
    AfterToolExecute after_tool_execute "after_tool_execute" {
        /// Id of the session.
        session: String,
        /// The call.
        call: ToolCall,
        /// Its output.
        output: ToolOutput,
    },
    /// A session begins.
    OnSessionCreate on_session_create "on_session_create" {
        /// Id of the session.
        session: String,
    },
    /// A session ends.
    OnSessionEnd on_session_end "on_session_end" {
        /// Id of the session.
        session: String,
    },
    /// The gateway serves.
    OnGatewayStart on_gateway_start "on_gateway_start" {},
    /// The gateway is about to stop.
    OnGatewayShutdown on_gateway_shutdown "on_gateway_shutdown" {},
    /// A client connected to the gateway.
    OnClientConnect on_client_connect "on_client_connect" {
        /// Id of the connection.
        client: String,
    },
    /// A client is gone.
    OnClientDisconnect on_client_disconnect "on_client_disconnect" {
        /// Id of the connection.
        client: String,
    },
    /// Something happened that the subscription names in its topics, or that the user had it told of. The reply is ignored: it is over.
    OnEvent on_event "on_event" {
        /// The event.
        event: Event,
    },
}

impl Hook {
    /// The bit of this hook in a mask of subscribed hooks.
    pub const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// The hook of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|h| h.name() == name)
    }
}

/// What a handler wants to happen. A value, never a mutation: a time-out must not leave a half-changed event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HookReply {
    /// Go on with the event as it is.
    Continue,
    /// Go on with this event instead; it must be of the same hook.
    #[non_exhaustive]
    Replace {
        /// The event to go on with.
        event: Box<HookEvent>,
    },
    /// Stop what was about to happen.
    #[non_exhaustive]
    Veto {
        /// Why, for the user.
        reason: String,
    },
    /// Something that a newer peer says and this side does not know. It is no consent: the host takes it for a failure.
    #[serde(other)]
    Unknown,
}

impl HookReply {
    /// Go on with this event instead.
    pub fn replace(event: HookEvent) -> Self {
        HookReply::Replace { event: Box::new(event) }
    }

    /// Stop what was about to happen, and why.
    pub fn veto(reason: impl Into<String>) -> Self {
        HookReply::Veto { reason: reason.into() }
    }
}

/// What the host does when a handler fails, panics or is late. A word that this side does not know reads as the strict one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnFailure {
    /// Goes on with the original event, and says so in the log.
    #[default]
    Open,
    /// Treats the failure as a veto.
    #[serde(other)]
    Closed,
}

/// One subscription: which hook, in which order, for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HookSpec {
    /// Name of the subscription, unique among hooks.
    pub name: String,
    /// The place.
    pub hook: Hook,
    /// Higher runs earlier; equal ones run in the order of plugin ids.
    pub priority: i32,
    /// Most time one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// Only looks: runs beside other observers after all who may change the event, and its reply is ignored.
    pub observer: bool,
    /// For [`Hook::OnEvent`]: what topics of events begin with that it hears without being told to. Of events of other plugins only as far as the manifest
    /// asks for them (`plugin_communication`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

impl HookSpec {
    /// A subscription with priority 0, a limit of 5 s, that fails open and may change the event.
    pub fn new(name: impl Into<String>, hook: Hook) -> Self {
        HookSpec {
            name: name.into(),
            hook,
            priority: 0,
            timeout_ms: 5_000,
            on_failure: OnFailure::Open,
            observer: false,
            topics: Vec::new(),
        }
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Treats failure as a veto.
    #[must_use]
    pub fn fail_closed(mut self) -> Self {
        self.on_failure = OnFailure::Closed;
        self
    }

    /// Only looks.
    #[must_use]
    pub fn observer(mut self) -> Self {
        self.observer = true;
        self
    }

    /// Hears events whose topics begin so; see [`topics`](Self::topics).
    #[must_use]
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }
}

/// The contract of a hook.
#[async_trait]
pub trait HookHandler: Send + Sync {
    /// Called at the subscribed hook. Calls made under `cx` do not fire the same hook again.
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_its_own_bit_and_name() {
        let mut mask = 0;
        for hook in Hook::ALL {
            assert_eq!(mask & hook.bit(), 0);
            mask |= hook.bit();
            assert_eq!(Hook::from_name(hook.name()), Some(*hook));
        }
        assert_eq!(Hook::ALL.len(), 13);
    }

    #[test]
    fn travels_flat_with_its_name() {
        let event = HookEvent::BeforeAgentRun { session: "s".into(), input: "hi".into() };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"hook":"before_agent_run","session":"s","input":"hi"}"#);
        assert_eq!(serde_json::from_str::<HookEvent>(&text).unwrap(), event);
        assert_eq!(serde_json::to_string(&HookEvent::OnGatewayStart {}).unwrap(), r#"{"hook":"on_gateway_start"}"#);
    }
}
