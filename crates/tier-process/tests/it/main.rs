//! What a child may do, and what then becomes of it, of its callers and of everybody else.

#![allow(clippy::print_stdout)] // a test says what it measured

mod cycles;
mod escapes;
mod faults;
mod kit;
mod limits;
mod lives;
mod matrix;
mod messages;
mod others;
mod python;
mod stuck;
mod swaps;
