//! What a library may do, and what then becomes of it, of its callers and of everybody else.

mod conformance;
mod copies;
mod defects;
mod dice;
mod fatal;
mod faults;
mod folders;
mod header;
mod kit;
mod panics;
mod trust;
