//! Notes there and back, and bytes that are no notes.

mod hostile;
mod round_trip;
mod sound;
