//! Scripted, deterministic plugins of every kind for tests.
