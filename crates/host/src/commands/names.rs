//! Which names a command may have: those that nobody takes for a verb of the program, or for a command of somebody else.

use std::{collections::BTreeMap, sync::Arc};

use bespoke_plugin_api::Kind;

use crate::plugin::PluginCell;

/// Most characters of a name.
pub(crate) const LONGEST_NAME: usize = 32;

/// Verbs that programs of this kind have or will have.
const GENERIC: [&str; 84] = [
    "help",
    "version",
    "config",
    "init",
    "start",
    "stop",
    "restart",
    "status",
    "log",
    "logs",
    "plugin",
    "plugins",
    "install",
    "uninstall",
    "update",
    "upgrade",
    "enable",
    "disable",
    "list",
    "show",
    "get",
    "set",
    "delete",
    "remove",
    "create",
    "new",
    "run",
    "exec",
    "shell",
    "repl",
    "chat",
    "send",
    "receive",
    "connect",
    "disconnect",
    "login",
    "logout",
    "auth",
    "token",
    "key",
    "secret",
    "env",
    "export",
    "import",
    "backup",
    "restore",
    "migrate",
    "reset",
    "clear",
    "clean",
    "purge",
    "test",
    "check",
    "validate",
    "lint",
    "format",
    "build",
    "deploy",
    "publish",
    "release",
    "tag",
    "branch",
    "commit",
    "push",
    "pull",
    "fetch",
    "clone",
    "diff",
    "merge",
    "rebase",
    "stash",
    "pop",
    "apply",
    "patch",
    "doctor",
    "diagnose",
    "debug",
    "trace",
    "profile",
    "benchmark",
    "info",
    "about",
    "license",
    "completions",
];

/// The names that no command may have.
#[derive(Debug)]
pub(crate) struct Names {
    /// By what they look like.
    reserved: BTreeMap<String, String>,
}

impl Names {
    /// The generic ones, and those of the program itself.
    pub(crate) fn new(own: impl IntoIterator<Item = String>) -> Self {
        let all = GENERIC.iter().map(|name| (*name).to_owned()).chain(own);
        Names { reserved: all.map(|name| (looks(&name), name)).collect() }
    }

    /// Why a command may not have this name, whoever else there is.
    pub(crate) fn refuse(&self, name: &str) -> Option<String> {
        if let Some(why) = breaks_the_rule(name) {
            return Some(why);
        }
        let reserved = self.reserved.get(&looks(name))?;
        Some(match reserved.eq_ignore_ascii_case(name) {
            true => format!("the command `{name}` is refused: the name is reserved for the program"),
            false => format!("the command `{name}` is refused: it looks like `{reserved}`, which is reserved for the program"),
        })
    }

    /// As [`refuse`](Self::refuse), also beside the commands of others: their names and their plugins.
    pub(crate) fn refuse_beside<'o>(&self, name: &str, others: impl IntoIterator<Item = (&'o str, &'o str)>) -> Option<String> {
        self.refuse(name).or_else(|| {
            let looks_so = looks(name);
            let (other, plugin) = others.into_iter().find(|(other, _)| *other != name && looks(other) == looks_so)?;
            Some(format!("the command `{name}` is refused: it looks like `{other}` of the plugin `{plugin}`"))
        })
    }

    /// Settles which of the commands that manifests declare are refused. Of two that look alike, the plugin whose id comes first keeps its.
    pub(crate) fn settle(&self, plugins: &[Arc<PluginCell>]) {
        let mut taken: Vec<(String, String)> = Vec::new();
        for plugin in plugins.iter().filter(|plugin| plugin.has_its_names()) {
            let mut refused = BTreeMap::new();
            let declared = plugin.manifest.iter().flat_map(|m| &m.provides).filter(|p| p.kind == Kind::Command);
            for name in declared.filter_map(|p| p.name.as_ref()) {
                let others = taken.iter().filter(|(_, owner)| owner != plugin.id()).map(|(name, owner)| (name.as_str(), owner.as_str()));
                match self.refuse_beside(name, others) {
                    Some(why) => _ = refused.insert(name.clone(), why),
                    None => taken.push((name.clone(), plugin.id().to_owned())),
                }
            }
            plugin.refuse_commands(refused);
        }
    }
}

/// What the rule `^[a-z][a-z0-9-]*$` has against a name. It leaves no two spellings of one name.
fn breaks_the_rule(name: &str) -> Option<String> {
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.len() <= LONGEST_NAME;
    let rule = format!("lower-case letters a–z, digits and hyphens, a letter first, {LONGEST_NAME} at most");
    (!fits).then(|| format!("the command `{}` is refused: a name is {rule}", shown(name)))
}

/// A name as it can be told, whatever it is.
pub(crate) fn shown(name: &str) -> String {
    let one_line: String = bespoke_screen::plain(name).chars().filter(|c| !c.is_control()).take(LONGEST_NAME + 1).collect();
    if one_line.chars().count() > LONGEST_NAME { one_line.chars().take(LONGEST_NAME).chain(['…']).collect() } else { one_line }
}

/// What a name looks like at a glance: two names that look the same are one to whoever reads them.
fn looks(name: &str) -> String {
    let glance: String = name
        .chars()
        .filter_map(|c| match c.to_ascii_lowercase() {
            '-' | '_' => None,
            '1' | 'i' => Some('l'),
            '0' => Some('o'),
            '5' => Some('s'),
            c => Some(c),
        })
        .collect();
    glance.replace("rn", "m").replace("vv", "w")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generic_names_are_84_and_each_stands_once() {
        let all: std::collections::BTreeSet<_> = GENERIC.iter().collect();
        assert_eq!(all.len(), 84);
        let names = Names::new([]);
        for name in GENERIC {
            assert!(names.refuse(name).is_some(), "{name}");
            assert!(names.refuse(&name.to_uppercase()).is_some(), "{name}");
        }
    }

    #[test]
    fn what_looks_like_another_name_is_told_so() {
        let names = Names::new(["sessions".to_owned()]);
        let why = |name| names.refuse(name).unwrap_or_default();
        assert_eq!(why("weather"), "");
        assert_eq!(why("he1p"), "the command `he1p` is refused: it looks like `help`, which is reserved for the program");
        assert_eq!(why("sess1ons"), "the command `sess1ons` is refused: it looks like `sessions`, which is reserved for the program");
        assert_eq!(why("help"), "the command `help` is refused: the name is reserved for the program");
        let others = [("bill", "a")];
        assert!(names.refuse_beside("bi11", others).is_some_and(|why| why.ends_with("it looks like `bill` of the plugin `a`")));
        assert_eq!(names.refuse_beside("bill", others), None, "who has a name is the registry's to say");
    }
}
