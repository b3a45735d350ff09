//! `[permissions]`: what a plugin asks for. What it gets is the user's decision, and enforcing it the tier's.

use bespoke_plugin_api::Kind;

/// What a plugin asks for; nothing by default.
///
/// ```toml
/// [permissions]
/// http = [
///     "api.example.com",                                                 # at public addresses, on ports 80 and 443
///     "*.example.org:8443",
///     { host = "localhost:8080", private = true },                       # at private addresses, too
///     { config = "allow", default = ["*"] },                             # what the user wrote there
///     { config = "base_url", default = ["api.example.com"], private = true },
/// ]
/// files = [{ path = "~/notes", access = "read" }]
/// env = ["LANG"]
/// secrets = ["token"]
/// process = ["git"]
/// calls = ["tool:clock", "embedder"]
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permissions {
    /// Hosts it may send requests to.
    pub http: Vec<HttpAccess>,
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

/// Hosts that requests may go to.
///
/// A host is written as a name, `*.name` for all below it, `*` for all, or an address; IPv6 in brackets. A port may follow,
/// `:*` stands for every port; without one, 80 and 443 are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpAccess {
    /// Which ones.
    pub hosts: HttpHosts,
    /// Whether they may also be at loopback and private addresses. A plain string in the manifest never is.
    pub private: bool,
}

/// Who names the hosts of an [`HttpAccess`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpHosts {
    /// The manifest: one host.
    Named(String),
    /// The user, in the plugin's own table of bespoke.toml: what is written there is what is granted.
    #[non_exhaustive]
    Configured {
        /// Dotted path below `[plugins.<id>]`. Its value is one string or a list of them: hosts, whole URLs, which stand for
        /// their host and port, and ranges of addresses such as `10.0.0.0/8`.
        key: String,
        /// Hosts while the key is not set. `private` does not hold for them: nobody but the manifest named them.
        default: Vec<String>,
    },
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
