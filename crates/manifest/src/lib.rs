//! plugin.toml: who a plugin is, what it provides, what it asks for. Parsed with positions; no I/O.
//!
//! [`Manifest::parse`] reads a text, [`Manifest::of`] the manifest of a plugin that is compiled in. All that is wrong is
//! reported at once, each problem with file, line, column, key and what to do. Unknown keys are errors with a suggestion,
//! so that a typing mistake never passes for a default. [`Manifest::check_provides`] holds what is declared against what
//! `Plugin::register` contributes.
//!
//! What it does not do: read files, fetch models, check a plugin's configuration, or grant anything.
//!
//! ```
//! use bespoke_manifest::{Manifest, Tier};
//!
//! let text = r#"
//! id = "dice"
//! version = "0.1.0"
//! license = "Apache-2.0"
//! description = "Rolls a die."
//! author = "The example authors"
//! protocol = "1"
//! tiers = ["compiled", "wasm"]
//!
//! [[provides]]
//! kind = "tol"
//! name = "roll"
//! "#;
//! let error = Manifest::parse("dice/plugin.toml", text, None).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "dice/plugin.toml:11:1: provides[0].kind: `tol` is no kind of contribution; did you mean `tool`?"
//! );
//!
//! let manifest = Manifest::parse("dice/plugin.toml", &text.replace("tol\"", "tool\""), None)?;
//! assert_eq!(manifest.tiers, [Tier::Compiled, Tier::Wasm]);
//! # Ok::<(), bespoke_manifest::ManifestError>(())
//! ```
//!
//! # The format
//!
//! | key | value | |
//! |---|---|---|
//! | `id` | `^[a-z][a-z0-9_-]*$`, at most 64 characters; the feature and the key of its configuration | required |
//! | `name` | how a person calls it | the id |
//! | `version` | semantic version | the crate's, when compiled in |
//! | `description` | one line | required |
//! | `author` | who wrote it | required |
//! | `license` | SPDX expression | the crate's, when compiled in |
//! | `repository` | URL | |
//! | `keywords`, `categories` | lists of words | empty |
//! | `protocol` | range of versions of the plugin API, such as `"1"` | required |
//! | `tiers` | some of `compiled`, `dylib`, `wasm`, `process` | required |
//! | `swap` | `overlap`: a new generation starts beside the old one; `exclusive`: only one at a time, calls are held meanwhile | `overlap` |
//! | `[[provides]]` | `kind` and `name`; with `dynamic = true` it is published at run time, if at all, and without `name` under names known only then | |
//! | `[[requires]]` | `plugin`, `version` (a range), `optional` | |
//! | `[permissions]` | `http`, `files`, `env`, `secrets`, `process`, `calls`: see [`Permissions`] | nothing |
//! | `[resources]` | `memory_mb`, `disk_mb`, `threads`, `start_timeout_ms`: see [`Resources`] | the host's limits |
//! | `[[models]]` | `file`, `size`, `sha256`, `license`, `sources`: see [`Model`] | |

mod declared;
mod error;
mod model;
mod name;
mod parse;
mod permissions;
mod reader;

pub use declared::Mismatch;
pub use error::{ManifestError, Position, Problem};
pub use model::{Inherited, Manifest, Model, Package, Provides, Requires, Resources, Source, Swap, Tier};
pub use name::{MAX_NAME, NameError, PLUGIN_SETTINGS, RESERVED_IDS, check_id, check_name, closest};
pub use permissions::{Access, CallTarget, FileAccess, HttpAccess, HttpHosts, Permissions};
