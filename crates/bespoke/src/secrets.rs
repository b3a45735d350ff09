//! Stores of secrets that references in bespoke.toml may name, beside the environment and files.

use std::sync::Arc;

use bespoke_host::SecretSource;

use crate::exit::{Failure, Result};

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

/// The secret that the keyring has under a name.
#[cfg(not(feature = "keyring"))]
pub(crate) fn in_keyring(_: &str) -> Result<Option<String>> {
    Err(no_keyring())
}

/// The secret that the keyring has under a name.
#[cfg(feature = "keyring")]
pub(crate) fn in_keyring(name: &str) -> Result<Option<String>> {
    bespoke_host::SecretSource::find(&crate::keyring::Keyring, name).map_err(failed)
}

/// Puts a secret into the keyring; the reference that stands for it.
#[cfg(not(feature = "keyring"))]
pub(crate) fn keep_in_keyring(_: &str, _: &str) -> Result<String> {
    Err(no_keyring())
}

/// Puts a secret into the keyring; the reference that stands for it.
#[cfg(feature = "keyring")]
pub(crate) fn keep_in_keyring(name: &str, secret: &str) -> Result<String> {
    crate::keyring::Keyring::store(name, secret.to_owned()).map_err(failed)?;
    Ok(format!("${{keyring:{name}}}"))
}

#[cfg(not(feature = "keyring"))]
fn no_keyring() -> Failure {
    Failure::failed("this program knows no keyring: it was built without the feature `keyring`")
        .help("bespoke config set-secret KEY, without --keyring")
}

#[cfg(feature = "keyring")]
fn failed(why: String) -> Failure {
    Failure::failed(format!("the keyring: {why}")).help("bespoke config set-secret KEY, without --keyring")
}
