//! Builds a plugin's crate into an artefact of a tier: generates the shim that exports it, runs the toolchain that is there, and says what
//! is missing.
