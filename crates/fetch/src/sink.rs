//! Where bytes go while they are being fetched: a file that counts, hashes and refuses what exceeds the pin.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use crate::{
    Pin, Sha256,
    error::{Error, Failure, Stop},
    progress::{Phase, Watch},
};

/// Bytes per read and write.
pub(crate) const CHUNK: usize = 128 * 1024;

/// What a file must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    /// Exactly so many bytes.
    pub(crate) size: Option<u64>,
    /// At most so many, when the size is not known.
    pub(crate) cap: u64,
    /// With this digest.
    pub(crate) sha256: Option<Sha256>,
}

impl Want {
    /// The most bytes that can be right.
    pub(crate) fn most(&self) -> u64 {
        self.size.unwrap_or(self.cap)
    }

    fn too_much(&self, got: u64) -> Failure {
        match self.size {
            Some(size) => Failure::Size { got, size },
            None => Failure::TooLarge(self.cap),
        }
    }
}

impl From<&Pin> for Want {
    fn from(pin: &Pin) -> Self {
        Self { size: Some(pin.size), cap: pin.size, sha256: Some(pin.sha256) }
    }
}

/// A file being written, checked on the way.
///
/// **Invariant:** never more than [`Want::most`] bytes are written, whatever arrives.
pub(crate) struct Sink {
    want: Want,
    path: PathBuf,
    file: File,
    hasher: sha2::Sha256,
    written: u64,
    /// Bytes still to be dropped in front of the wanted range.
    skip: u64,
    /// With a range, what follows it is dropped; without, it is an error.
    ranged: bool,
}

impl Sink {
    /// An empty file at `path`, replacing what is there.
    pub(crate) fn create(path: &Path, want: &Want) -> Result<Self, Error> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        Ok(Self { want: *want, path: path.to_owned(), file, hasher: sha2::Sha256::new(), written: 0, skip: 0, ranged: false })
    }

    /// Goes on after the bytes that are at `path`, which are hashed first.
    pub(crate) fn resume(path: &Path, want: &Want) -> Result<Self, Error> {
        let failed = |e| Error::io("read", path)(e);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut hasher = sha2::Sha256::new();
        let written = io::copy(&mut (&mut file).take(want.most()), &mut Hashing(&mut hasher)).map_err(failed)?;
        file.seek(SeekFrom::Start(written)).map_err(failed)?;
        Ok(Self { want: *want, path: path.to_owned(), file, hasher, written, skip: 0, ranged: false })
    }

    /// Keeps only `[start, end)` of what arrives.
    pub(crate) fn keep(&mut self, range: Option<(u64, u64)>) {
        if let Some((start, _)) = range {
            self.skip = start;
            self.ranged = true;
        }
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Whether nothing more is wanted.
    pub(crate) fn is_full(&self) -> bool {
        self.ranged && self.written == self.want.most()
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, mut chunk: &[u8]) -> Result<(), Stop> {
        let dropped = self.skip.min(chunk.len() as u64);
        self.skip -= dropped;
        // `dropped` is at most the chunk's length.
        chunk = &chunk[dropped as usize..];
        let room = self.want.most() - self.written;
        if chunk.len() as u64 > room {
            if !self.ranged {
                return Err(self.want.too_much(self.written + chunk.len() as u64).into());
            }
            chunk = &chunk[..room as usize];
        }
        self.file.write_all(chunk).map_err(Error::io("write", &self.path))?;
        self.hasher.update(chunk);
        self.written += chunk.len() as u64;
        Ok(())
    }

    /// Takes all of `from`, reporting on the way. `from` fails as an archive does.
    pub(crate) fn drain(&mut self, from: &mut dyn Read, phase: Phase, watch: &mut Watch<'_>) -> Result<(), Stop> {
        let mut chunk = vec![0; CHUNK];
        loop {
            watch.step(phase, self.written, self.want.size)?;
            if self.is_full() {
                return Ok(());
            }
            match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => self.push(&chunk[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Failure::Archive(e.to_string()).into()),
            }
        }
    }

    /// Compares size and digest, and brings the bytes to the disk. On success the file may be renamed into place.
    pub(crate) fn finish(self) -> Result<Sha256, Stop> {
        if self.want.size.is_some_and(|size| size != self.written) {
            return Err(self.want.too_much(self.written).into());
        }
        let got = Sha256(self.hasher.finalize().into());
        if let Some(pinned) = self.want.sha256.filter(|pinned| *pinned != got) {
            return Err(Failure::Digest { got, pinned }.into());
        }
        self.file.sync_all().map_err(Error::io("flush", &self.path))?;
        Ok(got)
    }
}

/// The digest of a file's first `most` bytes, told on the way. It fails as an archive does.
pub(crate) fn digest_watched(path: &Path, most: u64, phase: Phase, watch: &mut Watch<'_>) -> Result<Sha256, Stop> {
    let unreadable = |e: io::Error| Stop::from(Failure::Archive(e.to_string()));
    let mut hasher = sha2::Sha256::new();
    let mut file = File::open(path).map_err(unreadable)?.take(most);
    let (mut chunk, mut done) = (vec![0; CHUNK], 0);
    loop {
        watch.step(phase, done, Some(most))?;
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Sha256(hasher.finalize().into())),
            Ok(n) => hasher.update(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(unreadable(e)),
        }
        done = most - file.limit();
    }
}

/// The digest of a file's first `most` bytes.
pub(crate) fn digest_of(path: &Path, most: u64) -> io::Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut file = File::open(path)?.take(most);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Sha256(hasher.finalize().into())),
            Ok(n) => hasher.update(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

struct Hashing<'h>(&'h mut sha2::Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
