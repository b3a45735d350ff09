//! `[permissions]`: what a plugin asks for. What it gets is the user's decision, and enforcing it the tier's.

use std::fmt;

use bespoke_plugin_api::Kind;

/// What a plugin asks for, or was granted; nothing by default.
///
/// ```toml
/// [permissions]
/// network_access = [
///     "api.example.com",                                                 # at public addresses, on ports 80 and 443
///     "*.example.org:8443",
///     { host = "localhost:8080", private = true },                       # at private addresses, too
///     { config = "allow", default = ["*"] },                             # what the user wrote there
///     { config = "base_url", default = ["api.example.com"], private = true },
///     { direct = true },                                                 # sockets of its own, to anywhere
/// ]
/// read_files = ["/usr/share/dict"]
/// write_files = ["~/notes"]
/// system_access = ["git"]
/// plugin_communication = ["tool:clock", "embedder", "event:clock."]
/// env = ["LANG"]
/// secrets = ["token"]
/// optional = ["write_files"]                                             # it also works without
///
/// [permissions.reasons]
/// network_access = "asks the weather service"
/// ```
///
/// `optional` and `reasons` are [`Manifest::optional`](crate::Manifest::optional) and
/// [`Manifest::reasons`](crate::Manifest::reasons).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permissions {
    /// Hosts it may send requests to, through the host's client.
    pub network_access: Vec<HttpAccess>,
    /// Whether it may open sockets of its own. Those cannot be held to hosts: it may reach any address, private ones too.
    pub direct_network: bool,
    /// Files and folders that it may look at, besides its own folder. Absolute, or beginning with `~/`; a folder stands for all that is
    /// in it.
    pub read_files: Vec<String>,
    /// Files and folders that it may look at and change, besides its data folder.
    pub write_files: Vec<String>,
    /// Programs that it may run, by name or absolute path; `*` is any.
    pub system_access: Vec<String>,
    /// What it may have of other plugins.
    pub plugin_communication: Vec<Communication>,
    /// Variables of the environment that it may see.
    pub env: Vec<String>,
    /// Secrets that it may ask for, by the names it uses.
    pub secrets: Vec<String>,
}

/// The kinds of permissions. Each is required or optional as a whole, and has one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Permission {
    /// Requests to servers, and sockets.
    NetworkAccess,
    /// Looking at files.
    ReadFiles,
    /// Looking at files and changing them.
    WriteFiles,
    /// Running programs.
    SystemAccess,
    /// Calling other plugins and hearing of events.
    PluginCommunication,
    /// Seeing variables of the environment.
    Env,
    /// Asking for secrets.
    Secrets,
}

impl Permission {
    /// All of them, in the order in which they are shown.
    pub const ALL: &[Permission] = &[
        Permission::NetworkAccess,
        Permission::ReadFiles,
        Permission::WriteFiles,
        Permission::SystemAccess,
        Permission::PluginCommunication,
        Permission::Env,
        Permission::Secrets,
    ];

    /// The name in manifests and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Permission::NetworkAccess => "network_access",
            Permission::ReadFiles => "read_files",
            Permission::WriteFiles => "write_files",
            Permission::SystemAccess => "system_access",
            Permission::PluginCommunication => "plugin_communication",
            Permission::Env => "env",
            Permission::Secrets => "secrets",
        }
    }

    /// The permission of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Permission::ALL.iter().copied().find(|permission| permission.name() == name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Permissions {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is anything of this kind.
    pub fn has(&self, permission: Permission) -> bool {
        !self.items(permission).is_empty()
    }

    /// What there is of a kind, item by item, in words of one spelling: a user's consent is kept as a list of them.
    pub fn items(&self, permission: Permission) -> Vec<String> {
        match permission {
            Permission::NetworkAccess => {
                let direct = self.direct_network.then(|| "sockets of its own, to any address".to_owned());
                self.network_access.iter().map(HttpAccess::to_string).chain(direct).collect()
            }
            Permission::ReadFiles => self.read_files.clone(),
            Permission::WriteFiles => self.write_files.clone(),
            Permission::SystemAccess => self.system_access.clone(),
            Permission::PluginCommunication => self.plugin_communication.iter().map(Communication::to_string).collect(),
            Permission::Env => self.env.clone(),
            Permission::Secrets => self.secrets.clone(),
        }
    }

    /// Those of them that somebody keeps, by kind and [item](Self::items).
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(Permission, &str) -> bool) -> Self {
        fn some<T: Clone>(all: &[T], keep: impl Fn(&T) -> bool) -> Vec<T> {
            all.iter().filter(|item| keep(item)).cloned().collect()
        }
        let direct = Permissions { direct_network: self.direct_network, ..Permissions::default() };
        Permissions {
            network_access: some(&self.network_access, |item| keep(Permission::NetworkAccess, &item.to_string())),
            direct_network: direct.items(Permission::NetworkAccess).iter().any(|item| keep(Permission::NetworkAccess, item)),
            read_files: some(&self.read_files, |item| keep(Permission::ReadFiles, item)),
            write_files: some(&self.write_files, |item| keep(Permission::WriteFiles, item)),
            system_access: some(&self.system_access, |item| keep(Permission::SystemAccess, item)),
            plugin_communication: some(&self.plugin_communication, |item| keep(Permission::PluginCommunication, &item.to_string())),
            env: some(&self.env, |item| keep(Permission::Env, item)),
            secrets: some(&self.secrets, |item| keep(Permission::Secrets, item)),
        }
    }

    /// Whether a contribution of another plugin may be called.
    pub fn may_call(&self, kind: Kind, name: &str) -> bool {
        self.plugin_communication.iter().any(|c| match c {
            Communication::Calls { kind: of, name: only } => *of == kind && only.as_ref().is_none_or(|only| only == name),
            Communication::Events(_) => false,
        })
    }

    /// Whether events may be heard whose topics begin so.
    pub fn may_hear(&self, prefix: &str) -> bool {
        self.plugin_communication.iter().any(|c| matches!(c, Communication::Events(topics) if prefix.starts_with(topics)))
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

impl fmt::Display for HttpAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            HttpHosts::Named(host) => f.write_str(host)?,
            HttpHosts::Configured { key, default } if default.is_empty() => write!(f, "hosts in its configuration ({key})")?,
            HttpHosts::Configured { key, default } => write!(f, "hosts in its configuration ({key}, else {})", default.join(", "))?,
        }
        f.write_str(if self.private { ", at private addresses too" } else { "" })
    }
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

/// What a plugin may have of others. Displays as it is written in manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Communication {
    /// Contributions that may be called: `kind` or `kind:name`.
    #[non_exhaustive]
    Calls {
        /// Of this kind.
        kind: Kind,
        /// Of this name; all of the kind when `None`.
        name: Option<String>,
    },
    /// Events that may be heard: those whose topic begins so, all for the empty text. Written `event:clock.` or `event:*`.
    Events(String),
}

impl Communication {
    /// Calls of one contribution, or of all of a kind.
    pub fn calls(kind: Kind, name: Option<&str>) -> Self {
        Communication::Calls { kind, name: name.map(str::to_owned) }
    }
}

impl fmt::Display for Communication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Communication::Calls { kind, name: Some(name) } => write!(f, "{kind}:{name}"),
            Communication::Calls { kind, name: None } => write!(f, "{kind}"),
            Communication::Events(topics) if topics.is_empty() => f.write_str("event:*"),
            Communication::Events(topics) => write!(f, "event:{topics}"),
        }
    }
}
