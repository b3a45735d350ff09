//! Hosts with plugins in libraries: some that cargo has built as examples of this crate, some in C, built here.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bespoke_host::{Candidate, Config, Grants, Grounds, Host, Row, Selection, open_folder};
use bespoke_plugin_api::{
    CallCx, Result, Tool, ToolRequest,
    serde_json::{Value, json},
};
use bespoke_tier_dylib as _;

/// Longer than anything here takes, so that a hang fails instead of hanging.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The headers for plugins in C.
pub(crate) const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-dylib/include");

/// A folder for plugins, their data and what is made again.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        World { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn grounds(&self) -> Grounds {
        Grounds::new(self.path().join("cache"))
    }

    /// The folder of a plugin with tools of these names, and with this library.
    pub(crate) fn folder(&self, id: &str, provides: &[(&str, &str)], library: &Path) -> PathBuf {
        let folder = self.path().join("plugins").join(id);
        fs::create_dir_all(&folder).unwrap();
        replace(library, &folder.join("plugin.so"));
        let provides: String =
            provides.iter().map(|(kind, name)| format!("[[provides]]\nkind = \"{kind}\"\nname = \"{name}\"\n")).collect();
        let manifest = format!(
            "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\n\
             protocol = \">=1\"\ntiers = [\"dylib\"]\n{provides}[dylib]\nfile = \"plugin.so\"\n"
        );
        fs::write(folder.join("plugin.toml"), manifest).unwrap();
        folder
    }

    /// The library in C with that fault, as the plugin `faults`.
    pub(crate) fn fault(&self, fault: &str) -> Candidate {
        self.fault_with(fault, &[])
    }

    /// The same, with more defined for the compiler.
    pub(crate) fn fault_with(&self, fault: &str, defines: &[(&str, &Path)]) -> Candidate {
        let library = self.c_library(fault, defines);
        self.candidate(&self.folder("faults", &[("tool", "faults")], &library))
    }

    pub(crate) fn c_library(&self, fault: &str, defines: &[(&str, &Path)]) -> PathBuf {
        let library = self.path().join(format!("{fault}.so"));
        let defines: Vec<String> = defines.iter().map(|(name, value)| format!("-D{name}=\"{}\"", value.display())).collect();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/faults.c");
        cc(
            &[&format!("-DFAULT={fault}"), &format!("-DIS_{fault}")].into_iter().chain(&defines).map(|s| &**s).collect::<Vec<_>>(),
            Path::new(source),
            &library,
        );
        library
    }

    /// The library in Rust that does what it is told, with that written into its file.
    pub(crate) fn faulty(&self, mode: &str) -> Candidate {
        self.candidate(&self.folder("faulty", &[("tool", "faulty"), ("tts", "faulty")], &self.marked(mode)))
    }

    /// The library of [`World::faulty`] in a file of its own.
    pub(crate) fn marked(&self, mode: &str) -> PathBuf {
        const MARK: &[u8] = b"BESPOKE-MODE:";
        let mut bytes = fs::read(example("dylib_faulty")).unwrap();
        let at = bytes.windows(MARK.len()).position(|window| window == MARK).expect("the mark") + MARK.len();
        bytes[at..at + 19].fill(b'.');
        bytes[at..at + mode.len()].copy_from_slice(mode.as_bytes());
        let library = self.path().join(format!("{}.so", mode.replace(' ', "-")));
        fs::write(&library, bytes).unwrap();
        library
    }

    pub(crate) fn candidate(&self, folder: &Path) -> Candidate {
        let candidate = open_folder(folder, &self.grounds());
        assert!(candidate.manifest.is_ok(), "{:?}", candidate.manifest);
        candidate
    }

    /// A host in which these have been started, and are trusted.
    pub(crate) async fn host(&self, plugins: impl IntoIterator<Item = Candidate>) -> Host {
        self.host_with("", plugins).await
    }

    /// The same, with more keys for each of them.
    pub(crate) async fn host_with(&self, keys: &str, plugins: impl IntoIterator<Item = Candidate>) -> Host {
        let plugins: Vec<_> = plugins.into_iter().collect();
        let tables: String = plugins.iter().map(|p| format!("[plugins.{}]\nallow_native = true\n{keys}\n", p.id)).collect();
        self.host_configured(&tables, plugins).await
    }

    /// The same, with the whole configuration.
    pub(crate) async fn host_configured(&self, config: &str, plugins: Vec<Candidate>) -> Host {
        let config = Config::parse("bespoke.toml", config).unwrap();
        let grants = Grants::at(self.path().join("grants.json"));
        let host = Host::builder().config(config).grants(grants).data_dir(self.path().join("data")).plugins(plugins).build().unwrap();
        within(host.start(Selection::All)).await;
        host
    }
}

/// Puts a file where another may be mapped, as whoever builds does: a new file under the old name.
pub(crate) fn replace(from: &Path, to: &Path) {
    let staged = to.with_extension("new");
    fs::copy(from, &staged).unwrap();
    fs::rename(staged, to).unwrap();
}

/// A library that cargo has built as an example of this crate.
pub(crate) fn example(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap();
    let library = own.parent().and_then(Path::parent).unwrap().join("examples").join(format!("lib{name}.so"));
    assert!(library.is_file(), "{} is not there; run: cargo build -p bespoke-tier-dylib --examples", library.display());
    library
}

/// Builds a library in C.
pub(crate) fn cc(flags: &[&str], source: &Path, library: &Path) {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = Command::new(&compiler);
    command
        .args(["-std=c11", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread", "-I", INCLUDE])
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(library);
    let output = command.output().unwrap_or_else(|e| panic!("{compiler}: {e}; install a C compiler, or name one with CC"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("in time")
}

/// Calls the tool of a plugin, with a deadline, as the agent does.
pub(crate) async fn act_in(host: &Host, id: &str, args: Value, limit: Duration) -> Result<String> {
    let slot = host.find::<dyn Tool>(id)?;
    let cx = CallCx::new().with_deadline(bespoke_host::now().plus(limit));
    let call = slot.call_apart(&cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(args)).await });
    within(call).await.map(|output| output.to_text())
}

pub(crate) async fn act(host: &Host, id: &str, what: &str) -> Result<String> {
    act_in(host, id, json!({ "do": what }), LONG).await
}

pub(crate) fn row(host: &Host, id: &str) -> Row {
    host.rows().into_iter().find(|row| row.id == id).unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
