//! The wire between host and guest: envelope and frames, no I/O.
