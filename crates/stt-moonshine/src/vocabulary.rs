//! Token numbers to text: the decoding half of the SentencePiece-style BPE in `tokenizer.json`. There is no encoder
//! here, because speech recognition never turns text into tokens.

use std::path::Path;

use serde::Deserialize;

use crate::error::EngineError;

/// SentencePiece writes a space as this character.
const SPACE_MARK: char = '\u{2581}';

/// What each token number stands for.
#[derive(Debug)]
pub struct Vocabulary {
    pieces: Vec<Piece>,
    /// `<s>`: what decoding starts from.
    pub start: u32,
    /// `</s>`: what the model says when it is done.
    pub end: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// Text with its spaces in place.
    Text(String),
    /// One byte of a character that has no piece of its own (`<0xNN>`).
    Byte(u8),
    /// Control tokens, and numbers that the file leaves out: they have no text.
    None,
}

impl Vocabulary {
    /// Reads `tokenizer.json` (the format of the `tokenizers` library: `model.vocab` and `added_tokens`).
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not such JSON, or has no `<s>` and `</s>`.
    pub fn load(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(|source| EngineError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|reason| EngineError::Tokenizer { path: path.into(), reason })
    }

    fn parse(json: &str) -> Result<Self, String> {
        let file: TokenizerFile = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let tokens = || file.model.vocab.iter().map(|(text, &id)| (text.as_str(), id));
        let added = || file.added_tokens.iter().map(|t| (t.content.as_str(), t.id));

        // A hostile file may name any number; the real one has 32,768 tokens.
        let size = tokens().chain(added()).map(|(_, id)| id as usize + 1).max().unwrap_or(0);
        if size > MAX_TOKENS {
            return Err(format!("token number {} is beyond {MAX_TOKENS}", size - 1));
        }
        let mut pieces = vec![Piece::None; size];
        for (text, id) in tokens() {
            pieces[id as usize] = Piece::read(text);
        }
        for token in file.added_tokens.iter().filter(|t| t.special) {
            pieces[token.id as usize] = Piece::None;
        }
        let find =
            |name: &str| added().chain(tokens()).find(|(text, _)| *text == name).map(|(_, id)| id).ok_or(format!("it has no {name}"));
        Ok(Self { start: find("<s>")?, end: find("</s>")?, pieces })
    }

    /// The text of a run of tokens, without the space before the first word. Bytes that form no character become
    /// U+FFFD; unknown numbers are left out.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for &token in tokens {
            match self.pieces.get(token as usize) {
                Some(Piece::Text(text)) => bytes.extend_from_slice(text.as_bytes()),
                Some(Piece::Byte(byte)) => bytes.push(*byte),
                Some(Piece::None) | None => {}
            }
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl Piece {
    fn read(text: &str) -> Self {
        let byte = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>')).filter(|hex| hex.len() == 2);
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => Self::Byte(byte),
            None => Self::Text(text.replace(SPACE_MARK, " ")),
        }
    }
}

const MAX_TOKENS: usize = 1 << 20;

#[derive(Deserialize)]
struct TokenizerFile {
    model: BpeModel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct BpeModel {
    vocab: std::collections::HashMap<String, u32>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": true},
            {"id": 1, "content": "<s>", "special": true},
            {"id": 2, "content": "</s>", "special": true}
        ],
        "model": {"vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0xC3>": 3, "<0xA9>": 4, "▁caf": 5, "▁no": 6, "<0xZZ>": 7}}
    }"#;

    #[test]
    fn decodes_spaces_bytes_and_control_tokens() {
        let vocabulary = Vocabulary::parse(SMALL).unwrap();
        assert_eq!((vocabulary.start, vocabulary.end), (1, 2));
        assert_eq!(vocabulary.decode(&[1, 6, 5, 3, 4, 2]), "no café");
        assert_eq!(vocabulary.decode(&[5, 3]), "caf\u{fffd}", "half a character");
        assert_eq!(vocabulary.decode(&[7, 4_000_000]), "<0xZZ>", "unknown numbers are left out");
        assert_eq!(vocabulary.decode(&[]), "");
    }

    #[test]
    fn refuses_files_that_are_no_tokenizer() {
        for (json, part) in [
            ("", "EOF"),
            ("{}", "model"),
            (r#"{"model": {"vocab": {"a": 0}}}"#, "no <s>"),
            (r#"{"model": {"vocab": {"<s>": 0, "</s>": 4294967295}}}"#, "beyond"),
        ] {
            let error = Vocabulary::parse(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
