//! The program as a user has it: the binary is run with a home of its own, and what it prints, writes and returns is looked at.

#![allow(clippy::print_stdout)] // a test says what it measured

// A driver that is none, for who looks for devices.
#[path = "../../../cuda/tests/support/mod.rs"]
mod machine;

mod bot_api;
mod program;
mod words;

mod build;
mod chain;
mod configuration;
mod conformance;
mod consent;
mod conversation;
mod defects;
mod detectors;
mod doctor;
mod dylib;
mod foreign;
mod guide;
mod hooks;
mod host_stdio;
mod init;
mod killed;
mod licenses;
mod manners;
mod mistakes;
mod models;
mod packs;
mod plugin_commands;
mod plugin_test;
mod plugins;
mod process;
mod running;
mod runtime;
mod secrets;
mod serve;
mod sessions;
mod telegram;
mod telegram_crowd;
mod tutorial;
mod under_way;
