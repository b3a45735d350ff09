//! The kernels in plain Rust: the fallback for other processors and the reference that the others are tested against.

use super::Activations;
use crate::matrix::{Line, Packing, ROWS, scale};

/// Multiplies whole tiles; `out` is `[tile][token]`.
pub(super) fn tiles(packing: Packing, lines: &[Line], activations: &Activations, out: &mut [[f32; ROWS]]) {
    let (per_token, per_block) = (activations.per_token(), packing.lines());
    let tokens = activations.tokens();
    for (tile, out) in lines.chunks_exact(per_token * per_block).zip(out.chunks_exact_mut(tokens.max(1))) {
        out.fill([0.0; ROWS]);
        for (at, weights) in tile.chunks_exact(per_block).enumerate() {
            let scales: [f32; ROWS] = std::array::from_fn(|lane| scale(&weights[0], lane));
            let minima: [f32; ROWS] = match packing {
                Packing::Nibbles => std::array::from_fn(|lane| scale(&weights[0], ROWS + lane)),
                Packing::Bytes => [0.0; ROWS],
            };
            for (row, out) in activations.blocks.chunks_exact(per_token).zip(out.iter_mut()) {
                let block = &row[at];
                let sums = match packing {
                    Packing::Nibbles => nibbles(&weights[1..], &block.words),
                    Packing::Bytes => bytes(&weights[1..], &block.words),
                };
                for lane in 0..ROWS {
                    out[lane] += scales[lane] * (block.scale * sums[lane] as f32) + minima[lane] * block.sum;
                }
            }
        }
    }
}

// Both sum element by element over whole lines and add up the four columns of a row at the end: loops that compilers
// turn into vector code even for the plainest targets.

#[inline(always)]
fn nibbles(weights: &[Line], words: &[i32; 8]) -> [i32; ROWS] {
    // Eight products of at most 15 × 127 stay below 2^15.
    let mut sums = [0i16; 64];
    for (i, line) in weights.iter().enumerate().take(4) {
        let (low, high) = (repeat(words[i]), repeat(words[4 + i]));
        for j in 0..64 {
            sums[j] += i16::from(line.0[j] & 15) * low[j];
        }
        for j in 0..64 {
            sums[j] += i16::from(line.0[j] >> 4) * high[j];
        }
    }
    rows(&sums.map(i32::from))
}

#[inline(always)]
fn bytes(weights: &[Line], words: &[i32; 8]) -> [i32; ROWS] {
    let mut sums = [0i32; 64];
    for (line, word) in weights.iter().zip(words) {
        let word = repeat(*word);
        for j in 0..64 {
            sums[j] += i32::from(i16::from((line.0[j] ^ 0x80) as i8) * word[j]);
        }
    }
    rows(&sums)
}

/// Four activations, once for each row.
#[inline(always)]
fn repeat(word: i32) -> [i16; 64] {
    let four = word.to_le_bytes().map(|byte| i16::from(byte as i8));
    let mut all = [four; ROWS];
    all.fill(four);
    let mut flat = [0; 64];
    for (to, from) in flat.as_chunks_mut::<4>().0.iter_mut().zip(all) {
        *to = from;
    }
    flat
}

/// Sums the four columns of each row.
#[inline(always)]
fn rows(sums: &[i32; 64]) -> [i32; ROWS] {
    let mut rows = [0; ROWS];
    for (row, four) in rows.iter_mut().zip(sums.as_chunks::<4>().0) {
        *row = (four[0] + four[1]) + (four[2] + four[3]);
    }
    rows
}
