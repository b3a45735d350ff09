//! The wire under strain: a plugin that uses all of the host, slow and greedy streams, broken peers.

mod bodies;
mod examination;
mod guest;
mod host_api;
mod proxy;
mod streams;
mod under;
mod world;
