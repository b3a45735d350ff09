//! The voice turn over a real host, with engines that do what a test tells them.

mod cast;
mod live;
mod notes;
mod recording;
