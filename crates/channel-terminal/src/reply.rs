//! An answer on its way to the screen, and whose turn it is to speak.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{CallCx, Duplex, Error, MessageRef, Result};

use crate::CHAT;

/// Whose turn it is: the person's, or the agent's from a line that was taken until its answer is out.
#[derive(Default)]
pub(crate) struct Turn {
    state: Mutex<State>,
    messages: AtomicU64,
}

#[derive(Default)]
struct State {
    waits: bool,
    waker: Option<Waker>,
}

impl Turn {
    pub(crate) fn begin(&self) {
        self.lock().waits = true;
    }

    /// Completes when an answer is out, or the call is cancelled.
    pub(crate) async fn answered(&self, cx: &CallCx) {
        let mut cancelled = std::pin::pin!(cx.cancelled());
        poll_fn(|task| {
            if cancelled.as_mut().poll(task).is_ready() {
                return Poll::Ready(());
            }
            let mut state = self.lock();
            if !state.waits {
                return Poll::Ready(());
            }
            state.waker = Some(task.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn end(&self) {
        let waker = {
            let mut state = self.lock();
            state.waits = false;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer. The turn is over when it is finished or dropped.
pub(crate) struct Reply {
    turn: Arc<Turn>,
    id: String,
    finished: bool,
    done: VecDeque<MessageRef>,
}

impl Reply {
    pub(crate) fn open(turn: Arc<Turn>) -> Self {
        let id = turn.messages.fetch_add(1, Ordering::Relaxed).to_string();
        Reply { turn, id, finished: false, done: VecDeque::new() }
    }

    pub(crate) fn reference(&self) -> MessageRef {
        MessageRef::new(CHAT, self.id.clone())
    }
}

impl Duplex<str, MessageRef> for Reply {
    fn push(&mut self, text: &str) -> Result<()> {
        if self.finished {
            return Err(Error::invalid_params("the message is finished"));
        }
        write(text)
    }

    fn finish(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.finished, true) {
            self.done.push_back(self.reference());
            write("\n")?;
            self.turn.end();
        }
        Ok(())
    }

    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<MessageRef>>> {
        match self.done.pop_front() {
            Some(reference) => Poll::Ready(Some(Ok(reference))),
            None if self.finished => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.finished {
            // The answer broke off in the middle of a line; stdout may be gone, and then nobody sees it.
            let _ = write("\n");
            self.turn.end();
        }
    }
}

fn write(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| match e.kind() {
        // Who read our output has enough of it.
        std::io::ErrorKind::BrokenPipe => Error::cancelled(),
        _ => Error::internal(format!("stdout: {e}")),
    })
}
