//! The model's tokenizer: byte-level BPE, built from the tokens and merges inside the GGUF file.
//!
//! It turns plain text into tokens and tokens into bytes. Text never becomes a control token: `<|im_end|>` in what a
//! user writes is nine harmless characters in several tokens. Only [`Tokenizer::control`] names the control tokens.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{Read, Seek};

use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use crate::pretokenize::pieces;

/// A tokenizer, read-only and shared by all requests.
pub struct Tokenizer {
    /// The token of each single byte. Some models lack bytes that never occur in their language.
    byte_tokens: [Option<u32>; 256],
    /// Pair of tokens → (rank, merged token); the lowest rank merges first.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// The bytes of all tokens, one after the other; `ends[i]` is where token `i` ends.
    bytes: Vec<u8>,
    ends: Vec<u32>,
    controls: HashMap<String, u32>,
    is_control: Vec<bool>,
    longest: usize,
}

/// ggml's type numbers of tokens that text must not produce.
const CONTROL_TYPES: [i64; 2] = [3, 4];

impl Tokenizer {
    /// Takes the tokenizer out of a model file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another kind of tokenizer, [`Error::Damaged`] if the lists do not fit together.
    pub fn from_gguf<R: Read + Seek>(gguf: &mut Gguf<R>) -> Result<Self> {
        let (model, pre) = (gguf.text("tokenizer.ggml.model")?, gguf.text("tokenizer.ggml.pre")?);
        if (model, pre) != ("gpt2", "smollm") {
            return Err(Error::Unsupported(format!("its tokenizer is {model}/{pre}, not gpt2/smollm")));
        }
        if gguf.value("tokenizer.ggml.add_bos_token") == Some(&Value::Bool(true)) {
            return Err(Error::Unsupported("its tokenizer starts each text with a token of its own".to_owned()));
        }
        let tokens = gguf.take_texts("tokenizer.ggml.tokens")?;
        let merges = gguf.take_texts("tokenizer.ggml.merges")?;
        let types = gguf.ints("tokenizer.ggml.token_type")?;
        Self::new(&tokens, &merges, types)
    }

    /// Builds a tokenizer from the three lists of a GGUF file: tokens in the byte-to-letter writing of GPT-2, merges as
    /// two tokens with a space between, and ggml's token types.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the lists do not fit together.
    pub fn new(tokens: &[String], merges: &[String], types: &[i64]) -> Result<Self> {
        let damaged = |what: String| Error::Damaged { offset: 0, what: format!("tokenizer: {what}") };
        if types.len() != tokens.len() || tokens.is_empty() || tokens.len() > 1 << 20 {
            return Err(damaged(format!("{} tokens with {} types", tokens.len(), types.len())));
        }
        let letters = byte_letters();
        let byte_of: HashMap<char, u8> = (0..=255).zip(letters).map(|(byte, letter)| (letter, byte)).collect();
        let mut ids = HashMap::with_capacity(tokens.len());
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(tokens.len()));
        let mut controls = HashMap::new();
        let is_control: Vec<bool> = types.iter().map(|t| CONTROL_TYPES.contains(t)).collect();
        let mut longest = 1;
        for (id, (token, control)) in (0u32..).zip(tokens.iter().zip(&is_control)) {
            let start = bytes.len();
            if *control {
                controls.insert(token.clone(), id);
                bytes.extend_from_slice(token.as_bytes());
            } else {
                ids.insert(token.as_str(), id);
                for letter in token.chars() {
                    match byte_of.get(&letter) {
                        Some(byte) => bytes.push(*byte),
                        None => return Err(damaged(format!("token {id} has the letter {letter:?}, which stands for no byte"))),
                    }
                }
            }
            longest = longest.max(bytes.len() - start);
            ends.push(u32::try_from(bytes.len()).map_err(|_| damaged("the tokens are too long".to_owned()))?);
        }
        let mut byte_tokens = [None; 256];
        for (slot, letter) in byte_tokens.iter_mut().zip(letters) {
            *slot = ids.get(letter.to_string().as_str()).copied();
        }
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, merge) in (0u32..).zip(merges) {
            let merged = merge.split_once(' ').and_then(|(left, right)| {
                let whole = ids.get(format!("{left}{right}").as_str())?;
                Some(((*ids.get(left)?, *ids.get(right)?), *whole))
            });
            let Some((pair, whole)) = merged else {
                return Err(damaged(format!("merge {rank} ({merge:?}) names tokens that do not exist")));
            };
            table.entry(pair).or_insert((rank, whole));
        }
        Ok(Self { byte_tokens, merges: table, bytes, ends, controls, is_control, longest })
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no token; never true of a tokenizer that was built.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The token of a control word such as `<|im_end|>`.
    pub fn control(&self, word: &str) -> Option<u32> {
        self.controls.get(word).copied()
    }

    /// Whether `token` is a control token, which is never shown.
    pub fn is_control(&self, token: u32) -> bool {
        self.is_control.get(token as usize).copied().unwrap_or(false)
    }

    /// The bytes that `token` stands for; empty for a number that is no token. They may be part of a character.
    pub fn bytes(&self, token: u32) -> &[u8] {
        let at = token as usize;
        let start = if at == 0 { 0 } else { self.ends.get(at - 1).copied().unwrap_or(0) };
        let end = self.ends.get(at).copied().unwrap_or(start);
        &self.bytes[start as usize..end as usize]
    }

    /// The least number of tokens that `bytes` of text can become: cheap, so that a huge text is refused uncounted.
    pub fn at_least(&self, bytes: usize) -> usize {
        bytes / self.longest
    }

    /// Appends the tokens of `text`. Bytes without a token (rare control characters) are left out, as the reference
    /// implementation does. Time is O(n log n) in the longest run of letters.
    pub fn encode(&self, text: &str, into: &mut Vec<u32>) {
        let mut word = Word::default();
        for piece in pieces(text) {
            word.start(piece.bytes().filter_map(|byte| self.byte_tokens[usize::from(byte)]));
            word.merge(&self.merges);
            into.extend(word.tokens());
        }
    }
}

/// One piece of text while its pairs are merged: a linked list in two vectors, and the possible merges in a heap.
#[derive(Default)]
struct Word {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

#[derive(Clone, Copy)]
struct Symbol {
    /// `None` once it was swallowed by its left neighbour.
    token: Option<u32>,
    prev: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

impl Word {
    fn start(&mut self, tokens: impl Iterator<Item = u32>) {
        self.symbols.clear();
        self.queue.clear();
        for (i, token) in (0u32..).zip(tokens) {
            self.symbols.push(Symbol { token: Some(token), prev: i.wrapping_sub(1), next: i + 1 });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
    }

    /// Merges the pair of lowest rank, the leftmost first, until none is left.
    fn merge(&mut self, merges: &HashMap<(u32, u32), (u32, u32)>) {
        for left in 0..self.symbols.len() as u32 {
            self.offer(left, merges);
        }
        while let Some(Reverse((_, left, right, merged))) = self.queue.pop() {
            let (at, gone) = (self.symbols[left as usize], self.symbols[right as usize]);
            // The entry is stale unless these two still stand side by side and still make this token.
            let pair = at.token.zip(gone.token).filter(|_| at.next == right);
            if pair.and_then(|pair| merges.get(&pair)).is_none_or(|(_, whole)| *whole != merged) {
                continue;
            }
            self.symbols[left as usize].token = Some(merged);
            self.symbols[left as usize].next = gone.next;
            self.symbols[right as usize].token = None;
            if gone.next != NONE {
                self.symbols[gone.next as usize].prev = left;
            }
            if at.prev != NONE {
                self.offer(at.prev, merges);
            }
            self.offer(left, merges);
        }
    }

    fn offer(&mut self, left: u32, merges: &HashMap<(u32, u32), (u32, u32)>) {
        let at = self.symbols[left as usize];
        if at.next == NONE {
            return;
        }
        let pair = at.token.zip(self.symbols[at.next as usize].token);
        if let Some((rank, merged)) = pair.and_then(|pair| merges.get(&pair)) {
            self.queue.push(Reverse((*rank, left, at.next, *merged)));
        }
    }

    fn tokens(&self) -> impl Iterator<Item = u32> {
        self.symbols.iter().filter_map(|symbol| symbol.token)
    }
}

/// The letter with which GPT-2's vocabulary writes each byte: printable Latin-1 as itself, the rest from U+0100 on.
fn byte_letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    let mut spare = 0x100u32;
    for (byte, letter) in (0u32..).zip(&mut letters) {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable { byte } else { spare };
        spare += u32::from(!printable);
        // U+0021..U+0143 holds no surrogate, so the code is always a character.
        *letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    letters
}
