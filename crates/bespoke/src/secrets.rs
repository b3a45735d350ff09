//! Stores of secrets that references in bespoke.toml may name, beside the environment and files.

use std::sync::Arc;

use bespoke_host::SecretSource;

/// The stores that are part of this binary.
#[cfg(not(feature = "keyring"))]
pub(crate) fn sources() -> Vec<Arc<dyn SecretSource>> {
    Vec::new()
}

/// The stores that are part of this binary.
#[cfg(feature = "keyring")]
pub(crate) fn sources() -> Vec<Arc<dyn SecretSource>> {
    vec![Arc::new(crate::keyring::Keyring)]
}
