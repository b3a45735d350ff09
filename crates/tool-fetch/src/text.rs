//! From the bytes of an answer to a text: which kind of thing it is, in which character set, without what nobody can see.

use encoding_rs::{Encoding, UTF_8};

/// Bytes in which a page says its character set, and in which a text shows that it is none.
const PROLOGUE: usize = 1024;

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Text,
    /// Nothing to read: an image, an archive, ….
    Binary,
}

/// The type of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentType {
    /// Such as `text/html`, in lower case; empty when the server did not say.
    pub(crate) essence: String,
    charset: Option<String>,
}

impl ContentType {
    /// Reads the header.
    pub(crate) fn parse(header: Option<&str>) -> Self {
        let mut parts = header.unwrap_or_default().split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let essence = if essence.len() <= 100 && essence.bytes().all(|b| b.is_ascii_graphic()) { essence } else { String::new() };
        let charset = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']);
            name.trim().eq_ignore_ascii_case("charset").then(|| value.to_owned())
        });
        ContentType { essence, charset }
    }

    /// What the type says; `None` when it says nothing and the bytes must.
    pub(crate) fn form(&self) -> Option<Form> {
        let (kind, rest) = self.essence.split_once('/')?;
        Some(match (kind, rest) {
            ("text", "html") | ("application", "xhtml+xml") => Form::Html,
            ("text", _) => Form::Text,
            (
                "application",
                "json" | "xml" | "javascript" | "ecmascript" | "x-javascript" | "x-ndjson" | "ndjson" | "jsonl" | "yaml" | "x-yaml"
                | "toml" | "sql" | "graphql" | "x-sh" | "markdown",
            ) => Form::Text,
            (_, rest) if rest.ends_with("+json") || rest.ends_with("+xml") && kind != "image" || rest.ends_with("+yaml") => Form::Text,
            _ => Form::Binary,
        })
    }
}

/// What bytes of no known type are. Also holds a server to its word: text has no zero bytes.
pub(crate) fn form_of(content_type: &ContentType, bytes: &[u8]) -> Form {
    let head = &bytes[..bytes.len().min(PROLOGUE)];
    let wide = Encoding::for_bom(head).is_some()
        || content_type.charset.as_deref().is_some_and(|label| label.len() >= 5 && label[..5].eq_ignore_ascii_case("utf-1"));
    if head.contains(&0) && !wide {
        return Form::Binary;
    }
    content_type.form().unwrap_or_else(|| {
        let begin = head.trim_ascii_start();
        let is = |tag: &[u8]| begin.len() >= tag.len() && begin[..tag.len()].eq_ignore_ascii_case(tag);
        if is(b"<!doctype html") || is(b"<html") || is(b"<head") || is(b"<body") { Form::Html } else { Form::Text }
    })
}

/// Decodes a text, and says what was not right about it. The mark at its begin counts most, then the header, then what an HTML
/// page says of itself; UTF-8 when nothing does.
pub(crate) fn decode(content_type: &ContentType, form: Form, bytes: &[u8]) -> (String, Option<String>) {
    let label = content_type.charset.clone().or_else(|| if form == Form::Html { declared(bytes) } else { None });
    let (encoding, unknown) = match &label {
        None => (UTF_8, None),
        Some(label) => match Encoding::for_label(label.as_bytes()) {
            Some(encoding) => (encoding, None),
            // Not repeated: it stands outside of the marks, and may be any text.
            None => (UTF_8, Some("its character set is unknown and was read as UTF-8".to_owned())),
        },
    };
    let (text, used, broken) = encoding.decode(bytes);
    let text = text.into_owned();
    let note = unknown.or_else(|| broken.then(|| format!("some of its bytes are no {} and stand as \u{fffd}", used.name())));
    (text, note)
}

/// The character set in the first `meta` that names one.
fn declared(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(PROLOGUE)]).to_ascii_lowercase();
    head.split("<meta").skip(1).find_map(|meta| {
        let tag = &meta[..meta.find('>').unwrap_or(meta.len())];
        let value = tag.split("charset").nth(1)?.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
        let end = value.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c))).unwrap_or(value.len());
        // A page that was found by its ASCII letters is not in UTF-16, whatever it says.
        let label = if value[..end].starts_with("utf-16") { "utf-8" } else { &value[..end] };
        (!label.is_empty()).then(|| label.to_owned())
    })
}

/// A text without what a reader would not see and a model would.
pub(crate) fn visible(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_hidden(*c)).collect()
}

/// Characters without a glyph that carry text past a reader, turn it around, or are no text: controls, marks of direction,
/// zero-width spaces, tags. The joiners that scripts and emoji need are none of them.
pub(crate) fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (header, bytes, form) in [
            (Some("text/html; charset=utf-8"), &b"x"[..], Form::Html),
            (Some("Application/XHTML+XML"), b"x", Form::Html),
            (Some("text/markdown"), b"<html>", Form::Text),
            (Some("application/json"), b"{}", Form::Text),
            (Some("application/ld+json"), b"{}", Form::Text),
            (Some("application/rss+xml"), b"<rss>", Form::Text),
            (Some("image/svg+xml"), b"<svg>", Form::Binary),
            (Some("image/png"), b"x", Form::Binary),
            (Some("application/octet-stream"), b"x", Form::Binary),
            (Some("application/pdf"), b"%PDF", Form::Binary),
            (Some("text/plain"), b"GIF89a\0\0", Form::Binary),
            (Some("text/plain; charset=utf-16le"), b"a\0b\0", Form::Text),
            (Some("text/plain"), b"\xff\xfea\0b\0", Form::Text),
            (None, b" \n<!DOCTYPE HTML>", Form::Html),
            (None, b"plain", Form::Text),
            (None, b"PK\x03\x04\0\0", Form::Binary),
            (None, b"", Form::Text),
            (Some(""), b"<html", Form::Html),
            (Some("nonsense"), b"x", Form::Text),
            (Some(";;;"), b"x", Form::Text),
        ] {
            assert_eq!(form_of(&ContentType::parse(header), bytes), form, "{header:?} {bytes:?}");
        }
    }

    #[test]
    fn character_sets() {
        let unknown = Some("its character set is unknown and was read as UTF-8");
        for (header, bytes, text, note) in [
            ("text/plain", "žluťoučký".as_bytes(), "žluťoučký", None),
            ("text/plain; charset=ISO-8859-2", b"\xbelu\xbb", "žluť", None),
            ("text/plain; charset=\"Shift_JIS\"", b"\x93\xfa\x96{", "日本", None),
            ("text/plain; a=b; CHARSET = 'windows-1251' ", b"\xcf\xf0", "Пр", None),
            ("text/html; charset=utf-8", b"\xff\xfea\0", "a", None),
            ("text/html", b"<meta charset=windows-1252>\x80", "<meta charset=windows-1252>€", None),
            (
                "text/html",
                b"<META http-equiv=x content='text/html; charset=koi8-r'>\xd0",
                "<META http-equiv=x content='text/html; charset=koi8-r'>п",
                None,
            ),
            ("text/html", b"<meta charset=utf-16>a", "<meta charset=utf-16>a", None),
            ("text/html", b"<meta name=charset><meta charset=\"\">\xc3\xa9", "<meta name=charset><meta charset=\"\">é", None),
            ("text/plain", b"<meta charset=koi8-r>\xc3\xa9", "<meta charset=koi8-r>é", None),
            ("text/plain; charset=klingon", b"a", "a", unknown),
            ("text/plain", b"a\xffb", "a\u{fffd}b", Some("some of its bytes are no UTF-8 and stand as \u{fffd}")),
        ] {
            let content_type = ContentType::parse(Some(header));
            let (got, said) = decode(&content_type, content_type.form().unwrap(), bytes);
            assert_eq!((got.as_str(), said.as_deref()), (text, note), "{header}");
        }
    }

    #[test]
    fn hidden_characters_are_left_out() {
        assert_eq!(visible("a\u{200b}b\u{202e}c\u{e0049}\u{e007f}\u{feff}\x1b[31m\r\n\td\u{ad}"), "abc[31m\n\td");
        assert_eq!(visible("نمی\u{200c}خواهم 👨\u{200d}👩"), "نمی\u{200c}خواهم 👨\u{200d}👩");
    }
}
