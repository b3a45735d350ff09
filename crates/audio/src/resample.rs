//! Resampling of a stream, without drift and aligned in time. Not a codec: mono `f32` in and out.
//!
//! The filter is rubato's windowed sinc. Its start-up delay is cut off, so output sample `k` stands
//! for input time `k / to` (to within half an output sample) and the total is always `ceil(inputs × to / from)`: a counter, not a
//! float, decides how many samples leave the stream.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, WindowFunction};

/// The lowest rate accepted, in Hz.
pub const MIN_RATE: u32 = 1_000;
/// The highest rate accepted, in Hz.
pub const MAX_RATE: u32 = 768_000;

/// Taps of the sinc filter. 128 keeps aliases of speech at 48 kHz below −80 dB when going to
/// 16 kHz and costs about 10 million multiplications a second.
const TAPS: usize = 128;

/// Why a resampler could not be made or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResampleError {
    /// A rate outside [`MIN_RATE`]..=[`MAX_RATE`].
    #[error("sample rate {rate} Hz is outside {MIN_RATE}..={MAX_RATE} Hz; convert the audio to a usual rate such as 16000 Hz")]
    Rate {
        /// The rate that was asked for.
        rate: u32,
    },
    /// The filter refused its parameters.
    #[error("cannot resample {from} Hz to {to} Hz: {source}")]
    Construct {
        /// Rate of the input.
        from: u32,
        /// Rate of the output.
        to: u32,
        /// What the filter said.
        source: rubato::ResamplerConstructionError,
    },
    /// The filter refused a block.
    #[error("resampling {from} Hz to {to} Hz failed: {source}")]
    Process {
        /// Rate of the input.
        from: u32,
        /// Rate of the output.
        to: u32,
        /// What the filter said.
        source: rubato::ResampleError,
    },
}

/// Converts a stream of samples from one rate to another.
///
/// Feed it blocks of any length; finished blocks go to a sink. After construction nothing is
/// allocated. The output lags the input by one block of 10 ms and half the filter (at most 128
/// input samples). Equal rates pass the input through untouched.
pub struct Resampler {
    from: u32,
    to: u32,
    filter: Option<Filter>,
    consumed: u64,
    produced: u64,
}

struct Filter {
    inner: Async<f32>,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    /// Output samples of the start-up delay that are still to be dropped.
    delay: usize,
}

impl Resampler {
    /// A resampler from `from` Hz to `to` Hz.
    ///
    /// # Errors
    /// A rate outside [`MIN_RATE`]..=[`MAX_RATE`].
    pub fn new(from: u32, to: u32) -> Result<Self, ResampleError> {
        for rate in [from, to] {
            if !(MIN_RATE..=MAX_RATE).contains(&rate) {
                return Err(ResampleError::Rate { rate });
            }
        }
        let filter = if from == to { None } else { Some(Filter::new(from, to)?) };
        Ok(Self { from, to, filter, consumed: 0, produced: 0 })
    }

    /// Rate of the input in Hz.
    pub fn from(&self) -> u32 {
        self.from
    }

    /// Rate of the output in Hz.
    pub fn to(&self) -> u32 {
        self.to
    }

    /// Takes `samples` and hands every finished block to `sink`.
    ///
    /// # Errors
    /// Only what the filter itself reports.
    pub fn push(&mut self, samples: &[f32], mut sink: impl FnMut(&[f32])) -> Result<(), ResampleError> {
        self.consumed += samples.len() as u64;
        let Some(filter) = &mut self.filter else {
            self.produced += samples.len() as u64;
            sink(samples);
            return Ok(());
        };
        let mut rest = samples;
        while !rest.is_empty() {
            let take = rest.len().min(filter.input.len() - filter.filled);
            filter.input[filter.filled..filter.filled + take].copy_from_slice(&rest[..take]);
            filter.filled += take;
            rest = &rest[take..];
            if filter.filled == filter.input.len() {
                let block = filter.run(None).map_err(|source| ResampleError::Process { from: self.from, to: self.to, source })?;
                self.produced += block.len() as u64;
                sink(block);
            }
        }
        Ok(())
    }

    /// Ends the stream: hands out what the filter still holds, then starts afresh.
    ///
    /// # Errors
    /// Only what the filter itself reports.
    pub fn finish(&mut self, mut sink: impl FnMut(&[f32])) -> Result<(), ResampleError> {
        let total = scaled(self.consumed, self.from, self.to);
        if let Some(filter) = &mut self.filter {
            while self.produced < total {
                let partial = std::mem::take(&mut filter.filled);
                let block = filter.run(Some(partial)).map_err(|source| ResampleError::Process { from: self.from, to: self.to, source })?;
                // The padding of the last block is not part of the signal.
                let wanted = usize::try_from(total - self.produced).unwrap_or(usize::MAX);
                let block = &block[..block.len().min(wanted)];
                self.produced += block.len() as u64;
                sink(block);
            }
        }
        self.reset();
        Ok(())
    }

    /// Forgets everything heard so far.
    pub fn reset(&mut self) {
        self.consumed = 0;
        self.produced = 0;
        if let Some(filter) = &mut self.filter {
            filter.inner.reset();
            filter.filled = 0;
            filter.delay = start_up(self.from, self.to);
        }
    }
}

impl Filter {
    fn new(from: u32, to: u32) -> Result<Self, ResampleError> {
        let block = (from as usize / 100).max(TAPS / 2);
        let parameters = SincInterpolationParameters::new(TAPS, WindowFunction::BlackmanHarris2);
        let inner = Async::<f32>::new_sinc(f64::from(to) / f64::from(from), 1.0, &parameters, block, 1, FixedAsync::Input)
            .map_err(|source| ResampleError::Construct { from, to, source })?;
        Ok(Self { input: vec![0.0; block], filled: 0, output: vec![0.0; inner.output_frames_max()], delay: start_up(from, to), inner })
    }

    /// Runs one block, of which only `partial` samples are real if given, and returns what it gave
    /// beyond the start-up delay.
    fn run(&mut self, partial: Option<usize>) -> Result<&[f32], rubato::ResampleError> {
        let capacity = self.output.len();
        let block = self.input.len();
        // The slices are one channel of exactly these lengths, so the adapters have nothing to refuse;
        // should they, it is an error like any other.
        let input = InterleavedSlice::new(&self.input[..], 1, block)
            .map_err(|_| rubato::ResampleError::InsufficientInputBufferSize { expected: block, actual: 0 })?;
        let mut output = InterleavedSlice::new_mut(&mut self.output[..], 1, capacity)
            .map_err(|_| rubato::ResampleError::InsufficientOutputBufferSize { expected: capacity, actual: 0 })?;
        let indexing = partial.map(|n| Indexing::new().partial_len(n));
        let (_, made) = self.inner.process_into_buffer(&input, &mut output, indexing.as_ref())?;
        self.filled = 0;
        let dropped = self.delay.min(made);
        self.delay -= dropped;
        Ok(&self.output[dropped..made])
    }
}

/// Output samples before the first one that stands for input time 0, rounded. The first output of the
/// filter stands one output step after its delay of half its taps, so it is one less than rubato's
/// `output_delay` (measured with tones at nine pairs of rates; the test of alignment holds it).
fn start_up(from: u32, to: u32) -> usize {
    (TAPS as f64 / 2.0 * f64::from(to) / f64::from(from) - 1.0).round().max(0.0) as usize
}

/// `count` samples at `from` Hz, counted at `to` Hz and rounded up.
fn scaled(count: u64, from: u32, to: u32) -> u64 {
    let scaled = (u128::from(count) * u128::from(to)).div_ceil(u128::from(from));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Resamples a whole recording; the result has `ceil(len × to / from)` samples.
///
/// # Errors
/// As [`Resampler::new`].
pub fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>, ResampleError> {
    let mut resampler = Resampler::new(from, to)?;
    let mut out = Vec::with_capacity(usize::try_from(scaled(samples.len() as u64, from, to)).unwrap_or(0));
    resampler.push(samples, |block| out.extend_from_slice(block))?;
    resampler.finish(|block| out.extend_from_slice(block))?;
    Ok(out)
}
