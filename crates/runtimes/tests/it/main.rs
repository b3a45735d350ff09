//! Packs out of made-up wheels, from an index on the loopback; as they are killed, filled up, corrupted and raced.

mod child;
mod crashes;
mod hardware;
mod index;
mod installing;
mod kit;
mod limits;
mod links;
mod listing;
mod real;
mod regressions;
mod removing;
mod specs;
mod switching;
mod tables;
mod verifying;
