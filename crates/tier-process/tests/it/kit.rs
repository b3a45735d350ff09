//! Hosts with plugins in processes: small scripts, each told what to do by its test.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bespoke_host::{Candidate, Config, Grants, Grounds, Host, PluginFolder, Row, Selection, Tier};
use bespoke_manifest::Manifest;
use bespoke_plugin_api::{
    CallCx, Result, Tool, ToolRequest,
    serde_json::{Value, json},
};
use bespoke_tier_process::{Patience, ProcessPlugin};

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(40);

/// A folder for plugins, their data and what is made again.
pub(crate) struct World {
    dir: tempfile::TempDir,
    patience: Patience,
    supervised: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        World { dir: tempfile::tempdir().unwrap(), patience: Patience::default(), supervised: true }
    }

    pub(crate) fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// With plugins that have no supervisor.
    pub(crate) fn bare(mut self) -> Self {
        self.supervised = false;
        self
    }

    pub(crate) fn grounds(&self) -> Grounds {
        let grounds = Grounds::new(self.path().join("cache"));
        if self.supervised { grounds.program(env!("CARGO_BIN_EXE_bespoke_process").into()) } else { grounds }
    }

    /// A plugin that is the guest in that mode; its tool has its name.
    pub(crate) fn plugin(&self, id: &str, mode: &str) -> Candidate {
        self.plugin_with(id, mode, "")
    }

    /// The same, with more at the end of its manifest.
    pub(crate) fn plugin_with(&self, id: &str, mode: &str, extra: &str) -> Candidate {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/guest.py");
        let folder = self.path().join("plugins").join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(script, folder.join("guest.py")).unwrap();
        let manifest = format!(
            "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\n\
             protocol = \">=1\"\ntiers = [\"process\"]\n\
             [[provides]]\nkind = \"tool\"\nname = \"{id}\"\n[[provides]]\nkind = \"vad\"\nname = \"{id}\"\n\
             [process]\ncommand = [\"python3\", \"guest.py\", \"{mode}\", \"{id}\", \"{id}\"]\n{extra}\n"
        );
        self.candidate(folder, &manifest)
    }

    pub(crate) fn candidate(&self, folder: PathBuf, manifest: &str) -> Candidate {
        let path = folder.join("plugin.toml");
        fs::write(&path, manifest).unwrap();
        let manifest = Arc::new(Manifest::parse(&path.display().to_string(), manifest, None).unwrap());
        let folder = PluginFolder::new(folder, manifest.clone());
        Candidate {
            id: manifest.id.clone(),
            tier: Tier::Process,
            origin: path.display().to_string(),
            artifact: Arc::new(ProcessPlugin::with_patience(&folder, &self.grounds(), self.patience)),
            manifest: Ok(manifest),
            config_schema: "{}".into(),
        }
    }

    /// A host in which these have been started.
    pub(crate) async fn host(&self, plugins: impl IntoIterator<Item = Candidate>) -> Host {
        self.host_with("", plugins).await
    }

    pub(crate) async fn host_with(&self, config: &str, plugins: impl IntoIterator<Item = Candidate>) -> Host {
        let plugins: Vec<_> = plugins.into_iter().collect();
        // What they ask for is granted.
        for plugin in &plugins {
            self.grants().grant(plugin.manifest.as_ref().unwrap(), plugin.tier, &[]).unwrap();
        }
        self.host_as_granted(config, plugins).await
    }

    fn grants(&self) -> Grants {
        Grants::at(self.path().join("grants.json"))
    }

    /// The same, with what was granted before.
    pub(crate) async fn host_as_granted(&self, config: &str, plugins: Vec<Candidate>) -> Host {
        let config = Config::parse("bespoke.toml", config).unwrap();
        let grants = self.grants();
        let host = Host::builder().config(config).grants(grants).data_dir(self.path().join("data")).plugins(plugins).build().unwrap();
        within(host.start(Selection::All)).await;
        host
    }
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("in time")
}

/// Calls the tool of a plugin, with a deadline.
pub(crate) async fn act_in(host: &Host, id: &str, args: Value, limit: Duration) -> Result<String> {
    let slot = host.find::<dyn Tool>(id)?;
    let cx = CallCx::new().with_deadline(bespoke_host::now().plus(limit));
    let call = slot.call(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(args)).await });
    within(call).await.map(|output| output.to_text())
}

pub(crate) async fn act(host: &Host, id: &str, args: Value) -> Result<String> {
    act_in(host, id, args, LONG).await
}

pub(crate) async fn echo(host: &Host, id: &str) -> Result<String> {
    act(host, id, json!({ "value": 1 })).await
}

pub(crate) fn row(host: &Host, id: &str) -> Row {
    host.rows().into_iter().find(|row| row.id == id).unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether there is a process of that number.
pub(crate) fn lives(pid: &str) -> bool {
    // One that has ended and was not waited for is still listed.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// What was logged for plugins since the first call of this.
pub(crate) fn logged() -> String {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = Into(log.clone());
        tracing_subscriber::fmt().with_writer(move || into.clone()).with_ansi(false).without_time().init();
        log
    });
    String::from_utf8_lossy(&log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

#[derive(Clone)]
struct Into(Arc<Mutex<Vec<u8>>>);

impl io::Write for Into {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
