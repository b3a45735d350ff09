//! Which folders a Python interpreter reads. It runs none.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// How far a chain of environments that were made from environments is followed.
const DEPTH: usize = 4;

/// The folders of an interpreter: where it is, what its environment holds, and what that environment was made from.
pub(crate) fn folders(interpreter: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = Some(interpreter.to_path_buf());
    for _ in 0..DEPTH {
        let Some(program) = next.take() else { break };
        if let Some(prefix) = program.parent().and_then(Path::parent) {
            let settings = prefix.join("pyvenv.cfg");
            if let Ok(text) = fs::read_to_string(&settings) {
                // An environment holds nothing else, so that it may be read as a whole.
                add(&mut found, prefix, prefix);
                next = home(&text).map(|folder| folder.join("python3"));
            } else {
                installed(&mut found, prefix);
            }
        }
        // The link may lead to another installation, whose prefix is then looked for from there.
        if let Ok(real) = fs::canonicalize(&program)
            && let Some(prefix) = real.parent().and_then(Path::parent)
        {
            installed(&mut found, prefix);
        }
    }
    found
}

/// What of the prefix of an installation is Python's.
fn installed(found: &mut Vec<PathBuf>, prefix: &Path) {
    for part in ["lib", "lib64", "share/python-wheels", "pyvenv.cfg"] {
        add(found, prefix, &prefix.join(part));
    }
    // The interpreter looks for its own place beside itself.
    for name in ["bin/python", "bin/python3", "bin/pyvenv.cfg"] {
        add(found, prefix, &prefix.join(name));
    }
    if prefix == Path::new("/usr") {
        // Debian keeps what its packages share here.
        add(found, Path::new("/usr/local/lib"), Path::new("/usr/local/lib"));
        let etc = Path::new("/etc");
        add(found, etc, Path::new("/etc/python3"));
        if let Ok(entries) = fs::read_dir(etc) {
            for entry in entries.flatten() {
                if entry.file_name().to_string_lossy().starts_with("python3.") {
                    add(found, etc, &entry.path());
                }
            }
        }
    }
}

/// The line `home = …` of a `pyvenv.cfg`.
fn home(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| PathBuf::from(value.trim()))
    })
}

/// The path without links, unless one leads out of the prefix: that is somebody else's folder.
fn add(found: &mut Vec<PathBuf>, prefix: &Path, path: &Path) {
    let (Ok(prefix), Ok(real)) = (fs::canonicalize(prefix), fs::canonicalize(path)) else { return };
    if real.starts_with(prefix) && !found.contains(&real) {
        found.push(real);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_an_environment() {
        for (text, expected) in [
            ("home = /opt/python/bin\nversion = 3.11.7\n", Some("/opt/python/bin")),
            ("home=/a b/bin", Some("/a b/bin")),
            ("homes = /x\n", None),
            ("", None),
        ] {
            assert_eq!(home(text), expected.map(PathBuf::from), "{text:?}");
        }
    }

    #[test]
    fn a_link_that_leads_out_of_the_prefix_is_not_followed() {
        let place = std::env::temp_dir().join(format!("bespoke-python-{}", std::process::id()));
        let prefix = place.join("prefix");
        for folder in ["bin", "lib", "real64"] {
            fs::create_dir_all(prefix.join(folder)).unwrap();
        }
        fs::create_dir_all(place.join("outside")).unwrap();
        fs::write(prefix.join("bin/python3"), "").unwrap();
        let prefix = fs::canonicalize(prefix).unwrap();
        std::os::unix::fs::symlink("real64", prefix.join("lib64")).unwrap();
        std::os::unix::fs::symlink("../../outside", prefix.join("share")).unwrap();
        fs::create_dir_all(place.join("outside/python-wheels")).unwrap();
        let interpreter = prefix.join("bin/python3");
        let expected = ["lib", "real64", "bin/python3"].map(|part| prefix.join(part));
        assert_eq!(folders(&interpreter), expected);
        fs::remove_dir(prefix.join("lib")).unwrap();
        std::os::unix::fs::symlink("/", prefix.join("lib")).unwrap();
        assert_eq!(folders(&interpreter), expected[1..]);
        fs::remove_dir_all(&place).unwrap();
    }
}
