//! Quantised matrices, packed once at load so that a vector register holds the same columns of sixteen rows.
//!
//! Sixteen rows make a tile; a tile is a row of blocks of 32 columns; a block is a few 64-byte lines: first the sixteen
//! scales (and minima), then the quants in groups of four columns, row by row. A kernel therefore multiplies one
//! broadcast word of four activations with sixteen rows at once and never sums across a register. The numbers stay
//! exactly those of the file: `Q4_1` and `Q8_0` are moved, not re-quantised.

use crate::error::{Error, Result};
use crate::gguf::{TensorInfo, TensorKind};
use crate::half;

/// Rows in a tile.
pub(crate) const ROWS: usize = 16;
/// Columns in a block, as in ggml.
pub(crate) const COLS: usize = 32;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u8; 64]);

/// How a packed matrix holds its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// weight = scale × nibble + minimum. Line 0: sixteen scales, sixteen minima (halves). Line 1 + i: for each row four
    /// bytes, whose low nibbles are columns 4i…4i+3 and whose high nibbles are columns 16+4i….
    Nibbles,
    /// weight = scale × (byte − 128). Line 0: sixteen scales (halves). Line 1 + i: for each row columns 4i…4i+3.
    Bytes,
}

/// A weight matrix; `rows × cols`, used as `y = W x`.
pub(crate) struct Matrix {
    /// The length of the product.
    pub(crate) rows: usize,
    /// The length of the argument.
    pub(crate) cols: usize,
    pub(crate) packing: Packing,
    pub(crate) lines: Vec<Line>,
}

impl Packing {
    /// Lines in one block of a tile.
    pub(crate) const fn lines(self) -> usize {
        match self {
            Self::Nibbles => 5,
            Self::Bytes => 9,
        }
    }
}

impl Matrix {
    /// Packs a tensor of a model file. `Q4_0`, `Q4_1` and `Q8_0` keep their numbers; `F16` and `F32` are quantised to
    /// `Q8_0`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other encodings and for rows that are not whole blocks of 32.
    pub(crate) fn pack(name: &str, info: &TensorInfo, bytes: &[u8]) -> Result<Self> {
        let Some((rows, cols)) = info.shape().filter(|(_, cols)| cols % COLS == 0) else {
            return Err(Error::Unsupported(format!("{name} has the shape {:?}", info.dims)));
        };
        let packing = match info.kind {
            TensorKind::Q4_0 | TensorKind::Q4_1 => Packing::Nibbles,
            TensorKind::Q8_0 | TensorKind::F16 | TensorKind::F32 => Packing::Bytes,
            TensorKind::Other(n) => {
                return Err(Error::Unsupported(format!("{name} is encoded as ggml type {n}; F32, F16, Q4_0, Q4_1 and Q8_0 are read")));
            }
        };
        let mut matrix = Self::zero(rows, cols, packing);
        let blocks = cols / COLS;
        let size = bytes.len() / (rows * blocks).max(1);
        for (at, block) in bytes.chunks_exact(size.max(1)).enumerate() {
            let (row, column) = (at / blocks, at % blocks);
            match info.kind {
                TensorKind::Q4_1 => matrix.put_nibbles(row, column, [block[0], block[1]], [block[2], block[3]], &block[4..]),
                TensorKind::Q4_0 => {
                    // 4-bit numbers around 8: the minimum is minus eight scales, which a half holds exactly.
                    let scale = half::to_f32(u16::from_le_bytes([block[0], block[1]]));
                    let minimum = half::from_f32(-8.0 * scale).to_le_bytes();
                    matrix.put_nibbles(row, column, [block[0], block[1]], minimum, &block[2..]);
                }
                TensorKind::Q8_0 => matrix.put_bytes(row, column, [block[0], block[1]], &block[2..]),
                _ => {
                    let (scale, quants) = quantise(&floats(info.kind, block));
                    matrix.put_bytes(row, column, scale.to_le_bytes(), &quants);
                }
            }
        }
        Ok(matrix)
    }

    /// Writes the weights of one row as floats; `into` has `cols` places. A row that does not exist is zero.
    pub(crate) fn row(&self, row: usize, into: &mut [f32]) {
        let (tile, lane) = (row / ROWS, row % ROWS);
        let per_block = self.packing.lines();
        let blocks = self.cols / COLS;
        let from = (tile * blocks * per_block).min(self.lines.len());
        for (block, out) in self.lines[from..].chunks_exact(per_block).zip(into.chunks_exact_mut(COLS)) {
            let scale = scale(&block[0], lane);
            for (column, out) in out.iter_mut().enumerate() {
                *out = match self.packing {
                    Packing::Nibbles => {
                        let byte = block[1 + column % 16 / 4].0[lane * 4 + column % 4];
                        let nibble = if column < 16 { byte & 15 } else { byte >> 4 };
                        scale * f32::from(nibble) + self::scale(&block[0], ROWS + lane)
                    }
                    Packing::Bytes => scale * (f32::from(block[1 + column / 4].0[lane * 4 + column % 4]) - 128.0),
                };
            }
        }
    }

    fn zero(rows: usize, cols: usize, packing: Packing) -> Self {
        let count = rows.div_ceil(ROWS) * (cols / COLS) * packing.lines();
        Self { rows, cols, packing, lines: vec![Line([0; 64]); count] }
    }

    fn block(&mut self, row: usize, column: usize) -> &mut [Line] {
        let per_block = self.packing.lines();
        let at = (row / ROWS * (self.cols / COLS) + column) * per_block;
        &mut self.lines[at..at + per_block]
    }

    fn put_nibbles(&mut self, row: usize, column: usize, scale: [u8; 2], minimum: [u8; 2], quants: &[u8]) {
        let lane = row % ROWS;
        let block = self.block(row, column);
        block[0].0[lane * 2..lane * 2 + 2].copy_from_slice(&scale);
        block[0].0[32 + lane * 2..34 + lane * 2].copy_from_slice(&minimum);
        for (line, group) in block[1..].iter_mut().zip(quants.chunks_exact(4)) {
            line.0[lane * 4..lane * 4 + 4].copy_from_slice(group);
        }
    }

    fn put_bytes(&mut self, row: usize, column: usize, scale: [u8; 2], quants: &[u8]) {
        let lane = row % ROWS;
        let block = self.block(row, column);
        block[0].0[lane * 2..lane * 2 + 2].copy_from_slice(&scale);
        for (line, group) in block[1..].iter_mut().zip(quants.chunks_exact(4)) {
            for (to, from) in line.0[lane * 4..lane * 4 + 4].iter_mut().zip(group) {
                *to = from ^ 0x80;
            }
        }
    }
}

/// The `at`-th half of a block's first line.
#[inline(always)]
pub(crate) fn scale(line: &Line, at: usize) -> f32 {
    half::to_f32(u16::from_le_bytes([line.0[at * 2], line.0[at * 2 + 1]]))
}

fn floats(kind: TensorKind, block: &[u8]) -> Vec<f32> {
    match kind {
        TensorKind::F16 => block.chunks_exact(2).map(|b| half::to_f32(u16::from_le_bytes([b[0], b[1]]))).collect(),
        _ => block.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

/// ggml's `Q8_0`: the scale maps the largest magnitude to 127.
fn quantise(values: &[f32]) -> (u16, Vec<u8>) {
    let largest = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let quants = values.iter().map(|v| (v * inverse).round().clamp(-127.0, 127.0) as i8 as u8).collect();
    (half::from_f32(scale), quants)
}
