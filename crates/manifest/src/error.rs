//! What can be wrong with a manifest, and where. All of it at once: an author mends a file in one go.

use std::fmt;

use bespoke_plugin_api::{Code, Error};

/// A place in a text, counted from 1 as editors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub position: Position,
    /// Which key, such as `provides[0].kind`; empty when the text is not TOML.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.position)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.message, self.fix)
    }
}

/// A manifest that cannot be used. Displays one line `path:line:column: key: message; fix` per problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    path: String,
    problems: Vec<Problem>,
}

impl ManifestError {
    /// **Invariant:** `problems` is not empty; they are shown in the order of the text.
    pub(crate) fn new(path: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (a.position, &a.key).cmp(&(b.position, &b.key)));
        ManifestError { path: path.to_owned(), problems }
    }

    /// The file, as the caller named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Everything that is wrong, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{problem}", self.path)?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}

/// `MANIFEST_INVALID`.
impl From<ManifestError> for Error {
    fn from(e: ManifestError) -> Self {
        Error::new(Code::MANIFEST_INVALID, e.to_string())
    }
}
