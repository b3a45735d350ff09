//! One instance of a library: opened, stepped, closed. Each of its functions runs within the call that it was asked in, and what it says
//! is copied out of there.

#![allow(unsafe_code, reason = "the C ABI: calls of a library's functions")]

use std::{
    ffi::c_void,
    ptr, slice,
    sync::{Arc, mpsc},
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{Code, Error, HostApi, Result};
use bespoke_plugin_proxy::{Mailbox, Step};
use bespoke_protocol::{
    MAX_FRAME,
    abi::{OutV1, status},
};

use crate::{calls::Calls, copies::Copy, parting::Inside};

/// Bytes that one step may say: several answers of the greatest length. A library that says more is ended.
const MOST_SAID: usize = 8 * MAX_FRAME;
/// Bytes of an explanation.
const LONGEST_WORDS: usize = 4096;
/// Capacity that the way to the library keeps.
const KEEP: usize = 1 << 20;

/// An instance, as whoever has something to say steps it.
pub(crate) struct Stepped {
    instance: Option<Instance>,
    mailbox: Mailbox,
    inbound: Vec<u8>,
    /// Where it is closed: on a thread that nobody needs.
    grave: mpsc::Sender<Instance>,
}

impl Stepped {
    pub(crate) fn new(instance: Instance, mailbox: Mailbox, grave: mpsc::Sender<Instance>) -> Self {
        Stepped { instance: Some(instance), mailbox, inbound: Vec::new(), grave }
    }
}

impl Step for Stepped {
    const MAY_BLOCK: bool = true;

    fn poll_step(&mut self, out: &mut Vec<u8>, _: &mut Context<'_>) -> Poll<Result<bool>> {
        let Some(instance) = &mut self.instance else { return Poll::Ready(Err(gone())) };
        self.mailbox.take(&mut self.inbound);
        let stepped = instance.step(&self.inbound, out);
        self.inbound.clear();
        self.inbound.shrink_to(KEEP);
        Poll::Ready(stepped)
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take()
            && let Err(mpsc::SendError(instance)) = self.grave.send(instance)
        {
            // There is no such thread.
            instance.close();
        }
    }
}

/// What `open` has made.
pub(crate) struct Instance {
    copy: Arc<Copy>,
    pointer: *mut c_void,
    /// Longer than the instance.
    calls: Calls,
}

// SAFETY: the interface says that an instance may be stepped and closed on any thread, by one at a time, which `&mut` is.
unsafe impl Send for Instance {}

impl Instance {
    /// # Errors
    /// `INITIALIZE_FAILED`, with the file, and what the library says.
    pub(crate) fn open(copy: &Arc<Copy>, host: Arc<dyn HostApi>, waker: Waker) -> Result<Self> {
        let calls = Calls::new(host, waker);
        let (mut pointer, mut none) = (ptr::null_mut(), Vec::new());
        let (status, said) = asked(copy, &mut none, |out| {
            // SAFETY: a library of this version of the interface, whose user trusts it; the pointers are what the interface says.
            unsafe { (copy.checked.open)(calls.table(), out, &mut pointer) }
        });
        match status {
            status::DONE if !pointer.is_null() => Ok(Instance { copy: copy.clone(), pointer, calls }),
            status => {
                copy.spoil();
                let why = if status == status::DONE { "it gave no instance".to_owned() } else { failed(status, &said) };
                Err(Error::new(Code::INITIALIZE_FAILED, format!("{}: the library did not open: {why}", copy.file.display())))
            }
        }
    }

    /// True when there is more to do at once.
    fn step(&mut self, inbound: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let (step, pointer) = (self.copy.checked.step, self.pointer);
        let (status, said) = asked(&self.copy, out, |out| {
            // SAFETY: as in `open`; it made the pointer, `close` has not had it, and the bytes stay where they are until this returns.
            unsafe { step(pointer, inbound.as_ptr(), inbound.len(), out) }
        });
        if said.too_much {
            self.copy.spoil();
            // Nobody reads what was cut off.
            *out = Vec::new();
            let message = format!("the library said more than {MOST_SAID} bytes in one step, and was ended");
            return Err(Error::new(Code::PLUGIN_CRASHED, message).retryable());
        }
        match status {
            status::DONE => Ok(false),
            status::MORE => Ok(true),
            status => {
                self.copy.spoil();
                Err(Error::new(Code::PLUGIN_CRASHED, format!("the library {}", failed(status, &said))).retryable())
            }
        }
    }

    /// May block, as code of the plugin runs in here.
    pub(crate) fn close(self) {
        let mut last = Vec::new();
        let (status, said) = asked(&self.copy, &mut last, |out| {
            // SAFETY: as in `step`; nobody uses the pointer after this.
            unsafe { (self.copy.checked.close)(self.pointer, out) }
        });
        if status != status::DONE {
            self.copy.spoil();
            tracing::warn!("an instance of a library did not end well: it {}", failed(status, &said));
        }
        drop(self.calls);
    }
}

/// What a function says besides its status.
struct Said<'o> {
    frames: &'o mut Vec<u8>,
    failure: Vec<u8>,
    too_much: bool,
}

/// Calls a function of the library with a place for what it says.
fn asked(copy: &Copy, frames: &mut Vec<u8>, call: impl FnOnce(*const OutV1) -> i32) -> (i32, Words) {
    let mut said = Said { frames, failure: Vec::new(), too_much: false };
    let size = size_of::<OutV1>() as u32;
    let out = OutV1 { size, reserved: 0, context: (&raw mut said).cast(), frames: take_frames, failure: take_failure };
    let inside = Inside::enter(copy.who);
    let status = call(&raw const out);
    drop(inside);
    (status, Words { failure: said.failure, too_much: said.too_much })
}

/// What was said besides frames.
struct Words {
    failure: Vec<u8>,
    too_much: bool,
}

unsafe extern "C" fn take_frames(context: *mut c_void, bytes: *const u8, len: usize) {
    // SAFETY: the library gives what it was given, within the call that it was given for and on its thread: `asked` does not touch it then.
    let Some(said) = (unsafe { context.cast::<Said<'_>>().as_mut() }) else { return };
    if said.too_much || said.frames.len().saturating_add(len) > MOST_SAID {
        said.too_much = true;
    } else if len > 0 && !bytes.is_null() {
        // SAFETY: the library says that so many bytes lie there.
        said.frames.extend_from_slice(unsafe { slice::from_raw_parts(bytes, len) });
    }
}

unsafe extern "C" fn take_failure(context: *mut c_void, text: *const u8, len: usize) {
    // SAFETY: as in `take_frames`.
    let Some(said) = (unsafe { context.cast::<Said<'_>>().as_mut() }) else { return };
    if !text.is_null() {
        // SAFETY: the library says that so many bytes lie there.
        said.failure = unsafe { slice::from_raw_parts(text, len.min(LONGEST_WORDS)) }.to_vec();
    }
}

/// What became of it, in words.
fn failed(status: i32, said: &Words) -> String {
    let why = String::from_utf8_lossy(&said.failure);
    let why = if why.is_empty() { "it does not say why" } else { &*why };
    match status {
        status::PANICKED => format!("panicked: {why}"),
        status::FAILED => format!("failed: {why}"),
        other => format!("returned {other}, which means nothing: {why}"),
    }
}

fn gone() -> Error {
    Error::new(Code::PLUGIN_CRASHED, "the instance has ended").retryable()
}
