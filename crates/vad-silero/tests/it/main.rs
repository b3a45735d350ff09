//! Silero VAD against what the original gives, on real recordings.

#![allow(clippy::print_stdout)] // a test says which recordings it covered

#[path = "../../../onnx/tests/support/mod.rs"]
mod support;

mod allocations;
mod conformance;
mod engines;
mod kit;
mod model;
mod plugin;
mod segmenters;
