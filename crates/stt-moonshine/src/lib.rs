//! Moonshine tiny: English speech to text through rten.
