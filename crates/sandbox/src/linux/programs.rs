//! Which files must be executable so that a command can start: itself, and its interpreters. It executes none.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// How far interpreters of interpreters are followed, as the kernel does.
const DEPTH: usize = 5;
/// How much of a file says how it is started. Program headers stand at its beginning, in what compilers and linkers make.
const HEAD: u64 = 4096;
/// The kind of the header that names the dynamic linker.
const PT_INTERP: u64 = 3;

/// The command and its interpreters. `path` is the variable of the command's environment, for scripts that are started by `env`.
pub(super) fn needed(command: &Path, path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![command.to_path_buf()];
    for _ in 0..DEPTH {
        let Some(program) = open.pop() else { break };
        if found.contains(&program) {
            continue;
        }
        let mut head = Vec::new();
        if let Ok(file) = fs::File::open(&program) {
            // What cannot be read is executed or not by the kernel's word.
            let _ = file.take(HEAD).read_to_end(&mut head);
        }
        found.push(program);
        if let Some(line) = head.strip_prefix(b"#!") {
            let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let mut words = line.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty());
            let Some(interpreter) = words.next().map(|word| PathBuf::from(OsStr::from_bytes(word))) else { continue };
            if interpreter.file_name() == Some(OsStr::new("env"))
                && let Some(name) = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))
                && let Some(found) = path.and_then(|path| look_up(OsStr::from_bytes(name), path))
            {
                open.push(found);
            }
            // The interpreter of a script first, and that of `env` after it: both are needed.
            open.insert(0, interpreter);
        } else if let Some(linker) = dynamic_linker(&head) {
            open.push(linker);
        }
    }
    found.extend(open);
    found
}

fn look_up(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What the header of an ELF file names as its interpreter.
fn dynamic_linker(head: &[u8]) -> Option<PathBuf> {
    if !head.starts_with(b"\x7fELF") || head.get(5) != Some(&1) {
        return None;
    }
    let wide = head.get(4) == Some(&2);
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    };
    let (table, size, count) =
        if wide { (number(32, 8)?, number(54, 2)?, number(56, 2)?) } else { (number(28, 4)?, number(42, 2)?, number(44, 2)?) };
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        if number(at, 4)? != PT_INTERP {
            continue;
        }
        let (start, length) = if wide {
            (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?)
        } else {
            (number(at.checked_add(4)?, 4)?, number(at.checked_add(16)?, 4)?)
        };
        let start = usize::try_from(start).ok()?;
        let text = head.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
        let text = text.split(|&byte| byte == 0).next()?;
        return Some(PathBuf::from(OsStr::from_bytes(text)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_has_a_dynamic_linker() {
        let this = std::env::current_exe().unwrap();
        let found = needed(&this, None);
        assert_eq!(found[0], this);
        if cfg!(target_env = "gnu") {
            assert!(found[1].to_string_lossy().contains("ld-linux"), "{found:?}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        for head in [&b"\x7fELF"[..], b"", b"#!", b"\x7fELF\x02\x01\x01\x00"] {
            assert_eq!(dynamic_linker(head), None);
        }
        let mut head = vec![0xff; 128];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(dynamic_linker(&head), None);
    }
}
