//! Which files must be executable so that a command can start: itself, and its interpreters. It executes none.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

/// How far interpreters of interpreters are followed, as the kernel does.
const DEPTH: usize = 5;
/// How much of a file says how it is started. Program headers stand at its beginning, in what compilers and linkers make.
const HEAD: u64 = 4096;
/// Where scripts say that their interpreters are, whatever PATH says.
const PROGRAMS: [&str; 3] = ["/bin", "/usr/bin", "/usr/local/bin"];
/// The kind of the header that names the dynamic linker.
const PT_INTERP: u64 = 3;

/// The command and its interpreters, without links. `path` is the variable of the command's environment, for scripts that are started by
/// `env`, and `read` what may be read anyway.
///
/// The command is whatever the caller says. What a file names as its interpreter is whatever its author says: it counts only where it is
/// a program that a shell would find, or lies where everything may be read.
pub(super) fn needed(command: &Path, path: Option<&OsStr>, read: &[PathBuf]) -> Vec<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(path.unwrap_or_default())
        .filter(|folder| folder.is_absolute())
        .chain(PROGRAMS.map(PathBuf::from))
        .filter_map(|folder| fs::canonicalize(folder).ok())
        .collect();
    let vetted = |program: &Path| -> Option<PathBuf> {
        let real = fs::canonicalize(program).ok().filter(|real| real.is_file())?;
        // The link of a folder of programs is its owner's word, wherever it leads.
        let found = program.parent().and_then(|folder| fs::canonicalize(folder).ok()).is_some_and(|folder| folders.contains(&folder));
        (found || folders.iter().any(|folder| real.parent() == Some(folder)) || read.iter().any(|root| real.starts_with(root)))
            .then_some(real)
    };
    let look_up = |name: &OsStr| {
        let plain = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        folders.iter().filter(|_| plain).map(|folder| folder.join(name)).find(|program| program.is_file())
    };
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = fs::canonicalize(command).into_iter().collect();
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
            {
                open.extend(look_up(OsStr::from_bytes(name)).and_then(|program| vetted(&program)));
            }
            // The interpreter of a script first, and that of `env` after it: both are needed.
            if let Some(interpreter) = vetted(&interpreter) {
                open.insert(0, interpreter);
            }
        } else if let Some(linker) = dynamic_linker(&head) {
            open.extend(vetted(&linker));
        }
    }
    found.extend(open);
    found
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

    fn of_machine() -> Vec<PathBuf> {
        ["/lib", "/lib64", "/usr/lib"].iter().filter_map(|path| fs::canonicalize(path).ok()).collect()
    }

    #[test]
    fn this_test_has_a_dynamic_linker() {
        let this = fs::canonicalize(std::env::current_exe().unwrap()).unwrap();
        let found = needed(&this, None, &of_machine());
        assert_eq!(found[0], this);
        if cfg!(target_env = "gnu") {
            assert!(found[1].to_string_lossy().contains("ld-linux"), "{found:?}");
        }
    }

    /// What a script names is read by nobody unless it is a program, or may be read anyway.
    #[test]
    fn a_script_names_no_file_of_others() {
        let place = std::env::temp_dir().join(format!("bespoke-programs-{}", std::process::id()));
        fs::create_dir_all(place.join("plugin")).unwrap();
        let place = fs::canonicalize(place).unwrap();
        let (secret, script, own) = (place.join("secret"), place.join("plugin/script"), place.join("plugin/own"));
        for file in [&secret, &own] {
            fs::write(file, "x").unwrap();
        }
        let sh = fs::canonicalize("/bin/sh").unwrap();
        let bin = std::ffi::OsString::from("/usr/bin:/bin");
        let secret_name = secret.display();
        for (line, expected) in [
            (format!("#!{secret_name}"), None),
            (format!("#!/usr/bin/env {secret_name}"), None),
            (format!("#!/usr/bin/env -S -u {secret_name} sh"), None),
            ("#!/usr/bin/env ../secret".to_owned(), None),
            ("#!/usr/bin/env -S sh -x".to_owned(), Some(sh.clone())),
            ("#!/bin/sh".to_owned(), Some(sh)),
            (format!("#!{}", own.display()), Some(own.clone())),
        ] {
            fs::write(&script, format!("{line}\n")).unwrap();
            let found = needed(&script, Some(&bin), &[place.join("plugin"), of_machine()[0].clone()]);
            assert!(!found.contains(&secret), "{line}: {found:?}");
            assert!(expected.as_ref().is_none_or(|program| found.contains(program)), "{line}: {found:?}");
        }
        fs::remove_dir_all(&place).unwrap();
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
