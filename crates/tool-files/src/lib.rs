//! Four tools that let the model list, read, search and, where the user allows it, write files inside one folder.
//!
//! There is no way out of the folder, by name, by link or by race:
//!
//! * **Invariant:** every file is reached from the handle of the folder that was opened at the start, one name at a time, and no
//!   step follows a link. What is swapped for a link in between is refused by the system, not by a check before.
//! * Names are checked first, by rules that hold on every platform: no `..`, no absolute paths, no `~`, no characters in disguise, no
//!   names of devices, and nothing hidden unless `hidden` is set.
//! * Only regular files and folders are opened. What is opened is looked at again through its handle, and opening never waits.
//! * A file with several names (hard links) may belong to somebody outside. Which, cannot be told; so it is neither read nor replaced
//!   unless `hard_links` is set.
//! * What is mounted below the folder from another file system is refused. A folder of the same file system that an administrator binds
//!   there cannot be told from any other: it counts as inside.
//!
//! Somebody who may write in the folder by other means can move files into it; those are inside then. The plugin is no protection of
//! files from the user it runs as, but of the user from the model.
//!
//! | tool | arguments | what it answers |
//! |---|---|---|
//! | `list_files` | `path`? | the entries of a folder; of a file, its size and what it says |
//! | `read_file` | `path`, `offset`?, `limit`? | text, and where to read on; of a folder, its entries |
//! | `find_files` | `name`?, `text`?, `path`? | paths, and lines that fit; all files where neither is given |
//! | `write_file` | `path`, `text`, `mode`? | how long the file is now; only while `write` is set |
//!
//! A refusal is an answer, not an error: the model can do better. Its data has the reason in a word, as `refused`.
//! Where a name does not exist, up to three that do and come close are told, as `near` too: only such as `list_files` shows.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bespoke_plugin_api::{
    CallCx, CancelToken, Contribution, Error, Facts, Health, Level, Plugin, PluginApi, PluginContext, Result, Tool, ToolOutput,
    ToolRequest, ToolSpec, async_trait,
    serde::{self, Deserialize},
    serde_json::{Value, json},
};

mod find;
mod list;
mod name;
mod near;
mod read;
mod refusal;
mod root;
mod write;

use crate::{find::Query, name::Rules, refusal::Refusal, root::Root, write::Mode};

/// The table `[plugins.files]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The folder that the model may see: absolute, or beginning with ~/. When empty, the folder of the plugin itself.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub root: String,
    /// Whether the model may write files.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub write: bool,
    /// Whether writing a file makes the folders that are missing.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub create_folders: bool,
    /// Whether names that begin with a dot are seen.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub hidden: bool,
    /// Whether files with more than one name are opened. One of the names may be outside of the folder.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub hard_links: bool,
    /// Most bytes that one call reads. The agent shows a model 16 KiB of an answer at most.
    #[cfg_attr(test, schemars(range(min = 256, max = 16_777_216), extend("x-reload" = "restart")))]
    pub max_read_bytes: u64,
    /// Most bytes of a file that is written.
    #[cfg_attr(test, schemars(range(min = 1, max = 16_777_216), extend("x-reload" = "restart")))]
    pub max_write_bytes: u64,
    /// Most entries and hits in one answer.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000), extend("x-reload" = "restart")))]
    pub max_entries: usize,
    /// Most names in one path, and so how deep a search goes.
    #[cfg_attr(test, schemars(range(min = 1, max = 64), extend("x-reload" = "restart")))]
    pub max_depth: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            root: String::new(),
            write: false,
            create_folders: false,
            hidden: false,
            hard_links: false,
            max_read_bytes: 12 * 1024,
            max_write_bytes: 1 << 20,
            max_entries: 200,
            max_depth: 16,
        }
    }
}

/// One instance.
pub struct Files(Arc<Shared>);

/// What the plugin and its tools hold.
struct Shared {
    cx: PluginContext,
    config: Config,
    /// `None` where neither the configuration nor the host names a folder.
    root: Option<Arc<Root>>,
    /// Held while a file is written: of two calls that add to a file, none is lost.
    writing: Arc<Mutex<()>>,
}

impl Plugin for Files {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let list =
            ToolSpec::new("list_files", "Lists which files and folders the user has. Their names only; read_file tells what one says.")
                .input(json!({
                    "type": "object",
                    "properties": { "path": path("The folder, such as notes/2024; the topmost one when absent") },
                    "additionalProperties": false
                }));
        api.tool(list, |files| Arc::new(ListFiles(files.0.clone())));
        let read = ToolSpec::new("read_file", "Reads out what one file of the user says, such as notes.txt. A long one comes in parts.")
            .input(json!({
                "type": "object",
                "properties": {
                    "path": path("The file, such as notes/today.txt"),
                    "offset": { "type": "integer", "minimum": 0, "description": "Byte to begin at; 0 when absent" },
                    "limit": { "type": "integer", "minimum": 1, "description": "Most bytes to read" }
                },
                "required": ["path"],
                "additionalProperties": false
            }));
        api.tool(read, |files| Arc::new(ReadFile(files.0.clone())));
        let find = ToolSpec::new("find_files", "Finds files of the user by name, by a text in them, or by both.").input(json!({
            "type": "object",
            "properties": {
                "name": { "type": "string", "description": "Part of the name, or a pattern such as *.md" },
                "text": { "type": "string", "description": "Text that a line of the file has" },
                "path": path("The folder to search; the topmost one when absent")
            },
            "additionalProperties": false
        }));
        api.tool(find, |files| Arc::new(FindFiles(files.0.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        check(&config)?;
        let configured = !config.root.is_empty();
        let place = if configured { Some(expand(&config.root)?) } else { cx.data_dir().cloned() };
        let rules = Rules { hidden: config.hidden, depth: config.max_depth };
        let hard_links = config.hard_links;
        let root = match place {
            None => None,
            Some(place) => {
                let opened = cx.blocking({
                    let place = place.clone();
                    move || {
                        // The user's folder must be there, or a typo would make one; the plugin's own is made.
                        if !configured {
                            std::fs::create_dir_all(&place)?;
                        }
                        Root::open(place, rules, hard_links)
                    }
                });
                Some(Arc::new(opened.await?.map_err(|e| no_folder(&place, &e))?))
            }
        };
        let shared = Arc::new(Shared { cx, config, root, writing: Arc::default() });
        if shared.config.write {
            let write = Contribution::Tool(write_file(), Arc::new(WriteFile(shared.clone())));
            shared.cx.host().publish(vec![write])?;
        }
        Ok(Files(shared))
    }

    fn health(&self) -> Health {
        match self.0.root {
            Some(_) => Health::Ok,
            None => Health::Degraded("no folder is chosen: bespoke config set plugins.files.root ~/notes".into()),
        }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        if let Some(root) = &self.0.root {
            facts.insert("folder".into(), root.path().display().to_string());
        }
        facts.insert("access".into(), if self.0.config.write { "read and write" } else { "read" }.into());
        if !self.0.config.write {
            facts.insert(WRITE_FILE.into(), "off: bespoke config set plugins.files.write true".into());
        }
        facts
    }
}

bespoke_plugin_api::plugin!("files", Files);

/// A folder or a file among the arguments of a tool.
fn path(what: &str) -> Value {
    json!({ "type": "string", "description": what })
}

const WRITE_FILE: &str = "write_file";

/// The tool that is there only when the user wants it.
fn write_file() -> ToolSpec {
    ToolSpec::new(WRITE_FILE, "Writes a text file of the user. Only when the user wants something kept.").input(json!({
        "type": "object",
        "properties": {
            "path": path("The file, such as notes/today.txt"),
            "text": { "type": "string", "description": "What to write" },
            "mode": {
                "type": "string", "enum": ["create", "replace", "append"],
                "description": "If the file exists: create leaves it, replace overwrites it, append adds to it; create when absent"
            }
        },
        "required": ["path", "text"],
        "additionalProperties": false
    }))
}

impl Shared {
    /// Does the work of a call on a thread that may block, and makes an answer of a refusal.
    async fn run(
        &self,
        cx: &CallCx,
        work: impl FnOnce(&Root, &CancelToken) -> Result<ToolOutput, Refusal> + Send + 'static,
    ) -> Result<ToolOutput> {
        cx.check()?;
        let Some(root) = self.root.clone() else { return self.refuse(&Refusal::NoRoot) };
        // A call that is dropped ends its work, too.
        let token = cx.cancel_token().child();
        let ends = CancelOnDrop(token.clone());
        let done = self.cx.blocking(move || root.check_place().and_then(|()| work(&root, &token))).await?;
        drop(ends);
        done.or_else(|refusal| self.refuse(&refusal))
    }

    fn refuse(&self, refusal: &Refusal) -> Result<ToolOutput> {
        if matches!(refusal, Refusal::Cancelled) {
            return Err(Error::cancelled());
        }
        if refusal.is_escape() {
            self.cx.log(Level::Warn, &format!("refused: {refusal}"));
        }
        let mut data = json!({ "refused": refusal.word() });
        if let Refusal::Misnamed(_, near) = refusal {
            data["near"] = json!(near.paths);
        }
        Ok(ToolOutput::error(refusal.to_string()).with_data(data))
    }
}

struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn check(config: &Config) -> Result<()> {
    let ranges = [
        ("max_read_bytes", config.max_read_bytes, 256, 16 << 20),
        ("max_write_bytes", config.max_write_bytes, 1, 16 << 20),
        ("max_entries", config.max_entries as u64, 1, 10_000),
        ("max_depth", config.max_depth as u64, 1, 64),
    ];
    for (key, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            let message = format!("`{key}` is {value}; it has to be from {least} to {most}");
            return Err(Error::invalid_params(message).with_data(json!({ "path": key })));
        }
    }
    Ok(())
}

/// The folder that a configuration means.
fn expand(root: &str) -> Result<PathBuf> {
    let path = match root.strip_prefix("~/").or((root == "~").then_some("")) {
        Some(below) => {
            std::env::home_dir().ok_or_else(|| bad_root("`root` begins with ~/, and this machine tells no home folder"))?.join(below)
        }
        None => PathBuf::from(root),
    };
    if path.is_absolute() { Ok(path) } else { Err(bad_root(&format!("`root` is {root:?}, which is not absolute"))) }
}

fn bad_root(message: &str) -> Error {
    Error::invalid_params(message)
        .with_help("write an absolute path, or one that begins with ~/: bespoke config set plugins.files.root ~/notes")
        .with_data(json!({ "path": "root" }))
}

fn no_folder(place: &Path, error: &std::io::Error) -> Error {
    Error::invalid_params(format!("`root`: {}: {error}", place.display()))
        .with_help("make the folder, or choose another: bespoke config set plugins.files.root ~/notes")
        .with_data(json!({ "path": "root" }))
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct ListArgs {
    #[serde(default)]
    path: String,
}

struct ListFiles(Arc<Shared>);

#[async_trait]
impl Tool for ListFiles {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let args: ListArgs = request.parse()?;
        let (most, bytes) = (self.0.config.max_entries, self.0.config.max_read_bytes);
        self.0.run(cx, move |root, cancel| list::list(root, &args.path, most, bytes, cancel)).await
    }
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct ReadArgs {
    path: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    limit: Option<u64>,
}

struct ReadFile(Arc<Shared>);

#[async_trait]
impl Tool for ReadFile {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let args: ReadArgs = request.parse()?;
        let (most, bytes) = (self.0.config.max_entries, self.0.config.max_read_bytes);
        let limit = args.limit.map_or(bytes, |limit| limit.min(bytes));
        self.0.run(cx, move |root, cancel| read::read(root, &args.path, args.offset, limit, most, cancel)).await
    }
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct FindArgs {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    path: String,
}

struct FindFiles(Arc<Shared>);

#[async_trait]
impl Tool for FindFiles {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let FindArgs { name, text, path } = request.parse()?;
        let most = self.0.config.max_entries;
        self.0.run(cx, move |root, cancel| find::find(root, &path, &Query { name, text }, most, cancel)).await
    }
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct WriteArgs {
    path: String,
    text: String,
    #[serde(default)]
    mode: Mode,
}

struct WriteFile(Arc<Shared>);

#[async_trait]
impl Tool for WriteFile {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let WriteArgs { path, text, mode } = request.parse()?;
        let limits = write::Limits { bytes: self.0.config.max_write_bytes, create_folders: self.0.config.create_folders };
        let writing = self.0.writing.clone();
        let work = move |root: &Root, _: &CancelToken| {
            let _one_at_a_time = writing.lock().unwrap_or_else(PoisonError::into_inner);
            write::write(root, &path, &text, mode, limits)
        };
        self.0.run(cx, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
