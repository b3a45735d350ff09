//! One plugin, unmodified, in all four tiers: it says the same to the last bit, keeps the same rules, and what it remembers goes from any
//! tier to any other. It is `examples/plugins/chimes`, built as an author builds it.

mod built;
mod rules;
mod suite;
mod swaps;
