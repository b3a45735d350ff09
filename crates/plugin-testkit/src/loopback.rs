//! The fourth way to run a plugin: guest core and proxy in one process, joined by memory, the core on a thread of its own.
//! What works here works over any driver; what differs from compiled in is only the wire.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{BoxFuture, Code, Descriptor, Error, HostApi, Instance, Result, Timestamp};
use bespoke_plugin_guest::{Core, Platform};
use bespoke_plugin_proxy::{Link, Proxy, Receiver, StartOptions};
use bespoke_protocol::Lane;

/// Starts a plugin behind the wire. The thread ends when the instance and all its streams are dropped.
///
/// # Errors
/// What the plugin's `start` says.
pub async fn loopback(descriptor: &'static Descriptor, host: Arc<dyn HostApi>, options: StartOptions) -> Result<(Instance, Probe)> {
    let wire = Arc::new(Wire::default());
    let (proxy, receiver) = Proxy::new(host.clone(), Arc::new(LoopbackLink(wire.clone())));
    let platform = Arc::new(LoopbackPlatform { wire: wire.clone(), host });
    let driven = wire.clone();
    std::thread::Builder::new()
        .name(format!("loopback-{}", descriptor.id()))
        .spawn(move || drive(&driven, Core::new(descriptor, platform), receiver))
        .map_err(|e| Error::internal(format!("the thread of the loopback: {e}")))?;
    let instance = proxy.start(options).await?;
    Ok((instance, Probe(wire)))
}

/// Looks into a loopback from outside.
#[derive(Clone)]
pub struct Probe(Arc<Wire>);

impl Probe {
    /// Calls, streams and tasks that the guest has under way.
    pub fn active(&self) -> usize {
        self.0.state().active
    }

    /// Waits until the guest has nothing under way; false when `limit` passes first.
    pub fn wait_idle(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| state.active > 0 || !state.is_quiet();
        let (state, _) = self.0.changed.wait_timeout_while(self.0.state(), limit, busy).unwrap_or_else(PoisonError::into_inner);
        state.active == 0
    }

    /// Waits until the guest has read all that it was sent and has nothing to say; false when `limit` passes first.
    pub fn wait_quiet(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| !state.is_quiet();
        let (state, _) = self.0.changed.wait_timeout_while(self.0.state(), limit, busy).unwrap_or_else(PoisonError::into_inner);
        state.is_quiet()
    }

    /// Steps that the guest has made.
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    /// Ends the guest as a crash would: without a word to anybody.
    pub fn crash(&self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("active", &self.active()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Wire {
    state: Mutex<State>,
    changed: Condvar,
    steps: AtomicU64,
}

#[derive(Default)]
struct State {
    control: Vec<u8>,
    data: Vec<u8>,
    woken: bool,
    stepping: bool,
    closed: bool,
    active: usize,
}

impl State {
    fn is_quiet(&self) -> bool {
        self.control.is_empty() && self.data.is_empty() && !self.woken && !self.stepping
    }
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LoopbackLink(Arc<Wire>);

impl Link for LoopbackLink {
    fn send(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        let mut state = self.0.state();
        if state.closed {
            return Err(Error::new(Code::PLUGIN_CRASHED, "the loopback has ended").retryable());
        }
        match lane {
            Lane::Control => state.control.extend_from_slice(frames),
            Lane::Data => state.data.extend_from_slice(frames),
        }
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl Drop for LoopbackLink {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

struct LoopbackPlatform {
    wire: Arc<Wire>,
    host: Arc<dyn HostApi>,
}

impl Platform for LoopbackPlatform {
    fn now(&self) -> Timestamp {
        self.host.now()
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        self.host.random(buffer)
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.host.blocking(work)
    }

    fn wake(&self) {
        self.wire.state().woken = true;
        self.wire.changed.notify_all();
    }
}

fn drive(wire: &Wire, mut core: Core, mut receiver: Receiver) {
    let (mut inbound, mut outbound) = (Vec::new(), Vec::new());
    let mut more = false;
    loop {
        {
            let mut state = wire.state();
            state.stepping = false;
            state.active = core.active();
            wire.changed.notify_all();
            let idle = |state: &mut State| state.is_quiet() && !state.closed;
            if !more {
                state = wire.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                break;
            }
            state.woken = false;
            state.stepping = true;
            inbound.clear();
            inbound.append(&mut state.control);
            inbound.append(&mut state.data);
        }
        wire.steps.fetch_add(1, Ordering::Relaxed);
        let stepped = core.step(&inbound, &mut outbound);
        if !outbound.is_empty() {
            // Bytes of our own core are frames; if not, the receiver has told everybody.
            let _ = receiver.receive(&outbound);
            outbound.clear();
        }
        match stepped {
            Ok(again) => more = again,
            Err(e) => {
                receiver.lost(e);
                break;
            }
        }
    }
    // Before the core: dropping it may run the plugin's code, and who waits need not wait for that.
    drop(receiver);
    drop(core);
    let mut state = wire.state();
    *state = State { closed: true, ..State::default() };
    drop(state);
    wire.changed.notify_all();
}
