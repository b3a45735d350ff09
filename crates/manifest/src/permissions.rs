//! `[permissions]`: what a plugin asks for. What it gets is the user's decision, and enforcing it the tier's.

use bespoke_plugin_api::Kind;

/// What a plugin asks for; nothing by default.
///
/// ```toml
/// [permissions]
/// http = ["api.example.com", "*.example.org", "localhost:8080"]
/// files = [{ path = "~/notes", access = "read" }]
/// env = ["LANG"]
/// secrets = ["token"]
/// process = ["git"]
/// calls = ["tool:clock", "embedder"]
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permissions {
    /// Hosts it may send requests to: a name, `*.name` for those below it, `*` for all; a port may follow.
    pub http: Vec<String>,
    /// Files and folders it may open, besides its own data folder.
    pub files: Vec<FileAccess>,
    /// Variables of the environment that it may see.
    pub env: Vec<String>,
    /// Secrets that it may ask for, by the names it uses.
    pub secrets: Vec<String>,
    /// Programs that it may run.
    pub process: Vec<String>,
    /// Contributions of other plugins that it may call.
    pub calls: Vec<CallTarget>,
}

impl Permissions {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One place in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileAccess {
    /// Absolute, or beginning with `~/`. A folder stands for all that is in it.
    pub path: String,
    /// What may be done there.
    pub access: Access,
}

/// What may be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Access {
    /// Look at it.
    Read,
    /// Look at it and change it.
    Write,
}

impl Access {
    /// All of them.
    pub const ALL: &[Access] = &[Access::Read, Access::Write];

    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// Contributions that may be called: `kind` or `kind:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallTarget {
    /// Of this kind.
    pub kind: Kind,
    /// Of this name; all of the kind when `None`.
    pub name: Option<String>,
}
