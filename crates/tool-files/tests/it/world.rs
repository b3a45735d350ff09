//! A folder that the tools may see, one beside it that they may not, and a running plugin.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Contract, Instance, Level, Result, Tool, ToolOutput, ToolRequest,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{TestHost, block_on, block_on_for};
use bespoke_tool_files::BESPOKE_PLUGIN;

/// What no answer may ever hold.
pub(crate) const SECRET: &str = "the eagle lands at nine";

/// Most time that one call may take; far more than any takes.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) host: Arc<TestHost>,
    pub(crate) files: Instance,
    temp: tempfile::TempDir,
}

impl World {
    /// With a root of its own, and `config` on top of it.
    pub(crate) fn new(config: Value) -> Self {
        let temp = tempfile::tempdir().unwrap();
        for folder in ["root", "outside"] {
            fs::create_dir(temp.path().join(folder)).unwrap();
        }
        fs::write(temp.path().join("outside/secret.txt"), SECRET).unwrap();
        let mut all = json!({ "root": temp.path().join("root") });
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let host = TestHost::new();
        let files = block_on(BESPOKE_PLUGIN.start(host.context("files"), all)).unwrap();
        World { host, files, temp }
    }

    /// A path in the root.
    pub(crate) fn root(&self, path: &str) -> PathBuf {
        self.temp.path().join("root").join(path)
    }

    /// A path beside the root.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        self.temp.path().join("outside").join(path)
    }

    /// The folder that holds both.
    pub(crate) fn top(&self) -> &Path {
        self.temp.path()
    }

    /// Writes a file in the root, and the folders it needs.
    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn try_call(&self, cx: &CallCx, tool: &str, args: Value) -> Result<ToolOutput> {
        call(&self.host, &self.files, cx, tool, args)
    }

    pub(crate) fn call(&self, tool: &str, args: Value) -> ToolOutput {
        self.try_call(&CallCx::new(), tool, args).unwrap()
    }

    pub(crate) fn text(&self, tool: &str, args: Value) -> String {
        self.call(tool, args).to_text()
    }

    /// Warnings in the log.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.host.lines().into_iter().filter(|(level, _)| *level == Level::Warn).map(|(_, line)| line).collect()
    }
}

/// Calls a tool of the instance, or one that its host was given.
pub(crate) fn call(host: &TestHost, files: &Instance, cx: &CallCx, tool: &str, args: Value) -> Result<ToolOutput> {
    let published = host.published();
    let found = files.contributions.iter().chain(&published).find(|c| c.name() == tool).unwrap_or_else(|| panic!("no tool {tool}"));
    let (_, tool) = <dyn Tool>::of(found).unwrap();
    // A limit, because a tool that waits for the other end of a pipe would wait for ever.
    block_on_for(LIMIT, tool.call(cx, ToolRequest::new(args))).expect("the tool hangs")
}

/// The reason of a refusal in a word; empty for an answer.
pub(crate) fn refused(output: &ToolOutput) -> String {
    let word = output.data.as_ref().and_then(|data| data["refused"].as_str()).unwrap_or_default().to_owned();
    assert_eq!(output.is_error, !word.is_empty(), "{output:?}");
    word
}
