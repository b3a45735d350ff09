//! The built-in engine: the network written out in Rust. It needs no library, allocates nothing per
//! window, and uses the widest vectors that the processor has.
//!
//! Per window: 64 samples of context and 512 new ones, 64 more mirrored at the end, four Fourier
//! transforms of 256 samples at a distance of 128, their magnitudes, four convolutions, one LSTM step,
//! one output (at 8 kHz half of every number of samples). 354 thousand multiplications beside the
//! transforms.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use self::buffer::Aligned;
use self::lanes::Lanes;
use super::{Engine, EngineError, EngineKind};
use crate::Rate;
use crate::model::{Model, Weights};

mod buffer;
mod kernel;
mod lanes;

/// Which vector instructions the engine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// What every processor of this architecture has (SSE2, NEON, …).
    Baseline,
    /// 256 bits with fused multiplication and addition.
    Avx2,
    /// 512 bits.
    Avx512,
}

impl Simd {
    /// The widest that this processor has.
    pub fn detect() -> Self {
        [Self::Avx512, Self::Avx2].into_iter().find(|simd| simd.available()).unwrap_or(Self::Baseline)
    }

    /// Whether this processor has it.
    pub fn available(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => lanes::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => lanes::Avx512::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Outputs of one block of each layer: the four convolutions, then the LSTM. They are what
    /// [`Builtin::network_pass`] is instantiated with below.
    fn blocks(self) -> [usize; 5] {
        match self {
            Self::Baseline => [8, 16, 32, 32, 32],
            Self::Avx2 => [16, 32, 64, 64, 64],
            Self::Avx512 => [32, 64, 64, 128, 128],
        }
    }
}

/// The network for one rate, laid out for one set of instructions. Shared by all streams.
pub struct Network {
    rate: Rate,
    simd: Simd,
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    conv: [(Aligned, Vec<f32>); 4],
    gates: Aligned,
    gate_bias: Box<[f32; 512]>,
    output: Vec<f32>,
    output_bias: f32,
}

impl Network {
    /// Lays out the weights of `model` for `rate`, for the widest instructions of this processor.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] when the model's first layer is no Fourier transform, which is so
    /// for every published file.
    pub fn new(model: &Model, rate: Rate) -> Result<Self, EngineError> {
        Self::with_simd(model, rate, Simd::detect())
    }

    /// As [`Network::new`] for a given instruction set; one that the processor lacks becomes the
    /// baseline.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_simd(model: &Model, rate: Rate, simd: Simd) -> Result<Self, EngineError> {
        let simd = if simd.available() { simd } else { Simd::Baseline };
        let weights = model.weights(rate);
        let blocks = simd.blocks();
        let conv = [0, 1, 2, 3].map(|layer| {
            let conv = &weights.conv[layer];
            (Aligned::convolution(conv, blocks[layer]), conv.bias.clone())
        });
        let mut gate_bias = Box::new([0.0; 512]);
        gate_bias.copy_from_slice(&weights.gate_bias);
        Ok(Self {
            rate,
            simd,
            fft: RealFftPlanner::new().plan_fft_forward(rate.fft()),
            window: window(weights, rate)?,
            conv,
            gates: Aligned::gates(&weights.input_hidden, &weights.hidden_hidden, blocks[4]),
            gate_bias,
            output: weights.output.clone(),
            output_bias: weights.output_bias,
        })
    }

    /// The instructions in use.
    pub fn simd(&self) -> Simd {
        self.simd
    }
}

/// The window function inside the model's first layer, which must be a Fourier transform.
fn window(weights: &Weights, rate: Rate) -> Result<Vec<f32>, EngineError> {
    let (length, bins) = (rate.fft(), rate.bins());
    // The real part at frequency 0 is the window itself.
    let window = weights.basis[..length].to_vec();
    for k in 0..bins {
        for (n, w) in window.iter().enumerate() {
            let angle = 2.0 * std::f64::consts::PI * ((k * n) % length) as f64 / length as f64;
            let re = weights.basis[k * length + n] - w * angle.cos() as f32;
            let im = weights.basis[(bins + k) * length + n] + w * angle.sin() as f32;
            if re.abs() > 1e-4 || im.abs() > 1e-4 {
                return Err(EngineError::Unsupported("the first layer of this model is not a Fourier transform".into()));
            }
        }
    }
    Ok(window)
}

/// One stream of the built-in engine.
pub struct Builtin {
    network: Arc<Network>,
    /// Context, window, mirrored end.
    samples: Vec<f32>,
    frame: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    magnitudes: Vec<f32>,
    conv: [Vec<f32>; 3],
    /// What the LSTM sees: the output of the encoder, then its own state.
    input: Box<[f32; 256]>,
    gates: Box<[f32; 512]>,
    cell: Box<[f32; 128]>,
}

impl Builtin {
    /// A stream with an empty state.
    pub fn new(network: Arc<Network>) -> Self {
        let rate = network.rate;
        Self {
            samples: vec![0.0; rate.context() + rate.window() + rate.context()],
            frame: network.fft.make_input_vec(),
            spectrum: network.fft.make_output_vec(),
            scratch: network.fft.make_scratch_vec(),
            magnitudes: vec![0.0; 4 * rate.bins()],
            conv: [vec![0.0; 4 * 128], vec![0.0; 2 * 64], vec![0.0; 64]],
            input: Box::new([0.0; 256]),
            gates: Box::new([0.0; 512]),
            cell: Box::new([0.0; 128]),
            network,
        }
    }

    /// Everything after the Fourier transforms, on registers of `L` floats, of which a block has
    /// `K1` to `K4` in the convolutions and `K5` in the LSTM.
    #[inline(always)]
    fn network_pass<
        S: Lanes<L>,
        const FMA: bool,
        const L: usize,
        const K1: usize,
        const K2: usize,
        const K3: usize,
        const K4: usize,
        const K5: usize,
    >(
        &mut self,
        lanes: S,
    ) -> f32 {
        let Self { network, magnitudes, conv: [first, second, third], input, gates, cell, .. } = self;
        let network = &**network;
        let [one, two, three, four] = &network.conv;
        let bins = network.rate.bins();
        let frame = |f: usize| &magnitudes[f * bins..(f + 1) * bins];
        kernel::convolve::<S, L, K1, 4, 4, 1>(lanes, one.0.as_slice(), &one.1, [frame(0), frame(1), frame(2), frame(3)], first);
        let frame = |f: usize| &first[f * 128..(f + 1) * 128];
        kernel::convolve::<S, L, K2, 4, 2, 2>(lanes, two.0.as_slice(), &two.1, [frame(0), frame(1), frame(2), frame(3)], second);
        kernel::convolve::<S, L, K3, 2, 1, 2>(lanes, three.0.as_slice(), &three.1, [&second[..64], &second[64..]], third);
        kernel::convolve::<S, L, K4, 1, 1, 1>(lanes, four.0.as_slice(), &four.1, [third], &mut input[..128]);
        kernel::gates::<S, L, K5>(lanes, network.gates.as_slice(), &network.gate_bias, input, gates);
        kernel::cell::<FMA>(gates, cell, &mut input[128..]);
        kernel::decide::<FMA>(&network.output, network.output_bias, &input[128..])
    }

    /// Fills `magnitudes` from `samples`.
    fn transform(&mut self) -> Result<(), EngineError> {
        let (length, bins) = (self.network.rate.fft(), self.network.rate.bins());
        for f in 0..4 {
            let samples = &self.samples[f * length / 2..][..length];
            for ((out, x), w) in self.frame.iter_mut().zip(samples).zip(&self.network.window) {
                *out = x * w;
            }
            self.network
                .fft
                .process_with_scratch(&mut self.frame, &mut self.spectrum, &mut self.scratch)
                .map_err(|error| EngineError::Run(error.to_string()))?;
            kernel::magnitudes(&self.spectrum, &mut self.magnitudes[f * bins..(f + 1) * bins]);
        }
        Ok(())
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn pass_avx2(stream: &mut Builtin, lanes: lanes::Avx2) -> f32 {
    stream.network_pass::<_, true, 8, 2, 4, 8, 8, 8>(lanes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
fn pass_avx512(stream: &mut Builtin, lanes: lanes::Avx512) -> f32 {
    stream.network_pass::<_, true, 16, 2, 4, 4, 8, 8>(lanes)
}

fn pass_baseline(stream: &mut Builtin) -> f32 {
    // On aarch64 fused multiplication is part of the baseline.
    stream.network_pass::<_, { cfg!(target_arch = "aarch64") }, 4, 2, 4, 8, 8, 8>(lanes::Baseline)
}

impl Engine for Builtin {
    fn kind(&self) -> EngineKind {
        EngineKind::Builtin
    }

    fn rate(&self) -> Rate {
        self.network.rate
    }

    fn window(&mut self, window: &[f32]) -> Result<f32, EngineError> {
        let (length, context) = (self.network.rate.window(), self.network.rate.context());
        super::check_length(window, self.network.rate)?;
        self.samples.copy_within(length..length + context, 0);
        self.samples[context..context + length].copy_from_slice(window);
        let end = context + length;
        for i in 0..context {
            self.samples[end + i] = self.samples[end - 2 - i];
        }
        self.transform()?;
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)] // a function of a wider instruction set can only be called so
        let probability = match (self.network.simd, lanes::Avx2::detect(), lanes::Avx512::detect()) {
            // SAFETY: the token is there only if the processor has AVX2 and FMA.
            (Simd::Avx2, Some(lanes), _) => unsafe { pass_avx2(self, lanes) },
            // SAFETY: the token is there only if the processor has AVX-512 F and VL, AVX2 and FMA.
            (Simd::Avx512, _, Some(lanes)) => unsafe { pass_avx512(self, lanes) },
            _ => pass_baseline(self),
        };
        #[cfg(not(target_arch = "x86_64"))]
        let probability = pass_baseline(self);
        Ok(probability)
    }

    fn reset(&mut self) {
        self.samples.fill(0.0);
        self.input.fill(0.0);
        self.cell.fill(0.0);
    }
}
