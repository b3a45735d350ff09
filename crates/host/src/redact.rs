//! Keeps secrets out of what is shown: logs, listings, crash reports. It replaces known values, in the forms in which they travel;
//! it does not guess.

use std::{borrow::Cow, fmt, fmt::Write as _, sync::Arc};

use arc_swap::ArcSwap;
use bespoke_plugin_api::Error;
use serde_json::Value;

/// What stands for a secret.
const MASK: &str = "***";

/// Shorter values are too likely to be part of ordinary words; a secret of this length is none.
const SHORTEST: usize = 4;

/// A shorter piece of Base64 is too likely to be part of something else.
const SHORTEST_BASE64: usize = 8;

/// Shorter lines of a secret of several lines say nothing alone.
const SHORTEST_LINE: usize = 12;

/// Replaces every known secret by `***`: as it is, as JSON and Rust escape it, as URLs encode it, and in Base64, also inside
/// `user:password` of Basic authentication. Cheap to clone; clones learn together.
///
/// Values of fewer than four bytes are not replaced.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<ArcSwap<Known>>,
}

#[derive(Clone, Default)]
struct Known {
    secrets: usize,
    /// Longest first, so that one secret inside another leaves nothing behind.
    forms: Vec<String>,
}

impl Redactor {
    /// A redactor of these values; very short ones are not secrets.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let redactor = Redactor::default();
        secrets.into_iter().for_each(|secret| redactor.learn(secret));
        redactor
    }

    /// From now on this value is not shown either.
    pub fn learn(&self, secret: String) {
        if secret.trim().len() < SHORTEST || self.known.load().forms.contains(&secret) {
            return;
        }
        let new = forms(&secret);
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            known.secrets += 1;
            known.forms.extend(new.iter().cloned());
            known.forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            known.forms.dedup();
            known
        });
    }

    /// From now on nothing that another one knows is shown either.
    pub fn learn_from(&self, other: &Redactor) {
        let other = other.known.load_full();
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            known.secrets += other.secrets;
            known.forms.extend(other.forms.iter().cloned());
            known.forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            known.forms.dedup();
            known
        });
    }

    /// The text without secrets; not copied when there are none in it.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for form in &self.known.load().forms {
            if text.contains(form.as_str()) {
                text = Cow::Owned(text.replace(form.as_str(), MASK));
            }
        }
        text
    }

    /// The same for every text in a value; keys stay as they are.
    pub fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact(text).into_owned(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.redact_value(field)),
            _ => {}
        }
    }

    /// The same for all that an error says: a plugin writes it, and repeats what it does not like.
    pub fn redact_error(&self, error: &Error) -> Error {
        let mut clean = Error::new(error.code(), self.redact(error.message()));
        if error.is_retryable() {
            clean = clean.retryable();
        }
        if let Some(help) = error.help() {
            clean = clean.with_help(self.redact(help));
        }
        if let Some(plugin) = error.plugin() {
            clean = clean.with_plugin(plugin);
        }
        if let Some(mut data) = error.data().cloned() {
            self.redact_value(&mut data);
            clean = clean.with_data(data);
        }
        clean
    }

    /// For a text that is shown piece by piece.
    pub fn pieces(&self) -> RedactedPieces {
        RedactedPieces { redactor: self.clone(), held: String::new() }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.known.load().secrets)
    }
}

/// Takes secrets out of a text that comes in pieces, also those that lie across two of them: the end of a piece is held back for
/// as long as it may be the beginning of a secret.
#[derive(Debug)]
pub struct RedactedPieces {
    redactor: Redactor,
    held: String,
}

impl RedactedPieces {
    /// The next piece; what can be shown by now, which may be nothing.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let known = self.redactor.known.load_full();
        let clean = self.redactor.redact(&self.held).into_owned();
        let begins = |at: usize| known.forms.iter().any(|form| form.len() > clean.len() - at && form.starts_with(&clean[at..]));
        let longest = known.forms.first().map_or(0, String::len);
        let from = clean.floor_char_boundary(clean.len().saturating_sub(longest));
        let cut = (from..clean.len()).find(|at| clean.is_char_boundary(*at) && begins(*at)).unwrap_or(clean.len());
        self.held = clean[cut..].to_owned();
        clean[..cut].to_owned()
    }

    /// What was held back to the end.
    pub fn finish(self) -> String {
        self.redactor.redact(&self.held).into_owned()
    }
}

/// A secret in the forms in which it may be met.
fn forms(secret: &str) -> Vec<String> {
    let mut texts = vec![secret];
    texts.extend(Some(secret.trim()).filter(|trimmed| *trimmed != secret));
    // What shows a text of several lines may break it up.
    texts.extend(secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE && *line != secret));
    let mut forms = Vec::new();
    for text in texts {
        let json = serde_json::Value::from(text).to_string();
        let debug = format!("{text:?}");
        forms.extend([text.to_owned(), json[1..json.len() - 1].to_owned(), debug[1..debug.len() - 1].to_owned()]);
        forms.extend([percent(text, "%20", true), percent(text, "+", true), percent(text, "%20", false)]);
        forms.extend((0..3).flat_map(|offset| base64(text.as_bytes(), offset)));
    }
    forms.sort();
    forms.dedup();
    forms
}

/// As a URL or a form holds it.
fn percent(text: &str, space: &str, upper: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b' ' => out.push_str(space),
            // Writing into a String cannot fail.
            _ if upper => _ = write!(out, "%{byte:02X}"),
            _ => _ = write!(out, "%{byte:02x}"),
        }
    }
    out
}

/// The characters of Base64 that bytes determine when so many others, modulo three, stand before them; in both alphabets.
fn base64(bytes: &[u8], offset: usize) -> Vec<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.len() * 8;
    let bit = |n: usize| bytes[n / 8] >> (7 - n % 8) & 1;
    // The first digit that lies wholly within the bytes: digits begin at multiples of six bits of the whole.
    let first = (6 - offset * 8 % 6) % 6;
    let digits = (first..).step_by(6).take_while(|at| at + 6 <= bits);
    let plain: String = digits.map(|at| char::from(DIGITS[usize::from((at..at + 6).fold(0, |n, i| n << 1 | bit(i)))])).collect();
    if plain.len() < SHORTEST_BASE64 {
        return Vec::new();
    }
    let url = plain.replace('+', "-").replace('/', "_");
    if url == plain { vec![plain] } else { vec![plain, url] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_no_part_of_a_longer_secret_and_no_copy_of_a_clean_text() {
        let redactor = Redactor::new(["token".into(), "token-123".into(), "ab".into()]);
        assert_eq!(redactor.redact("a token-123 and a token"), "a *** and a ***");
        assert!(matches!(redactor.redact("absent"), Cow::Borrowed("absent")));
        let clone = redactor.clone();
        redactor.learn("later".into());
        assert_eq!(clone.redact("sooner or later"), "sooner or ***");
    }

    #[test]
    fn a_secret_is_known_in_the_forms_in_which_it_travels() {
        let redactor = Redactor::new(["p\"ss w/rd+ü\n2".into()]);
        for form in [
            "p\"ss w/rd+ü\n2",
            r#"p\"ss w/rd+ü\n2"#,
            "p%22ss%20w%2Frd%2B%C3%BC%0A2",
            "p%22ss+w%2Frd%2B%C3%BC%0A2",
            "p%22ss%20w%2frd%2b%c3%bc%0a2",
        ] {
            assert_eq!(redactor.redact(&format!("<{form}>")), "<***>", "{form}");
        }
    }

    #[test]
    fn base64_is_known_wherever_the_secret_lies_in_it() {
        // Encoded by coreutils: printf '%s' TEXT | base64.
        let redactor = Redactor::new(["sk-12345-abc>>>???".into()]);
        for (encoded, left) in [
            ("c2stMTIzNDUtYWJjPj4+Pz8/", "***"),
            ("c2stMTIzNDUtYWJjPj4-Pz8_", "***"),
            ("YTpzay0xMjM0NS1hYmM+Pj4/Pz8=", "YTp***8="),
            ("YWI6c2stMTIzNDUtYWJjPj4+Pz8/", "YWI6***"),
            ("YWJjOnNrLTEyMzQ1LWFiYz4+Pj8/Pw==", "YWJjOn***w=="),
        ] {
            assert_eq!(redactor.redact(encoded), left, "{encoded}");
        }
    }

    #[test]
    fn a_secret_across_pieces_is_not_shown_and_little_is_held_back() {
        let redactor = Redactor::new(["hunter2hunter2".into()]);
        let mut pieces = redactor.pieces();
        let shown: Vec<_> = ["it is hun", "ter2hu", "nter2, hun", "gry", " h"].iter().map(|piece| pieces.push(piece)).collect();
        assert_eq!(shown, ["it is ", "", "***, ", "hungry", " "]);
        assert_eq!(pieces.finish(), "h");
        let mut cut = redactor.pieces();
        assert_eq!(cut.push("über hunter2é"), "über hunter2é");
    }
}
