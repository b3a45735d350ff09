//! Reads GGUF files (version 2 and 3, little-endian): metadata, tensor table, tensor bytes.
//!
//! It knows nothing of any model. The format is that of ggml's `docs/gguf.md`.
//! **Invariant:** no length in the file is trusted. Each is checked against the bytes that are left before anything is
//! allocated, so that a damaged or hostile header costs an error and never memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result};

/// An opened GGUF file: everything but the tensors' bytes is in memory.
pub struct Gguf<R = BufReader<File>> {
    reader: R,
    len: u64,
    data_start: u64,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

/// One metadata value. Integers of all widths become `Int`, both float widths `Float`.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer; `u64` values above `i64::MAX` are refused.
    Int(i64),
    /// `f32` or `f64`.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// A list of texts.
    Strings(Vec<String>),
    /// A list of integers or booleans.
    Ints(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f64>),
}

/// Where a tensor lies and how it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Sizes, fastest-running first: `[columns, rows]` for a matrix.
    pub dims: Vec<u64>,
    /// How the numbers are encoded.
    pub kind: TensorKind,
    /// Start, in bytes from the start of the data section.
    offset: u64,
}

/// The encodings this crate reads; ggml's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 32 weights in 18 bytes: a 16-bit scale and 4-bit numbers around 8.
    Q4_0,
    /// 32 weights in 20 bytes: a 16-bit scale, a 16-bit minimum and 4-bit numbers.
    Q4_1,
    /// 32 weights in 34 bytes: a 16-bit scale and signed bytes.
    Q8_0,
    /// Another encoding, by ggml's number.
    Other(u32),
}

/// A bound on counts in the header, far above any real file.
const MAX_ENTRIES: u64 = 1 << 16;
const MAX_DIMS: u32 = 4;

impl Gguf {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Damaged`] if it is not sound GGUF.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(io(std::io::Error::other("it is not a regular file")));
        }
        let len = metadata.len();
        Self::read(BufReader::with_capacity(1 << 16, file), len)
    }
}

impl<R: Read + Seek> Gguf<R> {
    /// Reads the header of a file of `len` bytes; `reader` stands at its start.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the byte at which the file stops making sense.
    pub fn read(reader: R, len: u64) -> Result<Self> {
        let mut source = Source { reader, at: 0, len };
        if &source.bytes::<4>()? != b"GGUF" {
            return Err(source.damaged("it does not begin with GGUF"));
        }
        let version = source.u32()?;
        if !(2..=3).contains(&version) {
            return Err(source.damaged(format!("GGUF version {version}; 2 and 3 are known")));
        }
        let tensor_count = source.count("tensors")?;
        let value_count = source.count("metadata entries")?;

        let mut metadata = HashMap::new();
        for _ in 0..value_count {
            let key = source.string()?;
            let kind = source.u32()?;
            let value = source.value(kind)?;
            metadata.insert(key, value);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Int(a)) if (1..=1 << 20).contains(a) && a % 8 == 0 => *a as u64,
            Some(other) => return Err(source.damaged(format!("general.alignment is {other:?}"))),
        };
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let name = source.string()?;
            let info = source.tensor_info()?;
            if tensors.insert(name.clone(), info).is_some() {
                return Err(source.damaged(format!("tensor {name} is listed twice")));
            }
        }
        let data_start = source.at.next_multiple_of(alignment);
        for (name, info) in &tensors {
            let size = info.size().map_err(|what| source.damaged(format!("tensor {name}: {what}")))?;
            let end = data_start.checked_add(info.offset).and_then(|start| start.checked_add(size));
            if end.is_none_or(|end| end > len) {
                return Err(source.damaged(format!("tensor {name} would end beyond the file's {len} bytes: the file is cut short")));
            }
        }
        Ok(Self { reader: source.reader, len, data_start, metadata, tensors })
    }

    /// A metadata value.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A required integer that must lie in `range`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing, of another type or out of range.
    pub fn int(&self, key: &str, range: std::ops::RangeInclusive<i64>) -> Result<usize> {
        match self.metadata.get(key) {
            Some(Value::Int(n)) if range.contains(n) && *n >= 0 => Ok(*n as usize),
            Some(other) => Err(self.wrong(key, &format!("{other:?} is not a number in {range:?}"))),
            None => Err(self.wrong(key, "is missing")),
        }
    }

    /// A required finite float.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or of another type.
    pub fn float(&self, key: &str) -> Result<f32> {
        match self.metadata.get(key) {
            Some(Value::Float(x)) if x.is_finite() => Ok(*x as f32),
            Some(other) => Err(self.wrong(key, &format!("{other:?} is not a finite number"))),
            None => Err(self.wrong(key, "is missing")),
        }
    }

    /// A required text.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or of another type.
    pub fn text(&self, key: &str) -> Result<&str> {
        match self.metadata.get(key) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.wrong(key, "is not a text")),
            None => Err(self.wrong(key, "is missing")),
        }
    }

    /// A required list of texts, moved out of the metadata.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or of another type.
    pub fn take_texts(&mut self, key: &str) -> Result<Vec<String>> {
        match self.metadata.remove(key) {
            Some(Value::Strings(texts)) => Ok(texts),
            Some(_) => Err(self.wrong(key, "is not a list of texts")),
            None => Err(self.wrong(key, "is missing")),
        }
    }

    /// A required list of integers.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or of another type.
    pub fn ints(&self, key: &str) -> Result<&[i64]> {
        match self.metadata.get(key) {
            Some(Value::Ints(numbers)) => Ok(numbers),
            Some(_) => Err(self.wrong(key, "is not a list of integers")),
            None => Err(self.wrong(key, "is missing")),
        }
    }

    /// The table entry of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Reads the bytes of a tensor.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is no such tensor or the file ends before it does.
    pub fn tensor_bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let Some(info) = self.tensors.get(name) else {
            return Err(self.wrong(name, "is missing: no such tensor"));
        };
        // `read` has checked that the whole tensor lies inside the file.
        let (start, size) = (self.data_start + info.offset, info.size().unwrap_or(0));
        let mut bytes = vec![0; size as usize];
        let done = self.reader.seek(SeekFrom::Start(start)).and_then(|_| self.reader.read_exact(&mut bytes));
        match done {
            Ok(()) => Ok(bytes),
            Err(e) => Err(Error::Damaged { offset: start, what: format!("tensor {name} cannot be read: {e}") }),
        }
    }

    fn wrong(&self, key: &str, what: &str) -> Error {
        Error::Damaged { offset: self.data_start.min(self.len), what: format!("{key} {what}") }
    }
}

impl TensorInfo {
    #[cfg(test)]
    pub(crate) fn new(dims: Vec<u64>, kind: TensorKind) -> Self {
        Self { dims, kind, offset: 0 }
    }

    /// The number of rows and columns of a matrix; a vector is one row.
    pub fn shape(&self) -> Option<(usize, usize)> {
        match self.dims[..] {
            [cols] => Some((1, cols as usize)),
            [cols, rows] => Some((rows as usize, cols as usize)),
            _ => None,
        }
    }

    /// Bytes the tensor takes; zero for encodings that are not read.
    fn size(&self) -> Result<u64, String> {
        let (per_block, bytes) = match self.kind {
            TensorKind::F32 => (1, 4),
            TensorKind::F16 => (1, 2),
            TensorKind::Q4_0 => (32, 18),
            TensorKind::Q4_1 => (32, 20),
            TensorKind::Q8_0 => (32, 34),
            TensorKind::Other(_) => return Ok(0),
        };
        let count = self.dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let first = self.dims.first().copied().unwrap_or(1);
        match count {
            Some(n) if first % per_block == 0 => (n / per_block).checked_mul(bytes).ok_or_else(|| "its size overflows".to_owned()),
            Some(_) => Err(format!("its rows of {first} are not whole blocks of {per_block}")),
            None => Err("its size overflows".to_owned()),
        }
    }
}

/// The reader with its position and the file's length.
struct Source<R> {
    reader: R,
    at: u64,
    len: u64,
}

impl<R: Read> Source<R> {
    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { offset: self.at, what: what.into() }
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<()> {
        if into.len() as u64 > self.len - self.at {
            return Err(self.damaged("the file ends here: it is cut short"));
        }
        if let Err(e) = self.reader.read_exact(into) {
            return Err(self.damaged(format!("reading stopped: {e}")));
        }
        self.at += into.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn count(&mut self, of: &str) -> Result<u64> {
        match self.u64()? {
            n if n <= MAX_ENTRIES => Ok(n),
            n => Err(self.damaged(format!("{n} {of} are announced"))),
        }
    }

    fn string(&mut self) -> Result<String> {
        let len = self.u64()?;
        if len > self.len - self.at {
            return Err(self.damaged(format!("a text of {len} bytes is announced, more than the file has left")));
        }
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.damaged("a text is not UTF-8"))
    }

    fn int(&mut self, kind: u32) -> Result<Option<i64>> {
        Ok(Some(match kind {
            0 | 7 => i64::from(self.bytes::<1>()?[0]),
            1 => i64::from(i8::from_le_bytes(self.bytes()?)),
            2 => i64::from(u16::from_le_bytes(self.bytes()?)),
            3 => i64::from(i16::from_le_bytes(self.bytes()?)),
            4 => i64::from(self.u32()?),
            5 => i64::from(i32::from_le_bytes(self.bytes()?)),
            10 => {
                let n = self.u64()?;
                i64::try_from(n).map_err(|_| self.damaged(format!("the number {n} is too large")))?
            }
            11 => i64::from_le_bytes(self.bytes()?),
            _ => return Ok(None),
        }))
    }

    fn float(&mut self, kind: u32) -> Result<Option<f64>> {
        Ok(match kind {
            6 => Some(f64::from(f32::from_le_bytes(self.bytes()?))),
            12 => Some(f64::from_le_bytes(self.bytes()?)),
            _ => None,
        })
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        match kind {
            7 => Ok(Value::Bool(self.bytes::<1>()?[0] != 0)),
            8 => Ok(Value::String(self.string()?)),
            9 => self.list(),
            _ => {
                if let Some(n) = self.int(kind)? {
                    Ok(Value::Int(n))
                } else if let Some(x) = self.float(kind)? {
                    Ok(Value::Float(x))
                } else {
                    Err(self.damaged(format!("value type {kind} does not exist")))
                }
            }
        }
    }

    fn list(&mut self) -> Result<Value> {
        let kind = self.u32()?;
        let count = self.u64()?;
        // The least that one element takes: a text has at least its length.
        let least: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(self.damaged("a list of lists; no known model has one")),
            _ => return Err(self.damaged(format!("value type {kind} does not exist"))),
        };
        if count.checked_mul(least).is_none_or(|bytes| bytes > self.len - self.at) {
            return Err(self.damaged(format!("a list of {count} is announced, more than the file has left")));
        }
        Ok(match kind {
            8 => {
                // Grown, not reserved: a text in memory is larger than its least size in the file.
                let mut texts = Vec::new();
                for _ in 0..count {
                    texts.push(self.string()?);
                }
                Value::Strings(texts)
            }
            6 | 12 => {
                let mut floats = Vec::new();
                for _ in 0..count {
                    floats.extend(self.float(kind)?);
                }
                Value::Floats(floats)
            }
            _ => {
                let mut ints = Vec::new();
                for _ in 0..count {
                    ints.extend(self.int(kind)?);
                }
                Value::Ints(ints)
            }
        })
    }

    fn tensor_info(&mut self) -> Result<TensorInfo> {
        let n = self.u32()?;
        if n > MAX_DIMS {
            return Err(self.damaged(format!("a tensor of {n} dimensions")));
        }
        let dims = (0..n).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        let kind = match self.u32()? {
            0 => TensorKind::F32,
            1 => TensorKind::F16,
            2 => TensorKind::Q4_0,
            3 => TensorKind::Q4_1,
            8 => TensorKind::Q8_0,
            other => TensorKind::Other(other),
        };
        Ok(TensorInfo { dims, kind, offset: self.u64()? })
    }
}
