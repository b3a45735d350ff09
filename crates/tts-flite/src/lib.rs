//! flite: a voice inside the binary.
