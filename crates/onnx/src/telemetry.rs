//! The variable that keeps ONNX Runtime from reporting to its maker. It only says and sets; loading
//! is elsewhere.

use std::fmt;

/// The environment variable that ONNX Runtime 1.29 and later read before they report anything.
pub const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// The first release whose builds contain telemetry.
const FIRST_WITH_TELEMETRY: u32 = 29;

/// Whether a library reports to its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telemetry {
    /// Its version has nothing to report with.
    Absent,
    /// [`NO_TELEMETRY`] keeps it from it.
    Off,
    /// It may: somebody set [`NO_TELEMETRY`] to allow it.
    Allowed,
}

impl fmt::Display for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("none in this version"),
            Self::Off => write!(f, "off ({NO_TELEMETRY} is set)"),
            Self::Allowed => write!(f, "on ({NO_TELEMETRY} allows it)"),
        }
    }
}

/// Sets [`NO_TELEMETRY`] for this process and its children, unless the user has set it.
///
/// # Safety
/// The environment of a process must not change while another thread may read it, so this is called
/// as the first statement of `main`, before any thread is started.
#[allow(unsafe_code, reason = "changing the environment is unsafe since edition 2024")]
pub unsafe fn disable_telemetry() {
    if undecided() {
        // SAFETY: the caller promises that no other thread exists.
        unsafe { std::env::set_var(NO_TELEMETRY, "1") };
    }
}

/// Whether nobody has set [`NO_TELEMETRY`] to anything.
pub(crate) fn undecided() -> bool {
    std::env::var_os(NO_TELEMETRY).is_none()
}

/// Whether release 1.`minor` contains telemetry.
pub(crate) fn built_in(minor: u32) -> bool {
    minor >= FIRST_WITH_TELEMETRY
}

/// What release 1.`minor` does in this process; a release that does not say which it is may be any.
pub(crate) fn telemetry(minor: Option<u32>) -> Telemetry {
    let off = std::env::var_os(NO_TELEMETRY).is_some_and(|value| !value.is_empty() && value != "0");
    match minor {
        Some(minor) if !built_in(minor) => Telemetry::Absent,
        _ if off => Telemetry::Off,
        _ => Telemetry::Allowed,
    }
}
