//! plugin.toml, parsed with positions; no I/O.
