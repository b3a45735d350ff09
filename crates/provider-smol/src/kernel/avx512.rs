//! The kernels with AVX-512 and its dot product of bytes (VNNI): sixteen rows in one register.

// Vector instructions are unsafe in two ways only: loads through pointers, and the entry from code compiled without them.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Activations, Block, Isa};
use crate::matrix::{Line, Packing, ROWS};

/// Multiplies whole tiles; `out` is `[tile][token]`. `isa` is the proof that the processor has the instructions.
pub(super) fn tiles(isa: Isa, packing: Packing, lines: &[Line], activations: &Activations, out: &mut [[f32; ROWS]]) {
    assert_eq!(isa, Isa::Avx512);
    // SAFETY: `Compute::new` keeps `Isa::Avx512` only on a processor on which these features were detected.
    unsafe { all(packing, lines, activations, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn all(packing: Packing, lines: &[Line], activations: &Activations, out: &mut [[f32; ROWS]]) {
    let per_token = activations.per_token();
    let tokens = activations.tokens();
    for (tile, out) in lines.chunks_exact(per_token * packing.lines()).zip(out.chunks_exact_mut(tokens.max(1))) {
        let mut token = 0;
        while token < tokens {
            let rows = &activations.blocks[token * per_token..];
            let left = &mut out[token..];
            token += match (packing, left.len()) {
                (Packing::Nibbles, 8..) => nibbles::<8>(tile, rows, per_token, left),
                (Packing::Nibbles, 4..) => nibbles::<4>(tile, rows, per_token, left),
                (Packing::Nibbles, _) => nibbles::<1>(tile, rows, per_token, left),
                (Packing::Bytes, 8..) => bytes::<8>(tile, rows, per_token, left),
                (Packing::Bytes, 4..) => bytes::<4>(tile, rows, per_token, left),
                (Packing::Bytes, _) => bytes::<1>(tile, rows, per_token, left),
            };
        }
    }
}

/// One tile times `T` tokens. The weights of a block are unpacked once and stay in registers for all of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn nibbles<const T: usize>(tile: &[Line], rows: &[Block], per_token: usize, out: &mut [[f32; ROWS]]) -> usize {
    let rows: [&[Block]; T] = std::array::from_fn(|t| &rows[t * per_token..(t + 1) * per_token]);
    let mut acc = [_mm512_setzero_ps(); T];
    let low = _mm512_set1_epi8(15);
    for (at, lines) in tile.as_chunks::<5>().0.iter().enumerate() {
        let (scales, minima) = halves(&lines[0]);
        let mut weights = [_mm512_setzero_si512(); 8];
        for i in 0..4 {
            let both = load(&lines[1 + i]);
            weights[i] = _mm512_and_si512(both, low);
            weights[4 + i] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
        }
        for t in 0..T {
            let block = &rows[t][at];
            let mut sum = _mm512_setzero_si512();
            for (weights, word) in weights.iter().zip(block.words) {
                sum = _mm512_dpbusd_epi32(sum, *weights, _mm512_set1_epi32(word));
            }
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(block.scale));
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc[t]);
            acc[t] = _mm512_fmadd_ps(minima, _mm512_set1_ps(block.sum), acc[t]);
        }
    }
    store(acc, out)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn bytes<const T: usize>(tile: &[Line], rows: &[Block], per_token: usize, out: &mut [[f32; ROWS]]) -> usize {
    let rows: [&[Block]; T] = std::array::from_fn(|t| &rows[t * per_token..(t + 1) * per_token]);
    let mut acc = [_mm512_setzero_ps(); T];
    for (at, lines) in tile.as_chunks::<9>().0.iter().enumerate() {
        let (scales, _) = halves(&lines[0]);
        let mut weights = [_mm512_setzero_si512(); 8];
        for (weights, line) in weights.iter_mut().zip(&lines[1..]) {
            *weights = load(line);
        }
        for t in 0..T {
            let block = &rows[t][at];
            let mut sum = _mm512_set1_epi32(block.offset);
            for (weights, word) in weights.iter().zip(block.words) {
                sum = _mm512_dpbusd_epi32(sum, *weights, _mm512_set1_epi32(word));
            }
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(block.scale));
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc[t]);
        }
    }
    store(acc, out)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes, aligned to 64.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn halves(line: &Line) -> (__m512, __m512) {
    let both = load(line);
    (_mm512_cvtph_ps(_mm512_castsi512_si256(both)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(both)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
fn store<const T: usize>(acc: [__m512; T], out: &mut [[f32; ROWS]]) -> usize {
    for (acc, out) in acc.into_iter().zip(out) {
        // SAFETY: `out` is sixteen floats; the store needs no alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
    }
    T
}
