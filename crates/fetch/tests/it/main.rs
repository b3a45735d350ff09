//! Fetching against a loopback server, folders, stand-ins for pip and npm, and the real ones.

mod concurrent;
mod folders;
mod indexes;
mod logins;
mod names;
mod packages;
mod server;
mod stores;
mod urls;
mod wheels;
mod workbench;
