//! The world that a guest is made for, from the host's side: whether a component fits it, in words of its user, and the functions that it
//! imports. What is said in frames is the proxy's.

use bespoke_plugin_api::Level;
use wasmtime::{
    Engine, StoreContextMut,
    component::{Component, ComponentType, Lift, Linker, Lower, types::ComponentItem},
};

use crate::{guest::Data, wasi};

/// The version of the world here: guests of this major version, up to this minor one.
const VERSION: (u64, u64) = (1, 0);
const PACKAGE: &str = "bespoke:plugin/";
/// The interface that the host gives, and its functions.
const HOST: &str = "bespoke:plugin/host@1.0.0";
const FUNCTIONS: [&str; 4] = ["log", "now", "random", "pull"];
/// The interface that a plugin gives.
const GUEST: &str = "bespoke:plugin/guest@1.0.0";
/// The packages of WASI, version 0.2, for components that ask for it.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
/// Most random bytes at a time.
pub(crate) const RANDOM: u32 = 65536;

/// What a step says.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Outbound {
    pub(crate) frames: Vec<u8>,
    pub(crate) more: bool,
}

/// A level, as the world names it.
#[allow(dead_code, reason = "the engine makes them of what a guest gives")]
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum WorldLevel {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// What does not fit: why, and what its user does.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) why: String,
    pub(crate) help: &'static str,
}

/// What builds a component for this program.
pub(crate) const BUILD: &str = "build it for this program: bespoke plugin build DIR --tier wasm; or ask its author for such a build";
const UPDATE: &str = "use a newer version of this program, or a build of the plugin for this one: bespoke plugin build DIR --tier wasm";

/// Whether a component is made for this world, and imports nothing else but WASI where that is given.
///
/// # Errors
/// It is not.
pub(crate) fn fits(engine: &Engine, component: &Component, wasi: bool) -> Result<(), Misfit> {
    let ty = component.component_type();
    for (name, item) in ty.imports(engine) {
        if let Some(interface) = name.strip_prefix("wasi:") {
            fits_wasi(name, interface, wasi)?;
            continue;
        }
        let Some(interface) = name.strip_prefix(PACKAGE) else { return Err(foreign(name)) };
        if version(interface)? != "host" {
            return Err(misfit(format!("it imports `{name}`, which the world of plugins does not have"), BUILD));
        }
        if let ComponentItem::ComponentInstance(instance) = item.ty {
            for (function, item) in instance.exports(engine) {
                let is_function = matches!(item.ty, ComponentItem::ComponentFunc(_));
                if is_function && !FUNCTIONS.contains(&function) {
                    let known = FUNCTIONS.join(", ");
                    return Err(misfit(format!("it imports `{function}` of `{name}`, and this program gives {known}"), UPDATE));
                }
            }
        }
    }
    let mut guest = false;
    for (name, _) in ty.exports(engine) {
        if let Some(interface) = name.strip_prefix(PACKAGE) {
            guest |= version(interface)? == "guest";
        }
    }
    if guest { Ok(()) } else { Err(misfit(format!("it is a component, and no plugin: it does not export `{GUEST}`"), BUILD)) }
}

/// The name of an interface without its version, which is one that this program takes.
fn version(interface: &str) -> Result<&str, Misfit> {
    let (name, version) = interface.split_once('@').unwrap_or((interface, "0.0.0"));
    let mut numbers = version.split('.').map(|n| n.parse::<u64>().ok());
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    let (own_major, own_minor) = VERSION;
    match (major, minor) {
        (Some(major), Some(minor)) if major == own_major && minor <= own_minor => Ok(name),
        (major, _) => {
            let help = if major > Some(own_major) || major == Some(own_major) { UPDATE } else { BUILD };
            let shown: String = version.chars().take(40).collect();
            Err(misfit(
                format!("it is made for version {shown} of the world of plugins, and this program has {own_major}.{own_minor}"),
                help,
            ))
        }
    }
}

/// Whether an interface of WASI is one that a component of this manifest has.
fn fits_wasi(name: &str, interface: &str, wasi: bool) -> Result<(), Misfit> {
    if !wasi {
        let help = "write wasi = true under [wasm] in its plugin.toml; or build it for wasm32-unknown-unknown, which needs none: \
                    bespoke plugin build DIR --tier wasm";
        return Err(misfit(format!("it asks for WASI (`{}`), and its manifest does not", name.escape_debug()), help));
    }
    let (path, version) = interface.split_once('@').unwrap_or((interface, ""));
    let package = path.split_once('/').map_or(path, |(package, _)| package);
    let why = if !WASI.contains(&package) {
        format!("it asks for `{}` of WASI, and this program gives {}", package.escape_debug(), WASI.join(", "))
    } else if version.starts_with("0.2.") {
        return Ok(());
    } else {
        format!("it asks for version {} of WASI, and this program has 0.2", version.chars().take(40).collect::<String>().escape_debug())
    };
    Err(misfit(why, "build it for WASI 0.2, without what this program does not give: HTTP, storage and secrets are asked for in frames"))
}

fn foreign(name: &str) -> Misfit {
    misfit(format!("it imports `{}`, which the world of plugins does not have", name.escape_debug()), BUILD)
}

fn misfit(why: String, help: &'static str) -> Misfit {
    Misfit { why, help }
}

/// The functions of the host, and WASI for components that are given it.
///
/// # Errors
/// There is a name twice, which cannot be.
pub(crate) fn linker(engine: &Engine, wasi: bool) -> wasmtime::Result<Linker<Data>> {
    let mut linker = Linker::new(engine);
    if wasi {
        wasi::link(&mut linker)?;
    }
    let mut host = linker.instance(HOST)?;
    host.func_wrap("log", |mut store: StoreContextMut<'_, Data>, (level, line): (WorldLevel, String)| {
        let level = match level {
            WorldLevel::Debug => Level::Debug,
            WorldLevel::Info => Level::Info,
            WorldLevel::Warn => Level::Warn,
            WorldLevel::Error => Level::Error,
        };
        store.data_mut().log(level, &line);
        Ok(())
    })?;
    host.func_wrap("now", |store: StoreContextMut<'_, Data>, (): ()| Ok((store.data().now(),)))?;
    host.func_wrap("random", |_: StoreContextMut<'_, Data>, (len,): (u32,)| {
        if len > RANDOM {
            return Err(wasmtime::Error::msg(format!("asked for {len} random bytes, and may ask for {RANDOM} at a time")));
        }
        let mut bytes = vec![0; len as usize];
        getrandom::fill(&mut bytes).map_err(|e| wasmtime::Error::msg(format!("the system has no random bytes: {e}")))?;
        Ok((bytes,))
    })?;
    host.func_wrap("pull", |mut store: StoreContextMut<'_, Data>, (): ()| Ok((store.data_mut().pull(),)))?;
    Ok(linker)
}

/// What to look for in a component.
pub(crate) const fn guest() -> &'static str {
    GUEST
}
