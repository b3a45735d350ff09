//! For the tests of plugin crates: a host to test against, a second tier in memory, and the conformance suite.
//!
//! A plugin crate has two tests that cost it ten lines:
//!
//! ```text
//! #[test]
//! fn behaves_the_same_in_every_tier() {
//!     bespoke_plugin_testkit::Conformance::new(&crate::BESPOKE_PLUGIN).tool("clock", json!({})).check();
//! }
//!
//! #[test]
//! fn the_schema_is_fresh() {
//!     bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
//! }
//! ```
//!
//! [`Conformance`] runs one script of calls against the plugin compiled in and against the plugin behind the wire, and
//! compares what came out byte for byte. [`loopback`] is that second tier: guest core and proxy joined by memory. [`TestHost`]
//! is the world: a clock that is set, a log that is read, storage in memory, no network unless scripted.

mod allocations;
mod conformance;
mod examination;
mod executor;
mod host;
mod loopback;
mod manifest;
mod rules;
mod running;
mod schema;

pub use crate::{
    allocations::Counting,
    conformance::Conformance,
    examination::{Cases, Check, Examination, Fault, Outcome},
    executor::{block_on, block_on_for},
    host::{Clock, TestHost},
    loopback::{Probe, loopback},
    running::Start,
    schema::check_config_schema,
};
