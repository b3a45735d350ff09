//! The text turn over a real host, with plugins that say what their test tells them to.

mod cancel;
mod hooks;
mod kit;
mod providers;
mod tools;
mod turns;
