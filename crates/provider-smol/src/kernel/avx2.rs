//! The kernels with AVX2: eight rows in one register, a tile in two passes.

// Vector instructions are unsafe in two ways only: loads through pointers, and the entry from code compiled without them.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Activations, Block, Isa};
use crate::matrix::{Line, Packing, ROWS};

/// Multiplies whole tiles; `out` is `[tile][token]`. `isa` is the proof that the processor has the instructions.
pub(super) fn tiles(isa: Isa, packing: Packing, lines: &[Line], activations: &Activations, out: &mut [[f32; ROWS]]) {
    assert_eq!(isa, Isa::Avx2);
    // SAFETY: `Compute::new` keeps `Isa::Avx2` only on a processor on which these features were detected.
    unsafe { all(packing, lines, activations, out) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn all(packing: Packing, lines: &[Line], activations: &Activations, out: &mut [[f32; ROWS]]) {
    let per_token = activations.per_token();
    let tokens = activations.tokens();
    for (tile, out) in lines.chunks_exact(per_token * packing.lines()).zip(out.chunks_exact_mut(tokens.max(1))) {
        let mut token = 0;
        while token < tokens {
            let rows = &activations.blocks[token * per_token..];
            let left = &mut out[token..];
            token += match (packing, left.len()) {
                (Packing::Nibbles, 4..) => nibbles::<4>(tile, rows, per_token, left),
                (Packing::Nibbles, _) => nibbles::<1>(tile, rows, per_token, left),
                (Packing::Bytes, 4..) => bytes::<4>(tile, rows, per_token, left),
                (Packing::Bytes, _) => bytes::<1>(tile, rows, per_token, left),
            };
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn nibbles<const T: usize>(tile: &[Line], rows: &[Block], per_token: usize, out: &mut [[f32; ROWS]]) -> usize {
    let rows: [&[Block]; T] = std::array::from_fn(|t| &rows[t * per_token..(t + 1) * per_token]);
    let low = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    for half in 0..2 {
        let mut acc = [_mm256_setzero_ps(); T];
        for (at, lines) in tile.as_chunks::<5>().0.iter().enumerate() {
            let scales = halves(&lines[0], half);
            let minima = halves(&lines[0], 2 + half);
            let mut weights = [_mm256_setzero_si256(); 8];
            for i in 0..4 {
                let both = load(&lines[1 + i], half);
                weights[i] = _mm256_and_si256(both, low);
                weights[4 + i] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
            }
            for t in 0..T {
                let block = &rows[t][at];
                // Eight sums of two products of at most 15 × 127 stay below 2^15.
                let mut pairs = _mm256_setzero_si256();
                for (weights, word) in weights.iter().zip(block.words) {
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(*weights, _mm256_set1_epi32(word)));
                }
                let sum = _mm256_madd_epi16(pairs, ones);
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(block.scale));
                acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, acc[t]);
                acc[t] = _mm256_fmadd_ps(minima, _mm256_set1_ps(block.sum), acc[t]);
            }
        }
        store(acc, half, out);
    }
    T
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn bytes<const T: usize>(tile: &[Line], rows: &[Block], per_token: usize, out: &mut [[f32; ROWS]]) -> usize {
    let rows: [&[Block]; T] = std::array::from_fn(|t| &rows[t * per_token..(t + 1) * per_token]);
    let offset = _mm256_set1_epi8(-128);
    let ones = _mm256_set1_epi16(1);
    for half in 0..2 {
        let mut acc = [_mm256_setzero_ps(); T];
        for (at, lines) in tile.as_chunks::<9>().0.iter().enumerate() {
            let scales = halves(&lines[0], half);
            let mut sums = [_mm256_setzero_si256(); T];
            for (i, line) in lines[1..].iter().enumerate() {
                // Two products of unsigned bytes would overflow 16 bits, so the weight gives its sign to the activation.
                let signed = _mm256_xor_si256(load(line, half), offset);
                let magnitude = _mm256_abs_epi8(signed);
                for t in 0..T {
                    let words = _mm256_sign_epi8(_mm256_set1_epi32(rows[t][at].words[i]), signed);
                    let pairs = _mm256_maddubs_epi16(magnitude, words);
                    sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(pairs, ones));
                }
            }
            for t in 0..T {
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(rows[t][at].scale));
                acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), scale, acc[t]);
            }
        }
        store(acc, half, out);
    }
    T
}

/// Rows 0–7 or 8–15 of a line of quants.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(line: &Line, half: usize) -> __m256i {
    let (low, high) = line.0.split_at(32);
    let part = if half == 0 { low } else { high };
    // SAFETY: `part` is 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(part.as_ptr().cast()) }
}

/// The `quarter`-th eight halves of a line.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn halves(line: &Line, quarter: usize) -> __m256 {
    let part = &line.0[quarter * 16..quarter * 16 + 16];
    // SAFETY: `part` is 16 bytes; the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(part.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store<const T: usize>(acc: [__m256; T], half: usize, out: &mut [[f32; ROWS]]) {
    for (acc, out) in acc.into_iter().zip(out) {
        let part = &mut out[half * 8..half * 8 + 8];
        // SAFETY: `part` is eight floats; the store needs no alignment.
        unsafe { _mm256_storeu_ps(part.as_mut_ptr(), acc) };
    }
}
