//! The two rates that the model knows, and the sizes that follow from each.

/// A rate that the model takes as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rate {
    /// 8000 Hz.
    Hz8000,
    /// 16000 Hz.
    Hz16000,
}

impl Rate {
    /// The rate in which sound of `hz` is looked at: itself if the model knows it, else 16 kHz, which
    /// serves resampled sound better than 8 kHz does.
    pub fn for_input(hz: u32) -> Self {
        if hz == 8_000 { Self::Hz8000 } else { Self::Hz16000 }
    }

    /// Samples a second.
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz16000 => 16_000,
        }
    }

    /// Samples of one window, 32 ms.
    pub const fn window(self) -> usize {
        match self {
            Self::Hz8000 => 256,
            Self::Hz16000 => 512,
        }
    }

    /// Samples before the window that the model sees again, 4 ms. Without them it hears nothing.
    pub const fn context(self) -> usize {
        self.window() / 8
    }

    /// Length of one Fourier transform.
    pub(crate) const fn fft(self) -> usize {
        self.window() / 2
    }

    /// Frequencies of one transform.
    pub(crate) const fn bins(self) -> usize {
        self.fft() / 2 + 1
    }
}
