//! Counts allocations, of this thread only: what another thread does meanwhile is not the case's.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

/// Allocations that this thread has made; zero for ever unless [`Counting`] is the global allocator.
pub(crate) fn made() -> u64 {
    MADE.get()
}

fn count() {
    // A thread that is ending has no counter any more, and nothing to measure.
    let _ = MADE.try_with(|made| made.set(made.get() + 1));
}

// SAFETY: every method passes its arguments on to `System` unchanged and returns what that returns, so its guarantees hold.
// Counting touches a constant-initialised thread local without a destructor, which does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
