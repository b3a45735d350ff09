//! The text turn over a real host, with plugins that say what their test tells them to.

mod budgets;
mod cancel;
mod guards;
mod hooks;
mod journal;
mod kit;
mod providers;
mod servers;
mod tools;
mod turns;
mod workflows;
