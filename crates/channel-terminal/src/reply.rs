//! An answer on its way to the screen, and whose turn it is to speak.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bespoke_plugin_api::{CallCx, Duplex, Error, MessageRef, Result};
use bespoke_screen::{Page, columns};

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

/// Where an answer is written.
type Screen = Box<dyn Write + Send>;

/// One answer. The turn is over when it is finished or dropped.
pub(crate) struct Reply {
    turn: Arc<Turn>,
    screen: Screen,
    /// Breaks lines, on a terminal.
    page: Option<Page>,
    id: String,
    finished: bool,
    done: VecDeque<MessageRef>,
}

impl Reply {
    pub(crate) fn open(turn: Arc<Turn>) -> Self {
        let mut reply = Reply::on(Box::new(std::io::stdout()), turn);
        reply.page = columns().map(|_| Page::default());
        reply
    }

    fn on(screen: Screen, turn: Arc<Turn>) -> Self {
        let id = turn.messages.fetch_add(1, Ordering::Relaxed).to_string();
        Reply { turn, screen, page: None, id, finished: false, done: VecDeque::new() }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        // Asked each time: the width of a terminal may change while an answer is written.
        let broken = self.page.as_mut().map(|page| page.add(text, columns().unwrap_or(80)));
        let text = broken.as_deref().unwrap_or(text);
        self.screen.write_all(text.as_bytes()).and_then(|()| self.screen.flush()).map_err(|e| match e.kind() {
            // Who read our output has enough of it.
            io::ErrorKind::BrokenPipe => Error::cancelled(),
            _ => Error::internal(format!("stdout: {e}")),
        })
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
        self.write(text)
    }

    fn finish(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.finished, true) {
            let written = self.write("\n");
            // The turn is over even if nobody sees the answer: waiting for it would be for ever.
            self.turn.end();
            written?;
            self.done.push_back(self.reference());
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
            let _ = self.write("\n");
            self.turn.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::Code;
    use bespoke_plugin_testkit::block_on;

    use super::*;

    /// What was written, or a reader that is gone.
    #[derive(Clone, Default)]
    struct Page {
        text: Arc<Mutex<String>>,
        closed: bool,
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.closed {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.text.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn begun(page: &Page) -> (Arc<Turn>, Reply) {
        let turn = Arc::new(Turn::default());
        turn.begin();
        (turn.clone(), Reply::on(Box::new(page.clone()), turn))
    }

    /// Whether the person may speak, asked once.
    fn over(turn: &Turn) -> bool {
        let cx = CallCx::new();
        let mut answered = std::pin::pin!(turn.answered(&cx));
        answered.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn next(reply: &mut Reply) -> Poll<Option<Result<MessageRef>>> {
        reply.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn pieces_are_written_as_they_come_and_finish_ends_line_and_turn() {
        let page = Page::default();
        let (turn, mut reply) = begun(&page);
        reply.push("It is ").unwrap();
        assert_eq!((page.text.lock().unwrap().as_str(), over(&turn)), ("It is ", false));
        assert!(next(&mut reply).is_pending());
        reply.push("noon.").unwrap();
        reply.finish().unwrap();
        reply.finish().unwrap();
        assert!(over(&turn));
        assert_eq!(next(&mut reply), Poll::Ready(Some(Ok(MessageRef::new(CHAT, "0")))));
        assert_eq!(next(&mut reply), Poll::Ready(None));
        drop(reply);
        assert_eq!(page.text.lock().unwrap().as_str(), "It is noon.\n");
    }

    #[test]
    fn who_waits_is_woken_when_the_turn_ends() {
        let (turn, mut reply) = begun(&Page::default());
        let waits = turn.clone();
        let waiting = std::thread::spawn(move || block_on(waits.answered(&CallCx::new())));
        // The waker is there once it waits.
        while turn.lock().waker.is_none() {
            std::thread::yield_now();
        }
        reply.finish().unwrap();
        waiting.join().unwrap();
    }

    #[test]
    fn a_reply_that_is_dropped_ends_line_and_turn() {
        let page = Page::default();
        let (turn, mut reply) = begun(&page);
        reply.push("It is").unwrap();
        drop(reply);
        assert!(over(&turn));
        assert_eq!(page.text.lock().unwrap().as_str(), "It is\n");
    }

    #[test]
    fn nothing_is_written_after_the_end() {
        let page = Page::default();
        let (_turn, mut reply) = begun(&page);
        reply.finish().unwrap();
        assert_eq!(reply.push("more").unwrap_err().code(), Code::INVALID_PARAMS);
        assert_eq!(page.text.lock().unwrap().as_str(), "\n");
    }

    #[test]
    fn a_closed_screen_cancels_the_answer_and_still_ends_the_turn() {
        let (turn, mut reply) = begun(&Page { closed: true, ..Page::default() });
        assert_eq!(reply.push("It is").unwrap_err().code(), Code::CANCELLED);
        assert!(!over(&turn));
        assert_eq!(reply.finish().unwrap_err().code(), Code::CANCELLED);
        assert!(over(&turn));
        assert_eq!(next(&mut reply), Poll::Ready(None));
    }

    #[test]
    fn a_cancelled_call_stops_waiting() {
        let turn = Turn::default();
        turn.begin();
        let token = bespoke_plugin_api::CancelToken::new();
        token.cancel();
        block_on(turn.answered(&CallCx::new().with_cancel(token)));
    }
}
