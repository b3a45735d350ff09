//! Logs: a line a day's file under `logs/`, warnings also on stderr; secrets are taken out of both.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bespoke_host::Redactor;
use tracing_subscriber::{EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

/// A log file is set aside when it reaches this size, and [`KEPT`] older ones stay: at most 40 MB in all.
const ROTATE_AT: u64 = 8 << 20;
const KEPT: usize = 4;

/// What is taken out of every line. Filled once the configuration is read; until then no secret is known to the program.
static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// Tells the logs what to take out.
pub(crate) fn redact(redactor: Redactor) {
    // A second configuration in one process does not happen: the first redactor stays.
    let _ = REDACTOR.set(redactor);
}

/// Starts logging. A folder that cannot be written is told once; the program goes on without a file.
pub(crate) fn start(level: &str, folder: &Path) {
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(|| Redacting(io::stderr()))
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_filter(EnvFilter::new(level));
    let file = Rotating::open(folder).map(|writer| {
        let levels = if matches!(level, "debug" | "trace") { level } else { "info" };
        let levels = format!("{levels},rustls=warn,ureq=warn");
        tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).with_filter(EnvFilter::new(levels))
    });
    let (file, problem) = match file {
        Ok(layer) => (Some(layer), None),
        Err(error) => (None, Some(error)),
    };
    // An error means that logging was started before, as in tests of this crate.
    let _ = tracing_subscriber::registry().with(stderr).with(file).try_init();
    if let Some(error) = problem {
        tracing::warn!("no log file in {}: {error}", folder.display());
    }
}

#[derive(Clone)]
struct Rotating(Arc<Mutex<LogFile>>);

struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Rotating {
    fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("bespoke.log");
        let file = append(&path)?;
        let size = file.metadata()?.len();
        Ok(Rotating(Arc::new(Mutex::new(LogFile { path, file, size }))))
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
            self.file = append(&self.path)?;
            self.size = 0;
        }
        self.size += line.len() as u64;
        self.file.write_all(line)
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&clean(line)).map(|()| line.len())
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
        self.0.write_all(&clean(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A formatted line arrives in one write, so a secret is never cut in two.
fn clean(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    match REDACTOR.get() {
        Some(redactor) => redactor.redact(&text).into_owned().into_bytes(),
        None => text.into_owned().into_bytes(),
    }
}
