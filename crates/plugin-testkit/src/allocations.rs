//! Counts what is allocated, for tests that promise a number. Off unless a test makes [`Counting`] its global allocator.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

/// Of all threads.
static ALL: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Of this thread: the test harness, and the thread of a pipe, allocate when they like.
    static MINE: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

impl Counting {
    /// Allocations of all threads so far.
    pub fn all() -> u64 {
        ALL.load(Ordering::SeqCst)
    }

    /// Allocations of this thread so far.
    pub fn mine() -> u64 {
        MINE.get()
    }
}

fn count() {
    ALL.fetch_add(1, Ordering::Relaxed);
    // A thread that is ending has no counter any more, and nothing to measure.
    let _ = MINE.try_with(|mine| mine.set(mine.get() + 1));
}

// SAFETY: everything is handed to the system's allocator as it comes. The count touches an atomic, and a constant-initialised thread local
// without a destructor, which does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` in `alloc` or `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the pointer came from `System`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
