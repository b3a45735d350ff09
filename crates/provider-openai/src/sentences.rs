//! Text that arrives in fragments, cut into pieces worth a request: whole sentences, as many as are there. Pure.

use unicode_segmentation::UnicodeSegmentation;

/// Most characters of one request, which is what the protocol allows.
const MAX_CHARS: usize = 4_000;

/// A first piece may be this short, in characters: somebody waits for it. "Dr." is no piece.
const MIN_CHARS: usize = 12;

/// Text on its way to being spoken.
#[derive(Debug, Default)]
pub(crate) struct Sentences {
    pending: String,
}

impl Sentences {
    /// Appends a fragment, cut anywhere.
    pub(crate) fn push(&mut self, fragment: &str) {
        self.pending.push_str(fragment);
    }

    /// All sentences that are complete by now, or, at the end, what is left; `None` while there is nothing to say.
    pub(crate) fn take(&mut self, at_end: bool) -> Option<String> {
        loop {
            let limit = self.pending.char_indices().nth(MAX_CHARS).map(|(at, _)| at);
            let cut = match (limit, at_end) {
                (Some(limit), _) => self.last_sentence(limit).or_else(|| last_space(&self.pending[..limit])).unwrap_or(limit),
                (None, true) => self.pending.len(),
                (None, false) => self.last_sentence(self.pending.len()).filter(|cut| self.pending[..*cut].chars().count() >= MIN_CHARS)?,
            };
            if cut == 0 {
                return None;
            }
            let rest = self.pending.split_off(cut);
            let piece = std::mem::replace(&mut self.pending, rest);
            // A rule of dashes or a smile has no sound; no server is asked for it.
            if piece.chars().any(char::is_alphanumeric) {
                return Some(piece.trim().to_owned());
            }
        }
    }

    /// Where the last sentence begins that may still go on; `None` when no other is before it.
    fn last_sentence(&self, limit: usize) -> Option<usize> {
        self.pending[..limit].split_sentence_bound_indices().last().map(|(at, _)| at).filter(|at| *at > 0)
    }
}

fn last_space(text: &str) -> Option<usize> {
    text.rfind(char::is_whitespace).filter(|at| *at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pieces of a text that is pushed in fragments of `step` characters.
    fn pieces(text: &str, step: usize) -> Vec<String> {
        let (mut sentences, mut found) = (Sentences::default(), Vec::new());
        let chars: Vec<char> = text.chars().collect();
        for fragment in chars.chunks(step) {
            sentences.push(&fragment.iter().collect::<String>());
            found.extend(sentences.take(false));
        }
        while let Some(piece) = sentences.take(true) {
            found.push(piece);
        }
        found
    }

    #[test]
    fn sentences_are_said_as_soon_as_the_next_one_begins() {
        let text = "It is noon in Paris. The sun is out! Is it warm?";
        assert_eq!(pieces(text, 1), ["It is noon in Paris.", "The sun is out!", "Is it warm?"]);
        assert_eq!(pieces(text, 1000), ["It is noon in Paris. The sun is out!", "Is it warm?"]);
    }

    #[test]
    fn what_has_no_sound_is_left_out_and_nothing_else() {
        assert_eq!(pieces(" \n --- :-)\n", 3), [""; 0]);
        for text in ["word ".repeat(1000), "x".repeat(5000), "é. ".repeat(1500), "Ünï ".repeat(1100)] {
            for step in [60, 5000] {
                let found = pieces(&text, step);
                assert!(found.iter().all(|piece| piece.chars().count() <= MAX_CHARS));
                let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
                assert_eq!(letters(&found.concat()), letters(&text));
            }
        }
    }
}
