//! Word error rate: the share of words that have to be replaced, put in or taken out to turn what was heard into what
//! was said.

/// Errors and words of the reference; summed over sentences before dividing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WordErrors {
    pub(crate) errors: usize,
    pub(crate) words: usize,
}

impl WordErrors {
    /// Compares a transcript with what was said.
    pub(crate) fn of(said: &str, heard: &str) -> Self {
        let (said, heard) = (normalised(said), normalised(heard));
        Self { errors: edits(&said, &heard), words: said.len() }
    }

    pub(crate) fn percent(self) -> f64 {
        100.0 * self.errors as f64 / self.words as f64
    }
}

impl std::iter::Sum for WordErrors {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { errors: a.errors + b.errors, words: a.words + b.words })
    }
}

/// Words in lower case, without punctuation; a hyphen parts words, an apostrophe does not. Numbers stay as written.
fn normalised(text: &str) -> Vec<String> {
    let plain = text.to_lowercase().replace('’', "'");
    let words = plain.split(|c: char| !c.is_alphanumeric() && c != '\'').map(|word| word.trim_matches('\'').to_owned());
    words.filter(|word| !word.is_empty()).collect()
}

/// Levenshtein distance over words, one row at a time.
fn edits(said: &[String], heard: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, word) in said.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in heard.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[heard.len()]
}

#[test]
fn counts_replaced_missing_and_added_words() {
    let errors = |said, heard| WordErrors::of(said, heard).errors;
    assert_eq!(errors("It's cold-hearted, isn’t it?", "its cold hearted isn't it"), 1, "its is another word");
    assert_eq!(errors("a b c", "a b c"), 0);
    assert_eq!(errors("a b c", "a x c"), 1);
    assert_eq!(errors("a b c", "a c"), 1);
    assert_eq!(errors("a b c", "a b b c"), 1);
    assert_eq!(errors("a b c", ""), 3);
    assert_eq!(errors("", "a b"), 2);
    assert_eq!(WordErrors::of("one two three four", "one too three"), WordErrors { errors: 2, words: 4 });
    let sum: WordErrors = [WordErrors { errors: 1, words: 3 }, WordErrors { errors: 0, words: 1 }].into_iter().sum();
    assert!((sum.percent() - 25.0).abs() < 1e-9);
}
