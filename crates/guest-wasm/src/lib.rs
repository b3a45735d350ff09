//! Serves a plugin from a wasm component: the world that the host calls. The driver only: what is said is the guest core's.
