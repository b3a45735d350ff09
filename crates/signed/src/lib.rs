//! Signatures of what goes over HTTP between two who share a key. No HTTP, no clock, no memory of what came before.
//!
//! A message goes with two headers: [`TIMESTAMP`] has the seconds since 1970, and [`SIGNATURE`] `v1=` and, in hexadecimal digits,
//! HMAC-SHA256 of the timestamp, a dot and the body. Whoever keeps a message can send it again within the window: the receiver has to
//! remember the ids of those.
//!
//! ```
//! use std::time::Duration;
//!
//! let key = b"a key of both";
//! let signature = bespoke_signed::sign(key, 1_750_000_000, b"{}");
//! let window = Duration::from_secs(300);
//! assert_eq!(bespoke_signed::verify(key, "1750000000", &signature, b"{}", 1_750_000_060, window), Ok(()));
//! assert!(bespoke_signed::verify(key, "1750000000", &signature, b"{ }", 1_750_000_060, window).is_err());
//! ```

use std::{fmt::Write as _, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header with the time, in small letters.
pub const TIMESTAMP: &str = "x-bespoke-timestamp";
/// The header with the signature, in small letters.
pub const SIGNATURE: &str = "x-bespoke-signature";

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no key to hold it against.
    #[error("there is no signing key")]
    NoKey,
    /// The timestamp is no number of seconds.
    #[error("x-bespoke-timestamp is no number of seconds since 1970")]
    Timestamp,
    /// It was signed too long ago, or will be.
    #[error("x-bespoke-timestamp is too far from the time here")]
    Stale,
    /// It was signed with another key, or changed since.
    #[error("x-bespoke-signature does not fit the timestamp and the body")]
    Signature,
}

/// The value of [`SIGNATURE`] for a body that is sent at this second.
pub fn sign(key: &[u8], timestamp: u64, body: &[u8]) -> String {
    let mut signature = String::from("v1=");
    for byte in mac(key, timestamp.to_string().as_bytes(), body).finalize().into_bytes() {
        // Writing to a string cannot fail.
        let _ = write!(signature, "{byte:02x}");
    }
    signature
}

/// Whether both headers fit the body, at this second, give or take the window. Takes the same time wherever a signature differs.
///
/// # Errors
/// [`Refusal`]; an empty key never fits.
pub fn verify(key: &[u8], timestamp: &str, signature: &str, body: &[u8], now: u64, window: Duration) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::NoKey);
    }
    // Digits only: `parse` would take a plus.
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
    let at: u64 = timestamp.parse().ok().filter(|_| digits).ok_or(Refusal::Timestamp)?;
    if at.abs_diff(now) > window.as_secs() {
        return Err(Refusal::Stale);
    }
    let expected = signature.strip_prefix("v1=").and_then(bytes_of).ok_or(Refusal::Signature)?;
    mac(key, timestamp.as_bytes(), body).verify_slice(&expected).map_err(|_| Refusal::Signature)
}

fn mac(key: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
    // A key of any length is taken: longer ones than a block are hashed first (RFC 2104).
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(timestamp);
    mac.update(b".");
    mac.update(body);
    mac
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    // Each pair is two ASCII digits: `from_str_radix` alone would take a sign.
    let whole = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| (0..32).filter_map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);
    const NOW: u64 = 1_750_000_000;

    #[test]
    fn is_what_openssl_makes_of_it() {
        // printf '1750000000.{"text":"hi"}' | openssl dgst -sha256 -hmac 's3cret'
        let signature = sign(b"s3cret", NOW, br#"{"text":"hi"}"#);
        assert_eq!(signature, "v1=a7b59313aa454d04ef1ea084a604d728f52bfc972e527b9a233f01af2e33af6f");
    }

    #[test]
    fn is_believed_within_the_window_only() {
        for (at, believed) in [(NOW, true), (NOW - 300, true), (NOW + 300, true), (NOW - 301, false), (NOW + 301, false), (0, false)] {
            let signature = sign(b"k", at, b"body");
            let verified = verify(b"k", &at.to_string(), &signature, b"body", NOW, WINDOW);
            assert_eq!(verified, if believed { Ok(()) } else { Err(Refusal::Stale) }, "{at}");
        }
        assert_eq!(verify(b"k", "18446744073709551615", &sign(b"k", u64::MAX, b""), b"", NOW, WINDOW), Err(Refusal::Stale));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (time, good) = (NOW.to_string(), sign(b"k", NOW, b"body"));
        let check = |key: &[u8], time: &str, signature: &str, body: &[u8]| verify(key, time, signature, body, NOW, WINDOW);
        assert_eq!(check(b"k", &time, &good, b"body"), Ok(()));
        assert_eq!(check(b"k", &time, &good.to_uppercase().replace("V1", "v1"), b"body"), Ok(()));
        assert_eq!(check(b"", &time, &sign(b"", NOW, b"body"), b"body"), Err(Refusal::NoKey));
        for time in ["", "now", "-1", "+1750000000", "1750000000.0", " 1750000000", "99999999999999999999999"] {
            assert_eq!(check(b"k", time, &good, b"body"), Err(Refusal::Timestamp), "{time:?}");
        }
        let mut flipped = good.clone();
        let last = if flipped.pop() == Some('0') { '1' } else { '0' };
        flipped.push(last);
        for signature in ["", "v1=", &good[3..], &good[..66], &format!("{good}0"), &flipped, &good.replace("v1", "v2"), "v1=é"] {
            assert_eq!(check(b"k", &time, signature, b"body"), Err(Refusal::Signature), "{signature:?}");
        }
        assert_eq!(check(b"other", &time, &good, b"body"), Err(Refusal::Signature));
        assert_eq!(check(b"k", &time, &good, b"Body"), Err(Refusal::Signature));
        // The dot keeps the two apart.
        assert_eq!(check(b"k", &(NOW - 1).to_string(), &good, b"body"), Err(Refusal::Signature));
    }
}
