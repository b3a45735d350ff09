//! Files and package archives that a user has put into a folder: the way without any network.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    Package, Pin, Source, archive,
    error::{Failure, Stop},
    name::WheelName,
    progress::{Phase, Watch},
    sink::Sink,
    store,
};

/// A thing in a folder that may hold a pin's bytes.
pub(crate) enum Offer<'p> {
    /// The file itself, to be copied.
    File(PathBuf),
    /// A wheel or npm archive with the package's members.
    Archive(PathBuf, &'p Package),
}

impl Offer<'_> {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Archive(path, _) => path,
        }
    }
}

/// What `from`, a folder or a file, offers for `pin`, files before archives. What cannot be read offers nothing.
pub(crate) fn offers<'p>(from: &Path, sub: &str, pin: &'p Pin) -> Vec<Offer<'p>> {
    let named = from.file_name().is_some() && from.file_name() == Path::new(&pin.file).file_name();
    let itself = Some(from.to_owned()).filter(|path| named && path.is_file());
    let inside = store::candidates(from, sub, pin).into_iter().filter(|path| path.is_file());
    itself.into_iter().chain(inside).map(Offer::File).chain(archives(from, pin)).collect()
}

/// Where the wheel called `file`, of `size` bytes, may lie: in the folder `from`, or as the file `from`.
pub(crate) fn wheel(from: &Path, file: &str, size: u64) -> Option<PathBuf> {
    let inside = from.join(file);
    if inside.is_file() {
        return Some(inside);
    }
    // A file may have been renamed on its way here; one of another name and size is for another wheel.
    let metadata = from.metadata().ok().filter(fs::Metadata::is_file)?;
    (from.file_name().is_some_and(|name| name == file) || metadata.len() == size).then(|| from.to_owned())
}

/// The archives in the folder `from`, or the archive `from`, that carry a member of `pin`, by their names.
pub(crate) fn archives<'p>(from: &Path, pin: &'p Pin) -> Vec<Offer<'p>> {
    let mut paths = match fs::read_dir(from) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect(),
        Err(_) if from.is_file() => vec![from.to_owned()],
        Err(_) => Vec::new(),
    };
    paths.sort();
    let mut found = Vec::new();
    for source in &pin.sources {
        let (package, is_named) = match source {
            Source::Pip(package) => (package, is_wheel_of as fn(&str, &str) -> bool),
            Source::Npm(package) => (package, is_tarball_of as fn(&str, &str) -> bool),
            Source::Url { .. } => continue,
        };
        let named = |path: &&PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| is_named(n, &package.spec));
        found.extend(paths.iter().filter(named).map(|path| Offer::Archive(path.clone(), package)));
    }
    found
}

/// Writes what is offered to `to`, verified and flushed.
pub(crate) fn take(offer: &Offer<'_>, pin: &Pin, to: &Path, watch: &mut Watch<'_>) -> Result<(), Stop> {
    match offer {
        Offer::Archive(path, package) => archive::extract(path, package, pin, to, watch),
        Offer::File(path) => {
            let mut file = File::open(path).map_err(|e| unreadable(&e))?;
            let len = file.metadata().map_err(|e| unreadable(&e))?.len();
            if len != pin.size {
                return Err(Failure::Size { got: len, size: pin.size }.into());
            }
            let mut sink = Sink::create(to, &pin.into())?;
            sink.drain(&mut file, Phase::Downloading, watch)?;
            sink.finish().map(drop)
        }
    }
}

/// `silero_vad-6.2.3-py3-none-any.whl` is one of `silero-vad==6.2.3`.
fn is_wheel_of(file: &str, spec: &str) -> bool {
    let Some((name, version)) = spec.split_once("==") else { return false };
    WheelName::parse(file).is_some_and(|named| named.is_of(name, version))
}

/// `usefulsensors-moonshine-js-0.1.21.tgz` is the one of `@usefulsensors/moonshine-js@0.1.21`.
fn is_tarball_of(file: &str, spec: &str) -> bool {
    let Some((name, version)) = spec.rsplit_once('@') else { return false };
    let Some(stem) = file.strip_suffix(".tgz") else { return false };
    let name = name.trim_start_matches('@').replace('/', "-");
    stem.strip_prefix(&name).and_then(|rest| rest.strip_prefix('-')) == Some(version)
}

fn unreadable(e: &io::Error) -> Stop {
    Failure::Archive(e.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_their_whole_name_and_version() {
        assert!(is_wheel_of("silero_vad-6.2.3-py3-none-any.whl", "silero-vad==6.2.3"));
        assert!(is_wheel_of("Useful.Moonshine_onnx-20251121-py3-none-any.whl", "useful-moonshine-onnx==20251121"));
        assert!(!is_wheel_of("silero_vad-6.2.30-py3-none-any.whl", "silero-vad==6.2.3"));
        assert!(!is_wheel_of("silero_vad_x-6.2.3-py3-none-any.whl", "silero-vad==6.2.3"));
        assert!(is_tarball_of("usefulsensors-moonshine-js-0.1.21.tgz", "@usefulsensors/moonshine-js@0.1.21"));
        assert!(is_tarball_of("is-number-7.0.0.tgz", "is-number@7.0.0"));
        assert!(!is_tarball_of("is-number-7.0.01.tgz", "is-number@7.0.0"));
    }
}
