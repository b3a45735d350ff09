//! The voice turn: what somebody says is found in the sound, transcribed, answered and spoken, each stage streaming into the
//! next. It knows contracts, the host and the agent; no microphone, no loudspeaker, no command line.
//!
//! A recording is one turn, [`Voice::turn`]; a microphone is a conversation, [`Voice::live`]. Both tell what happens as
//! [`VoiceEvent`]s and measure it as a [`Timeline`].
//!
//! ```no_run
//! use bespoke_agent::{Agent, AgentConfig, Session};
//! use bespoke_plugin_api::{Audio, CallCx};
//! use bespoke_voice::{Voice, VoiceConfig, VoiceEvent};
//!
//! # async fn run(host: bespoke_host::Host, recording: Audio) -> bespoke_plugin_api::Result<()> {
//! let voice = Voice::new(Agent::new(host, AgentConfig::default())?, VoiceConfig::default())?;
//! let mut session = Session::new("demo");
//! let turn = voice.turn(&CallCx::new(), &mut session, recording, |event| {
//!     if let VoiceEvent::ReplyAudio { audio } = event { /* play it while the rest is still being thought of */ }
//! }).await?;
//! println!("heard {:?}\n{}", turn.heard.transcript, turn.timeline);
//!
//! // The same with a microphone at 48 kHz.
//! let (live, mut events) = voice.live(&CallCx::new(), session, 48_000).await?;
//! live.push(&[0.0; 480])?;
//! while let Some(event) = events.next().await { /* … */ }
//! let session = live.close().await?;
//! # Ok(()) }
//! ```
//!
//! **Invariants:** a detector runs on a thread of its own, never on an async one; durations of sound come from counting its
//! samples, never from a clock; no audio of a reply is handed out after [`VoiceEvent::Interrupted`].

mod config;
mod event;
mod timeline;

mod voice;

mod live;

#[cfg(feature = "notes")]
mod notes;

mod choice;
mod exchange;
mod floor;
mod hearing;
mod mouth;
mod outbox;
mod sentences;
mod spoken;

pub use choice::Chosen;
pub use config::VoiceConfig;
pub use event::{Span, Stage, VadWindow, VoiceEvent};
pub use live::{LiveEvents, LiveVoice};
#[cfg(feature = "notes")]
pub use notes::Notes;
pub use timeline::Timeline;
pub use voice::{Heard, Spoken, Voice, VoiceTurn};

/// JSON Schema of the section `[voice]`.
pub const CONFIG_SCHEMA: &str = include_str!("../config.schema.json");
