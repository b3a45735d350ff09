//! The file and what is in it, over real SQLite files in folders of their own.

mod events;
mod file;
mod kill;
mod kit;
mod letters;
mod sessions;
mod usage;
mod values;
