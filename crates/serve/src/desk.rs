//! Whose turn it is: chats with messages, answered by so many workers at once as the configuration says. Knows names of chats; the messages
//! wait in the database.
//!
//! **Invariant:** one chat is at one worker at most, so that its messages are answered in order.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::Notify;

use crate::{core::Core, turn};

/// How long a chat is left alone when its messages cannot be read or answered for a reason of our own.
const SETBACK: Duration = Duration::from_secs(1);

/// Channel and chat.
type Chat = (Arc<str>, Arc<str>);

/// The chats that have messages.
#[derive(Default)]
pub(crate) struct Desk {
    queue: Mutex<Queue>,
    left: Notify,
}

#[derive(Default)]
struct Queue {
    /// Those that no worker has, the one that waits longest first.
    waiting: VecDeque<Chat>,
    /// All of them, and whether a message came since a worker looked.
    known: HashMap<Chat, bool>,
    workers: usize,
    closed: bool,
}

/// What is left of a chat after a look at it.
pub(crate) enum Rest {
    /// Nothing.
    Nothing,
    /// Another message.
    More,
    /// The same one: it could not be answered now.
    Stuck,
}

impl Desk {
    /// A message has come.
    pub(crate) fn knock(&self, core: &Arc<Core>, channel: &Arc<str>, chat: &str) {
        {
            let mut queue = self.queue();
            let chat: Chat = (channel.clone(), chat.into());
            if let Some(again) = queue.known.get_mut(&chat) {
                *again = true;
                return;
            }
            queue.known.insert(chat.clone(), false);
            queue.waiting.push_back(chat);
        }
        self.hire(core);
    }

    /// As many workers as there is work and the configuration allows.
    pub(crate) fn hire(&self, core: &Arc<Core>) {
        let most = core.config.load().most_chats();
        let mut queue = self.queue();
        let wanted = if queue.closed { 0 } else { most.saturating_sub(queue.workers).min(queue.waiting.len()) };
        queue.workers += wanted;
        drop(queue);
        for _ in 0..wanted {
            tokio::spawn(work(core.clone()));
        }
    }

    /// Begins nothing any more.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
    }

    /// Completes when nobody is at work.
    pub(crate) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.queue().workers == 0 {
                return;
            }
            left.await;
        }
    }

    /// Chats that are being answered.
    pub(crate) fn at_work(&self) -> u64 {
        let queue = self.queue();
        (queue.known.len() - queue.waiting.len()) as u64
    }

    /// The next chat for a worker; `None` when it is to go.
    fn next(&self, most: usize) -> Option<Chat> {
        let mut queue = self.queue();
        let next = if queue.closed || queue.workers > most { None } else { queue.waiting.pop_front() };
        match &next {
            Some(chat) => {
                if let Some(again) = queue.known.get_mut(chat) {
                    *again = false;
                }
            }
            None => {
                queue.workers -= 1;
                self.left.notify_waiters();
            }
        }
        next
    }

    /// A worker has looked at a chat. Others come first: a chat that writes without end does not keep them waiting.
    fn put_back(&self, chat: Chat, more: bool) {
        let mut queue = self.queue();
        if more || queue.known.get(&chat).is_some_and(|again| *again) {
            queue.waiting.push_back(chat);
        } else {
            queue.known.remove(&chat);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn work(core: Arc<Core>) {
    while let Some(chat) = core.desk.next(core.config.load().most_chats()) {
        let (channel, name) = (&chat.0, &chat.1);
        // Boxed: a worker that waits must not carry the state of a whole answer. Caught: a chat whose worker is gone would wait for ever.
        let rest = AssertUnwindSafe(Box::pin(turn::answer_next(&core, channel, name))).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(channel = &**channel, "an answer panicked");
            Rest::Stuck
        });
        if matches!(rest, Rest::Stuck) {
            tokio::select! {
                () = core.answers.cancelled() => {}
                () = tokio::time::sleep(SETBACK) => {}
            }
        }
        core.desk.put_back(chat, !matches!(rest, Rest::Nothing));
    }
}
