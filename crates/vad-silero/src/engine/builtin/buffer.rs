//! Weights in the order in which the kernels read them, on cache lines. Layout only, no arithmetic.

use crate::model::Conv;

/// Floats that begin on a cache line, so that a vector load never touches two.
pub(super) struct Aligned {
    data: Vec<f32>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn from_values(length: usize, values: impl Iterator<Item = f32>) -> Self {
        // 64 bytes are 16 floats; the heap block does not move afterwards, so `start` stays right.
        let mut data = vec![0.0; length + 16];
        let start = data.as_ptr().align_offset(64).min(16);
        for (slot, value) in data[start..start + length].iter_mut().zip(values) {
            *slot = value;
        }
        Self { data, start, length }
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        &self.data[self.start..self.start + self.length]
    }

    /// A convolution as `[block][input][tap][block of outputs]`. `block` divides the outputs.
    pub(super) fn convolution(conv: &Conv, block: usize) -> Self {
        let Conv { inputs, outputs, ref weight, .. } = *conv;
        let values = (0..outputs / block).flat_map(move |b| {
            (0..inputs)
                .flat_map(move |i| (0..3).flat_map(move |tap| (0..block).map(move |o| weight[((b * block + o) * inputs + i) * 3 + tap])))
        });
        Self::from_values(outputs * inputs * 3, values)
    }

    /// The two matrices of the LSTM side by side as `[block][input then hidden][block of gates]`.
    pub(super) fn gates(input_hidden: &[f32], hidden_hidden: &[f32], block: usize) -> Self {
        let values = (0..512 / block).flat_map(|b| {
            [input_hidden, hidden_hidden]
                .into_iter()
                .flat_map(move |matrix| (0..128).flat_map(move |i| (0..block).map(move |o| matrix[(b * block + o) * 128 + i])))
        });
        Self::from_values(512 * 256, values)
    }
}
