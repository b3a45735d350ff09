//! What the version of a pack says: which of two is older, and for which generation of NVIDIA's libraries. Not which there are: that
//! is the table's.

use crate::spec::Set;

/// Compares what is before the `+`, number by number: sets of one version are not older than each other.
pub(crate) fn is_older(version: &str, than: &str) -> bool {
    numbers(version) < numbers(than)
}

/// The set that is named after the `+`. Known also of a pack whose record cannot be read.
pub(crate) fn set(version: &str) -> Option<Set> {
    let (_, named) = version.split_once('+')?;
    [Set::Cu12, Set::Cu13].into_iter().find(|set| set.as_str() == named)
}

/// Without zeros at the end, so that `1.28` is `1.28.0`.
fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split('+').next().unwrap_or_default();
    let mut numbers: Vec<u64> = plain.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (old, new) in [("1.9.0", "1.28.0"), ("1.26.0+cu12", "1.28.0+cu13"), ("1.26.0+cu13", "1.28.0+cu12"), ("0.12.0", "0.12.0.1")] {
            assert!(is_older(old, new), "{old} {new}");
            assert!(!is_older(new, old), "{new} {old}");
        }
        for (one, other) in [("1.28.0+cu12", "1.28.0+cu13"), ("1.28", "1.28.0"), ("1.28.0", "1.28.0+cu13")] {
            assert!(!is_older(one, other) && !is_older(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_version_names_its_set() {
        assert_eq!(["1.28.0+cu12", "1.28.0+cu13", "1.28.0", "1.28.0+cu99"].map(set), [Some(Set::Cu12), Some(Set::Cu13), None, None]);
    }
}
