//! Audio as the contracts carry it. Decoding and resampling are not here.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// Mono samples in −1.0…1.0 and their rate in Hz. Cloning shares the samples.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Audio {
    /// The samples.
    pub samples: Arc<[f32]>,
    /// Samples per second.
    pub rate: u32,
}

impl Audio {
    /// Audio of the given rate.
    pub fn new(samples: impl Into<Arc<[f32]>>, rate: u32) -> Self {
        Audio { samples: samples.into(), rate }
    }

    /// How long it plays; zero for a rate of zero.
    pub fn duration(&self) -> Duration {
        if self.rate == 0 { Duration::ZERO } else { Duration::from_secs_f64(self.samples.len() as f64 / f64::from(self.rate)) }
    }
}

impl fmt::Debug for Audio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audio({} samples at {} Hz)", self.samples.len(), self.rate)
    }
}
