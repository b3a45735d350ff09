//! plugin.toml: who a plugin is, what it provides, what it asks for. Parsed with positions; no I/O.
//!
//! [`Manifest::read`] reads a file's text, [`Manifest::parse`] one that is known to be this program's own dialect, and [`Manifest::of`] the
//! manifest of a plugin that is compiled in. All that is wrong is
//! reported at once, each problem with file, line, column, key and what to do. Unknown keys are errors with a suggestion,
//! so that a typing mistake never passes for a default. [`Manifest::check_provides`] holds what is declared against what
//! `Plugin::register` contributes.
//!
//! Manifests of App Factory (manifest.json), LAO (plugin.toml with `[plugin]`) and aisopod (aisopod.plugin.toml) become the same
//! [`Manifest`]: see [`Dialect`], and the table at the end. LAO's plugin.yaml is not read.
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
//! | `[[provides]]` | `kind` and `name`; with `dynamic = true` it is published at run time, if at all, and without `name` under names known only then. A `command` may have `about`, one line, `usage`, and `require_auth`, so that help needs no start | |
//! | `[[requires]]` | `plugin`, `version` (a range), `optional` | |
//! | `[permissions]` | `network_access`, `read_files`, `write_files`, `system_access`, `plugin_communication`, `env`, `secrets`: see [`Permissions`]. `optional`: those of them that the plugin also works without; `reasons`: a line for each, required unless the plugin is only ever compiled in | nothing |
//! | `[resources]` | `memory_mb`, `address_space_mb`, `cpu_percent`, `cpu_seconds`, `disk_mb`, `threads`, `start_timeout_ms`, `open_files`, `file_mb`, `processes`, `network_per_s`: see [`Resources`] | the host's limits |
//! | `[dylib]` | `file = "plugin.so"`: the library in the plugin's folder | |
//! | `[wasm]` | `file = "plugin.wasm"`: the component in the plugin's folder; `wasi = true` where it asks for WASI | |
//! | `[process]` | `command = ["./run", "--flag"]`, or `python = "module"` with `requirements = ["numpy>=1.24"]`: see [`Process`] | |
//! | `[config_schema]` | JSON Schema of the plugin's configuration; a config.schema.json beside the manifest does as well | anything goes |
//! | `[[models]]` | `file`, `version`, `size`, `sha256`, `license`, `sources`: see [`Model`]; `version` only where no package of `sources` says it | |
//! | `[[events]]` | `name`, and `schema`, a JSON Schema of the payload: events that it tells; others it may tell, too | |
//! | `runtimes` | native runtimes that it can use, as `runtime:device`, such as `["onnx:cpu", "onnx:cuda"]` | none |
//!
//! # Other dialects
//!
//! What a dialect cannot say gets a default.
//!
//! | | App Factory, manifest.json | LAO, plugin.toml with `[plugin]` | aisopod.plugin.toml |
//! |---|---|---|---|
//! | `id` | `name` | `name`, from `MyPlugin` to `my-plugin` | `id` |
//! | `name` | `display_name`, else the id | `name` | `name` |
//! | `version` | `version` | `version` | `version` |
//! | `description` | `description`, else the name | `description`, else the name | `description`, else the name |
//! | `author` | `author`, else `unknown` | `author`, else `unknown` | `author`, else `unknown` |
//! | `license` | `license`, else `NOASSERTION` | `license`, else `NOASSERTION` | `NOASSERTION` |
//! | `keywords` | `tags` | `keywords` | |
//! | `tiers` | `process` | `dylib`, and nothing runs it | `dylib`, and nothing runs it |
//! | `provides` | by `contract`: tts, stt, llm (a provider), embedding under the id; mcp dynamic tools; vision, debug nothing | a tool per capability | `channels`, `tools`, `providers`, `commands`, `hooks` |
//! | `requires` | | `[[dependencies]]` | |
//! | `permissions` | none | `[permissions]`, with the places of `file_access`; those without a reason | none |
//! | `resources` | the host's | `max_memory_mb`, `max_cpu_percent` | the host's |
//! | `process` | `python = entry_point`, `requirements = dependencies` | | |
//! | `config_schema` | `config_schema`, with `default_config` as its defaults | `[config_schema]` | `[config_schema]` |
//!
//! App Factory's folder must be named like the plugin. LAO's relative folders, such as `./data/`, lie in the plugin's data folder, which is
//! its own anyway: they ask for nothing. Its `network_access = false` under `[resources]` makes that permission an optional one.

mod declared;
mod error;
mod foreign;
mod model;
mod name;
mod parse;
mod permissions;
mod reader;
mod resources;
mod tree;

pub use declared::{API, Mismatch};
pub use error::{ManifestError, Position, Problem};
pub use model::{
    Component, Dialect, Emits, Inherited, Library, Manifest, Model, Package, Process, Provides, Requires, Run, Source, Swap, Tier,
};
pub use name::{HOST_KEYS, MAX_NAME, NameError, PLUGIN_SETTINGS, RESERVED_IDS, check_id, check_name, closest};
pub use parse::{check_config_schema, is_requirement};
pub use permissions::{Communication, HttpAccess, HttpHosts, Permission, Permissions};
pub use resources::{Limit, Resources};
