//! Benchmarks against the floor, in one run.
