//! No table of calls for this processor: nothing is refused by number, and `abilities` says so.

use super::rule::Rule;
use crate::policy::Policy;

/// None.
pub(super) fn rules(_policy: &Policy, _signals: bool) -> Vec<Rule> {
    Vec::new()
}
