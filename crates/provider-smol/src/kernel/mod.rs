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
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }
}

/// Where the arithmetic runs: an instruction set that this processor is known to have, and perhaps more threads.
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
    pub fn each_piece(&self, data: &mut [f32], size: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
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
    pub fn product(&self, matrix: &Matrix, activations: &Activations, scratch: &mut Vec<[f32; ROWS]>, into: &mut [f32]) {
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
                scratch.par_chunks_mut(size * tokens).zip(matrix.lines.par_chunks(size * per_tile)).for_each(
                    |(out, lines)| self.tiles(matrix, lines, activations, out),
                );
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
pub struct Activations {
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
    pub fn quantise(&mut self, isa: Isa, cols: usize, rows: &[f32]) {
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
