//! WAV reading, resampling and mixing down; knows nothing of plugins.
