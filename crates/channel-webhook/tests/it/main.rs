//! The webhook channel: what is believed, what is acknowledged, and what is sent.

mod example;
mod receiving;
mod sending;
mod tiers;
mod world;
