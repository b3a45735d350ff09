//! A guest in memory: whoever sends to it steps it, on the own thread, so that a message costs no hop between threads. Which bytes go
//! where; what a step is, its tier knows.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, TryLockError, Weak},
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{Code, Error, HostApi, Result};
use bespoke_protocol::Lane;

use crate::{
    bell::Bell,
    inner::crashed,
    link::Link,
    mailbox::{KEEP, Mailbox, broken},
    receiver::Receiver,
    start::Proxy,
};

/// Steps that a sender makes at most before it leaves the rest to the pump: it has a life of its own.
const ROUNDS: usize = 4;
/// Steps in a row that took nothing, said nothing, and asked for another one at once. A task that wakes itself for ever comes to a
/// thousand polls a step, so that this is long after anybody waits for it.
const MOST_FRUITLESS: u32 = 1 << 20;

/// A guest that is stepped: it takes its mail, works until it can do no more, and says what it has to say.
pub trait Step: Send + 'static {
    /// Whether a step may block the thread that makes it. Then only those step the guest who wait for it: what is posted comes on threads
    /// that others need, and is left to the pump, which has to have a thread of its own.
    const MAY_BLOCK: bool = false;

    /// The longest message that it takes, in bytes; looked at once, when it is made. A longer one is refused, and harms nothing else.
    fn longest(&self) -> usize {
        usize::MAX
    }

    /// Takes what the [`Mailbox`] holds, and appends what the guest says to `out`. Ready with true when there is more to do at once; pending
    /// when it still works on this step: then it has seen to it that the waker of `cx` is woken to go on, and is called again.
    ///
    /// # Errors
    /// The guest is gone, and this is what every call of it ends with.
    fn poll_step(&mut self, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<bool>>;
}

/// The tier's hold on a guest in memory. It does not keep the guest: when all handles on its instance are gone, so is the guest.
pub struct Inline<S> {
    shared: Weak<Shared<S>>,
    bell: Arc<Bell>,
    mailbox: Mailbox,
}

impl<S: Step> Inline<S> {
    /// A proxy for the guest that `make` makes of its mailbox, and of the waker that has it stepped.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn start(host: Arc<dyn HostApi>, make: impl FnOnce(Mailbox, Waker) -> Result<S>) -> Result<(Proxy, Self)> {
        let (bell, mailbox) = (Arc::new(Bell::default()), Mailbox::default());
        let guest = make(mailbox.clone(), Waker::from(bell.clone()))?;
        let longest = guest.longest();
        let shared = Arc::new(Shared { bell: bell.clone(), mailbox: mailbox.clone(), longest, turn: Mutex::new(None) });
        let (proxy, receiver) = Proxy::new(host, shared.clone());
        mailbox.knows(receiver.ender());
        *shared.turn.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Turn { guest, receiver, out: Vec::new(), busy: false, fruitless: 0 });
        Ok((proxy, Inline { shared: Arc::downgrade(&shared), bell, mailbox }))
    }

    /// Steps the guest whenever it was woken, until it is gone. It has to run somewhere as long as the guest lives, and never waits.
    pub fn pump(&self) -> impl Future<Output = ()> + Send + 'static {
        let (shared, bell) = (self.shared.clone(), self.bell.clone());
        async move {
            loop {
                bell.rung().await;
                let Some(shared) = shared.upgrade() else { return };
                if !shared.pumped() {
                    return;
                }
                drop(shared);
                yielded().await;
            }
        }
    }

    /// Ends the guest, and whoever waits for it, with that reason. One that is in the midst of a step is dropped when it comes back.
    pub fn end(&self, reason: Error) {
        self.mailbox.end(reason.clone());
        self.mailbox.lose(reason);
        self.bell.ring();
    }
}

impl<S> std::fmt::Debug for Inline<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inline").field("ended", &self.mailbox.ended()).finish_non_exhaustive()
    }
}

struct Shared<S> {
    bell: Arc<Bell>,
    mailbox: Mailbox,
    longest: usize,
    /// Whoever has the lock steps the guest; `None` once the guest is gone. It is only ever tried, never waited for.
    turn: Mutex<Option<Turn<S>>>,
}

struct Turn<S> {
    guest: S,
    receiver: Receiver,
    out: Vec<u8>,
    /// It is in the midst of a step: the pump goes on with it when it is woken.
    busy: bool,
    /// Steps in a row that came to nothing and were not the last.
    fruitless: u32,
}

impl<S: Step> Shared<S> {
    /// Steps it as far as a sender does.
    fn sent(&self) {
        for _ in 0..ROUNDS {
            match self.step(false) {
                // Who has the turn looks into the mailbox when it gives the turn back, and who goes on with the step does, too.
                None | Some(After::Busy | After::Gone) => return,
                Some(After::More) => break,
                Some(After::Done) if self.mailbox.is_empty() => return,
                Some(After::Done) => {}
            }
        }
        self.bell.ring();
    }

    /// Steps it once for the pump. False when there is nothing more to step.
    fn pumped(&self) -> bool {
        let after = self.step(true).or_else(|| {
            // A sender has the turn, and it looks for mail only: it rings again when it gives the turn back. It may just have done so.
            self.bell.leave();
            self.step(true)
        });
        match after {
            Some(After::Gone) => return false,
            Some(After::More) => self.bell.ring(),
            Some(After::Done) if !self.mailbox.is_empty() => self.bell.ring(),
            None | Some(After::Busy | After::Done) => {}
        }
        true
    }

    /// One step, unless somebody else has the turn.
    fn step(&self, pump: bool) -> Option<After> {
        let mut turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let after = self.take_turn(&mut turn, pump);
        drop(turn);
        // Whoever was woken while the turn was taken, and found it taken.
        self.bell.back();
        Some(after)
    }

    fn take_turn(&self, turn: &mut Option<Turn<S>>, pump: bool) -> After {
        let Some(Turn { guest, receiver, out, busy, fruitless }) = turn else { return After::Gone };
        if let Some(reason) = self.mailbox.ended() {
            receiver.lost(reason);
            *turn = None;
            return After::Gone;
        }
        if *busy && !pump {
            return After::Busy;
        }
        let had_mail = !self.mailbox.is_empty();
        let waker = Waker::from(self.bell.clone());
        let stepped = guest.poll_step(out, &mut Context::from_waker(&waker));
        *busy = stepped.is_pending();
        let mut said = mem::take(out);
        // What is no frame has been told to everybody who waits.
        let mut heard = if said.is_empty() { Ok(()) } else { receiver.receive(&said) };
        if let (Poll::Ready(Ok(more)), Ok(())) = (&stepped, &heard) {
            *fruitless = if *more && said.is_empty() && !had_mail { *fruitless + 1 } else { 0 };
            if !receiver.is_between() {
                heard = Err(broken("it stopped in the midst of a frame"));
            } else if *fruitless > MOST_FRUITLESS {
                heard = Err(broken(&format!("it asked {MOST_FRUITLESS} times in a row for another step, and did nothing in any")));
            }
        }
        said.clear();
        said.shrink_to(KEEP);
        *out = said;
        match (stepped, heard) {
            (Poll::Ready(Ok(true)), Ok(())) => After::More,
            (Poll::Ready(Ok(false)), Ok(())) => After::Done,
            (Poll::Pending, Ok(())) => After::Busy,
            (Poll::Ready(Err(reason)), _) | (_, Err(reason)) => {
                self.mailbox.end(reason.clone());
                receiver.lost(reason);
                *turn = None;
                After::Gone
            }
        }
    }
}

impl<S: Step> Shared<S> {
    /// Puts frames into the mailbox.
    fn put(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        if frames.len() > self.longest {
            let message = format!("a message of {} bytes, and the plugin takes {} at once", frames.len(), self.longest);
            return Err(Error::new(Code::RESOURCE_EXHAUSTED, message));
        }
        // One that is ended by this is told by whoever has the turn next: this may be called by who answers the guest in the midst of its
        // step.
        self.mailbox.put(lane, frames).inspect_err(|_| self.bell.ring())
    }
}

impl<S: Step> Link for Shared<S> {
    fn send(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        self.put(lane, frames)?;
        self.sent();
        Ok(())
    }

    fn post(&self, lane: Lane, frames: &[u8]) -> Result<()> {
        self.put(lane, frames)?;
        if S::MAY_BLOCK {
            self.bell.ring();
        } else {
            self.sent();
        }
        Ok(())
    }
}

impl<S> Drop for Shared<S> {
    fn drop(&mut self) {
        self.mailbox.end(crashed());
        // The pump has nothing more to do.
        self.bell.ring();
    }
}

/// What a step left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It waits for mail, or to be woken.
    Done,
    /// It has more to do at once.
    More,
    /// It is in the midst of a step.
    Busy,
    Gone,
}

/// Lets others have a go.
async fn yielded() {
    let mut gone = false;
    pin!(poll_fn(|cx| {
        if mem::replace(&mut gone, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }))
    .await;
}
