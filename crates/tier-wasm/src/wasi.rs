//! WASI 0.2, for components whose language needs it: clocks, random bytes, lines for the log, and the folders that the user has granted. No
//! environment, no arguments, no input, no sockets, and no folder of the plugin's own. What else a plugin wants, it asks for in frames.

use std::{
    fs,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bespoke_manifest::Permissions;
use bespoke_plugin_api::{HostApi, Level};
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{
    FsPerms, HostWallClock, WasiCtx, WasiCtxView, WasiView, async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult, add_to_linker_async},
};

use crate::{
    guest::{Data, Voice},
    world::RANDOM,
};

/// Whether this program has it.
pub(crate) const HERE: bool = true;

/// Files, streams and timers that an instance may have at a time: they lie in memory of the program.
const RESOURCES: usize = 10_000;
/// Most bytes of a line; what is longer is cut into several.
const LINE: usize = 4096;
/// Bytes that a stream takes at once.
const PIECE: usize = 64 << 10;

/// What an instance has of it.
pub(crate) struct Wasi {
    cx: WasiCtx,
    table: ResourceTable,
}

impl Wasi {
    /// With the folders among what was granted.
    pub(crate) fn new(granted: &Permissions, voice: &Voice) -> Self {
        let mut cx = WasiCtx::builder();
        // Nothing is inherited: these are what there is beside the folders.
        cx.stdout(Log::new(voice, Level::Info)).stderr(Log::new(voice, Level::Warn));
        cx.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        cx.wall_clock(Clock(voice.host.clone())).max_random_size(RANDOM.into());
        let writes = granted.write_files.iter().map(|path| (path, FsPerms::ReadWrite));
        let reads = granted.read_files.iter().filter(|path| !granted.write_files.contains(path));
        for (path, may) in reads.map(|path| (path, FsPerms::ReadOnly)).chain(writes) {
            let opened = is_folder(Path::new(path)).and_then(|()| match cx.preopened_dir(path, path, may) {
                Ok(_) => Ok(()),
                Err(e) => Err(format!("cannot be opened: {e:#}")),
            });
            if let Err(why) = opened {
                voice.host.log(Level::Warn, &format!("{path} was granted, and {why}; the plugin does not see it"));
            }
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Wasi { cx: cx.build(), table }
    }
}

/// Whether it is a folder still, and where it was when it was granted: where a link stands there now, it is not followed.
fn is_folder(path: &Path) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|e| format!("is not there: {e}"))?;
    if real != path {
        return Err("has become a link".to_owned());
    }
    if !real.is_dir() {
        return Err("is no folder, and WASI knows files in folders only".to_owned());
    }
    Ok(())
}

/// Gives a component all that there is of it; what an instance has stands in its [`Wasi`].
///
/// # Errors
/// There is a name twice, which cannot be.
pub(crate) fn link(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    add_to_linker_async(linker)
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Only the functions of `link` come here, and an instance of code that was linked with them is made with one.
        let Wasi { cx, table } = self.wasi.as_mut().expect("an instance that has WASI");
        WasiCtxView { ctx: cx, table }
    }
}

/// The host's time, which a plugin also asks for in the world of plugins.
struct Clock(Arc<dyn HostApi>);

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.0.now().0)
    }
}

/// A stream whose lines go into the plugin's log. All that a guest makes of it are the same one.
#[derive(Clone)]
struct Log(Arc<Mutex<Lines>>);

impl Log {
    fn new(voice: &Voice, level: Level) -> Self {
        Log(Arc::new(Mutex::new(Lines { voice: voice.clone(), level, begun: Vec::new() })))
    }
}

struct Lines {
    voice: Voice,
    level: Level,
    /// A line without its end.
    begun: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(LINE)) {
            if self.begun.len() + piece.len() > LINE {
                self.say();
            }
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.say();
            }
        }
    }

    fn say(&mut self) {
        let line = std::mem::take(&mut self.begun);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.is_empty() {
            self.voice.say(self.level, line);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.say();
    }
}

impl StdoutStream for Log {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

#[async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}

impl OutputStream for Log {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).feed(&bytes);
        Ok(())
    }

    /// A line goes when it is whole: languages flush in the midst of one.
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PIECE)
    }
}

/// How a later version of WASI writes.
impl AsyncWrite for Log {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).feed(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_plugin_testkit::TestHost;

    #[test]
    fn whole_lines_go_into_the_log_and_the_rest_when_it_ends() {
        let host = TestHost::new();
        let out = Log::new(&Voice::alone(host.clone()), Level::Info);
        let mut streams: [Box<dyn OutputStream>; 2] = [out.p2_stream(), out.p2_stream()];
        for (n, piece) in ["a b", "", "c\r\n\nd\ne", "\u{e4}"].into_iter().enumerate() {
            streams[n % 2].write(Bytes::from(piece)).unwrap();
            streams[n % 2].flush().unwrap();
        }
        let lines = || host.lines().into_iter().map(|(_, line)| line).collect::<Vec<_>>();
        assert_eq!(lines(), ["a bc", "d"]);
        streams[0].write(Bytes::from("\n".to_owned() + &"x".repeat(10_000) + "\nlast")).unwrap();
        assert_eq!(lines()[2..].iter().map(String::len).collect::<Vec<_>>(), [3, 4096, 4096, 1808]);
        drop((streams, out));
        assert_eq!(lines().last().unwrap(), "last");
    }
}
