//! Silero VAD against what the original gives, on real recordings.

#[path = "../../../onnx/tests/support/mod.rs"]
mod support;

mod engines;
mod kit;
mod model;
mod segmenters;
