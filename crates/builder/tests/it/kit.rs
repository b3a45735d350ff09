//! Plugins to build, and where: the example of the project, and crates of a few lines that are written here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bespoke_builder::{BuildError, Built, Request, Tier, build};

/// The example, as it stands.
pub(crate) const CHIMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plugins/chimes");
/// The example that is native.
pub(crate) const STOPWATCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plugins/stopwatch");
/// The versions that the project is tested with.
const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");
/// What plugins are written against.
const API: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-api");

/// Builds, and keeps what cargo said.
pub(crate) fn built(request: &Request) -> (Result<Built, BuildError>, Vec<String>) {
    let mut said = Vec::new();
    let result = build(request, &mut |line| said.push(line.to_owned()));
    (result, said)
}

/// Why it is not built; nothing was compiled for that.
pub(crate) fn refused(folder: &Path, tier: Tier) -> BuildError {
    let (result, said) = built(&Request::new(folder, tier));
    let error = result.expect_err("it is built");
    assert!(!said.iter().any(|line| line.contains("Compiling")), "{said:#?}");
    error
}

/// A plugin's crate that is written here.
pub(crate) struct Crate {
    dir: tempfile::TempDir,
}

impl Crate {
    /// With an empty library, and these lines at the end of its manifest and its Cargo.toml.
    pub(crate) fn new(manifest: &str, cargo: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let it = Crate { dir };
        it.write("src/lib.rs", "//! Nothing.\n");
        it.write("config.schema.json", "{}\n");
        it.write(
            "plugin.toml",
            &format!(
                "id = \"small\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \"1\"\n\n{manifest}\n\
                 [[provides]]\nkind = \"tool\"\nname = \"small\"\n"
            ),
        );
        it.write(
            "Cargo.toml",
            &format!(
                "[workspace]\n[package]\nname = \"small\"\nversion = \"0.3.0\"\nedition = \"2024\"\nlicense = \"Apache-2.0\"\n\
                 [dependencies]\nbespoke-plugin-api = {{ path = {API:?} }}\n{cargo}\n"
            ),
        );
        it
    }

    /// With the versions of this project, and without a look at any index: nothing leaves the machine.
    pub(crate) fn offline(self) -> Self {
        fs::copy(LOCK, self.path().join("Cargo.lock")).unwrap();
        self.write(".cargo/config.toml", "[net]\noffline = true\n");
        self
    }

    /// Builds where that plugin builds, so that what both need is built once.
    pub(crate) fn beside(self, other: &str) -> Self {
        let metadata = cargo_metadata::MetadataCommand::new().current_dir(other).no_deps().exec().unwrap();
        self.write(".cargo/config.toml", &format!("[net]\noffline = true\n[build]\ntarget-dir = {:?}\n", metadata.target_directory));
        self
    }

    /// A library in a folder of its own, with these dependencies and these lines in `[package]`.
    pub(crate) fn library(&self, name: &str, dependencies: &str, package: &str) {
        self.write(&format!("{name}/src/lib.rs"), "//! Nothing.\n");
        self.write(
            &format!("{name}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{package}\n[dependencies]\n{dependencies}\n"),
        );
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}
