//! Running pip and npm: bounded in time and space, ended when the caller cancels, their last words kept.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::error::{Error, Failure, Stop};

/// How often a running tool is looked at.
const POLL: Duration = Duration::from_millis(40);
/// How long an ended tool may take to go away before it is left behind.
const GRACE: Duration = Duration::from_secs(5);

/// How a command ended by itself.
pub(crate) enum Ran {
    Success,
    /// There is no such program, or a stand-in for it says so.
    NotThere(String),
    Failed(Failure),
}

/// Runs `command` until it ends, `step` stops it, or `folder` holds more than `most` bytes.
///
/// `step` is told the bytes in `folder` a few times a second. Error output goes to a file in `folder`, not to a pipe: a
/// grandchild that keeps a pipe open could hold us up for ever.
pub(crate) fn run(mut command: Command, folder: &Path, most: u64, step: &mut dyn FnMut(u64) -> Result<(), Stop>) -> Result<Ran, Stop> {
    let shown = shown(&command);
    let log = folder.join("stderr.log");
    let errors = File::create(&log).map_err(Error::io("create", &log))?;
    // In the working folder of the caller lies what python would import and npm would read: run in our own, empty one.
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    own_group(&mut command);
    let mut running = match command.spawn() {
        Ok(child) => Running(Some(child)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Ran::NotThere(format!("{shown} (not found)"))),
        Err(e) => return Ok(Ran::NotThere(format!("{shown} ({e})"))),
    };
    let status = loop {
        if let Some(status) = running.poll().map_err(Error::io("wait for", command.get_program()))? {
            break status;
        }
        let size = size_of(folder);
        if size > most {
            return Err(Failure::TooLarge(most).into());
        }
        step(size)?;
        thread::sleep(POLL);
    };
    if status.success() {
        return Ok(Ran::Success);
    }
    let stderr = last_words(&log);
    // 127 and 126: a shell, `env` or a version manager's stand-in did not find or could not start the program.
    let absent = matches!(status.code(), Some(126 | 127)) || stderr.contains("No module named pip");
    if absent {
        return Ok(Ran::NotThere(format!("{shown} ({stderr})")));
    }
    Ok(Ran::Failed(Failure::Tool { program: shown, status: in_words(status), stderr }))
}

/// A child that is ended when this is dropped before it ended itself, also by a panic of the caller's callback.
struct Running(Option<Child>);

impl Running {
    fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.0 else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.0 = None;
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.0 else { return };
        end(child);
        let since = Instant::now();
        while since.elapsed() < GRACE && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A group of its own, so that what the tool starts ends with it. An interrupt from the terminal no longer reaches it:
/// the program must turn that into the cancel flag.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) {}

fn end(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
}

/// Bytes below `folder`. Files that vanish meanwhile count nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// What a tool said: the first four and the last three lines of its log, where pip and npm put the reason, without
/// control characters and with credentials in URLs masked.
fn last_words(log: &Path) -> String {
    const MOST: u64 = 4096;
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        let mut bytes = Vec::new();
        (&mut file).take(MOST).read_to_end(&mut bytes)?;
        if length > MOST {
            bytes.push(b'\n');
            file.seek(SeekFrom::Start(MOST.max(length - MOST)))?;
            file.take(MOST).read_to_end(&mut bytes)?;
        }
        io::Result::Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (first, last) = lines.split_at(lines.len().min(4));
    let kept = first.iter().chain(&last[last.len().saturating_sub(3)..]);
    let shown: Vec<String> = kept.map(|line| line.split(' ').map(masked).collect::<Vec<_>>().join(" ")).collect();
    let clean: String = shown.join(" | ").chars().filter(|c| !c.is_control()).take(1500).collect();
    if clean.is_empty() { "no message".to_owned() } else { clean }
}

/// `scheme://user:secret@host` without the secret.
fn masked(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((secret, _)) => format!("{scheme}://****{}", &rest[secret.len()..]),
        None => word.to_owned(),
    }
}

/// The command line up to the subcommand: `python3 -m pip`, `npm`.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy);
    words.take_while(|word| !matches!(word.as_ref(), "download" | "pack")).collect::<Vec<_>>().join(" ")
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_reach_error_messages() {
        assert_eq!(masked("https://me:hunter2@host/simple"), "https://****@host/simple");
        assert_eq!(masked("https://host/a@b"), "https://host/a@b");
        assert_eq!(masked("plain@word"), "plain@word");
    }
}
