//! What the host promises, against plugins that keep and break every rule.

#![allow(clippy::print_stdout)] // a test says what it measured

mod aisopod;
mod bus;
mod calls;
mod commands;
mod config;
mod cycles;
mod discovery;
mod discovery_folders;
mod grants;
mod guards;
mod hooks;
mod http;
mod kit;
mod lifecycle;
mod listening;
mod manage;
mod mortal;
mod reload;
mod services;
mod stress;
mod supervise;
