//! What was compiled, kept for the next start of the program, under a seal. Whether it still fits is the name's: it holds the engine's own
//! settings and the digest of the component.
//!
//! An entry is machine code that this program will run, so it takes nobody's word for it: each is sealed with a key that was drawn on this
//! machine and lies beside it, for its owner's eyes. What was cut off, what was damaged, what was renamed, what another machine
//! has made, and what somebody put there who may write the folder and not read the key, is refused and told, and compiled anew. It is no
//! wall against who may act as its owner: he can read the key, and could as well replace the program.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{Hash as _, Hasher},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

/// An entry that is longer is none.
const LONGEST: u64 = 1 << 30;
/// Entries that stay, those that were used last: more than anybody has plugins, those of former builds and of another version of this
/// program included.
const ENTRIES: usize = 64;
/// Bytes that stay: machine code is a few times as long as its component, which may have 64 MiB.
const BYTES: u64 = 1 << 30;
/// What was begun and is so old is left of a program that was killed: nobody writes for so long.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);
/// How what is being written is called.
const UNFINISHED: &str = ".new-";
const KEY: usize = 32;
const SEAL: usize = 32;

/// The folder of what was compiled.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; KEY],
    engine: String,
}

impl Cache {
    /// The cache in a folder; `None` when it cannot be one, which is told: then everything is compiled at each start.
    pub(crate) fn open(folder: PathBuf, engine: &Engine) -> Option<Self> {
        let key = private(&folder).and_then(|()| key(&folder));
        match key {
            Ok(key) => Some(Cache { key, engine: settings(engine), folder }),
            Err(e) => {
                tracing::warn!(folder = %folder.display(), error = %e, "what is compiled of plugins in wasm cannot be kept there");
                None
            }
        }
    }

    /// The component of that digest, if it lies here as it was left.
    pub(crate) fn read(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let (name, path) = self.entry(digest);
        let refused = |why: &str| {
            tracing::warn!(entry = %path.display(), "{why}: it is refused, and the plugin is compiled anew");
            let _ = fs::remove_file(&path);
        };
        let sealed = match contents(&path) {
            Ok(sealed) => sealed,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                refused(&format!("what was compiled cannot be read ({e})"));
                return None;
            }
        };
        let Some((seal, code)) = sealed.split_at_checked(SEAL) else {
            refused("what was compiled is cut off");
            return None;
        };
        if self.sealing(&name, code).verify_slice(seal).is_err() {
            refused("what was compiled is not as it was left");
            return None;
        }
        match deserialize(engine, code) {
            Ok(component) => {
                // Its date says when it was used; where that cannot be written, it is forgotten earlier.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(e) => {
                refused(&format!("what was compiled does not fit this program ({e:#})"));
                None
            }
        }
    }

    /// Keeps it. Without it, it is compiled again. Others make room, but those of which `is_in_use` says that this program runs them.
    pub(crate) fn keep(&self, digest: &str, component: &Component, is_in_use: &dyn Fn(&str) -> bool) {
        let (name, path) = self.entry(digest);
        let kept = component.serialize().map_err(|e| e.to_string()).and_then(|code| {
            let write = || -> io::Result<()> {
                let seal = self.sealing(&name, &code).finalize().into_bytes();
                let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
                file.write_all(&seal)?;
                file.write_all(&code)?;
                file.as_file().sync_data()?;
                file.persist(&path)?;
                Ok(())
            };
            write().map_err(|e| e.to_string())
        });
        if let Err(error) = kept {
            tracing::warn!(entry = %path.display(), error, "what was compiled of a plugin could not be kept");
        }
        self.make_room(&|other| other == digest || is_in_use(other));
    }

    fn entry(&self, digest: &str) -> (String, PathBuf) {
        let name = format!("{}-{digest}.cwasm", self.engine);
        let path = self.folder.join(&name);
        (name, path)
    }

    /// Over the name, too: an entry that was renamed is another one.
    fn sealing(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        // A key of any length is one.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(code);
        mac
    }

    fn make_room(&self, stays: &dyn Fn(&str) -> bool) {
        let (mut entries, mut count, mut bytes) = (Vec::new(), 0, 0);
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let Ok((len, used)) = entry.metadata().and_then(|meta| Ok((meta.len(), meta.modified()?))) else { continue };
            let name = name.to_string_lossy();
            if name.starts_with(UNFINISHED) && used.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
                let _ = fs::remove_file(path);
            } else if let Some(own) = name.strip_suffix(".cwasm") {
                (count, bytes) = (count + 1, bytes + len);
                if !stays(own.rsplit('-').next().unwrap_or(own)) {
                    entries.push((used, path, len));
                }
            }
        }
        entries.sort();
        for (_, path, len) in entries {
            if count <= ENTRIES && bytes <= BYTES {
                break;
            }
            if fs::remove_file(path).is_ok() {
                (count, bytes) = (count - 1, bytes - len);
            }
        }
    }
}

#[allow(unsafe_code, reason = "machine code that this program has made itself")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: it has to be what `Component::serialize` has given, and it is: the seal over these very bytes, which nobody else can
    // change any more, was made with a key that only `keep` uses, and only for that. The engine checks itself that its settings are the same.
    unsafe { Component::deserialize(engine, code) }
}

/// A folder that only its owner may enter.
fn private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    // One that was there before, or was made under another umask.
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

/// The key of this cache; a new one when there is none that can be one.
fn key(folder: &Path) -> io::Result<[u8; KEY]> {
    let path = folder.join("key");
    let there = own(&path);
    if let Ok(key) = there {
        return Ok(key);
    }
    let mut key = [0; KEY];
    getrandom::fill(&mut key).map_err(|e| io::Error::other(e.to_string()))?;
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
    file.write_all(&key)?;
    file.as_file().sync_data()?;
    if there.is_err_and(|e| e.kind() != io::ErrorKind::NotFound) {
        // Somebody has put something there that is no key of ours.
        file.persist(&path)?;
        return Ok(key);
    }
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(key),
        // Another program was faster, and its key is the key.
        Err(_) => own(&path),
    }
}

/// A key that nobody but the owner of this program could have written or read: whoever could write the folder before it was made
/// private may have left one, and what he sealed with it.
fn own(path: &Path) -> io::Result<[u8; KEY]> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::symlink_metadata(path)?;
        if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 || !meta.is_file() {
            return Err(io::Error::other("others may read or write the key"));
        }
    }
    contents(path)?.try_into().map_err(|_| io::Error::other("the key is no key"))
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    let file: File = options.read(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A short name for all settings of the engine that what it compiles depends on, its version included.
fn settings(engine: &Engine) -> String {
    let mut hash = Stable(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hash);
    hash.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A hash that is the same in every run and build of the program.
struct Stable(Sha256);

impl Hasher for Stable {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Nobody asks for it.
    fn finish(&self) -> u64 {
        0
    }
}
