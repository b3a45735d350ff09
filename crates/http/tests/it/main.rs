//! What the client promises, against servers on loopback that keep and break every rule.

mod answers;
mod kit;
mod permissions;
mod refusals;
mod through_host;
mod trust;
