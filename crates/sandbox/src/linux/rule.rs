//! The lines of the table of calls: which call, under which conditions, what becomes of it. It names no call.

use libc::c_long;

use crate::report::What;

/// One line: the first whose call and conditions fit decides. A call without a fitting line is allowed.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) call: c_long,
    pub(super) name: &'static str,
    pub(super) when: Vec<When>,
    pub(super) then: Then,
}

/// A condition on one half of an argument. The kernel cuts the arguments that are looked at here to their lower half, but for pointers.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) argument: u8,
    pub(super) upper: bool,
    pub(super) mask: u32,
    pub(super) equals: u32,
    /// Fits where it is not equal.
    pub(super) not: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Allow,
    /// Refused with this error, and told.
    Refuse(What, i32),
    /// Refused with this error, and not told: programs try it and go on without.
    Mute(i32),
    /// The supervisor looks; without one, this error, or let through for 0.
    Ask(Ask, i32),
}

/// What the supervisor is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// A process or a thread more.
    Fork,
    /// Opening a path: folder, path, flags in arguments. Without a folder the path is first.
    Open { folder: Option<u8>, path: u8, flags: OpenFlags },
    /// Executing a path.
    Execute { folder: Option<u8>, path: u8, flags: Option<u8> },
    /// Making, removing or moving names; up to two of them.
    Names { first: (Option<u8>, u8), second: Option<(Option<u8>, u8)> },
    /// Changing mode bits: done by the supervisor where the file may be written.
    Mode { folder: Option<u8>, path: u8, mode: u8, flags: Option<u8> },
    /// Changing the mode bits of an open file.
    ModeOfOpen,
    /// Changing times; done by the supervisor likewise.
    Times { folder: Option<u8>, path: Option<u8>, times: u8, flags: Option<u8> },
    /// A signal, or another change, to the process or the thread that this argument names.
    Target { process: u8, group: bool },
    /// Lowering or raising a limit: process (or none), resource, new value.
    Limit { process: Option<u8>, resource: u8, new: u8 },
}

/// Where the flags of an opening are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenFlags {
    Argument(u8),
    /// In `struct open_how`.
    How(u8),
    /// It is `creat`.
    Create,
}

impl When {
    pub(super) const fn is(argument: u8, equals: u32) -> Self {
        When { argument, upper: false, mask: u32::MAX, equals, not: false }
    }

    pub(super) const fn masked(argument: u8, mask: u32, equals: u32) -> Self {
        When { argument, upper: false, mask, equals, not: false }
    }

    pub(super) const fn any_of(argument: u8, mask: u32) -> Self {
        When { argument, upper: false, mask, equals: 0, not: true }
    }

    pub(super) const fn null(argument: u8) -> [Self; 2] {
        [When::is(argument, 0), When { upper: true, ..When::is(argument, 0) }]
    }

    pub(super) const fn not(argument: u8, equals: u32) -> Self {
        When { argument, upper: false, mask: u32::MAX, equals, not: true }
    }
}

impl Rule {
    /// Whether this line decides about a call with these arguments.
    pub(super) fn fits(&self, call: c_long, arguments: &[u64; 6]) -> bool {
        self.call == call
            && self.when.iter().all(|when| {
                // Cut on purpose: the filter compares halves.
                let value = arguments.get(usize::from(when.argument)).copied().unwrap_or(0);
                let value = if when.upper { value >> 32 } else { value } as u32;
                ((value & when.mask) == when.equals) != when.not
            })
    }
}
