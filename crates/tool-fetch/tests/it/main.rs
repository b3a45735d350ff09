//! The tool behind a host with the client of the program, over names that a test made up; and its limits, on a clock that stands.

mod escapes;
mod kit;
mod limits;
mod pages;
mod tiers;
