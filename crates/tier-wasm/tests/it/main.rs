//! What a component may do, and what then becomes of it, of its callers and of everybody else.

#![allow(clippy::print_stdout)] // a test says what it measured

mod cache;
mod calls;
mod cycles;
mod faults;
mod foreign;
mod kit;
mod loading;
mod permissions;
mod text;
mod wasi;
