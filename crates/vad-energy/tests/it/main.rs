//! The energy VAD as the host sees it, and the defects of an earlier system as regression tests.

mod energy_vad_defects;
mod host;
mod speech;
