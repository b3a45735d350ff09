//! A host with this plugin, and programs in a folder.

use std::{fmt::Write as _, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use bespoke_hook_exec::BESPOKE_PLUGIN;
use bespoke_host::{Config, Host, Outcome, Selection};
use bespoke_plugin_api::{CallCx, Hook, HookEvent};

/// Most time that anything may take; far more than anything takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) temp: tempfile::TempDir,
}

impl World {
    /// With one hook before a turn, which is this script, and with what else is said of it.
    pub(crate) async fn with(script: &str, more: &str) -> Self {
        let entry = format!("hook = 'before_agent_run', {more}");
        let temp = tempfile::tempdir().unwrap();
        let program = program(&temp, script);
        let entry = entry.trim_end_matches([' ', ',']);
        // So that a slow machine is not taken for a program that hangs.
        let entry = if entry.contains("timeout_ms") { entry.to_owned() } else { format!("{entry}, timeout_ms = 60000") };
        let mut file = String::new();
        write!(file, "[plugins.exec]\nhooks = [{{ name = 'guard', command = ['{}', 'an argument'], {entry} }}]\n", program.display())
            .unwrap();
        let config = Config::parse("bespoke.toml", &file).unwrap();
        let host = Host::builder().config(config).plugins([&BESPOKE_PLUGIN]).data_dir(temp.path().join("data")).build().unwrap();
        within(host.start(Selection::All)).await;
        World { host, temp }
    }

    /// A path in the folder that programs work in.
    pub(crate) fn folder(&self, path: &str) -> PathBuf {
        self.temp.path().join("data/exec").join(path)
    }

    pub(crate) async fn ask(&self, cx: &CallCx, input: &str) -> String {
        ask(&self.host, cx, input).await
    }
}

pub(crate) async fn ask(host: &Host, cx: &CallCx, input: &str) -> String {
    let event = || HookEvent::before_agent_run("s1", input);
    match within(host.hooks().run(cx, Hook::BeforeAgentRun, event)).await {
        None => "nobody".into(),
        Some(Outcome::Proceed(HookEvent::BeforeAgentRun { input, .. })) => input,
        Some(Outcome::Proceed(other)) => format!("{other:?}"),
        Some(Outcome::Vetoed { plugin, reason, .. }) => format!("{plugin} vetoed: {reason}"),
    }
}

pub(crate) fn program(temp: &tempfile::TempDir, script: &str) -> PathBuf {
    let path = temp.path().join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it hangs")
}
