//! Taking members out of wheels (zip) and npm archives (gzipped tar).
//!
//! A member is chosen by its exact name and written to a path of ours: a name in an archive never becomes a path, so
//! it cannot point anywhere. Links, folders and devices are refused.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::GzDecoder;
use zip::{ZipArchive, result::ZipError};

use crate::{
    Member, Package, Pin, Sha256, Unpacked, Wheel,
    error::{Error, Failure, Stop},
    name, place,
    progress::{Phase, Watch},
    sink::{CHUNK, Sink, Want},
};

/// The most that is decompressed on the way to the members of one npm archive. A small file can unfold into any size.
const MOST: u64 = 16 * 1024 * 1024 * 1024;

/// Writes the members of `package` out of `archive` to `to`, verified against `pin` and flushed.
pub(crate) fn extract(archive: &Path, package: &Package, pin: &Pin, to: &Path, watch: &mut Watch<'_>) -> Result<(), Stop> {
    let mut sink = Sink::create(to, &pin.into())?;
    sink.keep(package.range);
    let is_zip = archive.extension().is_some_and(|e| e == "whl" || e == "zip");
    for member in &package.members {
        if sink.is_full() {
            break;
        }
        if is_zip { from_zip(archive, member, &mut sink, watch)? } else { from_tar(archive, member, &mut sink, watch)? }
    }
    sink.finish().map(drop)
}

/// Writes the members of a verified `wheel` that lies at `archive` below `into`. On failure none of them is left.
///
/// An archive that names something outside itself, or the same thing twice, is refused as a whole, wanted or not.
pub(crate) fn unpack(archive: &Path, wheel: &Wheel, into: &Path, watch: &mut Watch<'_>) -> Result<Vec<Unpacked>, Stop> {
    let mut zip = open_zip(archive)?;
    if zip.has_duplicate_names() {
        return Err(Failure::Archive("it names a file twice".to_owned()).into());
    }
    for name in zip.file_names() {
        let name = name.map_err(unreadable)?;
        if name::member_problem(&name).is_some() {
            return Err(Failure::Archive(format!("it names {name:?}, which leaves its folder")).into());
        }
    }
    let mut written = Vec::new();
    let unpacked = wheel.members.iter().map(|member| {
        let path = into.join(&member.to);
        place::make_parent(&path)?;
        // What an earlier attempt left, or a link that would lead elsewhere: the file is made anew.
        let _ = fs::remove_file(&path);
        written.push(path.clone());
        let sha256 = take(&mut zip, member, &path, watch)?;
        Ok(Unpacked { to: member.to.clone(), size: member.size, sha256 })
    });
    let unpacked = unpacked.collect::<Result<Vec<_>, Stop>>().and_then(|unpacked| {
        written.iter().try_for_each(|path| place::sync_folders(path, into))?;
        Ok(unpacked)
    });
    if unpacked.is_err() {
        written.iter().for_each(|path| place::remove(path, into));
    }
    unpacked
}

fn take(zip: &mut ZipArchive<BufReader<File>>, member: &Member, to: &Path, watch: &mut Watch<'_>) -> Result<Sha256, Stop> {
    /// The bits of a Unix mode that say what a file is, and the value for a regular one.
    const KIND: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;

    let mut entry = match zip.by_name(&member.name) {
        Ok(entry) => entry,
        Err(ZipError::FileNotFound) => return Err(Failure::NoMember(member.name.clone()).into()),
        Err(e) => return Err(unreadable(e)),
    };
    let regular = entry.unix_mode().is_none_or(|mode| matches!(mode & KIND, 0 | REGULAR));
    if !entry.is_file() || !regular {
        return Err(Failure::NoMember(member.name.clone()).into());
    }
    let other_size = |got: u64| Failure::Archive(format!("{:?} has {got} bytes in it, pinned are {}", member.name, member.size));
    if entry.size() != member.size {
        return Err(other_size(entry.size()).into());
    }
    let want = Want { size: Some(member.size), cap: member.size, sha256: None };
    let mut sink = Sink::create(to, &want)?;
    let drained = sink.drain(&mut entry, Phase::Extracting, watch).and_then(|()| sink.finish());
    drained.map_err(|stop| match stop {
        Stop::Source(Failure::Size { got, .. }) => other_size(got).into(),
        other => other,
    })
}

/// Unpacks the entries of a verified wheel that are `wanted` below `folder`, at most `most` bytes.
pub(crate) fn unpack_wheel(
    wheel: &Path,
    folder: &Path,
    most: u64,
    wanted: &dyn Fn(&str) -> bool,
    step: &mut dyn FnMut(u64) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut zip = open_zip(wheel)?;
    let mut total = 0;
    let mut chunk = vec![0; CHUNK];
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(unreadable)?;
        let name = entry.name().map_err(unreadable)?.into_owned();
        if !entry.is_file() || !wanted(&name) {
            continue;
        }
        let Some(inside) = entry.enclosed_name() else {
            return Err(Failure::Archive(format!("{name:?} leaves its folder")).into());
        };
        let path = folder.join(inside);
        place::make_parent(&path)?;
        let mut file = File::create(&path).map_err(Error::io("create", &path))?;
        loop {
            let n = entry.read(&mut chunk).map_err(broken)?;
            if n == 0 {
                break;
            }
            total += n as u64;
            if total > most {
                return Err(Failure::TooLarge(most).into());
            }
            io::Write::write_all(&mut file, &chunk[..n]).map_err(Error::io("write", &path))?;
            step(total)?;
        }
    }
    Ok(())
}

fn from_zip(archive: &Path, member: &str, sink: &mut Sink, watch: &mut Watch<'_>) -> Result<(), Stop> {
    let mut zip = open_zip(archive)?;
    let mut entry = match zip.by_name(member) {
        Ok(entry) if entry.is_file() => entry,
        Ok(_) | Err(ZipError::FileNotFound) => return Err(Failure::NoMember(member.to_owned()).into()),
        Err(e) => return Err(unreadable(e)),
    };
    sink.drain(&mut entry, Phase::Extracting, watch)
}

fn from_tar(archive: &Path, member: &str, sink: &mut Sink, watch: &mut Watch<'_>) -> Result<(), Stop> {
    let file = File::open(archive).map_err(broken)?;
    let unpacked = Stoppable { inner: GzDecoder::new(BufReader::with_capacity(CHUNK, file)).take(MOST), watch, unpacked: 0, stop: None };
    let mut tar = tar::Archive::new(unpacked);
    let found = find_in_tar(&mut tar, member, sink);
    // A stop during a skip surfaces as an error of the tar reader; the reason is the one that counts.
    match tar.into_inner().stop {
        Some(stop) => Err(stop),
        None => found,
    }
}

fn find_in_tar(tar: &mut tar::Archive<impl Read>, member: &str, sink: &mut Sink) -> Result<(), Stop> {
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path_bytes();
        if name.strip_prefix(b"./").unwrap_or(&name) != member.as_bytes() {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            break;
        }
        let mut chunk = vec![0; CHUNK];
        while !sink.is_full() {
            match entry.read(&mut chunk).map_err(broken)? {
                0 => break,
                n => sink.push(&chunk[..n])?,
            }
        }
        return Ok(());
    }
    Err(Failure::NoMember(member.to_owned()).into())
}

/// A reader that asks at every read whether to go on, also while entries are skipped.
struct Stoppable<'r, 'w, R> {
    inner: R,
    watch: &'r mut Watch<'w>,
    unpacked: u64,
    stop: Option<Stop>,
}

impl<R: Read> Read for Stoppable<'_, '_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if let Err(stop) = self.watch.step(Phase::Extracting, self.unpacked, None) {
            self.stop = Some(stop);
            return Err(io::Error::other("stopped"));
        }
        let n = self.inner.read(to)?;
        self.unpacked += n as u64;
        Ok(n)
    }
}

fn open_zip(path: &Path) -> Result<ZipArchive<BufReader<File>>, Stop> {
    let file = File::open(path).map_err(broken)?;
    ZipArchive::new(BufReader::with_capacity(CHUNK, file)).map_err(unreadable)
}

fn unreadable(e: ZipError) -> Stop {
    Failure::Archive(e.to_string()).into()
}

fn broken(e: io::Error) -> Stop {
    Failure::Archive(e.to_string()).into()
}
