//! What a call that computes has pulled out of the host's mailbox: kept until the step is over, and looked through for cancels.

use std::cell::RefCell;

use bespoke_protocol::{Kind, parse};

thread_local! {
    static PULLED: RefCell<Pulled> = const { RefCell::new(Pulled::new()) };
}

/// Frames, and which calls they cancel.
struct Pulled {
    frames: Vec<u8>,
    cancelled: Vec<u32>,
}

impl Pulled {
    const fn new() -> Self {
        Pulled { frames: Vec::new(), cancelled: Vec::new() }
    }

    /// Takes frames. Nothing is done with them but for the cancels, which are noted; the core takes them later.
    fn add(&mut self, frames: &[u8]) {
        let mut rest = frames;
        // What is no frame, the core will say.
        while let Ok(Some((frame, len))) = parse(rest) {
            if matches!(frame.kind, Kind::CANCEL | Kind::RESET) {
                self.cancelled.push(frame.id);
            }
            rest = &rest[len..];
        }
        self.frames.extend_from_slice(frames);
    }

    fn take(&mut self) -> Vec<u8> {
        self.cancelled.clear();
        std::mem::take(&mut self.frames)
    }
}

/// Whether the host has cancelled that call since the step began.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "elsewhere nobody has to look"))]
pub(crate) fn look(call: u32) -> bool {
    let frames = crate::bindings::bespoke::plugin::host::pull();
    PULLED.with_borrow_mut(|pulled| {
        if !frames.is_empty() {
            pulled.add(&frames);
        }
        pulled.cancelled.contains(&call)
    })
}

/// What was pulled, for the core.
pub(crate) fn take() -> Vec<u8> {
    PULLED.with_borrow_mut(Pulled::take)
}

/// Whether nothing was pulled.
pub(crate) fn is_empty() -> bool {
    PULLED.with_borrow(|pulled| pulled.frames.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bespoke_protocol::put_plain;

    #[test]
    fn a_cancel_is_noted_and_every_frame_is_kept() {
        let mut frames = Vec::new();
        put_plain(&mut frames, Kind::PING, 0, 7);
        put_plain(&mut frames, Kind::CANCEL, 0, 3);
        put_plain(&mut frames, Kind::RESET, 0, 4);
        let mut pulled = Pulled::new();
        pulled.add(&frames);
        assert_eq!(pulled.cancelled, [3, 4]);
        pulled.add(b"no frames");
        assert_eq!(pulled.take(), [&frames[..], b"no frames"].concat());
        assert!(pulled.cancelled.is_empty() && pulled.take().is_empty());
    }
}
