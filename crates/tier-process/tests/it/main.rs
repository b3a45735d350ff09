//! What a child may do, and what then becomes of it, of its callers and of everybody else.

mod faults;
mod kit;
mod limits;
mod lives;
mod python;
