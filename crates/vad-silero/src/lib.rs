//! Silero VAD: two engines behind one interface.
