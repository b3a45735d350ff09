//! The crate around a plugin that exports it in a tier: its text, and its folder below cargo's target folder. The texts are the whole of
//! it; how it is built is `toolchain`.

use std::{
    fs::{self, File, TryLockError},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use bespoke_manifest::Tier;
use toml_edit::{DocumentMut, Item, Table, value};

use crate::{
    Request,
    error::BuildError,
    source::{Origin, Source},
};

/// A generated crate.
#[derive(Debug)]
pub(crate) struct Shim {
    /// Its folder.
    folder: PathBuf,
    /// Its package.
    pub(crate) package: String,
    /// Where it is built.
    pub(crate) target: PathBuf,
    /// Nobody else writes or builds it as long as this lives.
    _alone: Option<File>,
}

impl Shim {
    /// Writes it. What is equal is left alone, so that cargo finds nothing changed. Whoever builds the same at the same time waits here,
    /// and then finds it built.
    pub(crate) fn write(source: &Source, request: &Request, tell: &mut dyn FnMut(&str)) -> Result<Self, BuildError> {
        let guest = guest(request.tier);
        if let Origin::Folder(crates) = &source.origin {
            let folder = crates.join(guest.strip_prefix("bespoke-").unwrap_or(guest));
            if !folder.join("Cargo.toml").is_file() {
                let why = format!("bespoke-plugin-api is in {}, and {guest} is not beside it", crates.display());
                return Err(BuildError::NoPlugin { manifest: source.folder.join("Cargo.toml"), why });
            }
        }
        let base = source.target.join("bespoke");
        // Plugins of the same name in two places may share a target folder.
        let mut place = DefaultHasher::new();
        source.folder.hash(&mut place);
        let package = format!("bespoke-shim-{}-{}-{:08x}", source.package, request.tier.name(), place.finish() as u32);
        let folder = base.join("shims").join(&package);
        fs::create_dir_all(&folder).map_err(|e| BuildError::io(&folder, e))?;
        let alone = Some(lock(&folder.join(".lock"), tell)?);
        // A program is made of what the plugin's workspace builds anyway, and of much; a guest is made of little, by profiles of its own.
        let target = if request.tier == Tier::Compiled { source.target.clone() } else { base.join("build") };
        let shim = Shim { folder, package, target, _alone: alone };
        put(&shim.manifest(), &manifest(source, request, &shim.package))?;
        put(&shim.folder.join("shim.rs"), code(request.tier))?;
        shim.lock_versions(&source.workspace)?;
        Ok(shim)
    }

    /// Its Cargo.toml.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.folder.join("Cargo.toml")
    }

    /// The versions that the plugin's workspace is tested with, whenever those change; cargo drops what the shim does not use.
    fn lock_versions(&self, workspace: &Path) -> Result<(), BuildError> {
        let (theirs, copied, own) =
            (workspace.join("Cargo.lock"), self.folder.join("Cargo.lock.of-plugin"), self.folder.join("Cargo.lock"));
        let Ok(lock) = fs::read_to_string(&theirs) else { return Ok(()) };
        if own.is_file() && fs::read_to_string(&copied).is_ok_and(|copied| copied == lock) {
            return Ok(());
        }
        put(&own, &lock)?;
        put(&copied, &lock)
    }
}

fn lock(path: &Path, tell: &mut dyn FnMut(&str)) -> Result<File, BuildError> {
    let failed = |e| BuildError::io(path, e);
    let file = File::create(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tell("waiting for another build of the same");
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(file)
}

/// The crate that serves a plugin in that tier.
fn guest(tier: Tier) -> &'static str {
    match tier {
        Tier::Dylib => "bespoke-guest-dylib",
        Tier::Wasm => "bespoke-guest-wasm",
        Tier::Process => "bespoke-guest-process",
        _ => "bespoke",
    }
}

fn code(tier: Tier) -> &'static str {
    match tier {
        Tier::Dylib => "//! Exports the plugin from a dynamic library.\n\nbespoke_guest_dylib::export!(plugin::BESPOKE_PLUGIN);\n",
        Tier::Wasm => "//! Exports the plugin from a wasm component.\n\nbespoke_guest_wasm::export!(plugin::BESPOKE_PLUGIN);\n",
        Tier::Process => concat!(
            "//! Serves the plugin in a process of its own.\n\n",
            "fn main() -> std::process::ExitCode {\n",
            "    bespoke_guest_process::serve(&plugin::BESPOKE_PLUGIN)\n",
            "}\n"
        ),
        _ => concat!(
            "//! An app with the plugin compiled in.\n\n",
            "use plugin as _;\n\n",
            "fn main() -> std::process::ExitCode {\n",
            "    bespoke::App::new(bespoke::app_info!()).run()\n",
            "}\n"
        ),
    }
}

fn manifest(source: &Source, request: &Request, package: &str) -> String {
    let tier = request.tier;
    let mut document = DocumentMut::new();
    let mut section = |name: &str, keys: Vec<(&str, Item)>| {
        let mut table = Table::new();
        keys.into_iter().for_each(|(key, item)| drop(table.insert(key, item)));
        document.insert(name, Item::Table(table));
    };
    section("workspace", Vec::new());
    section(
        "package",
        vec![
            ("name", value(package)),
            ("version", value(if tier == Tier::Compiled { source.manifest.version.to_string() } else { "0.0.0".into() })),
            ("description", value(&source.manifest.description)),
            ("edition", value("2024")),
            ("publish", value(false)),
        ],
    );
    let is_library = matches!(tier, Tier::Dylib | Tier::Wasm);
    if is_library {
        let types = ["cdylib"].into_iter().collect::<toml_edit::Array>();
        section("lib", vec![("path", value("shim.rs")), ("crate-type", value(types))]);
    }
    let mut plugin = toml_edit::InlineTable::new();
    plugin.insert("package", source.package.as_str().into());
    plugin.insert("path", source.folder.to_string_lossy().into_owned().into());
    let features = if tier == Tier::Compiled { request.features.as_slice() } else { &[] };
    let guest = (guest(tier), value(source.origin.dependency(guest(tier), features)));
    section("dependencies", vec![guest, ("plugin", value(plugin))]);
    if !is_library {
        let mut bin = Table::new();
        // A program calls itself by this name.
        bin.insert("name", value(if tier == Tier::Compiled { &source.manifest.id } else { package }));
        bin.insert("path", value("shim.rs"));
        let bins = [bin].into_iter().collect::<toml_edit::ArrayOfTables>();
        document.insert("bin", Item::ArrayOfTables(bins));
    }
    let profiles = match tier {
        Tier::Wasm => COMPONENT.to_owned(),
        Tier::Compiled => of_workspace(&source.workspace).unwrap_or_else(|| UNWINDING.to_owned()),
        _ => UNWINDING.to_owned(),
    };
    format!("# Written by `bespoke plugin build`; what is changed here is lost.\n\n{document}{profiles}")
}

/// How what runs on this machine is built: it unwinds, so that a panic of the plugin is an error of one call.
const UNWINDING: &str = "
[profile.dev]
debug = \"line-tables-only\"
panic = \"unwind\"

[profile.release]
lto = \"thin\"
panic = \"unwind\"
strip = \"symbols\"
";

/// How a component is built: it ends with a panic in any case, and nobody looks for lines in it.
const COMPONENT: &str = "
[profile.dev]
debug = false
opt-level = 1
panic = \"abort\"
strip = true

[profile.release]
codegen-units = 1
lto = true
opt-level = 3
panic = \"abort\"
strip = true

# What carries the plugin is most of a small component: a third less of it to compile and to keep, for calls that take a tenth longer.
[profile.release.package]
bespoke-plugin-api.opt-level = \"s\"
bespoke-plugin-guest.opt-level = \"s\"
bespoke-protocol.opt-level = \"s\"
serde_json.opt-level = \"s\"
";

/// The profiles of the plugin's workspace, which cargo does not inherit.
fn of_workspace(workspace: &Path) -> Option<String> {
    let root: DocumentMut = fs::read_to_string(workspace.join("Cargo.toml")).ok()?.parse().ok()?;
    let mut profiles = DocumentMut::new();
    profiles.insert("profile", root.get("profile")?.clone());
    Some(format!("\n{profiles}"))
}

fn put(path: &Path, text: &str) -> Result<(), BuildError> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|e| BuildError::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_manifest::Manifest;
    use expect_test::expect_file;

    fn source(origin: Origin) -> Source {
        let text = "id = \"chimes\"\nversion = \"1.2.0\"\nlicense = \"MIT\"\ndescription = \"A bell.\"\nauthor = \"Me\"\nprotocol = \"1\"\n\
                    tiers = [\"compiled\", \"dylib\", \"wasm\", \"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"strike\"\n";
        Source {
            folder: "/srv/my chimes".into(),
            text: text.to_owned(),
            manifest: Manifest::parse("plugin.toml", text, None).unwrap(),
            code: "/srv/my chimes/src/lib.rs".into(),
            package: "my-chimes".to_owned(),
            workspace: "/srv/my chimes".into(),
            target: "/srv/my chimes/target".into(),
            license: "MIT".to_owned(),
            origin,
        }
    }

    #[test]
    fn each_tier_has_its_shim() {
        let source = source(Origin::Git { url: "https://host.example/bespoke".into(), what: Some(("tag".into(), "v1".into())) });
        let mut all = String::new();
        for tier in Tier::ALL {
            let mut request = Request::new(&source.folder, *tier);
            request.features = vec!["terminal".to_owned()];
            let name = tier.name();
            all += &format!(
                "==== {name}: Cargo.toml\n{}==== {name}: shim.rs\n{}",
                manifest(&source, &request, &format!("shim-{name}")),
                code(*tier)
            );
        }
        expect_file!["shims.txt"].assert_eq(&all);
    }

    #[test]
    fn a_program_has_the_profiles_of_the_plugins_workspace() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_workspace(dir.path()), None);
        let text = "[workspace]\nmembers = []\n\n[profile.dev]\nopt-level = 1 # quick\n\n[profile.dev.package.\"*\"]\nopt-level = 2\n";
        fs::write(dir.path().join("Cargo.toml"), text).unwrap();
        let profiles = of_workspace(dir.path()).unwrap();
        assert_eq!(profiles.trim(), text.split_once("\n\n").unwrap().1.trim());
    }

    #[test]
    fn the_versions_of_the_plugins_workspace_are_taken_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, shim) = (dir.path().join("theirs"), dir.path().join("shim"));
        fs::create_dir_all(&theirs).unwrap();
        fs::create_dir_all(&shim).unwrap();
        let shim = Shim { folder: shim, package: String::new(), target: PathBuf::new(), _alone: None };
        let own = || fs::read_to_string(shim.folder.join("Cargo.lock")).ok();
        shim.lock_versions(&theirs).unwrap();
        assert_eq!(own(), None, "a plugin without a lock");
        fs::write(theirs.join("Cargo.lock"), "one").unwrap();
        shim.lock_versions(&theirs).unwrap();
        assert_eq!(own().as_deref(), Some("one"));
        // As cargo leaves it: what is not used is dropped.
        fs::write(shim.folder.join("Cargo.lock"), "pruned").unwrap();
        shim.lock_versions(&theirs).unwrap();
        assert_eq!(own().as_deref(), Some("pruned"));
        fs::write(theirs.join("Cargo.lock"), "two").unwrap();
        shim.lock_versions(&theirs).unwrap();
        assert_eq!(own().as_deref(), Some("two"));
    }
}
