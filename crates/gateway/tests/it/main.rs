//! The gateway over real sockets, with a plugin that does as a request tells it and peers that keep no rule.

mod answers;
mod ends;
mod limits;
mod peer;
mod webhook;
mod world;
