//! Who descends from the supervisor, as `/proc` tells. It signals only whom it has looked at through a descriptor, so that a number that
//! was given to somebody else meanwhile hits nobody.

use std::{collections::HashMap, fs, io::Read};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process, as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    /// Dead, and not yet waited for.
    pub(super) zombie: bool,
    /// CPU time, in ticks.
    pub(super) ticks: u64,
    /// CPU time of children that it has waited for, in ticks.
    pub(super) waited: u64,
    pub(super) threads: u64,
    /// When it began, in ticks since the machine did: with the number its identity.
    pub(super) began: u64,
    /// Memory that is here, in pages; shared pages count for each.
    pub(super) pages: u64,
}

/// All that descends from this process, but not itself. Parents come before their children.
pub(super) fn descendants(of: u32) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(process) = look(pid) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = children.remove(&of).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        if let Some(more) = children.remove(&process.pid) {
            found.extend(more);
        }
        next += 1;
    }
    found
}

/// One process, if it is there.
pub(super) fn look(pid: u32) -> Option<Process> {
    let mut text = [0; 1024];
    let length = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut text)).ok()?;
    // The name of the program may not be text.
    parse(pid, &String::from_utf8_lossy(text.get(..length)?))
}

/// The line of `/proc/<pid>/stat`. The name of the program stands in parentheses and may hold some itself.
fn parse(pid: u32, text: &str) -> Option<Process> {
    let (_, rest) = text.rsplit_once(')')?;
    let field: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| field.get(index).and_then(|text| text.parse::<u64>().ok());
    Some(Process {
        pid,
        parent: field.get(1)?.parse().ok()?,
        group: field.get(2)?.parse().ok()?,
        zombie: matches!(*field.first()?, "Z" | "X"),
        ticks: number(11)?.saturating_add(number(12)?),
        waited: number(13)?.saturating_add(number(14)?),
        threads: number(17)?,
        began: number(19)?,
        pages: number(21)?,
    })
}

/// Signals a process if it still is the one that was looked at.
pub(super) fn signal(process: &Process, signal: Signal) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if look(process.pid).is_some_and(|now| now.began == process.began) {
        // It fails only when the process has ended.
        let _ = pidfd_send_signal(&handle, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        for name in ["sh", "a b", ") S 1 1", "((", "\u{fffd}"] {
            let text = format!("7 ({name}) S 5 6 6 0 -1 0 0 0 0 0 10 20 3 4 20 0 9 0 12345 1000 77 18446744073709551615 0");
            let expected =
                Process { pid: 7, parent: 5, group: 6, zombie: false, ticks: 30, waited: 7, threads: 9, began: 12345, pages: 77 };
            assert_eq!(parse(7, &text), Some(expected), "{name}");
        }
        assert_eq!(parse(7, "7 (x) S 5"), None);
        assert_eq!(parse(7, ""), None);
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(descendants(std::process::id()).iter().any(|process| process.pid == child.id()));
        signal(&look(child.id()).unwrap(), Signal::KILL);
        child.wait().unwrap();
    }
}
