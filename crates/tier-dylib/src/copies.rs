//! Private copies of libraries, opened for good: the same content twice is one copy, another content is another. The table belongs to
//! the process, as what is mapped into it does.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{Code, Error, Result};
use sha2::{Digest as _, Sha256};

use crate::descriptor::{self, Checked};

/// Copies of one plugin's library in a program. Each stays mapped until the program ends: about 0.35 MB and four mappings for a small one,
/// measured over 200 reloads, of the 65,530 mappings that Linux gives a process (`vm.max_map_count`). So it is 22 MB for a small library and
/// less than a thousandth of the mappings, and enough for a day of writing one.
pub const MOST_COPIES: usize = 64;

/// What is said of a text, a script, a library of another system.
const FOREIGN: &str = "it is no library of this system: it does not begin as one in ELF does";

/// A copy is opened long before it is so old.
const LATELY: Duration = Duration::from_secs(3600);

/// An open library.
#[derive(Debug)]
pub(crate) struct Copy {
    /// What it is a copy of, as the user knows it.
    pub(crate) file: PathBuf,
    /// Whose code it is, in words. A copy stays until the program ends, and so may they.
    pub(crate) who: &'static str,
    pub(crate) checked: Checked,
    /// An instance of it died: what it has in its statics is not to be trusted.
    spoiled: AtomicBool,
    /// Which of the plugin's it is, from 1.
    pub(crate) number: usize,
}

impl Copy {
    /// No further instance is made of it.
    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }
}

/// What of one library file is mapped, also what turned out to be no plugin; locked while one is opened, which runs code of the library.
type OfFile = Arc<Mutex<Vec<Mapped>>>;

struct Mapped {
    digest: String,
    copy: Result<Arc<Copy>>,
}

static COPIES: Mutex<Option<HashMap<PathBuf, OfFile>>> = Mutex::new(None);

/// How many copies of a library this program holds.
pub(crate) fn count(file: &Path) -> usize {
    let of_file = of_file(file);
    // Opening one may hang; what is shown does not wait for it.
    match of_file.try_lock() {
        Ok(copies) => copies.len(),
        Err(_) => 0,
    }
}

/// The library `file` of the plugin `id` in `root` as it is now, open, from a copy below `cache`.
///
/// # Errors
/// `LOAD_FAILED`; `RESOURCE_EXHAUSTED` when there are [`MOST_COPIES`] of it.
pub(crate) fn load(file: &Path, root: &Path, cache: &Path, id: &str) -> Result<Arc<Copy>> {
    let of_file = of_file(file);
    let mut copies = lock(&of_file);
    let folder = cache.join("dylib").join(id);
    let (digest, staged) = stage(file, root, &folder)?;
    let same = copies.iter().rfind(|mapped| mapped.digest == digest).map(|mapped| mapped.copy.clone());
    match same {
        Some(Ok(copy)) if copy.spoiled.load(Ordering::Relaxed) => {}
        // What was refused is not mapped once more to be refused again.
        Some(known) => return known,
        None => {}
    }
    if copies.len() >= MOST_COPIES {
        let message = format!(
            "{}: this program holds {MOST_COPIES} copies of this library, as none can be unloaded, and takes no further one",
            file.display()
        );
        return Err(Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("restart the program"));
    }
    // The loader takes the same file for the same library, so a further copy of the same content needs a name of its own.
    let again = copies.iter().filter(|mapped| mapped.digest == digest).count();
    let name = if again == 0 { format!("{digest}.so") } else { format!("{digest}-{again}.so") };
    let path = folder.join(name);
    staged.persist(&path).map_err(|e| cannot_copy(file, &folder, &e.error))?;
    let library = bespoke_library::open_bound(&path).map_err(|e| {
        // The user knows the file, and not the copy that the loader speaks of.
        let reason = e.reason.replace(&format!("{}: ", path.display()), "");
        descriptor::refusal(file, &format!("it cannot be loaded: {reason}"))
    })?;
    let checked = descriptor::read(library, file, id);
    let copy = checked.map(|checked| {
        let who = format!("the library of plugin `{id}` ({})", file.display()).leak();
        Arc::new(Copy { file: file.to_owned(), who, checked, spoiled: AtomicBool::new(false), number: copies.len() + 1 })
    });
    copies.push(Mapped { digest, copy: copy.clone() });
    forget_old(&folder, &path);
    copy
}

/// Copies a file to a place beside where it will lie, and says what is in it. Nothing that is open is ever written to.
fn stage(file: &Path, root: &Path, folder: &Path) -> Result<(String, tempfile::NamedTempFile)> {
    let unread = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => missing(file, root),
        _ => descriptor::refusal(file, &format!("it cannot be read: {e}")),
    };
    let uncopied = |e: io::Error| cannot_copy(file, folder, &e);
    // Before it is opened: a pipe would wait for somebody to write.
    if !fs::metadata(file).map_err(unread)?.is_file() {
        return Err(descriptor::refusal(file, "it is no file"));
    }
    let mut from = File::open(file).map_err(unread)?;
    fs::create_dir_all(folder).map_err(uncopied)?;
    let mut to = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(uncopied)?;
    let (mut hash, mut piece, mut is_first) = (Sha256::new(), vec![0; 256 << 10], true);
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(unread(e)),
        };
        if std::mem::take(&mut is_first) && is_foreign(&piece[..read]) {
            return Err(descriptor::refusal(file, FOREIGN));
        }
        hash.update(&piece[..read]);
        to.write_all(&piece[..read]).map_err(uncopied)?;
    }
    Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), to))
}

/// Whether a file that begins so cannot be a library: a text, a script, one of another system. The loader would say so of the copy.
fn is_foreign(first: &[u8]) -> bool {
    const ELF: &[u8] = b"\x7fELF";
    !cfg!(target_vendor = "apple") && !first.starts_with(&ELF[..ELF.len().min(first.len())])
}

/// Copies that nobody has made lately, and what was left of making one: somebody who makes one now opens it at once, and what is open
/// stays although its name goes.
fn forget_old(folder: &Path, own: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|made| made.elapsed().ok());
        if entry.path() != own && age.is_some_and(|age| age > LATELY) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether the library of the plugin in `root` is there and whole, as far as that shows without the loader.
pub(crate) fn look(file: &Path, root: &Path) -> Result<()> {
    let refused = |why: &str| descriptor::refusal(file, why);
    match file.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing(file, root)),
        // A pipe would wait for somebody to write.
        Ok(meta) if !meta.is_file() => return Err(refused("it is no file")),
        _ => {}
    }
    let mut first = Vec::new();
    let read = File::open(file).and_then(|file| file.take(4).read_to_end(&mut first));
    read.map_err(|e| refused(&format!("it cannot be read: {e}")))?;
    if is_foreign(&first) {
        return Err(refused(FOREIGN));
    }
    bespoke_library::check(file).map_err(|why| refused(&format!("it cannot be loaded: {why}")))
}

fn missing(file: &Path, root: &Path) -> Error {
    descriptor::refusal(file, "there is no such file").with_help(bespoke_tier::build_again(root, "dylib"))
}

fn cannot_copy(file: &Path, folder: &Path, error: &io::Error) -> Error {
    let message = format!("{}: it cannot be copied to {}: {error}", file.display(), folder.display());
    Error::new(Code::LOAD_FAILED, message).with_help(format!("ls -ld {}", folder.display()))
}

fn of_file(file: &Path) -> OfFile {
    lock(&COPIES).get_or_insert_default().entry(file.to_owned()).or_default().clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
