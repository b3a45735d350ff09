//! The variable that keeps ONNX Runtime from reporting to its maker. It only reads it: a program sets
//! it, and loading is elsewhere.

use std::ffi::{OsStr, OsString};
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
    /// It may: somebody set [`NO_TELEMETRY`] to 0.
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

/// What somebody has set [`NO_TELEMETRY`] to. An empty value says nothing, as with all variables here.
fn decision() -> Option<OsString> {
    std::env::var_os(NO_TELEMETRY).filter(|value| !value.is_empty())
}

/// Whether nobody has said anything with [`NO_TELEMETRY`].
pub(crate) fn undecided() -> bool {
    decision().is_none()
}

/// Whether release 1.`minor` contains telemetry; a release that does not say which it is may be any.
pub(crate) fn built_in(minor: Option<u32>) -> bool {
    minor.is_none_or(|minor| minor >= FIRST_WITH_TELEMETRY)
}

/// What release 1.`minor` does in this process.
pub(crate) fn telemetry(minor: Option<u32>) -> Telemetry {
    under(minor, decision().as_deref())
}

fn under(minor: Option<u32>, decision: Option<&OsStr>) -> Telemetry {
    match decision {
        _ if !built_in(minor) => Telemetry::Absent,
        Some(value) if value != "0" => Telemetry::Off,
        _ => Telemetry::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_release_does_follows_from_its_version_and_from_what_was_said() {
        for (minor, decision, want) in [
            (Some(28), None, Telemetry::Absent),
            (Some(28), Some("0"), Telemetry::Absent),
            (Some(29), Some("1"), Telemetry::Off),
            (Some(29), Some("yes"), Telemetry::Off),
            (Some(29), Some("0"), Telemetry::Allowed),
            (Some(30), None, Telemetry::Allowed),
            (None, Some("1"), Telemetry::Off),
            (None, Some("0"), Telemetry::Allowed),
        ] {
            assert_eq!(under(minor, decision.map(OsStr::new)), want, "{minor:?} {decision:?}");
        }
    }
}
