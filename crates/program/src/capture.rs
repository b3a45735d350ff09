//! The output of a program, of which the beginning and the end are kept: what it is and how it went.

use std::collections::VecDeque;

/// Bytes of one stream.
#[derive(Debug, Default)]
pub struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Most bytes of each of the two.
    half: usize,
    total: u64,
}

impl Capture {
    /// Keeps `most` bytes.
    pub fn new(most: usize) -> Self {
        Capture { half: most / 2, ..Capture::default() }
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.half)..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.half);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// Bytes that came in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// All bytes, where there were no more than it keeps; else none.
    pub fn whole(mut self) -> Option<Vec<u8>> {
        self.head.extend(self.tail);
        (self.total == self.head.len() as u64).then_some(self.head)
    }

    /// What is kept in at most `most` bytes, with a note where something is left out; and whether something is.
    pub fn text(mut self, most: usize) -> (String, bool) {
        self.head.extend(self.tail);
        let kept = self.head;
        if self.total <= (kept.len().min(most)) as u64 {
            return (String::from_utf8_lossy(&kept).into_owned(), false);
        }
        // Where bytes are missing between the two, each is a full half, and no smaller half reaches over the gap.
        let half = (most / 2).min(self.half);
        let (begin, end) = (&kept[..half.min(kept.len())], &kept[kept.len().saturating_sub(half)..]);
        let left_out = self.total - (begin.len() + end.len()) as u64;
        let text = format!("{}\n[{left_out} bytes left out]\n{}", String::from_utf8_lossy(begin), String::from_utf8_lossy(end));
        (text, true)
    }
}

/// How two streams share `most` bytes: each gets half, and what one does not need goes to the other.
pub fn share(most: usize, one: u64, other: u64) -> (usize, usize) {
    let half = most / 2;
    let need = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let first = need(one).min(half.max(most.saturating_sub(need(other))));
    (first, most - first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        for step in [1, 3, 7, 100] {
            let all: Vec<u8> = (0..100).map(|n| b'a' + n % 26).collect();
            let mut capture = Capture::new(20);
            all.chunks(step).for_each(|chunk| capture.push(chunk));
            assert_eq!(capture.total(), 100);
            assert_eq!(capture.text(20).0, "abcdefghij\n[80 bytes left out]\nmnopqrstuv");
        }
        let mut short = Capture::new(20);
        short.push(b"all of it, twenty by");
        assert_eq!(short.text(20), ("all of it, twenty by".into(), false));
        let mut odd = Capture::new(21);
        odd.push(b"all of it, twenty-one");
        assert!(odd.text(21).0.contains("[1 bytes left out]"));
    }

    #[test]
    fn a_smaller_share_still_has_both_ends() {
        let mut capture = Capture::new(100);
        capture.push(&[b'a'; 30]);
        capture.push(&[b'b'; 40]);
        assert_eq!(capture.text(10).0, "aaaaa\n[60 bytes left out]\nbbbbb");
        // More than the half that is kept at the end, out of what was kept at the beginning.
        let mut capture = Capture::new(100);
        capture.push(&[b'a'; 59]);
        capture.push(b"b");
        assert_eq!(capture.text(40).0, format!("{0}\n[20 bytes left out]\n{1}b", "a".repeat(20), "a".repeat(19)));
    }

    #[test]
    fn streams_share() {
        assert_eq!(share(100, 10, 1000), (10, 90));
        assert_eq!(share(100, 1000, 10), (90, 10));
        assert_eq!(share(100, 1000, 1000), (50, 50));
        assert_eq!(share(100, 0, 0), (0, 100));
    }
}
