//! Logs: `logs/bespoke.log`, what plugins say once more in `logs/plugins.log`, each set aside when it is full, and on stderr what
//! `--log-level` asks for; without secrets in all of them.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bespoke_host::{RedactedPieces, Redactor};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// A log file is set aside when it reaches this size, and [`KEPT`] older ones stay: at most 40 MB of each log.
const ROTATE_AT: u64 = 8 << 20;
const KEPT: usize = 4;

/// Everything that the program says.
const ALL: &str = "bespoke.log";
/// What plugins say.
const PLUGINS: &str = "plugins.log";
/// The target of what a plugin says: its own lines, and what strays onto its standard output and error.
const OF_PLUGINS: &str = "plugin";

/// What is taken out of every line: what the configuration refers to, and from then on what plugins may ask for, too.
static REDACTOR: RwLock<Option<Redactor>> = RwLock::new(None);

/// Tells the logs what to take out.
pub(crate) fn redact(redactor: Redactor) {
    *REDACTOR.write().unwrap_or_else(PoisonError::into_inner) = Some(redactor);
}

/// Tells the logs what to take out, too.
pub(crate) fn redact_more(redactor: &Redactor) {
    if let Some(known) = &*REDACTOR.read().unwrap_or_else(PoisonError::into_inner) {
        known.learn_from(redactor);
    }
}

/// Starts logging, into a file only if there is a folder for it. One that cannot be written is told once; the program goes on without
/// a file.
pub(crate) fn start(level: &str, folder: Option<&Path>) {
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(|| Redacting(io::stderr()))
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_filter(on_terminal(level));
    let opened = folder.map(|folder| Ok::<_, io::Error>((Rotating::open(folder, ALL)?, Rotating::later(folder, PLUGINS))));
    let problem = opened.as_ref().and_then(|opened| Some(opened.as_ref().err()?.to_string()));
    let in_file = if matches!(level, "debug" | "trace") { level } else { "info" };
    let (file, plugins) = opened
        .and_then(Result::ok)
        .map(|(all, plugins)| {
            let of_plugins = Targets::new().with_target(OF_PLUGINS, in_file.parse().unwrap_or(LevelFilter::INFO));
            (
                tracing_subscriber::fmt::layer().with_writer(all).with_ansi(false).with_filter(levels(in_file, &["rustls", "ureq"])),
                tracing_subscriber::fmt::layer().with_writer(plugins).with_ansi(false).with_target(false).with_filter(of_plugins),
            )
        })
        .unzip();
    // An error means that logging was started before, as in tests of this crate.
    let _ = tracing_subscriber::registry().with(stderr).with(file).with(plugins).try_init();
    if let (Some(error), Some(folder)) = (problem, folder) {
        tracing::warn!("no log file in {}: {error}", folder.display());
    }
}

/// Target of what a server says of itself: it is told on stderr already.
pub(crate) const TOLD: &str = "serve";

/// What goes to stderr. What plugins say is in their log, and told only to who asks for more than errors: the error of a call says what
/// went wrong in one line.
fn on_terminal(level: &str) -> Targets {
    let levels = levels(level, &[]).with_target(TOLD, LevelFilter::OFF);
    if tells_of_plugins(level) { levels } else { levels.with_target(OF_PLUGINS, LevelFilter::OFF) }
}

/// Whether what plugins say is told on stderr too, at this level.
pub(crate) fn tells_of_plugins(level: &str) -> bool {
    !matches!(level, "off" | "error")
}

/// The log of everything.
pub(crate) fn of_all(folder: &Path) -> PathBuf {
    folder.join(ALL)
}

/// What was set aside of a log, the oldest first.
pub(crate) fn set_aside(log: &Path) -> Vec<PathBuf> {
    (1..=KEPT).rev().map(|n| log.with_extension(format!("log.{n}"))).collect()
}

/// The log of what plugins say.
pub(crate) fn of_plugins(folder: &Path) -> PathBuf {
    folder.join(PLUGINS)
}

/// How long it is now.
pub(crate) fn length_of_plugins(folder: &Path) -> u64 {
    std::fs::metadata(of_plugins(folder)).map_or(0, |file| file.len())
}

/// Everything from a level on; of the talkative only warnings. Plain targets, because patterns would cost a regex engine.
fn levels(level: &str, talkative: &[&str]) -> Targets {
    // The names are those of the command line's own list.
    let level = level.parse().unwrap_or(LevelFilter::ERROR);
    talkative.iter().fold(Targets::new().with_default(level), |targets, target| targets.with_target(*target, level.min(LevelFilter::WARN)))
}

#[derive(Clone)]
struct Rotating(Arc<Mutex<LogFile>>);

struct LogFile {
    path: PathBuf,
    /// There when something was written, or is about to be.
    file: Option<File>,
    size: u64,
}

impl Rotating {
    fn open(folder: &Path, name: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(name);
        let file = append(&path)?;
        let size = file.metadata()?.len();
        Ok(Rotating(Arc::new(Mutex::new(LogFile { path, file: Some(file), size }))))
    }

    /// One that is made by its first line: most programs run no plugin that says anything.
    fn later(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        let size = std::fs::metadata(&path).map_or(0, |file| file.len());
        Rotating(Arc::new(Mutex::new(LogFile { path, file: None, size })))
    }
}

impl LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size + line.len() as u64 > ROTATE_AT {
            for n in (0..KEPT).rev() {
                let old = if n == 0 { self.path.clone() } else { self.path.with_extension(format!("log.{n}")) };
                // A file that is not there has nothing to be set aside.
                let _ = std::fs::rename(old, self.path.with_extension(format!("log.{}", n + 1)));
            }
            self.file = None;
            self.size = 0;
        }
        self.size += line.len() as u64;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(append(&self.path)?),
        };
        file.write_all(line)
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(clean(&text).as_bytes()).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Rotating {
    type Writer = Rotating;

    fn make_writer(&'w self) -> Rotating {
        self.clone()
    }
}

struct Redacting<W>(W);

impl<W: Write> Write for Redacting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(clean(&String::from_utf8_lossy(line)).as_bytes()).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The last lines that a plugin said, in any program of this user, the oldest first.
pub(crate) fn last_of(folder: &Path, plugin: &str, most: usize) -> Vec<String> {
    const TAIL: u64 = 256 << 10;
    let read = || -> io::Result<String> {
        let mut file = File::open(of_plugins(folder))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // Without a file, nothing was said.
    let text = read().unwrap_or_default();
    let of_plugin = format!(" plugin=\"{plugin}\"");
    let own = text.lines().filter_map(|line| line.strip_suffix(&of_plugin)).map(str::to_owned);
    let mut own: Vec<String> = own.collect();
    own.drain(..own.len().saturating_sub(most));
    own
}

/// A text without secrets. A formatted line arrives in one write, so a secret is never cut in two.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let redactor = REDACTOR.read().unwrap_or_else(PoisonError::into_inner);
    redactor.as_ref().map_or(Cow::Borrowed(text), |redactor| redactor.redact(text))
}

/// Takes secrets out of a text that is shown piece by piece.
pub(crate) fn pieces() -> RedactedPieces {
    let redactor = REDACTOR.read().unwrap_or_else(PoisonError::into_inner);
    redactor.as_ref().map_or_else(|| Redactor::default().pieces(), Redactor::pieces)
}

/// From now on a panic is told on stderr without secrets. A plugin's panic is caught later, but told here first.
pub(crate) fn redact_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
        if backtrace.status() == BacktraceStatus::Captured {
            text += &format!("stack backtrace:\n{backtrace}\n");
        }
        // Not through the log: the panic may come from there. Nobody to tell when stderr is closed.
        let _ = io::stderr().lock().write_all(clean(&text).as_bytes());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Rotating::open(folder.path(), ALL).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        for n in 0..7 {
            log.write_all(format!("line {n}\n").as_bytes()).unwrap();
            log.0.lock().unwrap().size = ROTATE_AT;
        }
        assert_eq!(read("bespoke.log").as_deref(), Some("line 6\n"));
        for n in 1..=KEPT {
            assert_eq!(read(&format!("bespoke.log.{n}")), Some(format!("line {}\n", 6 - n)));
        }
        assert_eq!(read(&format!("bespoke.log.{}", KEPT + 1)), None);
    }

    #[test]
    fn the_size_of_a_file_that_is_there_counts() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bespoke.log"), vec![b'x'; usize::try_from(ROTATE_AT).unwrap()]).unwrap();
        Rotating::open(folder.path(), ALL).unwrap().write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read(folder.path().join("bespoke.log")).unwrap(), b"new\n");
    }
}
