//! The audio crate from outside: real files, broken files, streams.

mod resample;
mod wav;
