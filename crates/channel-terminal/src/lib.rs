//! The terminal channel.
