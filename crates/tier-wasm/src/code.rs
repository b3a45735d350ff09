//! From a file to code that can be instantiated: read within a limit, looked up in the cache or compiled, and held against the world. On a
//! thread of its own, with a time limit. Instances are made elsewhere.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use bespoke_plugin_api::{Code as ErrorCode, Error, Result};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex, InstancePre},
};

use crate::{
    cache::Cache,
    engine::{engine, ticking},
    guest::Data,
    limits::Limits,
    world::{self, Misfit},
};

/// Components that are compiled at a time, those included whose time was up: the compiler takes memory, and all processors.
const AT_A_TIME: usize = 4;
/// How often one that waits to be compiled looks whether anybody still waits for it.
const LOOK: Duration = Duration::from_millis(200);

/// What all instances of a component share.
pub(crate) struct Code {
    pub(crate) engine: &'static Engine,
    pub(crate) pre: InstancePre<Data>,
    pub(crate) start: ComponentExportIndex,
    pub(crate) step: ComponentExportIndex,
    /// Its instances are given WASI.
    pub(crate) wasi: bool,
    /// SHA-256 of the component, in hex.
    pub(crate) digest: String,
    /// Where it came from: `cache`, or `compiled`.
    pub(crate) from: &'static str,
}

/// The code of the component of the plugin in `root`, which is given WASI or not.
///
/// # Errors
/// `LOAD_FAILED`, which names the file and what to do.
pub(crate) async fn load(file: &Path, root: &Path, wasi: bool, cache: &Path, limits: &Limits) -> Result<Arc<Code>> {
    let (tell, told) = oneshot::channel();
    let (path, root, folder, most) = (file.to_owned(), root.to_owned(), cache.join("wasm"), limits.artifact);
    let spawned = thread::Builder::new().name("wasm-compile".into()).spawn(move || {
        let code = find(&path, &root, wasi, folder, most, &|| tell.is_closed());
        // Nobody waits when the time was up.
        let _ = tell.send(code);
    });
    if let Err(e) = spawned {
        return Err(Error::new(ErrorCode::RESOURCE_EXHAUSTED, format!("no thread to compile {}: {e}", file.display())));
    }
    match tokio::time::timeout(limits.compile, told).await {
        Ok(Ok(code)) => code,
        Ok(Err(_)) => Err(Error::internal(format!("{}: the thread that compiled it panicked", file.display()))),
        Err(_) => {
            let message = format!("{}: it was not compiled within {} s", file.display(), limits.compile.as_secs_f64());
            let help = "it is still being compiled, and what comes of it is kept: try again later, or build it smaller";
            Err(Error::new(ErrorCode::LOAD_FAILED, message).with_help(help))
        }
    }
}

/// One of those that may be compiled at a time; the next one's when it goes, also by a panic.
struct Slot;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Slot {
    /// Waits for one; `None` when nobody waits for what would be compiled.
    fn wait(is_given_up: &dyn Fn() -> bool) -> Option<Self> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= AT_A_TIME {
            if is_given_up() {
                return None;
            }
            taken = FREED.wait_timeout(taken, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken += 1;
        Some(Slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// Code that somebody still has, by the cache that it may come from, its digest and whether it has WASI.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
type Loaded = HashMap<(PathBuf, String, bool), Weak<Code>>;

fn find(file: &Path, root: &Path, wasi: bool, folder: PathBuf, most: u64, is_given_up: &dyn Fn() -> bool) -> Result<Arc<Code>> {
    let bytes = read(file, root, most)?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let place = (folder, digest, wasi);
    let known = LOADED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().get(&place).and_then(Weak::upgrade);
    if let Some(code) = known {
        return Ok(code);
    }
    is_component(file, &bytes)?;
    let engine = engine()?;
    ticking(engine)?;
    let (folder, digest, _) = &place;
    let cache = Cache::open(folder.clone(), engine);
    let kept = cache.as_ref().and_then(|cache| cache.read(engine, digest));
    let from = if kept.is_some() { "cache" } else { "compiled" };
    let component = match kept {
        Some(component) => component,
        None => {
            let Some(_slot) = Slot::wait(is_given_up) else { return Err(Error::cancelled()) };
            let made = Component::new(engine, &bytes)
                .map_err(|e| refusal(file, &format!("it is no component, or not all of one: {}", shown(&e))))?;
            if let Some(cache) = &cache {
                cache.keep(digest, &made, &|digest| is_loaded(&place.0, digest));
            }
            made
        }
    };
    world::fits(engine, &component, wasi).map_err(|Misfit { why, help }| refusal(file, &why).with_help(help))?;
    let guest = component.get_export_index(None, world::guest());
    let function = |name: &str| guest.as_ref().and_then(|guest| component.get_export_index(Some(guest), name));
    let (Some(start), Some(step)) = (function("start"), function("step")) else {
        return Err(refusal(file, &format!("its `{}` lacks a function: it needs start and step", world::guest())));
    };
    let linker = world::linker(engine, wasi).map_err(|e| Error::internal(format!("the functions of the host: {e:#}")))?;
    let pre = linker.instantiate_pre(&component).map_err(|e| refusal(file, &format!("it does not fit this program: {}", shown(&e))))?;
    let code = Arc::new(Code { engine, pre, start, step, wasi, digest: digest.clone(), from });
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    loaded.retain(|_, code| code.strong_count() > 0);
    loaded.insert(place, Arc::downgrade(&code));
    Ok(code)
}

/// Whether somebody has code that came into this cache.
fn is_loaded(folder: &Path, digest: &str) -> bool {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut of_it = loaded.iter().flatten().filter(|((of, own, _), _)| of == folder && own == digest);
    of_it.any(|(_, code)| code.strong_count() > 0)
}

/// Whether the component of the plugin in `root` is there, is not too large, and begins as one does.
pub(crate) fn look(file: &Path, root: &Path, most: u64) -> Result<()> {
    let mut first = Vec::new();
    open(file, root, most)?.take(8).read_to_end(&mut first).map_err(|e| unread(file, root, &e))?;
    is_component(file, &first)
}

/// The bytes of a file that is not too large for a component, whatever it says of its size.
fn read(file: &Path, root: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(file, root, most)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| unread(file, root, &e))?;
    small_enough(file, bytes.len() as u64, most)?;
    Ok(bytes)
}

/// A file that is one, and by what it says of its size not too large.
fn open(file: &Path, root: &Path, most: u64) -> Result<File> {
    // Before it is opened: a pipe would wait for somebody to write.
    let meta = fs::metadata(file).map_err(|e| unread(file, root, &e))?;
    if !meta.is_file() {
        return Err(refusal(file, "it is no file"));
    }
    small_enough(file, meta.len(), most)?;
    File::open(file).map_err(|e| unread(file, root, &e))
}

fn small_enough(file: &Path, bytes: u64, most: u64) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    let help = "build it smaller: opt-level = \"s\", lto = true and strip = true in its release profile";
    Err(refusal(file, &format!("it has {bytes} bytes, and a component may have {most}")).with_help(help))
}

fn unread(file: &Path, root: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => refusal(file, "there is no such file").with_help(bespoke_tier::build_again(root, "wasm")),
        _ => refusal(file, &format!("it cannot be read: {error}")),
    }
}

/// Whether the bytes begin as a component does; what is in it, the compiler says.
fn is_component(file: &Path, bytes: &[u8]) -> Result<()> {
    match bytes.first_chunk::<8>() {
        None if !bytes.is_empty() && b"\0asm\x0d\0\x01\0".starts_with(bytes) => {
            Err(refusal(file, &format!("it is cut off, after {} bytes", bytes.len())))
        }
        Some([0, b'a', b's', b'm', 13, 0, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(refusal(file, "it is a core module, and no component")),
        Some([0, b'a', b's', b'm', ..]) => Err(refusal(file, "it is wasm of a version that this program does not know")),
        _ => Err(refusal(file, "it is no wasm")),
    }
}

fn refusal(file: &Path, why: &str) -> Error {
    Error::new(ErrorCode::LOAD_FAILED, format!("{}: {why}", file.display())).with_help(world::BUILD)
}

/// All that an error of the engine says, on one line.
fn shown(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}").replace('\n', " ");
    text.chars().filter(|c| !c.is_control()).take(400).collect()
}
