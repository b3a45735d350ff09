//! Cuts text that arrives in fragments into pieces worth saying: sentences, or a clause when the sentence is not
//! finished yet. What the characters sound like is not decided here.

/// Cut for want of an end: about 20 s of speech, so that one piece of work stays small.
const MAX_CHARS: usize = 300;
/// An unfinished sentence is cut at a comma once it is this long, the first one of a text sooner, because somebody
/// waits for it.
const CLAUSE_CHARS: usize = 80;
const FIRST_CLAUSE_CHARS: usize = 20;

/// A full stop after one of these does not end a sentence.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "gen", "col", "capt", "sen", "rep", "rev", "hon", "no", "vs", "fig", "approx", "e.g", "i.e",
    "cf",
];

/// Text on its way to becoming clauses.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    pending: String,
    started: bool,
}

impl Cutter {
    /// Appends a fragment, cut anywhere.
    pub(crate) fn push(&mut self, fragment: &str) {
        self.pending.push_str(fragment);
    }

    /// The next piece that can be said now. None until more text comes.
    pub(crate) fn next_clause(&mut self) -> Option<String> {
        let cut = self.sentence_end().or_else(|| self.clause_end()).or_else(|| self.overlong())?;
        self.started = true;
        let rest = self.pending.split_off(cut);
        Some(std::mem::replace(&mut self.pending, rest))
    }

    /// What is left at the end of the text.
    pub(crate) fn rest(&mut self) -> Option<String> {
        (!self.pending.trim().is_empty()).then(|| std::mem::take(&mut self.pending))
    }

    fn sentence_end(&self) -> Option<usize> {
        self.ends()
            .find(|&(at, c)| match c {
                '!' | '?' | '…' | '.' => {
                    // "p.m. today", "“Really?” he said": the next letter has to be known, at the price of one fragment.
                    let next = self.pending[self.after_quotes(at + c.len_utf8())..].trim_start().chars().next();
                    next.is_some_and(|c| !c.is_lowercase()) && !(c == '.' && self.is_abbreviation(at))
                }
                '\n' => {
                    let next = self.pending[at + 1..].trim_start_matches([' ', '\t', '\r']).chars().next();
                    next.is_some_and(|c| matches!(c, '\n' | '-' | '*' | '#' | '•') || c.is_ascii_digit())
                }
                _ => false,
            })
            .map(|(at, c)| self.after_quotes(at + c.len_utf8()))
    }

    fn clause_end(&self) -> Option<usize> {
        let long_enough = if self.started { CLAUSE_CHARS } else { FIRST_CLAUSE_CHARS };
        self.ends().filter(|&(at, c)| matches!(c, ',' | ';' | ':' | '—' | '–') && at >= long_enough).last().map(|(at, c)| at + c.len_utf8())
    }

    /// Places where something may end: a punctuation mark with a space after it, or a line break. What stands before
    /// must hold a letter, so that "1. " stays with its item.
    fn ends(&self) -> impl Iterator<Item = (usize, char)> {
        let mut has_letter = false;
        self.pending[..self.limit()].char_indices().filter(move |&(at, c)| {
            has_letter |= c.is_alphabetic();
            let after = &self.pending[self.after_quotes(at + c.len_utf8())..];
            has_letter && (c == '\n' || after.starts_with(char::is_whitespace))
        })
    }

    /// Closing quotes and brackets belong to what they close. Nobody needs more than four: a run of thousands must not be
    /// walked again from each of its characters.
    fn after_quotes(&self, at: usize) -> usize {
        let quotes = self.pending[at..].chars().take(4).take_while(|c| matches!(c, '"' | '\'' | '”' | '’' | ')' | ']' | '*'));
        at + quotes.map(char::len_utf8).sum::<usize>()
    }

    fn is_abbreviation(&self, full_stop: usize) -> bool {
        let before = &self.pending[..full_stop];
        let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
        let initial = word.len() == 1 && word != "I" && word.chars().all(|c| c.is_ascii_uppercase());
        initial || ABBREVIATIONS.contains(&word.to_ascii_lowercase().as_str())
    }

    /// Where a piece that does not end by itself is cut: at its last space, else in the middle of a word.
    fn overlong(&self) -> Option<usize> {
        let limit = self.limit();
        (limit < self.pending.len()).then(|| match self.pending[..limit].rfind(char::is_whitespace) {
            Some(space) if space > 0 => space,
            _ => limit,
        })
    }

    /// Byte index of the longest piece that is allowed.
    fn limit(&self) -> usize {
        self.pending.char_indices().nth(MAX_CHARS).map_or(self.pending.len(), |(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All clauses of a text that is pushed in fragments of `step` characters.
    fn clauses(text: &str, step: usize) -> Vec<String> {
        let mut cutter = Cutter::default();
        let mut found = Vec::new();
        let chars: Vec<char> = text.chars().collect();
        for fragment in chars.chunks(step) {
            cutter.push(&fragment.iter().collect::<String>());
            while let Some(clause) = cutter.next_clause() {
                found.push(clause);
            }
        }
        found.extend(cutter.rest());
        assert_eq!(found.concat().trim_end(), text.trim_end(), "nothing may be lost");
        found.iter().map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect()
    }

    #[test]
    fn sentences_end_where_they_end() {
        let text = "Dr. Smith met J. Doe at 3.14 p.m. today. \"Really?\" he said (yes!) Then I left. I. e. g.";
        let found = clauses(text, text.len());
        assert_eq!(found, ["Dr. Smith met J. Doe at 3.14 p.m. today.", "\"Really?\" he said (yes!)", "Then I left.", "I. e. g."]);
        assert_eq!(clauses("1. Boil water.\n2. Add tea\n- green\n\nDone", 1000), ["1. Boil water.", "2. Add tea", "- green", "Done"]);
    }

    #[test]
    fn a_sentence_under_way_is_cut_at_a_comma_and_a_whole_one_is_not() {
        let text = "The capital of France, as you know, is Paris, of course. It is big.";
        assert_eq!(clauses(text, text.len()).len(), 2);
        let streamed = clauses(text, 1);
        assert_eq!(streamed, ["The capital of France,", "as you know, is Paris, of course.", "It is big."]);
    }

    #[test]
    fn endless_text_is_cut_and_nothing_is_lost() {
        for text in ["word ".repeat(500), "x".repeat(2000), "é".repeat(2000), "…".repeat(700), ", ".repeat(900)] {
            for step in [1, 7, 5000] {
                let found = clauses(&text, step);
                assert!(found.iter().all(|c| c.chars().count() <= MAX_CHARS + 4), "{found:?}");
            }
        }
    }

    #[test]
    fn blank_text_has_no_clauses() {
        assert!(clauses("", 1).is_empty());
        assert!(clauses(" \n\t  \n\n ", 1).is_empty());
    }
}
