//! What another program sees of the host, over a pipe in memory.

mod app_factory;
mod kit;
mod manners;
