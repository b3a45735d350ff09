//! What a library says of itself, read and checked before any function of it is called but the one that says it.

#![allow(unsafe_code, reason = "the C ABI: what a library exports is read as what it should be")]

use std::{fs, path::Path, slice};

use bespoke_library::Library;
use bespoke_plugin_api::{Code, Error, Result};
use bespoke_protocol::{
    OLDEST_PROTOCOL, PROTOCOL,
    abi::{Close, Entry, HostV1, MAGIC, MAJOR, MINOR, Open, OutV1, PluginV1, SYMBOL, Step, Text, canary},
};

/// The longest text of a descriptor.
const LONGEST: usize = 1 << 20;
/// A struct of the interface that is longer is none.
const LARGEST: usize = 1 << 16;

/// A library that fits.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) open: Open,
    pub(crate) step: Step,
    pub(crate) close: Close,
    /// What built it, in words.
    pub(crate) toolchain: String,
    /// What a panic of it does, if it says so.
    pub(crate) panic: Option<String>,
}

/// The first 16 bytes of every descriptor there will ever be.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    magic: u64,
    major: u16,
    minor: u16,
    size: u32,
}

/// Reads the descriptor of a library that was opened from `path`, which should be the plugin `id`. `shown` is the file that the user knows.
///
/// # Errors
/// `LOAD_FAILED`, which names both sides and what to do.
pub(crate) fn read(library: &'static Library, shown: &Path, id: &str) -> Result<Checked> {
    let refused = |why: String| refusal(shown, &why);
    // SAFETY: the name is that of a function of this type; whether it is one at all is seen below, and its user trusts the file.
    let entry = unsafe { library.get::<Entry>(SYMBOL) };
    let entry = entry.map_err(|_| refused(format!("it is no plugin: it does not export `{SYMBOL}`")))?;
    if !is_code(*entry as *const () as usize) {
        return Err(refused(format!("its `{SYMBOL}` is data, and should be the function that gives a descriptor")));
    }
    // SAFETY: the interface says that it takes nothing, does nothing and gives a pointer.
    let descriptor = unsafe { entry() };
    if descriptor.is_null() || !descriptor.is_aligned() {
        return Err(refused(format!("its `{SYMBOL}` gives no descriptor")));
    }
    // SAFETY: every descriptor begins with these, and lives as long as the library, which is never closed.
    let header = unsafe { descriptor.cast::<Header>().read() };
    if header.magic != MAGIC {
        let found = header.magic;
        return Err(refused(format!("its descriptor begins with {found:#018x}, and that of a plugin with {MAGIC:#018x}")));
    }
    if header.major != MAJOR {
        let (major, minor) = (header.major, header.minor);
        return Err(refused(format!(
            "it is made for version {major}.{minor} of the library interface, and this program has {MAJOR}.{MINOR}"
        )));
    }
    fits("descriptor", header.size, size_of::<PluginV1>()).map_err(refused)?;
    // SAFETY: it is of this version, and says that it is at least as long as this.
    let plugin = unsafe { descriptor.read() };
    fits("idea of the host's functions", plugin.host_size, size_of::<HostV1>()).map_err(refused)?;
    fits("idea of where it says things", plugin.out_size, size_of::<OutV1>()).map_err(refused)?;
    let (Some(open), Some(step), Some(close)) = (plugin.open, plugin.step, plugin.close) else {
        return Err(refused("its descriptor lacks a function: it needs open, step and close".into()));
    };
    let features = text(plugin.features, "features").map_err(refused)?;
    let value = |name: &str| features.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    if let Some(protocol) = value(canary::PROTOCOL)
        && !protocol.parse().is_ok_and(|n: u32| (OLDEST_PROTOCOL..=PROTOCOL).contains(&n))
    {
        return Err(refused(format!("it speaks protocol {protocol}, and this program {OLDEST_PROTOCOL} to {PROTOCOL}")));
    }
    let own = text(plugin.id, "id").map_err(refused)?;
    if own != id {
        return Err(refused(format!("it is the plugin `{}`, and its folder says `{id}`", own.escape_debug())));
    }
    let toolchain = text(plugin.toolchain, "toolchain").map_err(refused)?;
    // Nothing is done with them, but a text that cannot be read is a descriptor that lies.
    text(plugin.version, "version").map_err(refused)?;
    text(plugin.manifest, "manifest").map_err(refused)?;
    let panic = value(canary::PANIC).map(str::to_owned);
    Ok(Checked { open, step, close, toolchain: toolchain.chars().filter(|c| !c.is_control()).take(120).collect(), panic })
}

/// Why a library is not the plugin that it should be, and what its user does.
pub(crate) fn refusal(shown: &Path, why: &str) -> Error {
    Error::new(Code::LOAD_FAILED, format!("{}: {why}", shown.display()))
        .with_help("build it for this program: bespoke plugin build DIR --tier dylib; or ask its author for such a build")
}

/// Whether code lies at an address, as the kernel has it; where nobody says, it is taken for code.
fn is_code(address: usize) -> bool {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return true };
    let holds = |range: &str| {
        let ends = range.split_once('-').map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)));
        matches!(ends, Some((Ok(from), Ok(to))) if (from..to).contains(&address))
    };
    // `from-to perms …`
    let here = maps.lines().filter_map(|line| line.split_once(' ')).find(|(range, _)| holds(range));
    here.is_none_or(|(_, rest)| rest.as_bytes().get(2) == Some(&b'x'))
}

/// Whether a struct is at least as long as here; one of a newer minor version is longer.
fn fits(what: &str, size: u32, here: usize) -> std::result::Result<(), String> {
    let size = size as usize;
    if (here..=LARGEST).contains(&size) {
        return Ok(());
    }
    Err(format!("its {what} has {size} bytes, and that of version {MAJOR}.{MINOR} of the library interface {here}"))
}

fn text(text: Text, what: &str) -> std::result::Result<&'static str, String> {
    if text.len == 0 {
        return Ok("");
    }
    if text.ptr.is_null() || text.len > LONGEST {
        return Err(format!("the {what} in its descriptor is no text, of {} bytes", text.len));
    }
    // SAFETY: the descriptor says that so many bytes lie there, for as long as the library, which is never closed.
    let bytes = unsafe { slice::from_raw_parts(text.ptr, text.len) };
    std::str::from_utf8(bytes).map_err(|e| format!("the {what} in its descriptor is no UTF-8: {e}"))
}
