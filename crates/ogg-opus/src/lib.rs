//! Voice notes: Opus in Ogg, to samples and back. No files, no resampling beyond what Opus itself does.
