//! Word error rate.

/// Wrong, missing and additional words per word of the reference; case and punctuation do not count.
pub(crate) fn word_error_rate(reference: &str, found: &str) -> f64 {
    let (reference, found) = (words(reference), words(found));
    assert!(!reference.is_empty());
    let mut distances: Vec<usize> = (0..=found.len()).collect();
    for (n, word) in reference.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut distances[0], n + 1);
        for (m, other) in found.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = distances[m + 1];
            distances[m + 1] = replaced.min(diagonal + 1).min(distances[m] + 1);
        }
    }
    distances[found.len()] as f64 / reference.len() as f64
}

pub(crate) fn words(text: &str) -> Vec<String> {
    let text: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() || c == '\'' { c } else { ' ' }).collect();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_wrong_a_missing_and_an_additional_word_count_once_each() {
    assert_eq!(word_error_rate("The cat, sat down.", "the cat sat down"), 0.0);
    assert_eq!(word_error_rate("the cat sat down", "the dog sat"), 0.5);
    assert_eq!(word_error_rate("the cat", "the big cat"), 0.5);
}
