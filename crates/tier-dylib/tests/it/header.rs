//! The header in C says what the structs in Rust are, to the last offset.

use std::{fmt::Write as _, fs, mem::offset_of, process::Command};

use bespoke_protocol::abi::{HostV1, MAGIC, MAJOR, MINOR, OutV1, PluginV1, Text, status};

use crate::kit::INCLUDE;

macro_rules! of {
    ($lines:ident, $rust:ty, $c:literal, [$($field:ident),+]) => {
        $lines.push((format!("sizeof({})", $c), size_of::<$rust>() as u64));
        $lines.push((format!("_Alignof({})", $c), align_of::<$rust>() as u64));
        $($lines.push((format!("offsetof({}, {})", $c, stringify!($field)), offset_of!($rust, $field) as u64));)+
    };
}

#[test]
fn the_header_is_what_rust_says() {
    let mut lines: Vec<(String, u64)> = Vec::new();
    of!(lines, Text, "bespoke_text", [ptr, len]);
    of!(lines, HostV1, "bespoke_host_v1", [size, reserved, context, wake, now, random]);
    of!(lines, OutV1, "bespoke_out_v1", [size, reserved, context, frames, failure]);
    of!(
        lines,
        PluginV1,
        "bespoke_plugin_v1_descriptor",
        [magic, major, minor, size, host_size, out_size, toolchain, features, id, version, manifest, open, step, close]
    );
    lines.push(("BESPOKE_MAGIC".into(), MAGIC));
    lines.push(("BESPOKE_MAJOR".into(), MAJOR.into()));
    lines.push(("BESPOKE_MINOR".into(), MINOR.into()));
    for (name, status) in [("DONE", status::DONE), ("MORE", status::MORE), ("PANICKED", status::PANICKED), ("FAILED", status::FAILED)] {
        lines.push((format!("(uint32_t)(BESPOKE_{name})"), u64::from(status as u32)));
    }

    let mut program = "#include <stdio.h>\n#include \"bespoke_plugin.h\"\n#include \"bespoke_frames.h\"\nint main(void) {\n".to_owned();
    for (line, _) in &lines {
        writeln!(program, "printf(\"%llu\\n\", (unsigned long long)({line}));").unwrap();
    }
    program += "return 0; }\n";
    let folder = tempfile::tempdir().unwrap();
    let (source, built) = (folder.path().join("sizes.c"), folder.path().join("sizes"));
    fs::write(&source, program).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut command = Command::new(compiler);
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-I", INCLUDE]);
    let output = command.arg(&source).arg("-o").arg(&built).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(Command::new(&built).output().unwrap().stdout).unwrap();
    let said: Vec<(String, u64)> =
        lines.iter().zip(said.lines()).map(|((line, _), number)| (line.clone(), number.parse().unwrap())).collect();
    assert_eq!(said, lines);
}
