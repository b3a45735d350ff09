//! The arithmetic of the network. Inner loops run over registers ([`super::lanes`]) or over arrays of
//! a fixed length; no instruction sets are named here, so all of it is inlined into functions that do.
//!
//! `FMA` says whether those may fuse multiplication and addition. Where the processor cannot,
//! `mul_add` of an `f32` is a call into libm and thirty times slower, so it must not appear.

#![allow(clippy::needless_range_loop)] // indices run over several arrays at once, as in the formulas

use super::lanes::Lanes;

#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// A convolution of three taps with one frame of zeros on either side, then ReLU.
///
/// `input` holds `IN` frames of equal length; `weights` are packed by [`super::buffer`] in blocks of
/// `K` registers of `L` floats; the `OUT` frames of `output` lie one after another. `OUT × K` sums
/// stay in registers.
#[inline(always)]
pub(super) fn convolve<S, const L: usize, const K: usize, const IN: usize, const OUT: usize, const STRIDE: usize>(
    lanes: S,
    weights: &[f32],
    bias: &[f32],
    input: [&[f32]; IN],
    output: &mut [f32],
) where
    S: Lanes<L>,
{
    let channels = input[0].len();
    let outputs = bias.len();
    // Tells the compiler once what it would check in the inner loop.
    let input = input.map(|frame| &frame[..channels]);
    let weights = weights.as_chunks::<L>().0.as_chunks::<K>().0.as_chunks::<3>().0;
    let bias = bias.as_chunks::<L>().0.as_chunks::<K>().0;
    for (block, (weights, bias)) in weights.chunks_exact(channels).zip(bias).enumerate() {
        let bias = bias.each_ref().map(|bias| lanes.load(bias));
        let mut sums = [bias; OUT];
        for (channel, taps) in weights.iter().enumerate() {
            for tap in 0..3 {
                let weight = taps[tap].each_ref().map(|weight| lanes.load(weight));
                for frame in 0..OUT {
                    let source = frame * STRIDE + tap;
                    if source >= 1 && source <= IN {
                        let x = lanes.splat(input[source - 1][channel]);
                        for k in 0..K {
                            sums[frame][k] = lanes.mul_add(x, weight[k], sums[frame][k]);
                        }
                    }
                }
            }
        }
        for (frame, sums) in sums.iter().enumerate() {
            let target = &mut output[frame * outputs + block * K * L..][..K * L];
            for (target, &sum) in target.as_chunks_mut::<L>().0.iter_mut().zip(sums) {
                lanes.store(sum, target);
                for value in target {
                    *value = value.max(0.0);
                }
            }
        }
    }
}

/// The four gates of the LSTM before their activation: `bias + weights × inputs`, in blocks of `K`
/// registers of `L` floats.
///
/// Inputs that are zero are left out: about half of them come from a ReLU, and reading the weights
/// is what this costs.
#[inline(always)]
pub(super) fn gates<S, const L: usize, const K: usize>(
    lanes: S,
    weights: &[f32],
    bias: &[f32; 512],
    input: &[f32; 256],
    output: &mut [f32; 512],
) where
    S: Lanes<L>,
{
    let mut active = [(0_usize, 0.0_f32); 256];
    let mut count = 0;
    for (index, &x) in input.iter().enumerate() {
        active[count] = (index, x);
        count += usize::from(x != 0.0);
    }
    let active = &active[..count];
    let weights = weights.as_chunks::<L>().0.as_chunks::<K>().0.chunks_exact(256);
    let bias = bias.as_chunks::<L>().0.as_chunks::<K>().0;
    let output = output.as_chunks_mut::<L>().0.as_chunks_mut::<K>().0;
    for ((weights, bias), output) in weights.zip(bias).zip(output) {
        let mut sums = bias.each_ref().map(|bias| lanes.load(bias));
        for &(index, x) in active {
            let weight = &weights[index];
            let x = lanes.splat(x);
            for k in 0..K {
                sums[k] = lanes.mul_add(x, lanes.load(&weight[k]), sums[k]);
            }
        }
        for k in 0..K {
            lanes.store(sums[k], &mut output[k]);
        }
    }
}

/// The activations of the LSTM (gate order input, forget, cell, output) on its state.
#[inline(always)]
pub(super) fn cell<const FMA: bool>(gates: &[f32; 512], cell: &mut [f32; 128], hidden: &mut [f32]) {
    let (quarter, _) = gates.as_chunks::<128>();
    for (i, hidden) in hidden[..128].iter_mut().enumerate() {
        let forgotten = sigmoid::<FMA>(quarter[1][i]) * cell[i];
        cell[i] = forgotten + sigmoid::<FMA>(quarter[0][i]) * tanh::<FMA>(quarter[2][i]);
        *hidden = sigmoid::<FMA>(quarter[3][i]) * tanh::<FMA>(cell[i]);
    }
}

/// ReLU, one output, sigmoid.
#[inline(always)]
pub(super) fn decide<const FMA: bool>(weights: &[f32], bias: f32, hidden: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (h, w) in hidden.as_chunks::<8>().0.iter().zip(weights.as_chunks::<8>().0) {
        for lane in 0..8 {
            sums[lane] = fma::<FMA>(h[lane].max(0.0), w[lane], sums[lane]);
        }
    }
    sigmoid::<FMA>(sums.iter().sum::<f32>() + bias)
}

/// `|re + i·im|` of every frequency.
#[inline(always)]
pub(super) fn magnitudes(spectrum: &[realfft::num_complex::Complex<f32>], output: &mut [f32]) {
    for (c, out) in spectrum.iter().zip(output) {
        *out = (c.re * c.re + c.im * c.im).sqrt();
    }
}

#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

#[inline(always)]
fn tanh<const FMA: bool>(x: f32) -> f32 {
    2.0 / (1.0 + exp::<FMA>(-2.0 * x)) - 1.0
}

/// `e^x` to 2 units in the last place, without a branch or a call so that it vectorises. The
/// polynomial is that of Cephes `expf`; results are bounded to 1e±38.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding and subtracting 1.5·2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_2e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fma::<FMA>(p, r, c);
    }
    let p = fma::<FMA>(p * r, r, r) + 1.0;
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_activations_are_those_of_the_standard_library() {
        for step in -4_000..=4_000 {
            let x = step as f32 / 40.0;
            let want = f64::from(x.clamp(-87.0, 87.0)).exp();
            assert!((f64::from(exp::<false>(x)) / want - 1.0).abs() < 3e-7, "exp({x})");
            assert!((exp::<true>(x) / exp::<false>(x) - 1.0).abs() < 3e-7, "exp({x}) fused");
            let x = f64::from(x);
            assert!((f64::from(sigmoid::<false>(x as f32)) - 1.0 / (1.0 + (-x).exp())).abs() < 2e-7, "sigmoid({x})");
            assert!((f64::from(tanh::<false>(x as f32)) - x.tanh()).abs() < 3e-7, "tanh({x})");
        }
    }

    #[test]
    fn a_convolution_is_what_its_definition_says() {
        let (inputs, outputs) = (5, 8);
        let value = |i: usize| ((i * 37 % 19) as f32 - 9.0) / 10.0;
        let conv = crate::model::Conv {
            inputs,
            outputs,
            weight: (0..outputs * inputs * 3).map(value).collect(),
            bias: (0..outputs).map(|i| value(i + 3)).collect(),
        };
        let frames: Vec<Vec<f32>> = (0..4).map(|f| (0..inputs).map(|i| value(f * 7 + i)).collect()).collect();
        let mut got = vec![0.0; 2 * outputs];
        let packed = super::super::buffer::Aligned::convolution(&conv, 4);
        let input = [&frames[0][..], &frames[1], &frames[2], &frames[3]];
        convolve::<_, 4, 1, 4, 2, 2>(super::super::lanes::Baseline, packed.as_slice(), &conv.bias, input, &mut got);
        for frame in 0..2_usize {
            for o in 0..outputs {
                let mut want = conv.bias[o];
                for i in 0..inputs {
                    for tap in 0..3 {
                        if let Some(x) = (frame * 2 + tap).checked_sub(1).and_then(|f| frames.get(f)) {
                            want += conv.weight[(o * inputs + i) * 3 + tap] * x[i];
                        }
                    }
                }
                assert!((got[frame * outputs + o] - want.max(0.0)).abs() < 1e-5);
            }
        }
    }
}
