//! Hooks that stand in a user's configuration, whoever is asked there: what each entry says, whether it makes sense, how many calls of
//! one run at once, and how an answer is read. Whom to ask, and how, is the plugin's that uses it: `exec` asks programs, `post` servers.
//!
//! A plugin names its entries by [`entry!`], checks them by [`specs`] where its configuration is checked, and publishes each as a
//! [`subscription`] when it starts.

mod entry;
mod reply;
mod subscription;

pub use crate::{
    entry::{Entry, Said, hook_named, hook_names, on_failure, specs, wrong},
    reply::{MOST_ANSWER, read, shown},
    subscription::{Ask, subscription},
};
#[doc(hidden)]
pub use bespoke_plugin_api::{Hook, OnFailure};
