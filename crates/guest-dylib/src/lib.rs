//! Serves a plugin from a dynamic library: the C ABI that the host calls. The driver only: what is said is the guest core's.
