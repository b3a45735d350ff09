//! Whether a shared library is all there. The system's loader maps a file without looking at its length, and a program that
//! touches what is missing is killed by SIGBUS. Whether it is the right library is not asked here.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Reads the table of segments of an ELF file of this kind of machine; any other file is left to the loader.
///
/// # Errors
/// What is wrong, in words.
pub fn check(path: &Path) -> Result<(), String> {
    let cut = || format!("it is cut off: {} bytes are less than its segments need", path.metadata().map_or(0, |m| m.len()));
    match segments_end(path) {
        Ok(Some((end, length))) if end > length => Err(cut()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(cut()),
        Err(error) => Err(error.to_string()),
    }
}

/// Where the last segment that is loaded ends, and the length of the file; `None` if it is no ELF file of 64 bits, low byte first.
fn segments_end(path: &Path) -> io::Result<Option<(u64, u64)>> {
    // ELF-64: e_phoff at 32, e_phentsize at 54, e_phnum at 56; in an entry p_type at 0, p_offset at 8, p_filesz at 32.
    const HEADER: usize = 64;
    const ENTRY: usize = 56;
    const LOAD: u64 = 1;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; HEADER];
    let mut magic = Vec::new();
    (&mut file).take(6).read_to_end(&mut magic)?;
    if !b"\x7fELF\x02\x01".starts_with(&magic) {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut header[..6])?;
    file.read_exact(&mut header[6..])?;
    let (table, size, count) = (number(&header[32..40]), number(&header[54..56]), number(&header[56..58]));
    if size != ENTRY as u64 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(table))?;
    // At most 65535 entries.
    let mut entries = Vec::new();
    file.take(size * count).read_to_end(&mut entries)?;
    if entries.len() as u64 != size * count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let loaded = entries.as_chunks::<ENTRY>().0.iter().filter(|entry| number(&entry[..4]) == LOAD);
    let end = loaded.map(|entry| number(&entry[8..16]).saturating_add(number(&entry[32..40]))).max();
    Ok(Some((end.unwrap_or(0), length)))
}

/// Up to eight bytes, low byte first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_noticed() {
        let own = std::env::current_exe().expect("a program");
        assert_eq!(check(&own), Ok(()));
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("library.so");
        let (end, _) = segments_end(&own).expect("readable").expect("an ELF file");
        let mut bytes = std::fs::read(&own).expect("readable");
        for length in [end - 1, end / 2, 64 + 60, 63, 10, 5, 0] {
            bytes.truncate(usize::try_from(length).expect("short enough"));
            std::fs::write(&path, &bytes).expect("written");
            assert!(check(&path).is_err_and(|words| words.contains("cut off")), "{length}");
        }
        for text in ["a text, which the loader refuses by itself", "text"] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(check(&path), Ok(()), "{text}");
        }
        assert!(check(Path::new("/nowhere/library.so")).is_err());
    }
}
