//! What tests need of the world: models and recordings by their pins, native runtimes as the product installs them, a server for
//! language models through pip, an emulator of Telegram and a compiler for JavaScript through npm, and a Rust for wasm32 through apt. A second run fetches nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, ensure};
use bespoke_fetch::{Fetcher, Index, Phase, Pin, Store};
use bespoke_runtimes::{Features, Packs, Spec};
use serde::Deserialize;

use crate::{
    node::{Node, Packages},
    shell, wasm,
    workspace::Workspace,
};

/// The packs that tests load. Those for NVIDIA's devices and for TPUs are large, and of no use on most machines; the compiler of NVIDIA
/// works everywhere.
const RUNTIMES: [Spec; 3] = [Spec::OnnxCpu, Spec::XlaCpu, Spec::CudaNvrtc];

/// The emulator of Telegram that tests talk to.
const EMULATOR: Packages<'_> = Packages {
    what: "the emulator of Telegram",
    size: "2 MB",
    locked: "crates/channel-telegram/tests/emulator",
    package: "telegram-test-api",
    home: "telegram-emulator",
};

/// What makes a component of a plugin in JavaScript.
const COMPONENTIZE: Packages<'_> = Packages {
    what: "QuickJS for components",
    size: "13 MB",
    locked: "examples/plugins/dice-js",
    package: "componentize-qjs",
    home: "componentize-qjs",
};

/// llama.cpp with its server, as a Python package: the real server that `provider-openai` is tested against. Each run of the tests
/// executes what is in it, so the archives are pinned by content: Linux on x86-64 and on ARM, macOS on both, Windows.
const XLLAMACPP: &str = "2026.10.11549";
const XLLAMACPP_SHA256: &[&str] = &[
    "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261",
    "e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e",
    "4ecda27a308b2403aa13c9d04b270befab95edc556c24ed00b2f8a98bd7f6781",
    "1f2a08052bb653659bcf1bedbbaf86b97f41dd46aa2763d596d7f27c5d89a689",
    "1b76730ab9af47ec8d05a3d55154305fa92642f694dd9ad87d9e5a5e9956a59d",
];

/// Variables for the tests.
pub(crate) type Environment = Vec<(&'static str, std::ffi::OsString)>;

/// Fetches what is missing and says where it is; also the interpreter of Python that the tests use.
pub(crate) fn prepare(workspace: &Workspace, voice_kit: Option<&Path>) -> Result<(Environment, String)> {
    let cc = env::var_os("CC").unwrap_or_else(|| "cc".into());
    ensure!(shell::answers(&cc, &["--version"]), "{}: no C compiler; install one, or name it in CC", cc.display());
    let python = python()?;
    let target = workspace.target()?;
    let models = target.join("models");
    fetch(workspace, &models)?;
    let mut path = vec![models];
    path.extend(env::var_os("BESPOKE_MODEL_PATH").iter().flat_map(env::split_paths));
    let mut environment: Environment = vec![("BESPOKE_MODEL_PATH", env::join_paths(path)?)];
    let packs = runtimes(&target.join("runtimes"))?;
    let library = match env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        Some(path) => path,
        None => packs.find(Spec::OnnxCpu).context("name a library of ONNX Runtime in ORT_DYLIB_PATH")?.library.into_os_string(),
    };
    environment.push(("ORT_DYLIB_PATH", library));
    environment.push(("BESPOKE_TEST_RUNTIMES", packs.root().into()));
    // Both together: the interpreter that pip filled the folder for is the one that reads it.
    environment.push(("BESPOKE_XLLAMACPP", xllamacpp(&python, &target)?.into_os_string()));
    environment.push(("BESPOKE_PYTHON", python.clone().into()));
    let node = Node::prepare(&python, &target)?;
    environment.push(("BESPOKE_TELEGRAM_EMULATOR", node.modules(workspace, &target, &EMULATOR)?.into_os_string()));
    environment.push(("BESPOKE_COMPONENTIZE", node.modules(workspace, &target, &COMPONENTIZE)?.into_os_string()));
    environment.push(("BESPOKE_NODE", node.program));
    environment.push(("BESPOKE_WASM_TOOLCHAIN", wasm::prepare(&target)?.into_os_string()));
    if let Some(kit) = voice_kit {
        let kit = kit.canonicalize().with_context(|| format!("--voice-kit {}", kit.display()))?;
        ensure!(kit.join("manifest.json").is_file(), "--voice-kit {}: no manifest.json in it", kit.display());
        environment.push(("BESPOKE_VOICE_KIT", kit.into_os_string()));
    }
    Ok((environment, python))
}

/// The pins of plugin.toml, or of `tests/fixtures.toml`, which has the same shape.
#[derive(Deserialize)]
struct Pins {
    #[serde(default)]
    models: Vec<Pin>,
}

/// Models lie at `models/<plugin id>/<file>`, and what only tests need beside them; for a crate that is no plugin, its
/// folder stands for the id.
fn fetch(workspace: &Workspace, root: &Path) -> Result<()> {
    let ids: Vec<(String, String)> = workspace.plugins()?.into_iter().map(|p| (p.folder, p.manifest.id)).collect();
    let extra = env::var_os("BESPOKE_MODEL_PATH").unwrap_or_default();
    let fetcher = Fetcher::new(Store::new(root).with_search(env::split_paths(&extra)));
    for folder in fs::read_dir(workspace.path("crates"))? {
        let folder = folder?.file_name().to_string_lossy().into_owned();
        let sub = ids.iter().find(|(f, _)| *f == folder).map_or(folder.as_str(), |(_, id)| id);
        for file in ["plugin.toml", "tests/fixtures.toml"] {
            let file = format!("crates/{folder}/{file}");
            if !workspace.path(&file).exists() {
                continue;
            }
            let pins: Pins = toml::from_str(&workspace.read(&file)?).with_context(|| file.clone())?;
            bring(&fetcher, sub, &pins.models).with_context(|| file.clone())?;
        }
    }
    Ok(())
}

fn bring(fetcher: &Fetcher, sub: &str, pins: &[Pin]) -> Result<()> {
    let plan = fetcher.plan(sub, pins)?;
    if plan.missing.is_empty() {
        return Ok(());
    }
    let (bytes, _) = plan.download();
    eprintln!("fetching {} of {sub}: about {:.1} MB", files(plan.missing.len()), bytes as f64 / 1e6);
    let start = Instant::now();
    let mut report = |p: bespoke_fetch::Progress<'_>| {
        if p.phase == Phase::Done {
            eprintln!("  {} ({:.1} s)", p.file, start.elapsed().as_secs_f64());
        }
    };
    fetcher.ensure(sub, pins, &mut report, &AtomicBool::new(false))?;
    Ok(())
}

fn files(n: usize) -> String {
    if n == 1 { "1 file".into() } else { format!("{n} files") }
}

fn python() -> Result<String> {
    let found = ["python3", "python"].into_iter().find(|python| shell::answers(python, &["-m", "pip", "--version"]));
    let found = found.ok_or_else(|| anyhow!("no python3 with pip on the PATH; install it, on Debian with `apt install python3-pip`"))?;
    // Some systems split these from the interpreter. Plugins with packages of their own need them, and so do the tests.
    ensure!(
        shell::answers(found, &["-c", "import ensurepip, venv"]),
        "{found} makes no virtual environments; install what is missing, on Debian with `apt install python3-venv`"
    );
    Ok(found.to_owned())
}

/// The packs that there are for this system, installed once below the target folder.
fn runtimes(root: &Path) -> Result<Packs> {
    let mut packs = Packs::new(root);
    packs.features = Features::ALL;
    packs.fetcher.index = Index::choose(None, None)?;
    let offered = |packs: &Packs, spec| packs.platform.is_some_and(|platform| packs.table().of(spec, platform).next().is_some());
    for spec in RUNTIMES {
        if !offered(&packs, spec) {
            continue;
        }
        let plan = packs.plan(spec, None)?;
        if !plan.installed {
            eprintln!("fetching {spec} {}: about {:.0} MB", plan.version, plan.download as f64 / 1e6);
        }
        packs.install(spec, None, &mut |_| {}, &AtomicBool::new(false))?;
    }
    Ok(packs)
}

/// The folder with the server of llama.cpp, installed once below the target folder.
fn xllamacpp(python: &str, target: &Path) -> Result<PathBuf> {
    let home = target.join(format!("xllamacpp-{XLLAMACPP}"));
    if home.join("xllamacpp/__init__.py").is_file() {
        return Ok(home);
    }
    eprintln!("fetching xllamacpp {XLLAMACPP} through pip: about 34 MB");
    let hashes: String = XLLAMACPP_SHA256.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    pip(python, target, &home, &format!("xllamacpp=={XLLAMACPP}{hashes}\n"))?;
    ensure!(home.join("xllamacpp/__init__.py").is_file(), "the package xllamacpp {XLLAMACPP} is not what it was: no xllamacpp/__init__.py");
    Ok(home)
}

/// Installs what a list of requirements names into a folder, without what it depends on. Each has its hashes.
pub(crate) fn pip(python: &str, target: &Path, home: &Path, requirements: &str) -> Result<()> {
    fs::create_dir_all(target)?;
    // Installed aside and renamed, so that a run that was interrupted leaves nothing that looks complete.
    let staging = tempfile::tempdir_in(target)?;
    let (list, packages) = (staging.path().join("requirements.txt"), staging.path().join("packages"));
    fs::write(&list, requirements)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]);
    pip.arg("--requirement").arg(&list).arg("--target").arg(&packages);
    shell::run(pip.env("PIP_ROOT_USER_ACTION", "ignore"))?;
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    fs::rename(&packages, home)?;
    Ok(())
}
