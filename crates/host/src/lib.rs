//! The host: it finds out which plugins there are, starts them, and lets the rest of the program call what they contribute.
//!
//! It knows contracts, manifests and configuration. It knows no concrete plugin, no command line and no HTTP server.
//!
//! ```
//! use bespoke_host::{Config, Host, Selection};
//! use bespoke_plugin_api::{CallCx, Tool, ToolRequest, serde_json::json};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let config = Config::parse("bespoke.toml", "[plugins.clock]\ntime_zone = 'Europe/Paris'\n")?;
//! let host = Host::builder().config(config).plugins(bespoke_plugin_api::compiled_in()).build()?;
//! host.start(Selection::All).await;
//! for row in host.rows() {
//!     println!("{} is {}", row.id, row.state.name());
//! }
//! if let Some(clock) = host.registry().get::<dyn Tool>("clock") {
//!     // Nobody holds the tool itself: the slot stays valid while its plugin is restarted or replaced.
//!     let now = clock.call(&CallCx::new(), |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({}))).await }).await?;
//!     println!("{}", now.to_text());
//! }
//! host.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants:** no lock is held across a call into a plugin; nobody keeps an `Arc` of a contribution across calls; code of a
//! compiled-in plugin that may block runs on a thread the host can do without.

mod api;
mod breaker;
mod candidate;
mod clock;
mod commands;
mod config;
mod difference;
mod discover;
mod events;
mod generation;
mod grants;
mod hooks;
mod host;
mod http;
mod invoke;
mod lifecycle;
mod manage;
mod metrics;
mod needs;
mod plugin;
mod redact;
mod registry;
mod reload;
mod renew;
mod replace;
mod report;
mod slot;
mod store;
mod supervise;
mod thread;
mod tier;
mod tools;
mod usage;
mod workflow;

pub use api::{ModelStore, RuntimeStore};
pub use candidate::{Artifact, Candidate, State, Tier};
pub use clock::now;
pub use commands::{Caller, CommandInfo, split_arguments};
pub use config::{
    CONFIG_VERSION, Config, ConfigError, ConfigFile, Limits, MIGRATIONS, Migration, Native, NoTerms, Origin, PluginDefaults,
    PluginSettings, Problem, SecretSource, Start, UserHook,
};
pub use difference::{Change, ReloadClass};
pub use discover::{SCHEMA_FILE, discover, find, is_made, open_folder};
pub use events::{EventFilter, EventStats, EventStore, Events, EventsConfig, Subscription, TopicStats, Topics, topics};
pub use grants::{Asked, Asks, Blocked, Consent, Grant, Grants, Use, Used, ask};
pub use hooks::{Answer, HookRow, Hooks, Missed, Outcome, Refused, ToldRow, Tried};
pub use host::{Host, HostBuilder, Selection};
pub use http::{AllowedHost, HostsKey, HttpAllowed, HttpClient};
pub use metrics::Metrics;
pub use redact::{RedactedPieces, Redactor};
pub use registry::Registry;
pub use reload::{PluginReload, ReloadOutcome, ReloadReport};
pub use report::Row;
pub use slot::{DEFAULT_CALL_LIMIT, Lease, Leased, Slot};
pub use store::KeyValue;
pub use supervise::Supervision;
pub use tier::{
    Ability, BESPOKE_INNER_VERBS_V1, BESPOKE_TIERS_V1, Grounds, InnerVerb, PluginFolder, Sandbox, Terms, TierDriver, inner_verb, tiers,
};
pub use usage::{Histogram, Usage, UsageConfig, UsageStore, UsageSummary, day_of};
pub use workflow::{Step, Workflow};
