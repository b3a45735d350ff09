//! What is declared against what is registered: they must be equal, and the error names both directions.

use std::fmt;

use bespoke_plugin_api::{Kind, Spec};
use semver::Version;

use crate::Manifest;

/// The plugin API of this program, as `protocol` in plugin.toml names it.
pub const API: Version = Version::new(1, 0, 0);

/// plugin.toml and `register()` disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The manifest.
    pub path: String,
    /// Registered, but not declared.
    pub undeclared: Vec<(Kind, String)>,
    /// Declared, but not registered.
    pub unregistered: Vec<(Kind, String)>,
    /// Registered more than once.
    pub repeated: Vec<(Kind, String)>,
}

impl Manifest {
    /// Whether it is written for the plugin API of this program.
    pub fn is_for_this_api(&self) -> bool {
        self.protocol.matches(&API)
    }

    /// Holds `[[provides]]` against what `Plugin::register` contributed. Dynamic entries may be met here, or at run time, or never.
    ///
    /// # Errors
    /// [`Mismatch`], which names what each side has and the other lacks.
    pub fn check_provides(&self, registered: &[Spec]) -> Result<(), Mismatch> {
        let declared: Vec<_> = self.provides.iter().filter(|p| !p.dynamic).filter_map(|p| Some((p.kind, p.name.clone()?))).collect();
        let (mut contributed, mut repeated) = (Vec::new(), Vec::new());
        for spec in registered {
            let one = (spec.kind(), spec.name().to_owned());
            let list = if contributed.contains(&one) { &mut repeated } else { &mut contributed };
            list.push(one);
        }
        let mismatch = Mismatch {
            path: self.path.clone(),
            undeclared: contributed.iter().filter(|c| !declared.contains(c) && !self.may_publish(c.0, &c.1)).cloned().collect(),
            unregistered: declared.iter().filter(|d| !contributed.contains(d)).cloned().collect(),
            repeated,
        };
        if mismatch.undeclared.is_empty() && mismatch.unregistered.is_empty() && mismatch.repeated.is_empty() {
            return Ok(());
        }
        Err(mismatch)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sentences = Vec::new();
        for (kind, name) in &self.unregistered {
            sentences.push(format!("declares {kind} `{name}`, which register() does not contribute: contribute it, or remove the entry"));
        }
        for (kind, name) in &self.undeclared {
            sentences.push(format!(
                "does not declare {kind} `{name}`, which register() contributes: add [[provides]] kind = \"{kind}\", name = \"{name}\""
            ));
        }
        for (kind, name) in &self.repeated {
            sentences.push(format!("belongs to a plugin whose register() contributes {kind} `{name}` twice: contribute it once"));
        }
        write!(f, "{} {}", self.path, sentences.join("; it "))
    }
}

impl std::error::Error for Mismatch {}
