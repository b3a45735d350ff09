//! Cutting a stream into windows of one length, however its blocks fall. It copies and counts; what a
//! window means is the caller's business.

/// The part of a window that has come so far. Nothing is allocated after construction.
#[derive(Debug, Clone)]
pub struct Windows {
    buffer: Vec<f32>,
    filled: usize,
}

impl Windows {
    /// Beyond this a sample is noise of a broken source, and its square would leave `f32`.
    const LOUDEST: f32 = 32_768.0;

    /// Windows of `length` samples, at least one.
    pub fn new(length: usize) -> Self {
        Self { buffer: vec![0.0; length.max(1)], filled: 0 }
    }

    /// Takes `samples` and hands every full window to `sink`, which may stop it with an error; what
    /// came after that window is lost then.
    ///
    /// Samples that are not finite become 0 and all others at most ±32768, so that one broken sample
    /// cannot spoil the state of a detector for ever.
    ///
    /// # Errors
    /// What `sink` says.
    pub fn push<E>(&mut self, mut samples: &[f32], mut sink: impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        while !samples.is_empty() {
            let take = samples.len().min(self.buffer.len() - self.filled);
            let (taken, rest) = samples.split_at(take);
            for (slot, &sample) in self.buffer[self.filled..].iter_mut().zip(taken) {
                *slot = if sample.is_finite() { sample.clamp(-Self::LOUDEST, Self::LOUDEST) } else { 0.0 };
            }
            self.filled += take;
            samples = rest;
            if self.filled == self.buffer.len() {
                self.filled = 0;
                sink(&self.buffer)?;
            }
        }
        Ok(())
    }

    /// The window that is not full yet, filled up with zeros; `None` if there is not a sample of it.
    /// The stream starts afresh.
    pub fn finish(&mut self) -> Option<&[f32]> {
        let filled = std::mem::take(&mut self.filled);
        if filled == 0 {
            return None;
        }
        self.buffer[filled..].fill(0.0);
        Some(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn blocks_do_not_matter_and_the_rest_is_padded() {
        let samples: Vec<f32> = (1..=10).map(|i| i as f32).collect();
        for block in 1..=10 {
            let mut windows = Windows::new(4);
            let mut got = Vec::new();
            for chunk in samples.chunks(block) {
                let Ok(()) = windows.push(chunk, |window| {
                    got.push(window.to_vec());
                    Ok::<_, Infallible>(())
                });
            }
            assert_eq!(got, [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]);
            assert_eq!(windows.finish(), Some(&[9.0, 10.0, 0.0, 0.0][..]));
            assert_eq!(windows.finish(), None);
        }
    }

    #[test]
    fn broken_samples_are_mended() {
        let mut windows = Windows::new(4);
        let broken = [f32::NAN, f32::INFINITY, -1e30, 0.5];
        let Ok(()) = windows.push(&broken, |window| {
            assert_eq!(window, [0.0, 0.0, -32_768.0, 0.5]);
            Ok::<_, Infallible>(())
        });
    }
}
