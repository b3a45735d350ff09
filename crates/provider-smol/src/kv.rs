//! The keys and values of the tokens that a conversation has so far: what makes a growing prompt cheap.
//!
//! A cache remembers its tokens, so that the next prompt can keep the part that it shares with them. Numbers are
//! 16-bit floats (as in llama.cpp): 23 KB a token for SmolLM2-135M. Memory grows with the conversation, in blocks.

use crate::half;

/// Width of an attention head; that of every SmolLM2.
pub const HEAD: usize = 64;
/// Tokens in a block.
pub const BLOCK: usize = 16;
/// Keys of sixteen tokens as `[dimension][token]`, or values as `[token][dimension]`: each is read along its inner side.
pub type Block = [u16; HEAD * BLOCK];

/// Keys and values of all layers for a sequence of tokens.
pub struct KvCache {
    tokens: Vec<u32>,
    heads: Vec<HeadCache>,
    per_layer: usize,
}

/// One key head of one layer.
#[derive(Clone, Default)]
pub(crate) struct HeadCache {
    pub(crate) keys: Vec<Block>,
    pub(crate) values: Vec<Block>,
}

impl KvCache {
    /// An empty cache for `layers` layers of `heads` key heads.
    pub fn new(layers: usize, heads: usize) -> Self {
        Self { tokens: Vec::new(), heads: vec![HeadCache::default(); layers * heads], per_layer: heads }
    }

    /// The tokens whose keys and values are here.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of the first tokens of `prompt` are here.
    pub fn common_prefix(&self, prompt: &[u32]) -> usize {
        self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count()
    }

    /// Forgets all tokens from the `len`-th on. Their memory is kept for the next ones.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// A copy of the first `len` tokens.
    pub fn prefix(&self, len: usize) -> Self {
        let len = len.min(self.tokens.len());
        let blocks = len.div_ceil(BLOCK);
        let cut = |all: &Vec<Block>| all[..blocks.min(all.len())].to_vec();
        let heads = self.heads.iter().map(|h| HeadCache { keys: cut(&h.keys), values: cut(&h.values) }).collect();
        Self { tokens: self.tokens[..len].to_vec(), heads, per_layer: self.per_layer }
    }

    /// Bytes that the cache holds.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.heads.iter().map(|h| h.keys.capacity() + h.values.capacity()).sum();
        blocks * size_of::<Block>()
    }

    pub(crate) fn layer(&self, layer: usize) -> &[HeadCache] {
        &self.heads[layer * self.per_layer..(layer + 1) * self.per_layer]
    }

    /// Writes keys and values of one token of one layer at `place`; `[head][HEAD]` each. The token counts only once
    /// [`Self::commit`] has named it, so that a forward pass that stops midway leaves the cache as it was.
    pub(crate) fn write(&mut self, layer: usize, place: usize, keys: &[f32], values: &[f32]) {
        let heads = &mut self.heads[layer * self.per_layer..(layer + 1) * self.per_layer];
        let (block, slot) = (place / BLOCK, place % BLOCK);
        for ((head, key), value) in heads.iter_mut().zip(keys.chunks_exact(HEAD)).zip(values.chunks_exact(HEAD)) {
            if head.keys.len() <= block {
                for part in [&mut head.keys, &mut head.values] {
                    if part.capacity() <= block {
                        // In steps of a quarter: doubling would hold twice the memory of a long conversation.
                        part.reserve_exact((block / 4).max(8) + block + 1 - part.len());
                    }
                    part.resize(block + 1, [0; HEAD * BLOCK]);
                }
            }
            for (to, from) in head.keys[block].iter_mut().skip(slot).step_by(BLOCK).zip(key) {
                *to = half::from_f32(*from);
            }
            for (to, from) in head.values[block][slot * HEAD..].iter_mut().zip(value) {
                *to = half::from_f32(*from);
            }
        }
    }

    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}
