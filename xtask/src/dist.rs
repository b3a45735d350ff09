//! `dist`: one binary with chosen features, packed with its licences, checked by unpacking it and asking it.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bespoke_fetch::Index;
use bespoke_runtimes::{Features, Packs, Platform, Spec};
use flate2::{Compression, GzBuilder, read::GzDecoder};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    app_manifest::AppManifest,
    features, shell, third_party,
    workspace::{APP, Workspace},
};

/// Most characters of the part of an archive's name that lists its features.
const MAX_LABEL: usize = 60;

/// The file of the archive with the licences of linked crates.
const THIRD_PARTY: &str = "THIRD-PARTY.txt";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Features of the app, separated by commas
    #[arg(long, value_delimiter = ',', required_unless_present = "for_config")]
    features: Vec<String>,
    /// The features that this configuration needs
    #[arg(long = "for", value_name = "CONFIG")]
    for_config: Option<PathBuf>,
    /// Build for this target instead of this machine
    #[arg(long)]
    target: Option<String>,
    /// Native runtimes that lie beside the program, such as onnx:cpu, separated by commas
    #[arg(long, value_name = "RUNTIME:DEVICE", value_delimiter = ',')]
    bundle: Vec<Spec>,
    /// Where the archive goes
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let app = workspace.app()?;
    let features = chosen(workspace, &app, args)?;
    let host = host()?;
    let target = args.target.clone().unwrap_or_else(|| host.clone());
    let bundle = bundled(workspace, &app, &features, &args.bundle, &target)?;
    let crates = third_party::crates(workspace, &features, &target)?;
    let binary = build(workspace, &features, args.target.as_deref(), &third_party::list(&crates))?;
    let version = version(workspace)?;
    let name = archive_name(&version, &target, &features, &args.bundle);
    let out = if args.out.is_absolute() { args.out.clone() } else { workspace.root.join(&args.out) };
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let archive = out.join(format!("{name}.tar.gz"));
    pack(workspace, &binary, &third_party::page(&crates), bundle, &name, &archive)?;
    let sum = digest(&archive)?;
    sums(&out)?;
    if target == host {
        verify(&archive, &name, &version, &app.reach(&features), &args.bundle)?;
    } else {
        eprintln!("built for {target}, which this machine cannot run: unpacked and asked on no machine yet");
    }
    let size = fs::metadata(&archive)?.len();
    eprintln!("{:.1} MB, SHA-256 {sum}", size as f64 / 1e6);
    println!("{}", archive.display());
    Ok(())
}

fn chosen(workspace: &Workspace, app: &AppManifest, args: &Args) -> Result<Vec<String>> {
    let mut features: BTreeSet<String> = args.features.iter().filter(|f| !f.is_empty()).cloned().collect();
    if let Some(config) = &args.for_config {
        features.extend(features::needed_by(workspace, config)?);
    }
    for feature in &features {
        if !app.names().any(|name| name == feature) {
            let near = bespoke_manifest::closest(feature, app.names()).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            bail!("no feature `{feature}`{near}; `cargo xtask features` lists them");
        }
    }
    Ok(features.into_iter().collect())
}

/// The files of the runtimes that the archive carries: fetched by their pins, unless they were before, and by their terms free to be
/// passed on.
fn bundled(workspace: &Workspace, app: &AppManifest, features: &[String], specs: &[Spec], target: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    if specs.is_empty() {
        return Ok(files);
    }
    let platform = platform(target).ok_or_else(|| anyhow!("there are no runtimes for {target}"))?;
    let root = workspace.target()?.join("bundles").join(platform.as_str());
    let mut packs = Packs::new(&root);
    packs.fetcher.index = Index::choose(None, None)?;
    packs.features = Features::ALL;
    packs.platform = Some(platform);
    for spec in specs {
        let feature = spec.runtime();
        ensure!(app.enabled(features).contains(feature), "{spec} needs the feature `{feature}`; name it with --features");
        let pack = packs.table().of(*spec, platform).next().ok_or_else(|| anyhow!("there is no {spec} for {target}"))?;
        if let Some(pinned) = pack.not_redistributable().next() {
            let (project, license) = (&pinned.wheel.project, &pinned.license);
            let noticed = pinned.wheel.members.iter().any(|member| member.to.starts_with("licenses/"));
            let why = if noticed { "may not be passed on" } else { "comes without the notices that have to go with it" };
            bail!("{spec} holds {project}, which {why} ({license}); its users install it: bespoke plugin install {spec}");
        }
        eprintln!("{spec} {}: about {:.1} MB to fetch, unless it is here", pack.version, pack.download() as f64 / 1e6);
        let installed = packs.install(*spec, None, &mut |_| {}, &AtomicBool::new(false))?;
        files.extend(beside(*spec, &installed.version, &installed.folder)?);
    }
    Ok(files)
}

/// One version of a runtime as it lies beside the program, in use. Earlier builds may have left others in the folder above it.
fn beside(spec: Spec, version: &str, folder: &Path) -> Result<Vec<File>> {
    let to = Path::new("runtimes").join(spec.runtime()).join(spec.device());
    let active = serde_json::to_vec_pretty(&serde_json::json!({ "version": version }))?;
    let mut files = vec![File { to: to.join("active.json"), content: Content::Bytes(active), mode: 0o644 }];
    below(folder, &to.join(version), &mut files)?;
    Ok(files)
}

/// The system of a target that there are runtimes for.
fn platform(target: &str) -> Option<Platform> {
    match target {
        "x86_64-unknown-linux-gnu" => Some(Platform::LinuxX86_64),
        "aarch64-unknown-linux-gnu" => Some(Platform::LinuxAarch64),
        "aarch64-apple-darwin" => Some(Platform::MacosAarch64),
        _ => None,
    }
}

/// All files below `folder`, as files below `to`.
fn below(folder: &Path, to: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            below(&entry.path(), &to, files)?;
        } else {
            files.push(File { to, content: Content::File(entry.path()), mode: 0o644 });
        }
    }
    Ok(())
}

/// A file of the archive.
struct File {
    to: PathBuf,
    content: Content,
    mode: u32,
}

enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// `crates` is what `licenses --crates` of the binary prints.
fn build(workspace: &Workspace, features: &[String], target: Option<&str>, crates: &str) -> Result<PathBuf> {
    remove_bytecode(&workspace.path(crate::sdk::SDK).join("src"))?;
    let list = features.join(",");
    let mut args = vec!["build", "--locked", "--profile", "dist", "-p", APP, "--no-default-features", "--features", &list];
    args.extend(target.iter().flat_map(|t| ["--target", t]));
    shell::run(shell::cargo(&workspace.root, &args).env("BESPOKE_CRATES", crates))?;
    let mut folder = workspace.target()?;
    folder.extend(target);
    let binary = folder.join("dist").join(binary_name(target));
    ensure!(binary.is_file(), "{}: cargo has built no binary here", binary.display());
    Ok(binary)
}

/// What an interpreter left beside the sources of the Python SDK, and would otherwise be built in with them.
fn remove_bytecode(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.ends_with("__pycache__") {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        } else if path.is_dir() {
            remove_bytecode(&path)?;
        }
    }
    Ok(())
}

fn binary_name(target: Option<&str>) -> &'static str {
    if target.map_or(cfg!(windows), |t| t.contains("windows")) { "bespoke.exe" } else { "bespoke" }
}

/// `bespoke-<version>-<target>[-with-<runtime>]…[-<features>]`, the features sorted and joined by dots; a long list becomes its number
/// and the beginning of its hash.
fn archive_name(version: &str, target: &str, features: &[String], bundle: &[Spec]) -> String {
    let with: String = bundle.iter().map(|spec| format!("-with-{}.{}", spec.runtime(), spec.device())).collect();
    let base = format!("{APP}-{version}-{target}{with}");
    match features.join(".") {
        label if label.is_empty() => base,
        label if label.len() <= MAX_LABEL => format!("{base}-{label}"),
        label => {
            let hash: String = Sha256::digest(label.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect();
            format!("{base}-{}features-{hash}", features.len())
        }
    }
}

/// The same files give the same bytes: sorted, without owners, at the time of the commit.
fn pack(workspace: &Workspace, binary: &Path, third_party: &str, bundle: Vec<File>, name: &str, archive: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let file = |to: PathBuf, bytes: Vec<u8>, mode: u32| File { to, content: Content::Bytes(bytes), mode };
    let mut files = bundle;
    files.push(file(binary.file_name().map(PathBuf::from).unwrap_or_default(), read(binary)?, 0o755));
    files.push(file(PathBuf::from(THIRD_PARTY), third_party.as_bytes().to_vec(), 0o644));
    for name in ["LICENSE", "README.md"] {
        files.push(file(PathBuf::from(name), read(&workspace.path(name))?, 0o644));
    }
    let notices = workspace.path("LICENSES");
    for entry in fs::read_dir(&notices).with_context(|| notices.display().to_string())? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            files.push(file(Path::new("LICENSES").join(name), read(&path)?, 0o644));
        }
    }
    files.sort_by(|a, b| a.to.cmp(&b.to));
    let time = commit_time(workspace);
    let staging = tempfile::NamedTempFile::new_in(archive.parent().unwrap_or(Path::new(".")))?;
    let gzip = GzBuilder::new().mtime(0).write(staging.reopen()?, Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for File { to, content, mode } in files {
        let (size, mut reader): (u64, Box<dyn Read>) = match content {
            Content::Bytes(bytes) => (bytes.len() as u64, Box::new(std::io::Cursor::new(bytes))),
            Content::File(path) => {
                let file = fs::File::open(&path).with_context(|| path.display().to_string())?;
                (file.metadata()?.len(), Box::new(file))
            }
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(time);
        tar.append_data(&mut header, Path::new(name).join(to), &mut reader)?;
    }
    tar.into_inner()?.finish()?.sync_all()?;
    #[cfg(unix)]
    fs::set_permissions(staging.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    staging.persist(archive)?;
    Ok(())
}

/// Seconds since 1970: SOURCE_DATE_EPOCH, else the last commit, else 0.
fn commit_time(workspace: &Workspace) -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|t| t.parse().ok());
    let of_git = || {
        let mut git = Command::new("git");
        git.current_dir(&workspace.root).args(["log", "-1", "--format=%ct"]);
        shell::output(&mut git).ok().and_then(|t| t.trim().parse().ok())
    };
    given.or_else(of_git).unwrap_or(0)
}

/// Writes SHA256SUMS over all archives of the folder, as `sha256sum --check` reads it.
fn sums(out: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".tar.gz") {
            lines.push(format!("{}  {name}\n", digest(&path)?));
        }
    }
    lines.sort_by(|a, b| a[64..].cmp(&b[64..]));
    crate::codegen::put(&out.join("SHA256SUMS"), &lines.concat())
}

fn digest(path: &Path) -> Result<String> {
    let mut file = BufReader::new(fs::File::open(path).with_context(|| path.display().to_string())?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Unpacks the archive and asks the binary in it for its version and its plugins.
fn verify(archive: &Path, name: &str, version: &str, plugins: &BTreeSet<String>, bundle: &[Spec]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    tar::Archive::new(GzDecoder::new(fs::File::open(archive)?)).unpack(folder.path())?;
    let unpacked = folder.path().join(name);
    for file in ["LICENSE", "README.md", "LICENSES", THIRD_PARTY] {
        ensure!(unpacked.join(file).exists(), "{}: no {file} in it", archive.display());
    }
    let binary = unpacked.join(binary_name(None));
    let said = shell::output(Command::new(&binary).arg("--version"))?;
    ensure!(said.split_whitespace().any(|word| word == version), "{}: --version says `{}`", binary.display(), said.trim());
    let linked = compiled_in(&binary, folder.path())?;
    ensure!(linked == *plugins, "the packed binary lists {linked:?}, the features are {plugins:?}");
    let rows = plugin_list(&binary, folder.path())?;
    for spec in bundle {
        let state = rows.iter().find(|row| row["id"] == spec.as_str()).map(|row| &row["state"]);
        ensure!(state.is_some_and(|state| state == "bundled"), "the packed binary says of {spec}: {state:?}");
    }
    Ok(())
}

/// The ids that a binary lists as compiled in, asked with an empty home.
pub(crate) fn compiled_in(binary: &Path, home: &Path) -> Result<BTreeSet<String>> {
    let rows = plugin_list(binary, home)?;
    let compiled = rows.iter().filter(|row| row.get("tier").and_then(Value::as_str) == Some("compiled"));
    compiled.map(|row| row.get("id").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| anyhow!("a row without id: {row}"))).collect()
}

/// The rows of `plugin list --json`.
pub(crate) fn plugin_list(binary: &Path, home: &Path) -> Result<Vec<Value>> {
    let mut command = Command::new(binary);
    command.args(["plugin", "list", "--json"]).current_dir(home).env("BESPOKE_HOME", home.join("home"));
    for name in ["BESPOKE_MODEL_PATH", "BESPOKE_PLUGIN_PATH", "BESPOKE_CONFIG"] {
        command.env_remove(name);
    }
    let text = shell::output(&mut command)?;
    serde_json::from_str(&text).with_context(|| format!("{} plugin list --json wrote no list: {text}", binary.display()))
}

fn version(workspace: &Workspace) -> Result<String> {
    let metadata = workspace.metadata(false)?;
    let app = metadata.packages.iter().find(|p| p.name == APP).ok_or_else(|| anyhow!("there is no package {APP}"))?;
    Ok(app.version.to_string())
}

/// The target that rustc builds for unless told otherwise.
pub(crate) fn host() -> Result<String> {
    let text = shell::output(Command::new("rustc").arg("-vV"))?;
    text.lines().find_map(|l| l.strip_prefix("host: ")).map(str::to_owned).ok_or_else(|| anyhow!("rustc -vV names no host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_named_by_what_is_in_them() {
        let name = |features: &[&str]| archive_name("0.1.0", "t", &features.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>(), &[]);
        assert_eq!(archive_name("0.1.0", "t", &["silero".into()], &[Spec::OnnxCpu]), "bespoke-0.1.0-t-with-onnx.cpu-silero");
        assert_eq!(name(&[]), "bespoke-0.1.0-t");
        assert_eq!(name(&["clock", "silero"]), "bespoke-0.1.0-t-clock.silero");
        let many = name(&["alpha-plugin", "beta-plugin", "gamma-plugin", "delta-plugin", "epsilon-plugin", "zeta-plugin"]);
        assert!(many.starts_with("bespoke-0.1.0-t-6features-") && many.len() < 50, "{many}");
    }

    #[test]
    fn of_a_runtime_only_the_version_that_was_installed_is_packed() {
        let root = tempfile::tempdir().unwrap();
        for name in ["1.9.0/pack.json", "1.28.0/pack.json", "1.28.0/lib/libonnxruntime.so", "active.json"] {
            let path = root.path().join("onnx/cpu").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, r#"{ "version": "1.28.0", "previous": "1.9.0" }"#).unwrap();
        }
        let mut files = beside(Spec::OnnxCpu, "1.28.0", &root.path().join("onnx/cpu/1.28.0")).unwrap();
        files.sort_by(|a, b| a.to.cmp(&b.to));
        let names: Vec<_> = files.iter().map(|file| file.to.to_str().unwrap()).collect();
        let expected = ["1.28.0/lib/libonnxruntime.so", "1.28.0/pack.json", "active.json"].map(|name| format!("runtimes/onnx/cpu/{name}"));
        assert_eq!(names, expected);
        let Content::Bytes(active) = &files[2].content else { panic!("the active.json of an earlier build") };
        let active: Value = serde_json::from_slice(active).unwrap();
        assert_eq!(active, serde_json::json!({ "version": "1.28.0" }));
    }

    #[test]
    fn bytecode_is_removed_and_sources_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/__pycache__/a.pyc", "__pycache__/b.pyc", "a/b/c.py"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        remove_bytecode(folder.path()).unwrap();
        let there = |name: &str| folder.path().join(name).exists();
        assert_eq!([there("a/__pycache__"), there("__pycache__"), there("a/b/c.py")], [false, false, true]);
    }

    #[test]
    fn sums_read_as_sha256sum_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.tar.gz", "a.tar.gz", "note.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        sums(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("SHA256SUMS")).unwrap();
        let names: Vec<_> = text.lines().map(|l| l.split_once("  ").unwrap().1).collect();
        assert_eq!(names, ["a.tar.gz", "b.tar.gz"]);
        assert_eq!(digest(&folder.path().join("a.tar.gz")).unwrap(), text[..64]);
    }
}
