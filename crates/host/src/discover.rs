//! Plugins in folders: each subfolder with a manifest is one, and the tier that its manifest names opens it. Nothing of a plugin runs here;
//! whatever is wrong with one is said in its row and stops no other.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use bespoke_manifest::{Dialect, Manifest};
use bespoke_plugin_api::{BoxFuture, Code, Error, Instance, PluginContext, Result, Spec};
use serde_json::Value;

use crate::{
    Config,
    candidate::{Artifact, Candidate, State, Tier},
    tier::{Grounds, PluginFolder, Terms, TierDriver, tiers},
};

/// Most bytes of a manifest or a schema. The manifest itself takes no more.
const MOST_BYTES: u64 = 1 << 20;
/// A schema beside a manifest that holds none.
pub const SCHEMA_FILE: &str = "config.schema.json";

/// What lies in folders, in the order of the folders, and within one by name. A folder that is not there holds nothing; what is no folder,
/// has a name that begins with a dot, or has no manifest in it, is no plugin. Links are followed. Two of one id are both returned: the
/// host takes the first.
pub fn discover(folders: &[PathBuf], grounds: &Grounds) -> Vec<Candidate> {
    each(folders, &|_| grounds.clone())
}

/// The plugin in a folder.
pub fn open_folder(path: &Path, grounds: &Grounds) -> Candidate {
    open(path, &|_| grounds.clone()).unwrap_or_else(|| lacks_manifest(path))
}

/// All plugins outside the program: those whose own table names their folder, then those in `dir` of `[plugins]`, then those in `folders`.
pub fn find(config: &Config, folders: &[PathBuf], grounds: &Grounds) -> Vec<Candidate> {
    let install = grounds.install_dependencies || config.plugin_defaults().is_ok_and(|d| d.auto_install_deps);
    let of = |id: &str| {
        let own = config.plugin_settings(id).ok().and_then(|settings| settings.auto_install_deps);
        grounds.clone().install_dependencies(own.unwrap_or(install))
    };
    let mut found = Vec::new();
    for id in config.plugin_ids() {
        match config.plugin_path(&id) {
            Ok(None) => {}
            Ok(Some(path)) => found.push(named(&id, &path, &of)),
            Err(error) => {
                let error = Error::invalid_params(error.to_string()).with_help("bespoke config check");
                found.push(refused(&id, Path::new(""), error));
            }
        }
    }
    let mut all = Vec::new();
    match config.plugin_dir() {
        Ok(dir) => all.extend(dir),
        // It is a fault of `[plugins]`, which the host refuses.
        Err(error) => tracing::debug!(%error, "no folder of plugins"),
    }
    all.extend(folders.iter().cloned());
    found.extend(each(&all, &of));
    found
}

/// Whether a folder in a plugin's folder holds what came by running or building the plugin, not what somebody wrote: hidden ones, bytecode
/// and packages. Other names say nothing: what is in `dist` or `target` may be what runs.
pub fn is_made(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    let by_name = name.as_encoded_bytes().starts_with(b".") || name == "__pycache__" || name == "node_modules";
    by_name || folder.join("pyvenv.cfg").is_file()
}

/// The folder that the table of a plugin names.
fn named(id: &str, path: &Path, of: &dyn Fn(&str) -> Grounds) -> Candidate {
    let help = format!("bespoke config unset plugins.{id}.path");
    if !path.is_dir() {
        let message = format!("plugins.{id}.path: {} is no folder", shown(path));
        return refused(id, path, Error::new(Code::MANIFEST_MISSING, message).with_help(help));
    }
    let mut candidate = open(path, of).unwrap_or_else(|| lacks_manifest(path));
    if candidate.id != id {
        let error = match &candidate.manifest {
            Ok(manifest) => {
                let message = format!("plugins.{id}.path: {} holds the plugin `{}`", shown(path), manifest.id);
                Error::new(Code::MANIFEST_INVALID, message).with_help(help)
            }
            Err(error) => error.clone(),
        };
        candidate = refused(id, path, error);
    }
    candidate
}

fn each(folders: &[PathBuf], of: &dyn Fn(&str) -> Grounds) -> Vec<Candidate> {
    let mut found = Vec::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()),
        };
        let mut names = match entries {
            Ok(names) => names,
            Err(error) => {
                found.push(unreadable(folder, &error));
                continue;
            }
        };
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        names.sort();
        for name in names {
            let path = folder.join(name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => found.extend(open(&path, of)),
                Ok(_) => {}
                // A link to nowhere, or round in a circle.
                Err(error) => found.push(unreadable(&path, &error)),
            }
        }
    }
    found
}

/// `None` for a folder that has no manifest.
fn open(path: &Path, of: &dyn Fn(&str) -> Grounds) -> Option<Candidate> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for name in Manifest::FILES {
        let file = path.join(name);
        match fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() => return Some(opened(&path, &file, of)),
            Ok(_) => {
                let message = format!("{}: it is no file", shown(&file));
                return Some(refused(&name_of(&path), &path, Error::new(Code::MANIFEST_INVALID, message).with_help("write a manifest")));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Some(unreadable(&path, &error)),
        }
    }
    let yaml = path.join("plugin.yaml");
    yaml.is_file().then(|| {
        let message = format!("{}: manifests in YAML are not read", shown(&yaml));
        refused(&name_of(&path), &path, Error::new(Code::MANIFEST_INVALID, message).with_help("write the same as plugin.toml"))
    })
}

fn opened(path: &Path, file: &Path, of: &dyn Fn(&str) -> Grounds) -> Candidate {
    let read = text(file).and_then(|text| Ok(Manifest::read(&shown(file), &text)?));
    let manifest = match read.and_then(|manifest| fits_folder(manifest, path)) {
        Ok(manifest) => Arc::new(manifest),
        Err(error) => return refused(&name_of(path), path, error),
    };
    let mut candidate = Candidate {
        id: manifest.id.clone(),
        tier: tier_of(&manifest),
        origin: shown(path),
        manifest: Ok(manifest.clone()),
        config_schema: String::new(),
        artifact: Arc::new(Refused { state: State::Missing, error: Error::internal("nothing opened it") }),
    };
    match schema(&manifest, path) {
        Ok(schema) => candidate.config_schema = schema,
        Err(error) => candidate.manifest = Err(error),
    }
    let grounds = of(&manifest.id);
    candidate.artifact = artifact(&manifest, path, candidate.tier, &grounds);
    candidate
}

fn artifact(manifest: &Arc<Manifest>, path: &Path, tier: Tier, grounds: &Grounds) -> Arc<dyn Artifact> {
    let refuse = |state, error| Arc::new(Refused { state, error });
    if let Some(why) = &manifest.unrunnable {
        let message = format!("its manifest is {}'s: {why}", manifest.dialect.name());
        let help = "ask its author for a build with a plugin.toml, in the tier process";
        return refuse(State::Failed, Error::new(Code::LOAD_FAILED, message).with_help(help));
    }
    if tier == Tier::Compiled {
        let error = Error::new(Code::LOAD_FAILED, "ships compiled in only: a folder of it cannot be added to a program that is built");
        return refuse(State::Missing, error.with_help(grounds.build_with(&[&manifest.id])));
    }
    let Some(driver) = driver(tier) else {
        let error = Error::new(Code::LOAD_FAILED, format!("this program was built without the tier `{}`", tier.name()));
        return refuse(State::Missing, error.with_help(grounds.build_with(&[tier.name()])));
    };
    match (driver.open)(&PluginFolder::new(path.to_owned(), manifest.clone()), grounds) {
        Ok(artifact) => artifact,
        Err(error) => refuse(State::Failed, error),
    }
}

/// The tier for which a folder is: the first of which it says what runs there; else the first that this program has, else the first.
fn tier_of(manifest: &Manifest) -> Tier {
    use bespoke_manifest::Tier as Ships;
    let ships = manifest.tiers.iter().map(|tier| match tier {
        Ships::Process => Tier::Process,
        Ships::Dylib => Tier::Dylib,
        Ships::Wasm => Tier::Wasm,
        _ => Tier::Compiled,
    });
    let mut folders: Vec<Tier> = ships.filter(|tier| *tier != Tier::Compiled).collect();
    let packed = |tier: &Tier| match tier {
        Tier::Process => manifest.process.is_some(),
        Tier::Dylib => manifest.dylib.is_some(),
        Tier::Wasm => manifest.wasm.is_some(),
        _ => false,
    };
    // What is a process only when it was packed as one goes last.
    folders.sort_by_key(|tier| *tier == Tier::Process);
    let linked = folders.iter().copied().find(|tier| driver(*tier).is_some());
    let said = folders.iter().copied().find(packed);
    said.or(linked).or(folders.first().copied()).unwrap_or(Tier::Compiled)
}

fn driver(tier: Tier) -> Option<&'static TierDriver> {
    tiers().into_iter().find(|driver| driver.tier == tier)
}

/// App Factory finds a plugin by the name of its folder.
fn fits_folder(manifest: Manifest, path: &Path) -> Result<Manifest> {
    let folder = path.file_name().unwrap_or_default();
    if manifest.dialect != Dialect::AppFactory || folder == manifest.id.as_str() {
        return Ok(manifest);
    }
    let at = manifest.position("name").map_or(String::new(), |at| format!(":{at}"));
    let message = format!("{}{at}: name: it is `{}`, but the folder is `{}`", manifest.path, manifest.id, name_of(path));
    Err(Error::new(Code::MANIFEST_INVALID, message).with_help("give both the same name"))
}

/// The text of the schema of its configuration: of the manifest, else of the file beside it; empty when there is none.
fn schema(manifest: &Manifest, path: &Path) -> Result<String> {
    let file = path.join(SCHEMA_FILE);
    let beside = fs::metadata(&file).is_ok_and(|metadata| metadata.is_file());
    let invalid = |why: String, fix: String| Error::new(Code::MANIFEST_INVALID, format!("{}: {why}", shown(&file))).with_help(fix);
    match (&manifest.config_schema, beside) {
        (Some(_), true) => Err(invalid("the manifest holds a schema, too".into(), "keep one of them".into())),
        (Some(schema), false) => Ok(schema.to_string()),
        (None, false) => Ok(String::new()),
        (None, true) => {
            let text = text(&file)?;
            let value: Value = serde_json::from_str(&text).map_err(|e| invalid(format!("it is no JSON: {e}"), "mend the syntax".into()))?;
            bespoke_manifest::check_config_schema(&value).map_err(|(why, fix)| invalid(why, fix))?;
            Ok(text)
        }
    }
}

fn text(file: &Path) -> Result<String> {
    let invalid = |why: String| Error::new(Code::MANIFEST_INVALID, format!("{}: {why}", shown(file)));
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| invalid(format!("it cannot be read: {e}")).with_help(format!("ls -l {}", shown(file))))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(invalid(format!("it has more than {MOST_BYTES} bytes")).with_help("write less"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        invalid(format!("it is no UTF-8, in line {line}")).with_help("save it as UTF-8")
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Candidate {
    let name = shown(path);
    let error = Error::new(Code::DISCOVERY_FAILED, format!("{name}: it cannot be read: {error}")).with_help(format!("ls -ld {name}"));
    refused(&name_of(path), path, error)
}

fn lacks_manifest(path: &Path) -> Candidate {
    let message = format!("{}: there is no manifest in it", shown(path));
    let error = Error::new(Code::MANIFEST_MISSING, message).with_help(format!("write one of {}", Manifest::FILES.join(", ")));
    refused(&name_of(path), path, error)
}

/// One of which only the folder is known.
fn refused(id: &str, path: &Path, error: Error) -> Candidate {
    Candidate {
        id: id.to_owned(),
        tier: Tier::None,
        origin: shown(path),
        manifest: Err(error.clone()),
        config_schema: String::new(),
        artifact: Arc::new(Refused { state: State::Failed, error }),
    }
}

/// The name of a folder, as far as it can be shown.
fn name_of(path: &Path) -> String {
    shown(path.file_name().map_or(path, Path::new)).chars().take(64).collect()
}

/// A path in a message: a name may hold anything but what a terminal acts on.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What stands in the place of a plugin that cannot run here.
struct Refused {
    state: State,
    error: Error,
}

impl Artifact for Refused {
    fn refusal(&self) -> Option<(State, Error)> {
        Some((self.state, self.error.clone()))
    }

    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Err(self.error.clone())
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, _: PluginContext, _: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        let error = self.error.clone();
        Box::pin(async { Err(error) })
    }
}
