//! Which path leads where. Endpoints of plugins are one branch; whatever else is served stands beside it.

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// An endpoint of a plugin.
    Endpoint {
        /// Id of the plugin.
        plugin: &'a str,
        /// Name of the endpoint.
        name: &'a str,
    },
    /// Nothing.
    Nowhere,
}

/// The place of a path. Names of plugins and endpoints need no escapes: a path with some is none of theirs.
pub(crate) fn place(path: &str) -> Place<'_> {
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("hooks"), Some(plugin), Some(name), None) if !plugin.is_empty() && !name.is_empty() => Place::Endpoint { plugin, name },
        _ => Place::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_names_below_hooks_are_an_endpoint() {
        assert_eq!(place("/hooks/telegram/updates"), Place::Endpoint { plugin: "telegram", name: "updates" });
        for path in ["", "/", "*", "/hooks", "/hooks/", "/hooks/a", "/hooks/a/", "/hooks//b", "/hooks/a/b/", "/hooks/a/b/c", "/Hooks/a/b"] {
            assert_eq!(place(path), Place::Nowhere, "{path}");
        }
    }
}
