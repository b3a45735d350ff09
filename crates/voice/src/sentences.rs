//! Cuts an answer that arrives in fragments into pieces worth speaking: sentences, or a clause while a long sentence is not
//! finished. Sentence borders are those of Unicode (UAX #29); how a piece sounds is not decided here.

use unicode_segmentation::UnicodeSegmentation;

/// Cut for want of an end: about 20 s of speech.
const MAX_CHARS: usize = 300;
/// An unfinished sentence is cut at a comma once it is this long; the first one sooner, because somebody waits for it.
const CLAUSE_BYTES: usize = 80;
const FIRST_CLAUSE_BYTES: usize = 20;

/// A full stop after one of these ends no sentence. UAX #29 leaves abbreviations to its users.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "gen", "col", "capt", "sen", "rep", "rev", "hon", "no", "vs", "fig", "approx", "e.g", "i.e",
    "cf",
];

/// Text on its way to becoming pieces.
#[derive(Debug, Default)]
pub(crate) struct Sentences {
    pending: String,
    started: bool,
}

impl Sentences {
    /// Appends a fragment, cut anywhere.
    pub(crate) fn push(&mut self, fragment: &str) {
        self.pending.push_str(fragment);
    }

    /// The next piece that is complete. None until more text comes.
    pub(crate) fn next_piece(&mut self) -> Option<String> {
        let limit = self.pending.char_indices().nth(MAX_CHARS).map(|(at, _)| at);
        let within = &self.pending[..limit.unwrap_or(self.pending.len())];
        // A sentence at the very end of what is looked at may go on in what is not.
        let cut = sentence_end(within)
            .or_else(|| clause_end(within, if self.started { CLAUSE_BYTES } else { FIRST_CLAUSE_BYTES }))
            .or_else(|| limit.map(|limit| within.rfind(char::is_whitespace).filter(|&space| space > 0).unwrap_or(limit)))?;
        self.started = true;
        let rest = self.pending.split_off(cut);
        Some(std::mem::replace(&mut self.pending, rest))
    }

    /// What is left when the text is over.
    pub(crate) fn rest(&mut self) -> Option<String> {
        (!self.pending.trim().is_empty()).then(|| std::mem::take(&mut self.pending))
    }
}

fn sentence_end(text: &str) -> Option<usize> {
    let bounds = text.split_sentence_bound_indices().map(|(at, sentence)| at + sentence.len());
    let mut known = bounds.filter(|&end| end < text.len() || text.ends_with('\n'));
    known.find(|&end| {
        let piece = &text[..end];
        // "x?Q=1" is no end; what is no ASCII (。！) needs no space after it.
        let apart = piece.ends_with(|c: char| c.is_whitespace() || !c.is_ascii());
        // "“Really?” he said" goes on.
        let over = piece.ends_with('\n') || !text[end..].starts_with(char::is_lowercase);
        // What comes before a letter, such as the "1." of a list, belongs to what follows.
        apart && over && piece.contains(char::is_alphabetic) && !ends_with_abbreviation(piece)
    })
}

fn ends_with_abbreviation(piece: &str) -> bool {
    let Some(before) = piece.trim_end_matches([' ', '\t']).strip_suffix('.') else { return false };
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let initial = word.len() == 1 && word != "I" && word.starts_with(|c: char| c.is_ascii_uppercase());
    initial || ABBREVIATIONS.contains(&word.to_ascii_lowercase().as_str())
}

fn clause_end(text: &str, at_least: usize) -> Option<usize> {
    let mut marks = text.char_indices().filter_map(|(at, c)| {
        let end = at + c.len_utf8();
        let apart = match c {
            ',' | ';' | ':' | '—' | '–' => text[end..].starts_with(char::is_whitespace),
            '、' | '，' | '；' | '：' => end < text.len(),
            _ => false,
        };
        (apart && end > at_least).then_some(end)
    });
    marks.next_back().filter(|&end| text[..end].contains(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pieces of a text that is pushed in fragments of `step` characters.
    fn pieces(text: &str, step: usize) -> Vec<String> {
        let mut sentences = Sentences::default();
        let mut found = Vec::new();
        let chars: Vec<char> = text.chars().collect();
        for fragment in chars.chunks(step) {
            sentences.push(&fragment.iter().collect::<String>());
            while let Some(piece) = sentences.next_piece() {
                found.push(piece);
            }
        }
        found.extend(sentences.rest());
        assert_eq!(found.concat().trim_end(), text.trim_end(), "nothing may be lost");
        found.iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
    }

    #[test]
    fn sentences_end_where_they_end() {
        let text = "Dr. Smith met J. Doe at 3.14 p.m. today. \"Really?\" he said (yes!) Then I left. See a.b?C=1 now. Go.";
        let expected =
            ["Dr. Smith met J. Doe at 3.14 p.m. today.", "\"Really?\" he said (yes!)", "Then I left.", "See a.b?C=1 now.", "Go."];
        assert_eq!(pieces(text, text.len()), expected);
        assert_eq!(pieces(text, 1)[1..], expected[1..]);
        assert_eq!(pieces("1. Boil water.\n2. Add tea\n- green\n\nDone", 1_000), ["1. Boil water.", "2. Add tea", "- green", "Done"]);
        assert_eq!(pieces("東京は首都です。人口は多い。はい", 1), ["東京は首都です。", "人口は多い。", "はい"]);
    }

    #[test]
    fn a_sentence_is_out_as_soon_as_the_next_one_begins() {
        let mut sentences = Sentences::default();
        for fragment in ["It is", " Paris", ".", " "] {
            sentences.push(fragment);
            assert_eq!(sentences.next_piece(), None);
        }
        sentences.push("A");
        assert_eq!(sentences.next_piece().as_deref(), Some("It is Paris. "));
    }

    #[test]
    fn a_sentence_under_way_is_cut_at_a_comma_and_a_whole_one_is_not() {
        let text = "The capital of France, as you know, is Paris, of course. It is big.";
        assert_eq!(pieces(text, text.len()).len(), 2);
        assert_eq!(pieces(text, 1), ["The capital of France,", "as you know, is Paris, of course.", "It is big."]);
    }

    #[test]
    fn endless_text_is_cut_and_nothing_is_lost() {
        for text in ["word ".repeat(500), "x".repeat(2_000), "é".repeat(2_000), "…".repeat(700), ", ".repeat(900), "1. ".repeat(400)] {
            for step in [1, 7, 5_000] {
                let found = pieces(&text, step);
                assert!(found.iter().all(|p| p.chars().count() <= MAX_CHARS), "{found:?}");
            }
        }
    }

    #[test]
    fn blank_text_has_no_pieces() {
        assert!(pieces("", 1).is_empty());
        assert!(pieces(" \n\t  \n\n ", 1).is_empty());
    }
}
