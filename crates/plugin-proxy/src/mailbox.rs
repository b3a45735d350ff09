//! What the host has sent to a guest in memory, and the guest has not taken; and what of it says whether anybody still waits. Who steps the
//! guest for it is `inline`'s.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use bespoke_plugin_api::{Code, Error, Result};
use bespoke_protocol::{Kind, Lane, MAX_FRAME};

use crate::receiver::Ender;

/// Bytes that may wait for a guest that does not take them, in memory or in a process. Four times the longest message, so that a few of
/// those may meet; more is a guest that will not come back.
pub const MOST_WAITING: usize = 4 * MAX_FRAME;
/// Capacity that a buffer keeps.
pub(crate) const KEEP: usize = 1 << 20;

/// What the host has sent and the guest has not taken. Clones are the same one.
#[derive(Clone, Default)]
pub struct Mailbox(Arc<Post>);

#[derive(Default)]
struct Post {
    mail: Mutex<Mail>,
    /// The number of the last call that was sent.
    last_call: AtomicU32,
    /// Calls that were cancelled and streams that were dropped, ever.
    given_up: AtomicU64,
    ender: OnceLock<Ender>,
}

#[derive(Default)]
struct Mail {
    control: Vec<u8>,
    data: Vec<u8>,
    /// Why nothing more is taken.
    ended: Option<Error>,
}

impl Mailbox {
    /// Appends all of it to `to`, control first; whole frames. False when there was nothing.
    pub fn take(&self, to: &mut Vec<u8>) -> bool {
        let mut mail = self.mail();
        let any = mail.any();
        let Mail { control, data, .. } = &mut *mail;
        for lane in [control, data] {
            to.append(lane);
            lane.shrink_to(KEEP);
        }
        any
    }

    /// Whether there is something in it.
    pub fn is_empty(&self) -> bool {
        !self.mail().any()
    }

    /// Whether somebody waits for a call up to number `last` and has not cancelled it; streams do not count. For who has to know whether a
    /// guest still computes for anybody.
    pub fn is_wanted(&self, last: u32) -> bool {
        self.0.ender.get().is_some_and(|ender| ender.is_wanted(last))
    }

    /// The number of the last call that was sent.
    pub fn last_call(&self) -> u32 {
        self.0.last_call.load(Ordering::Relaxed)
    }

    /// How many calls and streams the host has given up so far.
    pub fn given_up(&self) -> u64 {
        self.0.given_up.load(Ordering::Relaxed)
    }

    /// Who knows which calls are waited for.
    pub(crate) fn knows(&self, ender: Ender) {
        let _ = self.0.ender.set(ender);
    }

    /// Ends whoever waits for the guest.
    pub(crate) fn lose(&self, reason: Error) {
        if let Some(ender) = self.0.ender.get() {
            ender.end(reason);
        }
    }

    /// Puts whole frames in.
    ///
    /// # Errors
    /// The guest is gone, or is ended by this: it does not take what it is sent.
    pub(crate) fn put(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        match frames {
            [kind, ..] if *kind == Kind::CANCEL.0 || *kind == Kind::RESET.0 => _ = self.0.given_up.fetch_add(1, Ordering::Relaxed),
            [kind, _, _, _, a, b, c, d, ..] if *kind == Kind::CALL.0 => {
                self.0.last_call.store(u32::from_le_bytes([*a, *b, *c, *d]), Ordering::Relaxed);
            }
            _ => {}
        }
        let mut mail = self.mail();
        if let Some(reason) = &mail.ended {
            return Err(reason.clone());
        }
        if mail.control.len() + mail.data.len() > MOST_WAITING {
            let reason = broken(&format!("it does not take what it is sent: more than {MOST_WAITING} bytes wait for it"));
            mail.ended = Some(reason.clone());
            (mail.control, mail.data) = (Vec::new(), Vec::new());
            return Err(reason);
        }
        match lane {
            Lane::Control => mail.control.extend_from_slice(frames),
            Lane::Data => mail.data.extend_from_slice(frames),
        }
        Ok(())
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        // Nothing that can panic runs under this lock.
        self.0.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ended(&self) -> Option<Error> {
        self.mail().ended.clone()
    }

    /// Nothing more is taken.
    pub(crate) fn end(&self, reason: Error) {
        let mut mail = self.mail();
        mail.ended.get_or_insert(reason);
        (mail.control, mail.data) = (Vec::new(), Vec::new());
    }
}

impl Mail {
    fn any(&self) -> bool {
        !(self.control.is_empty() && self.data.is_empty())
    }
}

/// Why the guest was ended: what it did.
pub(crate) fn broken(what: &str) -> Error {
    Error::new(Code::PLUGIN_CRASHED, format!("was ended: {what}")).retryable()
}
