//! Events on their way from a live session to whoever listens. Unlike a channel it can take back audio that nobody has heard.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::VoiceEvent;

/// The session's end.
pub(crate) struct Outbox(Arc<Mutex<State>>);

/// The listener's end.
pub(crate) struct Inlet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    events: VecDeque<VoiceEvent>,
    over: bool,
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

pub(crate) fn outbox() -> (Outbox, Inlet) {
    let state = Arc::<Mutex<State>>::default();
    (Outbox(state.clone()), Inlet(state))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic of the other end leaves a queue that is still consistent.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    pub(crate) fn push(&self, event: VoiceEvent) {
        let waker = {
            let mut state = lock(&self.0);
            if state.unread {
                return;
            }
            state.events.push_back(event);
            state.reader.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes back the audio that nobody has fetched, and says that it was interrupted.
    pub(crate) fn interrupt(&self) {
        lock(&self.0).events.retain(|event| !matches!(event, VoiceEvent::ReplyAudio { .. }));
        self.push(VoiceEvent::Interrupted);
    }

    /// Ready when nobody listens any more.
    pub(crate) fn poll_unread(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.unread {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let waker = {
            let mut state = lock(&self.0);
            state.over = true;
            state.reader.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Inlet {
    /// The next event, `None` after the last.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<VoiceEvent>> {
        let mut state = lock(&self.0);
        match state.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.over => Poll::Ready(None),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        let waker = {
            let mut state = lock(&self.0);
            state.unread = true;
            state.events.clear();
            state.writer.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}
