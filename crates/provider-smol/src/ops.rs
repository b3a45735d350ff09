//! The arithmetic of a llama layer besides matrix products: norm, rotation, gate, attention.
//!
//! Each function works on one row at a time, so that a token's numbers do not depend on its neighbours in a batch.

use crate::half;
use crate::kv::{BLOCK, Block, HEAD, HeadCache};

crate::vectorised! {
    /// Root mean square norm of each row of `rows`, which is as wide as `weight`.
    fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32, into: &mut [f32]) {
        let width = weight.len();
        for (row, out) in rows.chunks_exact(width).zip(into.chunks_exact_mut(width)) {
            let mut squares = [0.0f32; BLOCK];
            for part in row.chunks(BLOCK) {
                for (sum, x) in squares.iter_mut().zip(part) {
                    *sum += x * x;
                }
            }
            let mean = squares.iter().sum::<f32>() / width as f32;
            let factor = 1.0 / (mean + epsilon).sqrt();
            for ((out, x), w) in out.iter_mut().zip(row).zip(weight) {
                *out = x * factor * w;
            }
        }
    }

    /// Adds `more` to `sum`.
    fn add(sum: &mut [f32], more: &[f32]) {
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
    }

    /// SwiGLU: `gate = gate · sigmoid(gate) · up`.
    fn swiglu(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + exp(-*g)) * u;
        }
    }

    /// Turns the pairs (2i, 2i+1) of each head of one token by the token's angles, `[cos, sin]` per pair.
    fn rotate(heads: &mut [f32], angles: &[[f32; 2]]) {
        for head in heads.chunks_exact_mut(HEAD) {
            for (pair, [cos, sin]) in head.chunks_exact_mut(2).zip(angles) {
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * cos - b * sin;
                pair[1] = a * sin + b * cos;
            }
        }
    }

    /// Attention of a few tokens for the query heads that share one key head. `queries` and `into` hold whole tokens, of
    /// which `part` is read and written; the first token sees the first `seen` places of the cache and each further one
    /// a place more. `scores` is working space. What comes out for a token does not depend on the others.
    fn attend(
        queries: &[f32], part: &Part, cache: &HeadCache, seen: usize, scores: &mut Vec<f32>, into: &mut [f32],
    ) {
        let tokens = queries.len() / part.width;
        let rows = tokens * part.heads;
        let blocks = (seen + tokens - 1).div_ceil(BLOCK);
        let width = blocks * BLOCK;
        scores.clear();
        scores.resize(rows * width, 0.0);
        let Wide(wide) = &mut Wide([0.0; HEAD * BLOCK]);
        // A block is widened once for all tokens and heads.
        for (at, block) in cache.keys[..blocks].iter().enumerate() {
            widen(block, wide);
            for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
                let query = &queries[part.of(row)];
                // Four partial sums, so that the additions do not wait for each other.
                let mut sums = [[0.0f32; BLOCK]; 4];
                for (fours, q) in wide.chunks_exact(4 * BLOCK).zip(query.chunks_exact(4)) {
                    for ((sum, keys), q) in sums.iter_mut().zip(fours.chunks_exact(BLOCK)).zip(q) {
                        for (sum, key) in sum.iter_mut().zip(keys) {
                            *sum = multiply_add::<FMA>(*q, *key, *sum);
                        }
                    }
                }
                for (i, score) in scores[at * BLOCK..(at + 1) * BLOCK].iter_mut().enumerate() {
                    *score = (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]);
                }
            }
        }
        for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
            scores[seen + row / part.heads..].fill(f32::NEG_INFINITY);
            softmax(scores, 1.0 / (HEAD as f32).sqrt());
        }
        for row in 0..rows {
            into[part.of(row)].fill(0.0);
        }
        for (at, block) in cache.values[..blocks].iter().enumerate() {
            widen(block, wide);
            for (row, scores) in scores.chunks_exact(width).enumerate() {
                let valid = (seen + row / part.heads).saturating_sub(at * BLOCK).min(BLOCK);
                let out = &mut into[part.of(row)];
                let mut sum = [0.0f32; HEAD];
                sum.copy_from_slice(out);
                for (weight, value) in scores[at * BLOCK..at * BLOCK + valid].iter().zip(wide.chunks_exact(HEAD)) {
                    for (sum, value) in sum.iter_mut().zip(value) {
                        *sum = multiply_add::<FMA>(*weight, *value, *sum);
                    }
                }
                out.copy_from_slice(&sum);
            }
        }
    }
}

/// The query heads of one key head within the rows of a batch.
pub(crate) struct Part {
    /// Numbers in a row: all heads of a token.
    pub(crate) width: usize,
    /// Where in a row the heads begin.
    pub(crate) first: usize,
    /// How many heads there are.
    pub(crate) heads: usize,
}

impl Part {
    /// Where the `row`-th head lies; heads of the first token come first.
    #[inline(always)]
    fn of(&self, row: usize) -> std::ops::Range<usize> {
        let start = row / self.heads * self.width + self.first + row % self.heads * HEAD;
        start..start + HEAD
    }
}

/// `a · b + c`, rounded once where that is one instruction; elsewhere it would be a library call.
#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// A block as floats, on the border of a cache line: a register then never spans two.
#[repr(align(64))]
struct Wide([f32; HEAD * BLOCK]);

#[inline(always)]
fn widen(block: &Block, into: &mut [f32; HEAD * BLOCK]) {
    for (out, half) in into.iter_mut().zip(block) {
        *out = half::to_f32(*half);
    }
}

/// Softmax of `scale · scores`; the length is a multiple of [`BLOCK`].
#[inline(always)]
fn softmax(scores: &mut [f32], scale: f32) {
    let mut largest = [f32::NEG_INFINITY; BLOCK];
    for part in scores.chunks_exact(BLOCK) {
        for (max, score) in largest.iter_mut().zip(part) {
            *max = if *score > *max { *score } else { *max };
        }
    }
    let largest = largest.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    let mut sums = [0.0f32; BLOCK];
    for part in scores.chunks_exact_mut(BLOCK) {
        for (sum, score) in sums.iter_mut().zip(part) {
            *score = exp((*score - largest) * scale);
            *sum += *score;
        }
    }
    let factor = 1.0 / sums.iter().sum::<f32>();
    for score in scores {
        *score *= factor;
    }
}

crate::vectorised! {
    /// Adds up e^(x − largest).
    fn exp_sum(logits: &[f32], largest: f32, total: &mut f32) {
        let mut sums = [0.0f32; BLOCK];
        for part in logits.chunks(BLOCK) {
            for (sum, x) in sums.iter_mut().zip(part) {
                *sum += exp(x - largest);
            }
        }
        *total = sums.iter().sum();
    }
}

/// The logarithm of the probability that `logits` give to `token`.
pub(crate) fn log_probability(isa: crate::kernel::Isa, logits: &[f32], token: u32) -> f32 {
    let largest = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
    let mut total: f32 = 0.0;
    exp_sum(isa, logits, largest, &mut total);
    logits.get(token as usize).map_or(f32::NEG_INFINITY, |logit| logit - largest - total.ln())
}

/// e^x within 2 units in the last place (Cephes' `expf`), without a library call so that loops over it vectorise.
/// Below −87 it is about 1e-38, above 88 about 1e38.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let whole = shifted - 12_582_912.0;
    let r = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let power = (shifted.to_bits() as i32 - 0x4b40_0000 + 127) << 23;
    (p * r * r + r + 1.0) * f32::from_bits(power as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Isa;

    #[test]
    fn exp_is_exact_to_a_few_units() {
        for i in -8600..8700 {
            let x = i as f32 / 100.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 5e-7, "{x}: {ours} {exact}");
        }
    }

    #[test]
    fn attention_equals_its_definition_on_every_instruction_set() {
        let mut seed = 1u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let seen = 37;
        let queries: Vec<f32> = (0..2 * HEAD).map(|_| random() * 4.0).collect();
        let (mut keys, mut values) = (vec![[0; HEAD * BLOCK]; 3], vec![[0; HEAD * BLOCK]; 3]);
        for block in keys.iter_mut().chain(&mut values) {
            block.iter_mut().for_each(|x| *x = half::from_f32(random()));
        }
        let key = |t: usize, d: usize| half::to_f32(keys[t / BLOCK][d * BLOCK + t % BLOCK]);
        let value = |t: usize, d: usize| half::to_f32(values[t / BLOCK][t % BLOCK * HEAD + d]);
        let mut expected = Vec::new();
        for query in queries.chunks(HEAD) {
            let scores: Vec<f32> = (0..seen).map(|t| (0..HEAD).map(|d| query[d] * key(t, d)).sum::<f32>() / 8.0).collect();
            let total: f32 = scores.iter().map(|s| s.exp()).sum();
            expected.extend((0..HEAD).map(|d| (0..seen).map(|t| scores[t].exp() / total * value(t, d)).sum::<f32>()));
        }
        let cache = HeadCache { keys: keys.clone(), values: values.clone() };
        for isa in Isa::available() {
            let mut out = vec![0.0; 2 * HEAD];
            let part = Part { width: 2 * HEAD, first: 0, heads: 2 };
            attend(isa, &queries, &part, &cache, seen, &mut Vec::new(), &mut out);
            for (a, b) in out.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "{isa:?}: {a} {b}");
            }
        }
    }
}
