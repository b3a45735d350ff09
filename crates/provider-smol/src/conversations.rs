//! Caches of conversations between their turns, found again by what they contain.
//!
//! A prompt takes the cache with which it shares the longest beginning; no session has to be named, and two
//! conversations with one system prompt share its computation. What is found is only ever used as far as the tokens
//! are equal, so a wrong guess costs time and never a wrong answer.

use std::sync::{Mutex, PoisonError};

use crate::kv::KvCache;

/// The idle caches, least recently used first.
pub(crate) struct Conversations {
    idle: Mutex<Vec<KvCache>>,
    most: usize,
    bytes: usize,
}

impl Conversations {
    /// Keeps up to `most` caches and up to `bytes` of memory between turns.
    pub(crate) fn new(most: usize, bytes: usize) -> Self {
        Self { idle: Mutex::default(), most, bytes }
    }

    /// A cache that holds a beginning of `prompt`, shorter than it by at least one token, or `new()`.
    pub(crate) fn take(&self, prompt: &[u32], new: impl FnOnce() -> KvCache) -> KvCache {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let best = (0..idle.len()).max_by_key(|i| idle[*i].common_prefix(prompt));
        let Some(best) = best else { return new() };
        // The last token is always computed: its logits are what is wanted.
        let keep = idle[best].common_prefix(prompt).min(prompt.len().saturating_sub(1));
        if keep == 0 {
            return new();
        }
        let lost = idle[best].tokens().len() - keep;
        if lost > keep {
            // Another conversation that begins alike: it keeps what it has, this one starts with a copy.
            return idle[best].prefix(keep);
        }
        let mut cache = idle.remove(best);
        cache.truncate(keep);
        cache
    }

    /// Keeps a cache for the next turn; the least recently used ones make room.
    pub(crate) fn give(&self, cache: KvCache) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(cache);
        while idle.len() > self.most || (!idle.is_empty() && idle.iter().map(KvCache::bytes).sum::<usize>() > self.bytes) {
            idle.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(tokens: &[u32]) -> KvCache {
        let mut cache = KvCache::new(1, 1);
        for place in 0..tokens.len() {
            cache.write(0, place, &[1.0; 64], &[1.0; 64]);
        }
        cache.commit(tokens);
        cache
    }

    fn taken(conversations: &Conversations, prompt: &[u32]) -> Vec<u32> {
        conversations.take(prompt, || cache(&[])).tokens().to_vec()
    }

    #[test]
    fn a_growing_prompt_finds_its_cache_and_leaves_the_other() {
        let all = Conversations::new(4, usize::MAX);
        all.give(cache(&[1, 2, 3, 4]));
        all.give(cache(&[7, 8, 9]));
        assert_eq!(taken(&all, &[1, 2, 3, 5, 6]), [1, 2, 3]);
        assert_eq!(taken(&all, &[7, 8, 9, 10]), [7, 8, 9]);
        assert!(taken(&all, &[7, 8, 9, 10]).is_empty(), "both were taken");
    }

    #[test]
    fn an_equal_prompt_computes_its_last_token() {
        let all = Conversations::new(4, usize::MAX);
        all.give(cache(&[1, 2, 3]));
        assert_eq!(taken(&all, &[1, 2, 3]), [1, 2]);
    }

    #[test]
    fn a_conversation_that_only_begins_alike_gets_a_copy() {
        let all = Conversations::new(4, usize::MAX);
        all.give(cache(&[1, 2, 3, 4, 5, 6]));
        assert_eq!(taken(&all, &[1, 2, 9, 9]), [1, 2]);
        assert_eq!(taken(&all, &[1, 2, 3, 4, 5, 6, 7]), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn count_and_memory_are_bounded() {
        let all = Conversations::new(2, usize::MAX);
        for first in 0..5 {
            all.give(cache(&[first, 1, 2]));
        }
        assert!(taken(&all, &[2, 1, 2, 3]).is_empty());
        assert_eq!(taken(&all, &[3, 1, 2, 3]), [3, 1, 2]);
        let none = Conversations::new(2, 0);
        none.give(cache(&[1, 2]));
        assert!(taken(&none, &[1, 2, 3]).is_empty());
    }
}
