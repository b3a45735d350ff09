//! Plugins to build, and where: the example of the project, and crates of a few lines that are written here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bespoke_builder::{BuildError, Built, Request, Tier, build};

/// The example, as it stands.
pub(crate) const CHIMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plugins/chimes");
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
