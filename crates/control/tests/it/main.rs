//! A server and its clients in one process: what is answered, what is refused, and what happens when one of them goes.

#![allow(clippy::print_stderr)] // a server that is to be killed says that it serves

mod places;
mod talk;
