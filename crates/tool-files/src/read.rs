//! A file, or a part of it, as text; of what is no text, what it is; of a folder, what is in it.

use std::io::{self, Read as _, Seek, SeekFrom};

use bespoke_plugin_api::{
    CancelToken, ToolOutput,
    serde_json::{Value, json},
};
use cap_std::fs::File;

use crate::{
    list::list_at,
    name::RelPath,
    near,
    refusal::{Refusal, Shown},
    root::Root,
};

/// Bytes of the longest character: a part of at least so many has a whole one.
const LONGEST_CHARACTER: u64 = 4;

/// What was read.
pub(crate) struct Read {
    /// What the model reads of it.
    pub(crate) text: String,
    pub(crate) data: Value,
    /// Whether `text` is what the file says, and not what it is.
    pub(crate) says: bool,
}

/// Reads `limit` bytes from `offset` on, moved to whole characters; a folder is listed, with `most` entries.
pub(crate) fn read(root: &Root, path: &str, offset: u64, limit: u64, most: usize, cancel: &CancelToken) -> Result<ToolOutput, Refusal> {
    let path = root.parse(path)?;
    let read = match read_at(root, &path, offset, limit) {
        Ok(read) => Ok(ToolOutput::text(read.text).with_data(read.data)),
        Err(Refusal::NotAFile(_)) => list_at(root, &path, most, cancel),
        Err(other) => Err(other),
    };
    read.map_err(|refusal| near::explain(root, &path, refusal, cancel))
}

/// Reads a file.
pub(crate) fn read_at(root: &Root, path: &RelPath, offset: u64, limit: u64) -> Result<Read, Refusal> {
    let shown = Shown::new(&path.text());
    let Some((folders, name)) = path.split() else { return Err(Refusal::NotAFile(Shown::new("."))) };
    let dir = root.folder(folders)?;
    let (mut file, there) = root.file(&dir, name, || shown.clone())?;
    let size = there.len();
    if offset > 0 && offset >= size {
        return Err(Refusal::BeyondEnd(shown, size, offset));
    }
    let io = |e| Refusal::Io(shown.clone(), e);
    let mut begin = Vec::new();
    (&mut file).take(1024).read_to_end(&mut begin).map_err(io)?;
    let part = part(&mut file, offset, limit).map_err(io)?;
    if let Some(what) = binary(&begin).or_else(|| part.contains(&0).then_some("binary data")) {
        let text = format!("{shown} is no text: {what}, {size} bytes");
        return Ok(Read { text, data: json!({ "path": path.text(), "size": size, "binary": what }), says: false });
    }
    let (skipped, kept) = whole_characters(&part, offset > 0, offset + (part.len() as u64) < size);
    let (from, to) = (offset + skipped as u64, offset + (skipped + kept) as u64);
    let decoded = String::from_utf8_lossy(&part[skipped..skipped + kept]);
    let mut text = decoded.to_string();
    let mut data = json!({ "path": path.text(), "size": size, "offset": from, "text": text });
    if size == 0 {
        text = format!("{shown} is empty");
    }
    if matches!(decoded, std::borrow::Cow::Owned(_)) {
        text.push_str("\n[some bytes are no UTF-8 and stand as \u{fffd}]");
    }
    if to < size {
        text.push_str(&format!("\n[bytes {from} to {to} of {size}; to read on, call read_file with offset {to}]"));
        data["next_offset"] = to.into();
    }
    Ok(Read { text, data, says: size > 0 })
}

fn part(file: &mut File, offset: u64, limit: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut part = Vec::new();
    file.take(limit.max(LONGEST_CHARACTER)).read_to_end(&mut part)?;
    Ok(part)
}

/// How many bytes to skip at the beginning and to keep then, so that no character is cut.
fn whole_characters(part: &[u8], middle: bool, more: bool) -> (usize, usize) {
    let continues = |b: &u8| b & 0b1100_0000 == 0b1000_0000;
    let skipped = if middle { part.iter().take(3).take_while(|b| continues(b)).count() } else { 0 };
    let rest = &part[skipped..];
    if !more {
        return (skipped, rest.len());
    }
    // An unfinished character is left for the next part, unless it is all there is.
    (skipped, (rest.len() - unfinished(rest)).max(1).min(rest.len()))
}

/// Bytes at the end that begin a character and do not end it.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

/// What a file is by its first bytes, if it is no text.
pub(crate) fn binary(begin: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: &[(&[u8], &str)] = &[
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"%PDF-", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive or an office document"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
        (b"\x7fELF", "a program"),
        (b"RIFF", "audio, video or an image in RIFF"),
        (b"OggS", "Ogg audio or video"),
        (b"fLaC", "FLAC audio"),
        (b"ID3", "MP3 audio"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xff\xfe", "text in UTF-16"),
        (b"\xfe\xff", "text in UTF-16"),
    ];
    let known = BEGINNINGS.iter().find(|(magic, _)| begin.starts_with(magic)).map(|(_, what)| *what);
    known.or_else(|| begin.contains(&0).then_some("binary data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_to_the_whole_whatever_their_length() {
        let whole = "aä€🦀".repeat(9);
        for limit in 4..12 {
            let (mut at, mut joined) = (0, String::new());
            while at < whole.len() {
                let part = &whole.as_bytes()[at..(at + limit).min(whole.len())];
                let (skipped, kept) = whole_characters(part, at > 0, at + part.len() < whole.len());
                joined.push_str(std::str::from_utf8(&part[skipped..skipped + kept]).unwrap());
                at += skipped + kept;
            }
            assert_eq!(joined, whole, "limit {limit}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_come_forward_too() {
        for bytes in [&b"\xff\xff\xff\xff"[..], b"\x80\x80\x80\x80\x80", b"abc\xf0", b"\xf0"] {
            let (skipped, kept) = whole_characters(bytes, false, true);
            assert!(skipped == 0 && kept >= 1, "{bytes:?}: {kept}");
        }
    }
}
