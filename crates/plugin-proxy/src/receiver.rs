//! The receiving half of a driver: finds frames in the guest's bytes and takes each to whom it belongs.

use std::sync::{Arc, Weak};

use bespoke_plugin_api::{Code, Error, Result, serde_json};
use bespoke_protocol::{
    Frame, GoodbyeHead, GuestHello, Kind, LogHead, OutputHead, Reassembler, Vitals, flag, line::TooLong, put_frame, read_body, read_end,
    read_reply,
};

use crate::{
    inner::{Inner, crashed},
    server,
};

/// Belongs to the driver. Does not keep the guest: when all handles on it are gone, so is the [`Link`](crate::Link).
pub struct Receiver {
    inner: Weak<Inner>,
    frames: Reassembler,
}

impl Receiver {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        Receiver { inner: Arc::downgrade(inner), frames: Reassembler::new() }
    }

    /// Takes bytes of the guest, cut anywhere. Any frame counts as a sign of life.
    ///
    /// # Errors
    /// `PARSE_ERROR` when they are no frames: all calls have ended with it, and the driver should end the guest.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(inner) = self.inner.upgrade() else { return Ok(()) };
        self.frames.feed(bytes, |frame| take(&inner, &frame)).map_err(|e| {
            let e = Error::from(e);
            inner.lose(e.clone());
            e
        })
    }

    /// Whether what came so far ends with the end of a frame.
    pub(crate) fn is_between(&self) -> bool {
        self.frames.is_between()
    }

    /// Takes one frame of the guest that the driver has found already.
    pub fn frame(&self, frame: &Frame<'_>) {
        if let Some(inner) = self.inner.upgrade() {
            take(&inner, frame);
        }
    }

    /// A message of the guest that the driver had to skip: whoever waits for it learns why, at both ends.
    pub fn skipped(&self, message: &TooLong) {
        let Some(inner) = self.inner.upgrade() else { return };
        let (mut there, mut here) = (Vec::new(), Vec::new());
        message.tell(&mut there, &mut here);
        // What the protocol has just written are frames. A link that is gone has told everybody who waits.
        let _ = Reassembler::new().feed(&here, |frame| take(&inner, &frame));
        let _ = Reassembler::new().feed(&there, |frame| {
            let mut one = Vec::new();
            put_frame(&mut one, &frame);
            let _ = inner.post(frame.kind.lane(), &one);
        });
    }

    /// The guest is gone, and why: every call and stream ends.
    pub fn lost(&self, reason: Error) {
        if let Some(inner) = self.inner.upgrade() {
            inner.lose(reason);
        }
    }

    /// For whoever ends the guest while somebody else receives.
    pub(crate) fn ender(&self) -> Ender {
        Ender(self.inner.clone())
    }

    /// Whether anybody still holds a handle on the guest.
    pub fn is_wanted(&self) -> bool {
        self.inner.strong_count() > 0
    }
}

/// Tells that the guest is gone.
pub(crate) struct Ender(Weak<Inner>);

impl Ender {
    /// As [`Receiver::lost`].
    pub(crate) fn end(&self, reason: Error) {
        if let Some(inner) = self.0.upgrade() {
            inner.lose(reason);
        }
    }

    /// Whether somebody waits for a call up to that number and has not cancelled it.
    pub(crate) fn is_wanted(&self, last: u32) -> bool {
        self.0.upgrade().is_some_and(|inner| inner.is_wanted(last))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.lost(crashed());
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("wanted", &self.is_wanted()).finish_non_exhaustive()
    }
}

fn take(inner: &Arc<Inner>, frame: &Frame<'_>) {
    match frame.kind {
        Kind::HELLO => inner.hello.fill(read_body::<Hello>(frame).map(|h| h.0)),
        // The guest cannot say HELLO, and says why.
        Kind::REPLY if frame.id == 0 => {
            if let Err(e) = read_reply::<()>(frame) {
                inner.hello.fill(Err(e));
            }
        }
        Kind::REPLY => {
            if let Some(waiting) = inner.waiting(frame.id) {
                waiting.reply(frame, &|| {
                    inner.forget(frame.id);
                });
            }
        }
        Kind::EVENT => {
            if let Some(waiting) = inner.waiting(frame.id)
                && let Err(e) = waiting.event(frame)
                && inner.forget(frame.id)
            {
                waiting.end(Err(e));
                inner.post_plain(Kind::RESET, 0, frame.id);
            }
        }
        Kind::END => {
            if let Some(waiting) = inner.waiting(frame.id) {
                inner.forget(frame.id);
                waiting.end(read_end(frame));
            }
        }
        Kind::CREDIT if frame.flags & flag::HOST_CALL != 0 => server::credit(inner, frame),
        Kind::CREDIT => {
            if let Some(waiting) = inner.waiting(frame.id) {
                waiting.credit(frame.credit());
            }
        }
        Kind::PROGRESS => {
            if let (Some(waiting), Ok(value)) = (inner.waiting(frame.id), serde_json::from_slice(frame.head)) {
                waiting.progress(value);
            }
        }
        Kind::OUTPUT => {
            if let (Some(waiting), Ok(line)) = (inner.waiting(frame.id), serde_json::from_slice::<OutputHead>(frame.head)) {
                waiting.output(line);
            }
        }
        Kind::HOST_CALL => server::serve(inner, frame),
        Kind::CANCEL => server::cancel(inner, frame),
        Kind::LOG => {
            if let Ok(log) = serde_json::from_slice::<LogHead>(frame.head) {
                inner.host.log(log.level, &log.line);
            }
        }
        Kind::VITALS => {
            if let Ok(vitals) = serde_json::from_slice::<Vitals>(frame.head) {
                *inner.vitals() = vitals;
            }
        }
        Kind::PING => inner.post_plain(Kind::PONG, 0, frame.id),
        Kind::GOODBYE => {
            let GoodbyeHead { reason } = serde_json::from_slice(frame.head).unwrap_or_default();
            inner.lose(Error::new(Code::PLUGIN_CRASHED, format!("the plugin has ended itself: {reason}")).retryable());
        }
        _ => {} // A newer guest may say more than we understand.
    }
}

/// A HELLO is read like the body of any other frame.
#[derive(bespoke_plugin_api::serde::Serialize, bespoke_plugin_api::serde::Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", transparent)]
struct Hello(GuestHello);

impl bespoke_protocol::Body for Hello {}
