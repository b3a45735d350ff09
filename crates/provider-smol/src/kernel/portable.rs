//! The kernels in plain Rust: the fallback for other processors and the reference that the others are tested against.

use super::Activations;
use crate::matrix::{Line, Packing, ROWS, scale};

/// Multiplies whole tiles; `out` is `[tile][token]`.
pub(super) fn tiles(packing: Packing, lines: &[Line], activations: &Activations, out: &mut [[f32; ROWS]]) {
    let (per_token, per_block) = (activations.per_token(), packing.lines());
    let tokens = activations.tokens();
    for (tile, out) in lines.chunks_exact(per_token * per_block).zip(out.chunks_exact_mut(tokens.max(1))) {
        for (row, out) in activations.blocks.chunks_exact(per_token).zip(out) {
            *out = [0.0; ROWS];
            for (block, weights) in row.iter().zip(tile.chunks_exact(per_block)) {
                let sums = match packing {
                    Packing::Nibbles => nibbles(&weights[1..], &block.words),
                    Packing::Bytes => bytes(&weights[1..], &block.words, block.offset),
                };
                for (lane, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                    *out += scale(&weights[0], lane) * block.scale * sum as f32;
                }
                if packing == Packing::Nibbles {
                    for (lane, out) in out.iter_mut().enumerate() {
                        *out += scale(&weights[0], ROWS + lane) * block.sum;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn nibbles(weights: &[Line], words: &[i32; 8]) -> [i32; ROWS] {
    let mut sums = [0; ROWS];
    for (i, line) in weights.iter().enumerate() {
        let (low, high) = (words[i].to_le_bytes(), words[4 + i].to_le_bytes());
        for (sum, four) in sums.iter_mut().zip(line.0.chunks_exact(4)) {
            for j in 0..4 {
                *sum += i32::from(four[j] & 15) * i32::from(low[j] as i8);
                *sum += i32::from(four[j] >> 4) * i32::from(high[j] as i8);
            }
        }
    }
    sums
}

#[inline(always)]
fn bytes(weights: &[Line], words: &[i32; 8], offset: i32) -> [i32; ROWS] {
    let mut sums = [offset; ROWS];
    for (line, word) in weights.iter().zip(words) {
        let word = word.to_le_bytes();
        for (sum, four) in sums.iter_mut().zip(line.0.chunks_exact(4)) {
            for j in 0..4 {
                *sum += i32::from(four[j]) * i32::from(word[j] as i8);
            }
        }
    }
    sums
}
