//! Products of packed matrices with quantised activations, by the widest instructions that this processor has.
//!
//! Why this exists and is not a library: at the default target processor the kernels of `candle-core` 0.11.1 have no
//! x86 vector path chosen at run time (its choices are made at compile time, for `neon` and `simd128`). Measured on one
//! thread with this very model file: 22 tokens/s and 4.6 s to the first token, against 126–154 tokens/s and
//! 0.40–0.46 s of llama.cpp. The kernels here ask the processor once, at load.
//!
//! Activations are rounded to signed bytes per 32 (ggml's `Q8_1`), products are summed as integers inside a block and
//! as floats across blocks. **Invariant:** a token's product does not depend on which other tokens are computed with
//! it, so a prompt gives the same numbers in one piece, in chunks or from a cache.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use rayon::prelude::*;

use crate::matrix::{COLS, Matrix, ROWS};

/// A set of instructions that the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// Whatever the compiler makes of plain Rust.
    Portable,
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "AVX-512 VNNI",
            Self::Avx2 => "AVX2",
            Self::Portable => "portable",
        })
    }
}

impl Isa {
    /// The best set of this processor.
    pub fn detect() -> Self {
        Self::available().first().copied().unwrap_or(Self::Portable)
    }

    /// All sets that this processor can run, the best first.
    pub fn available() -> Vec<Self> {
        [Self::Avx512, Self::Avx2, Self::Portable].into_iter().filter(|isa| isa.runs_here()).collect()
    }

    fn runs_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.runs_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }
}

/// Where the arithmetic runs. **Invariant:** the only way to a kernel, so that none runs on a processor without its
/// instructions. It holds an instruction set that this processor is known to have, and perhaps more threads.
pub struct Compute {
    isa: Isa,
    pool: Option<rayon::ThreadPool>,
}

impl Compute {
    /// `isa` falls back to what the processor has. With one thread everything runs on the caller's.
    ///
    /// # Errors
    /// What the system said when it could not start the threads.
    pub fn new(isa: Isa, threads: usize) -> std::io::Result<Self> {
        let isa = if isa.runs_here() { isa } else { Isa::detect() };
        let pool = match threads {
            0 | 1 => None,
            // Work stealing, not barriers: on a busy machine a thread that does not get its turn delays only itself.
            n => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .thread_name(|i| format!("smol-compute-{i}"))
                    .build()
                    .map_err(std::io::Error::other)?,
            ),
        };
        Ok(Self { isa, pool })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs `work` where parallel pieces of it can spread over the threads.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            None => work(),
            Some(pool) => pool.install(work),
        }
    }

    /// Calls `work` with the number and the contents of each piece of `size` numbers, on several threads if there are.
    pub(crate) fn each_piece(&self, data: &mut [f32], size: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        match self.pool {
            Some(_) if data.len() > size => {
                data.par_chunks_mut(size).enumerate().for_each(|(i, piece)| work(i, piece));
            }
            _ => data.chunks_mut(size).enumerate().for_each(|(i, piece)| work(i, piece)),
        }
    }

    /// `into[token][row] = Σ matrix[row][col] · activations[token][col]`, for all tokens in `activations`.
    ///
    /// # Panics
    /// If the widths of matrix, activations and result do not fit together: a fault of this crate, not of a file.
    pub(crate) fn product(&self, matrix: &Matrix, activations: &Activations, scratch: &mut Vec<[f32; ROWS]>, into: &mut [f32]) {
        let tokens = activations.tokens();
        assert_eq!(matrix.cols, activations.cols);
        assert_eq!(into.len(), tokens * matrix.rows);
        let tiles = matrix.rows.div_ceil(ROWS);
        scratch.clear();
        scratch.resize(tiles * tokens, [0.0; ROWS]);
        let per_tile = matrix.cols / COLS * matrix.packing.lines();
        match self.pool {
            // A piece of fewer than 16 tiles costs less than handing it to another thread.
            Some(_) if tiles >= 32 => {
                let size = 16;
                scratch
                    .par_chunks_mut(size * tokens)
                    .zip(matrix.lines.par_chunks(size * per_tile))
                    .for_each(|(out, lines)| self.tiles(matrix, lines, activations, out));
            }
            _ => self.tiles(matrix, &matrix.lines, activations, scratch),
        }
        // The kernels write tile by tile; for one token that already is the order of the rows.
        for (tile, rows) in scratch.chunks_exact(tokens.max(1)).enumerate() {
            let (first, count) = (tile * ROWS, (matrix.rows - tile * ROWS).min(ROWS));
            for (row, out) in rows.iter().zip(into.chunks_exact_mut(matrix.rows)) {
                out[first..first + count].copy_from_slice(&row[..count]);
            }
        }
    }

    fn tiles(&self, matrix: &Matrix, lines: &[crate::matrix::Line], activations: &Activations, out: &mut [[f32; ROWS]]) {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::tiles(self.isa, matrix.packing, lines, activations, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::tiles(self.isa, matrix.packing, lines, activations, out),
            _ => portable::tiles(matrix.packing, lines, activations, out),
        }
    }
}

/// Rows of activations, rounded to bytes.
#[derive(Default)]
pub(crate) struct Activations {
    cols: usize,
    blocks: Vec<Block>,
}

/// 32 activations.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Four signed bytes each, the first in the lowest bits.
    words: [i32; 8],
    /// activation = scale × byte.
    scale: f32,
    /// scale × the sum of the bytes: what a minimum is multiplied with.
    sum: f32,
    /// −128 × the sum of the bytes: takes back the offset of [`crate::matrix::Packing::Bytes`].
    offset: i32,
}

impl Activations {
    /// Rounds `rows`, which are `cols` wide (a multiple of 32), each block of 32 to its own scale.
    pub(crate) fn quantise(&mut self, isa: Isa, cols: usize, rows: &[f32]) {
        self.cols = cols;
        self.blocks.clear();
        self.blocks.resize(rows.len() / COLS, Block { words: [0; 8], scale: 0.0, sum: 0.0, offset: 0 });
        quantise(isa, rows, &mut self.blocks);
    }

    fn tokens(&self) -> usize {
        (self.blocks.len() * COLS).checked_div(self.cols).unwrap_or(0)
    }

    fn per_token(&self) -> usize {
        self.cols / COLS
    }
}

crate::vectorised! {
    /// Rounds each 32 numbers to their own scale.
    fn quantise(rows: &[f32], blocks: &mut [Block]) {
        for (values, block) in rows.chunks_exact(COLS).zip(blocks) {
            let mut largest = [0.0f32; 8];
            for part in values.chunks_exact(8) {
                for (max, v) in largest.iter_mut().zip(part) {
                    let v = v.abs();
                    *max = if v > *max { v } else { *max };
                }
            }
            let largest = largest.iter().fold(0.0f32, |a, b| if *b > a { *b } else { a });
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let mut bytes = [0i32; COLS];
            for (byte, v) in bytes.iter_mut().zip(values) {
                // Adding 1.5·2^23 leaves the rounded integer in the low bits: one addition instead of a library call.
                *byte = (v * inverse + 12_582_912.0).to_bits() as i32 - 0x4b40_0000;
            }
            let sum: i32 = bytes.iter().sum();
            for (word, four) in block.words.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = (four[0] & 255) | (four[1] & 255) << 8 | (four[2] & 255) << 16 | four[3] << 24;
            }
            block.scale = largest / 127.0;
            block.sum = block.scale * sum as f32;
            block.offset = -128 * sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{TensorInfo, TensorKind};

    /// Bytes of a tensor of any encoding are weights; only the scales have to stay small.
    fn weights(kind: TensorKind, rows: usize, cols: usize) -> Matrix {
        let (size, halves) = match kind {
            TensorKind::Q4_0 => (18, 1),
            TensorKind::Q4_1 => (20, 2),
            TensorKind::Q8_0 => (34, 1),
            _ => (64, 32),
        };
        let mut bytes: Vec<u8> = (0..rows * cols / COLS * size).map(|i| (i * 7919 % 251) as u8).collect();
        for block in bytes.chunks_exact_mut(size) {
            for half in 0..halves {
                // The high byte 0x20–0x2f or 0xa0–0xaf: about ±0.01 to ±0.1.
                block[half * 2 + 1] = block[half * 2 + 1] & 0x8f | 0x20;
            }
        }
        Matrix::pack("test", &TensorInfo::new(vec![cols as u64, rows as u64], kind), &bytes).unwrap()
    }

    #[test]
    fn every_kernel_multiplies_every_encoding() {
        let (rows, cols) = (40, 96);
        for kind in [TensorKind::Q4_0, TensorKind::Q4_1, TensorKind::Q8_0, TensorKind::F16] {
            let matrix = weights(kind, rows, cols);
            for tokens in [1, 2, 5, 13] {
                let input: Vec<f32> = (0..tokens * cols).map(|i| (i as f32 * 0.37).sin() * (1.0 + i as f32 / 50.0)).collect();
                let mut row = vec![0.0; cols];
                let mut expected = vec![(0.0f64, 0.0f64); tokens * rows];
                for r in 0..rows {
                    matrix.row(r, &mut row);
                    for (t, x) in input.chunks(cols).enumerate() {
                        let products = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                        let magnitude: f64 = row.iter().zip(x).map(|(w, x)| f64::from(w.abs()) * f64::from(x.abs())).sum();
                        expected[t * rows + r] = (products.sum(), magnitude);
                    }
                }
                for isa in Isa::available() {
                    let compute = Compute::new(isa, 1).unwrap();
                    let (mut activations, mut out) = (Activations::default(), vec![f32::NAN; tokens * rows]);
                    activations.quantise(isa, cols, &input);
                    compute.product(&matrix, &activations, &mut Vec::new(), &mut out);
                    for (found, (exact, magnitude)) in out.iter().zip(&expected) {
                        // Activations are rounded to 1/254 of the largest of their block.
                        let error = (f64::from(*found) - exact).abs();
                        assert!(error <= magnitude * 0.01, "{isa:?} {kind:?} {tokens}: {found} {exact} ±{magnitude}");
                    }
                }
            }
        }
    }

    #[test]
    fn extreme_bytes_do_not_overflow() {
        // Weights of -128, 127 and 15 with the largest activations: the sums of the kernels at their limits.
        for (kind, size, fill) in
            [(TensorKind::Q8_0, 34, 0x80), (TensorKind::Q8_0, 34, 0x7f), (TensorKind::Q4_1, 20, 0xff), (TensorKind::Q4_0, 18, 0x00)]
        {
            let mut bytes = vec![fill; size * 16];
            for block in bytes.chunks_exact_mut(size) {
                block[..2].copy_from_slice(&[0x00, 0x3c]); // 1.0
                if kind == TensorKind::Q4_1 {
                    block[2..4].copy_from_slice(&[0, 0]);
                }
            }
            let matrix = Matrix::pack("test", &TensorInfo::new(vec![32, 16], kind), &bytes).unwrap();
            let weight = match (kind, fill) {
                (TensorKind::Q8_0, 0x80) => -128.0,
                (TensorKind::Q8_0, _) => 127.0,
                (TensorKind::Q4_1, _) => 15.0,
                _ => -8.0,
            };
            for sign in [1.0f32, -1.0] {
                for isa in Isa::available() {
                    let (mut activations, mut out) = (Activations::default(), vec![0.0; 16]);
                    activations.quantise(isa, 32, &[127.0 * sign; 32]);
                    Compute::new(isa, 1).unwrap().product(&matrix, &activations, &mut Vec::new(), &mut out);
                    assert_eq!(out, [weight * 127.0 * 32.0 * sign; 16], "{isa:?} {kind:?} {fill}");
                }
            }
        }
    }
}
