//! Hosts with plugins in wasm: the guest that does what it is told, built once by the toolchain that the tests were given, and components
//! written as text.

use std::{
    collections::HashMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use bespoke_host::{Candidate, Config, Grants, Grounds, Host, HttpClient, KeyValue, PluginFolder, Row, Selection, Tier};
use bespoke_manifest::Manifest;
use bespoke_plugin_api::{
    CallCx, Result, Tool, ToolRequest,
    serde_json::{Value, json},
};
use bespoke_tier_wasm::{Limits, WasmPlugin};
use bytes::Bytes;

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The component of `tests/guests/acts`.
pub(crate) fn acts() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    guest(&BUILT, "acts", "acts.wasm")
}

/// The one with the hooks, beside it.
pub(crate) fn actor() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    guest(&BUILT, "acts", "examples/actor.wasm")
}

/// The component of `tests/guests/wasi`.
pub(crate) fn wasi() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    guest(&BUILT, "wasi", "wasi_guest.wasm")
}

fn guest(built: &'static OnceLock<PathBuf>, folder: &str, file: &str) -> &'static Path {
    built.get_or_init(|| {
        let toolchain = env::var_os("BESPOKE_WASM_TOOLCHAIN").filter(|folder| !folder.is_empty());
        let toolchain = PathBuf::from(toolchain.expect("BESPOKE_WASM_TOOLCHAIN is set: `cargo xtask test` does that"));
        let target = env::var_os("BESPOKE_WASM_TARGET").map(PathBuf::from);
        // Beside what cargo builds here, so that it is built once.
        let target = target.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("wasm"));
        let mut cargo = Command::new(toolchain.join("cargo-wasm"));
        cargo
            .args(["build", "--release", "--lib", "--examples"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(folder));
        // Those are of the cargo that runs the tests.
        for name in env::vars_os().map(|(name, _)| name) {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO") && name != "CARGO_HOME" || name == "RUSTFLAGS") {
                cargo.env_remove(name);
            }
        }
        let built = cargo.env("CARGO_TARGET_DIR", &target).output().expect("cargo-wasm runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("wasm32-unknown-unknown/release").join(file)
    })
}

/// A folder for plugins, their data and what is made again.
pub(crate) struct World {
    dir: tempfile::TempDir,
    limits: Limits,
    http: Option<Arc<dyn HttpClient>>,
    cache: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        World {
            dir: tempfile::tempdir().unwrap(),
            limits: Limits::default(),
            http: None,
            cache: Path::new(env!("CARGO_TARGET_TMPDIR")).join("wasm-cache"),
        }
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// With a client for what plugins ask over HTTP.
    pub(crate) fn http(mut self, client: Arc<dyn HttpClient>) -> Self {
        self.http = Some(client);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// With a cache of its own. Others share one, so that the guest is compiled once.
    pub(crate) fn own_cache(mut self) -> Self {
        self.cache = self.path().join("cache");
        self
    }

    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The guest that does what it is told.
    pub(crate) fn acts(&self) -> Candidate {
        self.acts_with("")
    }

    /// The same, with more at the end of its manifest.
    pub(crate) fn acts_with(&self, extra: &str) -> Candidate {
        let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/acts/plugin.toml")).unwrap();
        self.plugin("acts", &format!("{manifest}\n{extra}"), &fs::read(acts()).unwrap())
    }

    /// The guest that tries what WASI has; its manifest asks for it, and ends with more.
    pub(crate) fn wasi(&self, extra: &str) -> Candidate {
        let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/wasi/plugin.toml")).unwrap();
        self.plugin("wasi-guest", &format!("{manifest}wasi = true\n{extra}"), &fs::read(wasi()).unwrap())
    }

    /// A component written as text, which says that it has a tool of its name.
    pub(crate) fn text(&self, id: &str, text: &str) -> Candidate {
        self.bytes(id, &wat::parse_str(text).unwrap())
    }

    /// The same, of any bytes.
    pub(crate) fn bytes(&self, id: &str, bytes: &[u8]) -> Candidate {
        let manifest = format!(
            "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \"1\"\n\
             tiers = [\"wasm\"]\n[[provides]]\nkind = \"tool\"\nname = \"{id}\"\n[wasm]\nfile = \"plugin.wasm\"\n"
        );
        self.plugin(id, &manifest, bytes)
    }

    pub(crate) fn plugin(&self, id: &str, manifest: &str, component: &[u8]) -> Candidate {
        let folder = self.path().join("plugins").join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("plugin.wasm"), component).unwrap();
        let path = folder.join("plugin.toml");
        fs::write(&path, manifest).unwrap();
        let manifest = Arc::new(Manifest::parse(&path.display().to_string(), manifest, None).unwrap());
        let folder = PluginFolder::new(folder, manifest.clone());
        Candidate {
            id: manifest.id.clone(),
            tier: Tier::Wasm,
            origin: path.display().to_string(),
            artifact: Arc::new(WasmPlugin::with_limits(&folder, &Grounds::new(self.cache.clone()), self.limits).unwrap()),
            manifest: Ok(manifest),
            config_schema: "{}".into(),
        }
    }

    /// A host in which these have been started.
    pub(crate) async fn host(&self, plugins: impl IntoIterator<Item = Candidate>) -> Host {
        self.host_with("", plugins).await
    }

    /// The same, with a configuration.
    pub(crate) async fn host_with(&self, config: &str, plugins: impl IntoIterator<Item = Candidate>) -> Host {
        let plugins: Vec<_> = plugins.into_iter().collect();
        let grants = Grants::at(self.path().join("grants.json"));
        // What they ask for is granted.
        for plugin in &plugins {
            grants.grant(plugin.manifest.as_ref().unwrap(), plugin.tier, &[]).unwrap();
        }
        let config = Config::parse("bespoke.toml", config).unwrap();
        let mut host = Host::builder().config(config).grants(grants).data_dir(self.path().join("data")).plugins(plugins);
        host = host.store(Arc::new(Kept::default()));
        if let Some(client) = &self.http {
            host = host.http(client.clone());
        }
        let host = host.build().unwrap();
        within(host.start(Selection::All)).await;
        host
    }
}

/// What plugins store, as long as the host lives.
#[derive(Default)]
struct Kept(Mutex<HashMap<(String, String), Bytes>>);

impl KeyValue for Kept {
    fn load(&self, plugin: &str, key: &str) -> Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().get(&(plugin.to_owned(), key.to_owned())).cloned())
    }

    fn store(&self, plugin: &str, key: &str, value: Option<Bytes>) -> Result<()> {
        let (place, mut kept) = ((plugin.to_owned(), key.to_owned()), self.0.lock().unwrap());
        match value {
            Some(value) => _ = kept.insert(place, value),
            None => _ = kept.remove(&place),
        }
        Ok(())
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

/// The guest answers.
pub(crate) async fn echo(host: &Host) -> Result<String> {
    act(host, "acts", json!({ "do": "echo", "value": 7 })).await
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

/// What was logged so far, by all tests of this program.
pub(crate) fn logged() -> String {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let into = Into(log.clone());
        tracing_subscriber::fmt().with_writer(move || into.clone()).with_ansi(false).without_time().init();
        log
    });
    String::from_utf8_lossy(&log.lock().unwrap()).into_owned()
}

#[derive(Clone)]
struct Into(Arc<Mutex<Vec<u8>>>);

impl io::Write for Into {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
