//! A running plugin with a folder of its own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bespoke_plugin_api::{
    CallCx, Contract, Instance, Level, Result, Tool, ToolOutput, ToolRequest,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::{TestHost, block_on, block_on_for};
use bespoke_tool_shell::BESPOKE_PLUGIN;

/// Most time that one call may take; far more than any takes.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) host: Arc<TestHost>,
    pub(crate) shell: Instance,
    temp: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(config: Value) -> Self {
        Self::try_new(config).unwrap()
    }

    pub(crate) fn try_new(config: Value) -> Result<Self> {
        let (host, temp) = (TestHost::new(), tempfile::tempdir().unwrap());
        let cx = host.context("shell").with_data_dir(temp.path().join("own"));
        let shell = block_on(BESPOKE_PLUGIN.start(cx, config))?;
        Ok(World { host, shell, temp })
    }

    /// With `sh`, for tests that need a program which does as it is told.
    pub(crate) fn with_sh(config: Value) -> Self {
        let mut all = json!({ "allow": ["sh"], "allow_interpreters": true });
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        Self::new(all)
    }

    /// A path in the folder of work.
    pub(crate) fn folder(&self, path: &str) -> PathBuf {
        self.temp.path().join("own").join(path)
    }

    pub(crate) fn try_call(&self, cx: &CallCx, args: Value) -> Result<ToolOutput> {
        let published = self.host.published();
        let (_, tool) = <dyn Tool>::of(&published[0]).unwrap();
        block_on_for(LIMIT, tool.call(cx, ToolRequest::new(args))).expect("the call hangs")
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> ToolOutput {
        self.try_call(&CallCx::new(), json!({ "program": program, "args": args })).unwrap()
    }

    pub(crate) fn sh(&self, script: &str) -> ToolOutput {
        self.run("sh", &["-c", script])
    }

    pub(crate) fn warnings(&self) -> usize {
        self.host.lines().iter().filter(|(level, _)| *level == Level::Warn).count()
    }
}

pub(crate) fn data(output: &ToolOutput) -> &Value {
    output.data.as_ref().unwrap()
}

/// The reason of a refusal in a word.
pub(crate) fn refused(output: &ToolOutput) -> &str {
    assert!(output.is_error, "{output:?}");
    data(output)["refused"].as_str().unwrap_or_else(|| panic!("no refusal: {output:?}"))
}
