//! The descriptor through which a filter asks. Unsafe, as its calls take addresses.
#![allow(unsafe_code, reason = "a filter is installed and asked through calls that take addresses")]

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::{c_int, c_long, sock_filter, sock_fprog};

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
const SYNC_WAKE_UP: libc::c_ulong = 1;

/// The supervisor's end of a filter.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// Somebody waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    id: u64,
    /// The thread that asks.
    pub(super) thread: u32,
    pub(super) call: c_long,
    pub(super) arguments: [u64; 6],
}

/// What a question is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel goes on with the call.
    Continue,
    /// The supervisor has done it.
    Done,
    /// It fails.
    Error(i32),
}

/// Puts a filter around this thread, with a listener where asked for. It needs no-new-privileges.
pub(super) fn install(program: &[sock_filter], listen: bool) -> io::Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    let filter = sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let apply = |flags: libc::c_ulong| {
        // SAFETY: `filter` names `length` operations that live during the call; the kernel copies them.
        let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
    };
    if !listen {
        return apply(0).map(|_| None);
    }
    // Signals do not take somebody out of waiting, only death: languages that signal their own threads would ask for ever.
    let wanted = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let descriptor = apply(wanted | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).or_else(|_| apply(wanted))?;
    let descriptor = c_int::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Whether filters can ask, and ask in the form that this program knows.
pub(super) fn available() -> bool {
    let mut sizes = libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: the kernel writes the three numbers.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes) };
    done == 0
        && usize::from(sizes.seccomp_notif) <= size_of::<libc::seccomp_notif>()
        && usize::from(sizes.seccomp_notif_resp) <= size_of::<libc::seccomp_notif_resp>()
        && action(libc::SECCOMP_RET_USER_NOTIF)
}

/// Whether filters can do that.
pub(super) fn action(action: u32) -> bool {
    // SAFETY: the kernel reads one number.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

impl Listener {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        // Whoever asks waits, so that the supervisor may as well run where it ran. Older kernels do not know it, and are slower.
        // SAFETY: the kernel takes a number.
        unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) };
        Listener(descriptor)
    }

    /// The next question; none when whoever asked is gone.
    pub(super) fn question(&self) -> Option<Question> {
        // SAFETY: all zeros are a value of this structure of numbers, and the kernel demands them.
        let mut question: libc::seccomp_notif = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the kernel writes no more than the structure: `available` has compared the sizes.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut question) };
        (done == 0).then(|| Question {
            id: question.id,
            thread: question.pid,
            call: c_long::from(question.data.nr),
            arguments: question.data.args,
        })
    }

    /// Answers. It fails only when whoever asked is gone.
    pub(super) fn answer(&self, question: &Question, answer: Answer) {
        let (error, flags) = match answer {
            Answer::Continue => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1)),
            Answer::Done => (0, 0),
            Answer::Error(error) => (-error, 0),
        };
        let mut response = libc::seccomp_notif_resp { id: question.id, val: 0, error, flags };
        // SAFETY: the structure is complete, and used only during the call.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut response) };
    }

    /// Whether it still waits, so that what was looked at belongs to whoever asked.
    pub(super) fn waits(&self, question: &Question) -> bool {
        // SAFETY: the kernel reads one number.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const question.id) == 0 }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
