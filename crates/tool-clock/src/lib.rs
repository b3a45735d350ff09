//! The clock tool.
