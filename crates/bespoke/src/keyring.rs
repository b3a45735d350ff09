//! `${keyring:service/name}`: the keyring of the operating system. Secret Service on Linux, without a library of C; Keychain on
//! macOS; Credential Manager on Windows.

use std::{sync::mpsc, thread, time::Duration};

use bespoke_host::SecretSource;
use keyring::{Entry, Error};

/// How long a person has to unlock the keyring.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keyring of whoever runs the program.
pub(crate) struct Keyring;

impl SecretSource for Keyring {
    fn scheme(&self) -> &str {
        "keyring"
    }

    fn find(&self, name: &str) -> Result<Option<String>, String> {
        let (service, user) = parts(name)?;
        within(move || match Entry::new(&service, &user).and_then(|entry| entry.get_password()) {
            Ok(secret) => Ok(Some(secret)),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(why(&error)),
        })
    }

    fn store_with(&self, name: &str) -> Option<String> {
        let key = name.strip_prefix("bespoke/")?;
        Some(format!("bespoke config set-secret {key} --keyring"))
    }
}

impl Keyring {
    /// Puts a secret under `service/name`, in place of an older one.
    pub(crate) fn store(name: &str, secret: String) -> Result<(), String> {
        let (service, user) = parts(name)?;
        within(move || Entry::new(&service, &user).and_then(|entry| entry.set_password(&secret)).map_err(|e| why(&e)))
    }
}

fn parts(name: &str) -> Result<(String, String), String> {
    match name.split_once('/') {
        Some((service, user)) if !service.is_empty() && !user.is_empty() => Ok((service.to_owned(), user.to_owned())),
        _ => Err("write it as ${keyring:service/name}".into()),
    }
}

/// On a thread that can be left behind: a keyring waits for a person, and has a runtime of its own.
fn within<T: Send + 'static>(ask: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more when it was too late.
        let _ = sender.send(ask());
    });
    answer.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(format!("it did not answer within {} s", PATIENCE.as_secs())))
}

/// The reason, without what the store may have put beside it.
fn why(error: &Error) -> String {
    match error {
        Error::NoDefaultStore => match Entry::store_status() {
            Err(error) => format!("there is none here: {error}"),
            Ok(()) => "there is none here".into(),
        },
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_parts() {
        assert_eq!(parts("bespoke/openai/key"), Ok(("bespoke".into(), "openai/key".into())));
        for name in ["", "bespoke", "/x", "x/"] {
            assert!(parts(name).is_err(), "{name}");
        }
    }
}
