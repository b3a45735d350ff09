//! The file: opened, checked, brought to our layout, and every access to it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::{
    error::StateError,
    schema,
    waiting::{SHORT, held, waiting},
};

/// How long an access waits for another process.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long emptying the log waits for readers in other processes: what is deleted is overwritten in any case.
const PATIENCE_WITH_READERS: Duration = Duration::from_millis(200);

/// Prepared statements that a connection keeps: as many as this crate has.
const STATEMENTS: usize = 128;

/// What a program keeps, open. Cheap to clone; all clones share one connection.
///
/// Its methods do their work on the thread that calls them. While another process writes they wait, for five seconds at most; on a
/// worker of a runtime with several threads other tasks go on after the first tenth of a second, on any other thread nothing else does.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// Who this is, for others that hold the same session.
    writer: String,
}

impl State {
    /// Opens the file, or begins it: with its folder if that is missing, both for the user alone. A file of an older program is
    /// copied to `FILE.v<layout>.bak` and brought up to date.
    ///
    /// # Errors
    /// When the file is damaged, another program's or a newer one's; when it or its folder cannot be read and written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        let path = path.as_ref();
        let path = std::path::absolute(path).map_err(|source| StateError::Io { what: "find", path: path.to_owned(), source })?;
        match open(&path) {
            Ok(connection) => {
                let writer = format!("process {}", std::process::id());
                Ok(State { inner: Arc::new(Inner { path, connection: Mutex::new(connection), writer }) })
            }
            Err(fault) => Err(fault.told(&path)),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Reads the whole file and looks for damage. Takes time with its size.
    ///
    /// # Errors
    /// `Damaged`, with the first thing that was found.
    pub fn check(&self) -> Result<(), StateError> {
        let found: String = self.read(|tx| Ok(tx.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?))?;
        let orphans: i64 = self.read(|tx| {
            Ok(tx.query_row(
                "SELECT count(*) FROM sessions s WHERE length <> (SELECT count(*) FROM messages WHERE session = s.key)",
                [],
                |r| r.get(0),
            )?)
        })?;
        match (found.as_str(), orphans) {
            ("ok", 0) => Ok(()),
            ("ok", n) => Err(self.damaged(format!("{n} sessions lack messages"))),
            _ => Err(self.damaged(found)),
        }
    }

    pub(crate) fn writer(&self) -> &str {
        &self.inner.writer
    }

    pub(crate) fn damaged(&self, detail: impl Into<String>) -> StateError {
        StateError::Damaged { path: self.inner.path.clone(), detail: detail.into() }
    }

    /// What is read inside belongs together, whatever others write meanwhile.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, StateError> {
        self.within(TransactionBehavior::Deferred, work)
    }

    /// All or nothing.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, StateError> {
        self.within(TransactionBehavior::Immediate, work)
    }

    fn within<T>(&self, behavior: TransactionBehavior, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, StateError> {
        let mut connection = self.connection();
        let result = (|| {
            let transaction = Transaction::new(&mut connection, behavior)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        result.map_err(|fault: Fault| fault.told(&self.inner.path))
    }

    /// Removes what deleting has left in the log and in copies. Says whether nothing is left: another process that is reading
    /// keeps the log. No error, as what was to be deleted is deleted already.
    pub(crate) fn erase_traces(&self) -> bool {
        let told = |error: StateError| tracing::warn!(%error, "what was deleted has left traces");
        let mut erased = self.empty_log().unwrap_or_else(|error| {
            told(error);
            false
        });
        for path in schema::copies(&self.inner.path) {
            if let Err(source) = fs::remove_file(&path) {
                told(StateError::Io { what: "remove", path, source });
                erased = false;
            }
        }
        erased
    }

    /// Gives free pages back and empties the log; says whether it is empty.
    fn empty_log(&self) -> Result<bool, StateError> {
        let mut connection = self.connection();
        let emptied = (|| {
            {
                // A row for each page that is given back.
                let mut vacuum = connection.prepare("PRAGMA incremental_vacuum")?;
                let mut pages = vacuum.query([])?;
                while pages.next()?.is_some() {}
            }
            wait_at_most(&mut connection, PATIENCE_WITH_READERS)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        })();
        // In any case: the next access is not to give up early.
        let patient = wait_at_most(&mut connection, PATIENCE);
        let left = emptied.and_then(|left| patient.map(|()| left)).map_err(|error| Fault::from(error).told(&self.inner.path))?;
        Ok(left == 0)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        held(&self.inner.connection)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// How long an access waits for another process. SQLite has a wait of its own, which would hold all tasks of a worker.
fn wait_at_most(connection: &mut Connection, patience: Duration) -> Result<(), rusqlite::Error> {
    let mut begun = Instant::now();
    connection.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            begun = Instant::now();
        }
        let left = patience.saturating_sub(begun.elapsed());
        // Short at first, as most writers are done at once.
        let pause = Duration::from_millis(1 << tries.clamp(0, 5)).min(left);
        if begun.elapsed() < SHORT {
            thread::sleep(pause);
        } else {
            waiting(|| thread::sleep(pause));
        }
        !left.is_zero()
    }))
}

/// Either what SQLite said, or what we made of it already.
#[derive(Debug)]
pub(crate) enum Fault {
    Database(rusqlite::Error),
    Told(StateError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Database(error)
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Fault::Told(error)
    }
}

impl Fault {
    fn told(self, path: &Path) -> StateError {
        let path = path.to_owned();
        let source = match self {
            Fault::Told(error) => return error,
            Fault::Database(error) => error,
        };
        let detail = source.to_string();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StateError::Damaged { path, detail },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StateError::ReadOnly { path, detail },
            Some(ErrorCode::DiskFull) => StateError::Full { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StateError::Busy { path, waited: PATIENCE },
            _ => StateError::Database { path, source: Box::new(source) },
        }
    }
}

fn open(path: &Path) -> Result<Connection, Fault> {
    prepare(path)?;
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    wait_at_most(&mut connection, PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Before anything is written: not even the mode of a file that is not ours is changed.
    if schema::check(&connection, path)? == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    if connection.is_readonly("main")? {
        return Err(StateError::ReadOnly { path: path.to_owned(), detail: "it may only be read".to_owned() }.into());
    }
    write_ahead(&connection, path)?;
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL;
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;",
    )?;
    schema::migrate(&mut connection, path)?;
    Ok(connection)
}

/// The folder and an empty file, for the user alone. What is there stays as it is.
fn prepare(path: &Path) -> Result<(), StateError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StateError::Io { what, path, source }
    };
    if let Some(folder) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(io("create the folder", folder))?;
    }
    // The log first: whoever writes one has filled the file before.
    let log = schema::suffixed(path, "-wal");
    let logged = fs::metadata(&log).is_ok_and(|m| m.len() > 0);
    match fs::metadata(path) {
        // SQLite would take it for a new file, and throw the log away.
        Ok(m) if m.len() == 0 && logged => {
            Err(StateError::Damaged { path: path.to_owned(), detail: "it is empty, but its log is not".to_owned() })
        }
        Ok(m) if m.is_file() => Ok(()),
        Ok(_) => Err(io("open", path)(io::Error::other("it is no file"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound && logged => {
            Err(StateError::Damaged { path: path.to_owned(), detail: "it is missing, but its log is not".to_owned() })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => private(path),
        Err(e) => Err(io("open", path)(e)),
    }
}

/// An empty file that only the user may read; SQLite gives its log the same mode.
pub(crate) fn private(path: &Path) -> Result<(), StateError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        // Another process begins it at the same time.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StateError::Io { what: "create", path: path.to_owned(), source }),
    }
}

/// Switches a new file to a write-ahead log. SQLite does not wait for another process that does the same, so we do.
fn write_ahead(connection: &Connection, path: &Path) -> Result<(), rusqlite::Error> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                // A file system without shared memory. Slower, and as safe.
                tracing::warn!(path = %path.display(), mode, "there is no write-ahead log here");
                return Ok(());
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Code, Error, Message};

    use super::*;
    use crate::Meta;

    fn opened() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().join("state.db")).unwrap();
        (folder, state)
    }

    #[test]
    fn a_full_disk_is_told_and_takes_nothing_with_it() {
        let (_folder, state) = opened();
        let id = state.create(&Meta::default()).unwrap().id().to_owned();
        let journal = state.journal(&id).unwrap();
        journal.append(&id, 0, &Message::user("hello")).unwrap();
        let pages: i64 = state.connection().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        state.connection().pragma_update(None, "max_page_count", pages + 2).unwrap();
        let long = Message::assistant("x".repeat(1 << 20));
        let error = journal.append(&id, 1, &long).unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), (Code::RESOURCE_EXHAUSTED, true));
        assert!(error.message().ends_with("state.db: the disk is full") && error.help().unwrap().starts_with("df -h "), "{error:?}");
        // With room again, the same session goes on.
        state.connection().pragma_update(None, "max_page_count", 1 << 20).unwrap();
        journal.append(&id, 1, &long).unwrap();
        state.check().unwrap();
    }

    #[test]
    fn what_may_not_be_written_is_told() {
        let (_folder, state) = opened();
        state.connection().pragma_update(None, "query_only", true).unwrap();
        let error = state.create(&Meta::default()).unwrap_err();
        assert!(matches!(error, StateError::ReadOnly { .. }), "{error}");
        assert_eq!(Error::from(error).code(), Code::INTERNAL_ERROR);
    }

    #[test]
    fn a_panic_inside_leaves_nothing_half_done_and_no_dead_lock() {
        let (_folder, state) = opened();
        let id = state.create(&Meta::default()).unwrap().id().to_owned();
        let panicking = state.clone();
        let thread = std::thread::spawn(move || {
            panicking.write(|tx| -> Result<(), Fault> {
                tx.execute("DELETE FROM sessions", [])?;
                panic!("in the middle");
            })
        });
        assert!(thread.join().is_err());
        assert_eq!(state.find(&id).unwrap().id, id);
        state.rename(&id, "still here").unwrap();
    }

    #[test]
    fn another_process_is_not_waited_for_for_ever() {
        let (_folder, state) = opened();
        let other = State::open(state.path()).unwrap();
        state.connection().busy_timeout(Duration::ZERO).unwrap();
        let error = other.write(|_| Ok(state.create(&Meta::default()).unwrap_err())).unwrap();
        assert!(matches!(error, StateError::Busy { .. }) && error.is_retryable(), "{error}");
        state.create(&Meta::default()).unwrap();
    }
}
