//! A pinned wheel of which some members are unpacked: what a pack of native libraries is made of.
//!
//! Not an installer: nothing of the wheel but the named members is looked at, and where they lie is the caller's.

use std::{collections::HashSet, path::Path};

use serde::Deserialize;

use crate::{
    Sha256,
    name::{self, WheelName},
};

/// One wheel with exactly these bytes, and the members that are wanted of it.
///
/// ```
/// let wheel: bespoke_fetch::Wheel = toml::from_str(r#"
///     project = "silero-vad"
///     version = "6.2.3"
///     file = "silero_vad-6.2.3-py3-none-any.whl"
///     size = 11317527
///     sha256 = "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"
///     members = [{ name = "silero_vad/data/silero_vad.onnx", to = "silero_vad.onnx", size = 2327524 }]
/// "#)?;
/// assert_eq!(wheel.members[0].to, "silero_vad.onnx");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawWheel")]
pub struct Wheel {
    /// The project's name, in any of its spellings.
    pub project: String,
    /// One exact version.
    pub version: String,
    /// The wheel's file name. Its tags say which platform and which Python pip is asked for.
    pub file: String,
    /// Bytes of the wheel; also the most that is downloaded.
    pub size: u64,
    /// SHA-256 of the wheel.
    pub sha256: Sha256,
    /// What is unpacked, in this order.
    pub members: Vec<Member>,
}

/// One regular file of a [`Wheel`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The exact path in the wheel.
    pub name: String,
    /// Where it is written, relative to the folder given to [`crate::Fetcher::unpack`]; no two members share one.
    pub to: String,
    /// Bytes, unpacked; a member of another size is refused.
    pub size: u64,
}

/// A member as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The member's `to`.
    pub to: String,
    /// Bytes written.
    pub size: u64,
    /// SHA-256 of them, taken while they were written.
    pub sha256: Sha256,
}

impl Wheel {
    /// What is wrong with this wheel, or `None`. Wheels read by serde have passed it; [`crate::Fetcher`] checks the others.
    pub fn problem(&self) -> Option<String> {
        if let Some(why) = name::pip_problem(&self.spec()) {
            return Some(format!("{:?} {why}", self.spec()));
        }
        let Some(named) = WheelName::parse(&self.file) else {
            return Some(format!("file = {:?} is no wheel's file name", self.file));
        };
        if !named.is_of(&self.project, &self.version) {
            return Some(format!("file = {:?} is not a wheel of {}", self.file, self.spec()));
        }
        if self.size == 0 {
            return Some("size is 0; give the wheel's size in bytes".to_owned());
        }
        if self.members.is_empty() {
            return Some("members is empty; name what is unpacked".to_owned());
        }
        let mut targets: HashSet<&Path> = HashSet::new();
        for member in &self.members {
            if let Some(why) = name::path_problem(&member.to) {
                return Some(format!("to = {:?} {why}", member.to));
            }
            if let Some(why) = name::member_problem(&member.name) {
                return Some(format!("name = {:?} {why}", member.name));
            }
            if !targets.insert(Path::new(&member.to)) {
                return Some(format!("to = {:?} stands twice", member.to));
            }
        }
        None
    }

    /// `project==version`.
    pub(crate) fn spec(&self) -> String {
        format!("{}=={}", self.project, self.version)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWheel {
    project: String,
    version: String,
    file: String,
    size: u64,
    sha256: Sha256,
    members: Vec<Member>,
}

impl TryFrom<RawWheel> for Wheel {
    type Error = String;

    fn try_from(raw: RawWheel) -> Result<Self, String> {
        let RawWheel { project, version, file, size, sha256, members } = raw;
        let wheel = Self { project, version, file, size, sha256, members };
        match wheel.problem() {
            Some(why) => Err(why),
            None => Ok(wheel),
        }
    }
}
