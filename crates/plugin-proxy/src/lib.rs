//! The host's side of the wire: turns frames back into the contract traits.
