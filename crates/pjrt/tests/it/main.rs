//! Libraries that are no PJRT plugins, or broken ones, from a few lines of C; and programs on the real plugin for CPUs.

mod fake;
mod real;
