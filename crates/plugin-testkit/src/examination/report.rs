//! What an examination says: a check for each rule, kept, broken or not to be tried, and where an author reads about it.

use std::time::{Duration, Instant};

use serde::Serialize;

/// One rule, held against a plugin.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Of what: `plugin`, or kind and name of a contribution.
    pub subject: String,
    /// The rule, as what the subject does.
    pub rule: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    #[serde(rename = "ms", serialize_with = "ms")]
    pub took: Duration,
}

/// What came of a check.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The rule is kept.
    Passed,
    /// There was nothing to hold it against.
    Skipped {
        /// Why.
        why: String,
    },
    /// The rule is broken.
    Failed(Fault),
}

/// How a rule was broken.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// What the rule asks for.
    pub expected: String,
    /// What came instead.
    pub got: String,
    /// Where it is written.
    pub read: String,
    /// A command that may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Most of one value that a report shows.
const MOST: usize = 400;

impl Fault {
    /// Something else than what was expected.
    pub fn new(expected: impl Into<String>, got: impl Into<String>, read: &str) -> Self {
        Fault { expected: shortened(expected.into()), got: shortened(got.into()), read: read.to_owned(), help: None }
    }

    /// With a command that may help.
    #[must_use]
    pub fn help(mut self, help: Option<&str>) -> Self {
        self.help = help.map(str::to_owned);
        self
    }
}

impl Check {
    /// Whether the rule is not broken.
    pub fn is_fine(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed(_))
    }
}

/// What a rule came to where it was not broken.
pub(super) enum Kept {
    Yes,
    /// It cannot be tried here; why.
    Untried(String),
}

pub(super) type Tried = Result<Kept, Fault>;

/// Checks, in the order in which they came.
pub(super) struct Report<'a> {
    pub(super) checks: Vec<Check>,
    tell: Box<dyn FnMut(&Check) + 'a>,
}

impl<'a> Report<'a> {
    pub(super) fn new(tell: impl FnMut(&Check) + 'a) -> Self {
        Report { checks: Vec::new(), tell: Box::new(tell) }
    }

    /// The part of it about one subject.
    pub(super) fn of<'r>(&'r mut self, subject: &str) -> Part<'r, 'a> {
        Part { report: self, subject: subject.to_owned() }
    }

    pub(super) fn failed(&mut self, subject: &str, rule: &str, fault: Fault) {
        self.of(subject).check(rule, || Err(fault));
    }
}

/// The part of a report about one subject.
pub(super) struct Part<'r, 'a> {
    report: &'r mut Report<'a>,
    subject: String,
}

impl Part<'_, '_> {
    /// Tries a rule.
    pub(super) fn check(&mut self, rule: &str, tried: impl FnOnce() -> Tried) {
        let begun = Instant::now();
        let outcome = match tried() {
            Ok(Kept::Yes) => Outcome::Passed,
            Ok(Kept::Untried(why)) => Outcome::Skipped { why },
            Err(fault) => Outcome::Failed(fault),
        };
        let check = Check { subject: self.subject.clone(), rule: rule.to_owned(), outcome, took: begun.elapsed() };
        (self.report.tell)(&check);
        self.report.checks.push(check);
    }
}

/// Pages and chapters where rules are written.
pub(super) mod read {
    pub(crate) const PLUGINS: &str = "docs/plugins.md#rules-that-the-host-relies-on";
    pub(crate) const CASES: &str = "docs/testing.md#your-own-calls";
    pub(crate) const START: &str = "docs/testing.md#starting-and-stopping";
    pub(crate) const CONFIG: &str = "docs/testing.md#configuration";
    pub(crate) const CALLS: &str = "docs/testing.md#calls";
    pub(crate) const STREAMS: &str = "docs/testing.md#streams";
    pub(crate) const STATE: &str = "docs/testing.md#state";
    pub(crate) const KINDS: &str = "docs/testing.md#what-each-contract-owes";
}

fn shortened(mut text: String) -> String {
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}

fn ms<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}
