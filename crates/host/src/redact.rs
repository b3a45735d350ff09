//! Keeps secrets out of what is shown: logs, listings, crash reports. It replaces known values; it does not guess.

use std::{borrow::Cow, fmt, sync::Arc};

/// Replaces every known secret by `***`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that one secret inside another leaves nothing behind.
    secrets: Arc<[String]>,
}

/// Shorter values are too likely to be part of ordinary words; a secret of this length is none.
const SHORTEST: usize = 4;

impl Redactor {
    /// A redactor of these values; very short ones are not secrets.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().filter(|s| s.len() >= SHORTEST).collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Redactor { secrets: secrets.into() }
    }

    /// The text without secrets; not copied when there are none in it.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in self.secrets.iter() {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), "***"));
            }
        }
        text
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_no_part_of_a_longer_secret_and_no_copy_of_a_clean_text() {
        let redactor = Redactor::new(["token".into(), "token-123".into(), "ab".into()]);
        assert_eq!(redactor.redact("a token-123 and a token"), "a *** and a ***");
        assert!(matches!(redactor.redact("absent"), Cow::Borrowed("absent")));
    }
}
