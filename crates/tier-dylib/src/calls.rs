//! What a library may call: a wake, a clock, random bytes. It may call them whenever it likes, also after its instance is closed, so the
//! places that they lead to are never freed: they are used again, and whoever calls late wakes somebody in vain, and does no other harm.

#![allow(unsafe_code, reason = "the C ABI: functions that libraries call")]

use std::{
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bespoke_plugin_api::HostApi;
use bespoke_protocol::abi::HostV1;

/// A place for the host of one instance at a time.
struct Place {
    table: HostV1,
    live: Mutex<Option<Live>>,
}

#[derive(Clone)]
struct Live {
    waker: Waker,
    host: Arc<dyn HostApi>,
}

// SAFETY: the table is never written to once the place is there, and its pointer is that of the place itself.
unsafe impl Sync for Place {}
// SAFETY: as above.
unsafe impl Send for Place {}

/// Places of instances that are gone.
static FREE: Mutex<Vec<&'static Place>> = Mutex::new(Vec::new());

/// What an instance calls, as long as it lives.
pub(crate) struct Calls(&'static Place);

impl Calls {
    pub(crate) fn new(host: Arc<dyn HostApi>, waker: Waker) -> Self {
        let free = lock(&FREE).pop();
        let place = free.unwrap_or_else(Place::leak);
        *lock(&place.live) = Some(Live { waker, host });
        Calls(place)
    }

    /// For `open`; it holds for ever.
    pub(crate) fn table(&self) -> *const HostV1 {
        &raw const self.0.table
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let gone = lock(&self.0.live).take();
        drop(gone);
        lock(&FREE).push(self.0);
    }
}

impl Place {
    fn leak() -> &'static Place {
        let size = size_of::<HostV1>() as u32;
        let table = HostV1 { size, reserved: 0, context: ptr::null_mut(), wake, now, random };
        let place = Box::into_raw(Box::new(Place { table, live: Mutex::new(None) }));
        // SAFETY: it was just made, nobody else knows it, and it is never freed.
        unsafe {
            (*place).table.context = place.cast();
            &*place
        }
    }

    fn live(&self) -> Option<Live> {
        lock(&self.live).clone()
    }
}

/// The place that a library gives back.
///
/// # Safety
/// `context` is that of a table that [`Calls`] gave.
unsafe fn place<'p>(context: *mut c_void) -> Option<&'p Place> {
    // SAFETY: as the caller promises; a place is never freed. One that was not given at all is at least not null here.
    unsafe { context.cast::<Place>().as_ref() }
}

unsafe extern "C" fn wake(context: *mut c_void) {
    // SAFETY: the library gives what it was given.
    let live = unsafe { place(context) }.and_then(Place::live);
    _ = caught(|| live.map(|live| live.waker.wake()));
}

/// The end of time for who calls after its instance is gone: zero.
unsafe extern "C" fn now(context: *mut c_void) -> u64 {
    // SAFETY: the library gives what it was given.
    let live = unsafe { place(context) }.and_then(Place::live);
    caught(|| live.map(|live| live.host.now().0)).flatten().unwrap_or(0)
}

unsafe extern "C" fn random(context: *mut c_void, bytes: *mut u8, len: usize) -> i32 {
    if bytes.is_null() {
        return -1;
    }
    // SAFETY: the library gives a buffer of so many bytes, which is its own until this returns; they may be anything, so they are set first.
    let buffer = unsafe {
        bytes.write_bytes(0, len);
        slice::from_raw_parts_mut(bytes, len)
    };
    // SAFETY: the library gives what it was given.
    let live = unsafe { place(context) }.and_then(Place::live);
    match caught(|| live.map(|live| live.host.random(buffer).is_ok())).flatten() {
        Some(true) => 0,
        _ => -1,
    }
}

/// A panic of the host must not go through the library.
fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
