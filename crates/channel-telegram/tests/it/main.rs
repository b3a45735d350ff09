//! The plugin before a Bot API: one in memory whose answers are scripted, servers on loopback that misbehave, and the emulator.

mod access;
mod albums;
mod conformance;
mod emulator;
mod faults;
mod kit;
mod loopback;
mod person;
mod polling;
mod sending;
mod webhook;
