//! Who comes after whom: a call that was sent after a load of its plugin is made after it, although all of them run at once. Calls
//! never wait for calls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bespoke_plugin_api::CancelToken;

/// Stands for all plugins, while it is not known yet which one is meant.
pub(crate) const ANY: &str = "";

/// Changes that are under way, by plugin. Whoever comes later waits for those of the plugins that it is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<String, Vec<CancelToken>>>>);

/// What has to be over first.
#[derive(Debug, Default)]
pub(crate) struct Earlier(Vec<CancelToken>);

/// A change under way; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    names: Vec<String>,
    over: CancelToken,
}

impl Turns {
    /// What a request about these plugins waits for; of one that names none, everything.
    pub(crate) fn earlier(&self, names: &[&str]) -> Earlier {
        let turns = self.lock();
        let is_meant = |name: &str| name == ANY || names.contains(&ANY) || names.contains(&name);
        Earlier(turns.iter().filter(|(name, _)| is_meant(name)).flat_map(|(_, tokens)| tokens.iter().cloned()).collect())
    }

    /// Announces a change of these plugins: whoever comes from now on waits for it.
    pub(crate) fn take(&self, names: &[&str]) -> Turn {
        let over = CancelToken::new();
        let mut turns = self.lock();
        for name in names {
            turns.entry((*name).to_owned()).or_default().push(over.clone());
        }
        Turn { turns: self.clone(), names: names.iter().map(|name| (*name).to_owned()).collect(), over }
    }

    /// Whether a plugin is being changed.
    pub(crate) fn is_changing(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<CancelToken>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Earlier {
    pub(crate) async fn over(self) {
        for token in self.0 {
            token.cancelled().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // First over, then forgotten: whoever looks in between waits for something that is over.
        self.over.cancel();
        let mut turns = self.turns.lock();
        for name in &self.names {
            if let Some(tokens) = turns.get_mut(name) {
                tokens.retain(|token| !token.is_cancelled());
                if tokens.is_empty() {
                    turns.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether somebody would have to wait.
    fn waits(earlier: &Earlier) -> bool {
        earlier.0.iter().any(|token| !token.is_cancelled())
    }

    #[test]
    fn whoever_comes_later_waits_for_changes_of_the_same_plugin_only() {
        let turns = Turns::default();
        let before = turns.earlier(&["a"]);
        let swap = turns.take(&["a", "b"]);
        assert!(!waits(&before) && !waits(&turns.earlier(&["c"])));
        assert!(waits(&turns.earlier(&["a"])) && waits(&turns.earlier(&["b"])) && waits(&turns.earlier(&[ANY])));
        assert!(turns.is_changing("a") && !turns.is_changing("c"));
        let any = turns.take(&[ANY]);
        assert!(waits(&turns.earlier(&["c"])));
        drop(any);
        assert!(!waits(&turns.earlier(&["c"])));
        let later = turns.earlier(&["a"]);
        drop(swap);
        assert!(!waits(&later) && !turns.is_changing("a"));
        assert!(turns.lock().is_empty());
    }
}
