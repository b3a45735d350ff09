//! The layouts of the file, one step each, and the way from an older one to ours. A step is never changed once it has shipped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::{
    error::StateError,
    file::{Fault, private},
};

/// What each step brings, and its SQL. Step number n, from 1, leads to layout n.
const STEPS: &[(&str, &str)] = &[
    ("sessions", include_str!("schema/1-sessions.sql")),
    ("values of plugins", include_str!("schema/2-values.sql")),
    ("letters of channels", include_str!("schema/3-letters.sql")),
    ("events", include_str!("schema/4-events.sql")),
    ("usage of plugins", include_str!("schema/5-usage.sql")),
    ("beginnings that were told, letters of sessions", include_str!("schema/6-announced.sql")),
];

/// The layout that this program reads and writes.
const KNOWN: i64 = STEPS.len() as i64;

/// `application_id` of our files, as step 1 sets it.
const OURS: i64 = 0x6273_706b;

/// The layout of a file that we may touch: ours and not newer than us, or 0 for one without any contents.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<i64, Fault> {
    // One look: another process may be making the file what it is.
    check_within(&connection.unchecked_transaction()?, path)
}

fn check_within(connection: &Transaction<'_>, path: &Path) -> Result<i64, Fault> {
    let (found, application) = (version(connection)?, pragma(connection, "application_id")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let path = path.to_owned();
    match (application, found) {
        (0, 0) if tables == 0 => Ok(0),
        (OURS, 1..=KNOWN) => Ok(found),
        (OURS, _) if found > KNOWN => Err(StateError::Newer { path, found, known: KNOWN }.into()),
        (OURS, _) => Err(StateError::Damaged { path, detail: format!("it has the layout {found}, which never was") }.into()),
        _ => Err(StateError::Foreign { path }.into()),
    }
}

/// Brings a file to our layout, all or nothing. An older one is copied first; other writers wait meanwhile.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    if check(connection, path)? == KNOWN {
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    // Another process may have been quicker, and one that knows more, too.
    let from = check_within(&transaction, path)?;
    if from > 0 && from < KNOWN {
        copy(path, from)?;
    }
    for (at, (what, sql)) in STEPS.iter().enumerate().skip(usize::try_from(from).unwrap_or(0)) {
        tracing::info!(path = %path.display(), layout = at + 1, "migrating: {what}");
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
    }
    transaction.commit()?;
    if from < KNOWN {
        tracing::info!(path = %path.display(), layout = KNOWN, "migrated");
        for copy in copies(path).into_iter().filter(|copy| *copy != copy_of(path, from)) {
            let _ = fs::remove_file(copy); // an older one that is left behind does no harm
        }
    }
    Ok(())
}

/// Copies of older layouts beside a file.
pub(crate) fn copies(path: &Path) -> Vec<PathBuf> {
    (1..KNOWN).map(|layout| copy_of(path, layout)).filter(|copy| copy.exists()).collect()
}

/// Where a copy of layout `from` lies: `state.db.v1.bak`.
fn copy_of(path: &Path, from: i64) -> PathBuf {
    suffixed(path, &format!(".v{from}.bak"))
}

pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies a file whose write lock the caller holds, through a connection of its own: a copy is no part of a transaction.
fn copy(path: &Path, from: i64) -> Result<(), Fault> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StateError::Io { what, path, source }
    };
    let (partial, whole) = (suffixed(path, ".copying"), copy_of(path, from));
    tracing::info!(path = %whole.display(), layout = from, "copying");
    // One that a killed program left behind.
    if partial.exists() {
        fs::remove_file(&partial).map_err(io("remove", &partial))?;
    }
    private(&partial)?;
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let target =
        partial.to_str().ok_or_else(|| io("copy to a name that is not UTF-8", &partial)(std::io::ErrorKind::InvalidFilename.into()))?;
    reader.execute("VACUUM INTO ?1", [target])?;
    let file = fs::File::open(&partial).map_err(io("read", &partial))?;
    file.sync_all().map_err(io("sync", &partial))?;
    fs::rename(&partial, &whole).map_err(io("rename", &partial))?;
    tracing::info!(path = %whole.display(), layout = from, "copied");
    Ok(())
}

fn version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    pragma(connection, "user_version")
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
