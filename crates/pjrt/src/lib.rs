//! PJRT plugins, such as XLA's.
