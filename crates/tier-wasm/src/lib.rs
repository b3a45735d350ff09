//! Plugins as wasm components: behind a wall of memory, time and host calls.
