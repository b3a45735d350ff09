//! What leaves over one channel: in order in each chat, tried again until it has left or is dead. What it says is not looked at.
//!
//! A message counts as being sent from before the call of the channel until after it. One whose sending was cut short, by the end of the
//! program, a limit or a broken line, may have arrived: nobody knows. It is sent again, with the same key. A channel that says it is
//! `idempotent` shows it once; over any other one it may arrive twice, which is counted and logged. The other choice, to leave it, would
//! lose an answer for good, and a person who reads the same answer twice knows what happened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bespoke_plugin_api::{Code, Error, MessageRef, Result};
use bespoke_state::{Letter, StateError, Trouble, Unreadable};
use futures_util::future::pending;
use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified};

use crate::{
    core::Core,
    lines::Line,
    news::{self, Failed},
    pause,
};

/// Chats of one channel to which something is sent at the same time.
const AT_ONCE: usize = 16;
/// The pause while a plugin does not run, in first pauses.
const WITHOUT_PLUGIN: u32 = 10;
/// No service asks for a longer pause in earnest.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the end of a sending is stored when the file is busy, and the pause between.
const TO_STORE: (u32, Duration) = (30, Duration::from_secs(1));

/// The sending side of a channel.
pub(crate) struct Post {
    wake: Notify,
    moved: Notify,
    room: Arc<Semaphore>,
    /// Somebody waits for room.
    crowded: AtomicBool,
}

impl Default for Post {
    fn default() -> Self {
        Post { wake: Notify::new(), moved: Notify::new(), room: Arc::new(Semaphore::new(AT_ONCE)), crowded: AtomicBool::new(false) }
    }
}

impl Post {
    /// There is something to send.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Completes when something was sent, or not.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.room.available_permits() == AT_ONCE
    }

    /// Room for one letter.
    pub(crate) fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok()
    }
}

/// Sends what waits, until the channel is stopped.
pub(crate) async fn run(core: Arc<Core>, line: Arc<Line>) {
    while !line.is_stopped() {
        let next = match some(&core, &line) {
            Ok(Look::Again) => continue,
            Ok(Look::Later(next)) => next,
            Err(error) => {
                tracing::error!(channel = &**line.name(), %error, "what is to be sent cannot be read");
                Some(TO_STORE.1)
            }
        };
        let due = async {
            match next {
                Some(next) => tokio::time::sleep(next).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = line.stopped() => {}
            () = line.post.wake.notified() => {}
            () = due => {}
        }
    }
}

enum Look {
    Again,
    /// When something is due, without a sign.
    Later(Option<Duration>),
}

/// Begins to send as much as there is room for.
fn some(core: &Arc<Core>, line: &Arc<Line>) -> Result<Look, StateError> {
    let mut room: Vec<_> = std::iter::from_fn(|| line.post.room()).collect();
    if room.is_empty() {
        line.post.crowded.store(true, Ordering::SeqCst);
        // Whoever left in between has not seen that.
        return Ok(if line.post.room.available_permits() > 0 { Look::Again } else { Look::Later(None) });
    }
    let due = core.state.next_letters(line.name(), room.len())?;
    for Unreadable { id, chat, session, error, .. } in &due.unreadable {
        tracing::error!(channel = &**line.name(), letter = id, error, "is a dead letter");
        news::failed(core, (line.name(), chat), session.as_deref(), Failed::Read, Code::INTERNAL_ERROR.name(), error);
    }
    for letter in due.letters {
        // One for each.
        let Some(permit) = room.pop() else { break };
        send(core, line, letter, permit);
    }
    if room.is_empty() {
        return Ok(Look::Again);
    }
    let next = core.state.next_letter_in(line.name())?;
    Ok(if next.is_some_and(|next| next.is_zero()) { Look::Again } else { Look::Later(next) })
}

/// Sends a letter that counts as being sent.
pub(crate) fn send(core: &Arc<Core>, line: &Arc<Line>, letter: Letter, permit: OwnedSemaphorePermit) {
    let (core, line) = (core.clone(), line.clone());
    tokio::spawn(async move {
        let sent = deliver(&core, &line, &letter).await;
        if sent.is_ok() {
            news::sent(&core, line.name(), &letter);
        }
        let more = store(&core, &line, &letter, sent).await;
        drop(permit);
        line.post.moved.notify_waiters();
        if line.post.crowded.swap(false, Ordering::SeqCst) || more {
            core.wake(line.name());
        }
    });
}

/// Stores what became of it; whether there is something to look at.
async fn store(core: &Core, line: &Line, letter: &Letter, sent: Result<(), Trouble>) -> bool {
    let chat = &letter.message.chat;
    for _ in 0..TO_STORE.0 {
        let stored = match &sent {
            Ok(()) => core.state.sent(letter.id, line.name(), chat),
            Err(trouble) => core.state.not_sent(letter.id, trouble).map(|()| true),
        };
        match stored {
            Ok(more) => return more,
            Err(error) => {
                tracing::error!(channel = &**line.name(), letter = letter.id, %error, "what became of a message cannot be stored")
            }
        }
        tokio::time::sleep(TO_STORE.1).await;
    }
    // Until the next start it counts as being sent.
    false
}

async fn deliver(core: &Core, line: &Line, letter: &Letter) -> Result<(), Trouble> {
    let result = match line.slot(core) {
        Ok(slot) => {
            let (spec, cx) = (slot.spec(), core.cx());
            let mut message = letter.message.clone();
            if !spec.attachments {
                message.attachments.clear();
            }
            let edits = spec.edits;
            // Also of one that is shown: an edit brings what does not fit into that message, and its files, as further ones.
            if letter.unsure && !spec.idempotent {
                repeated(core, line, letter);
            }
            match letter.shown.as_ref().filter(|_| edits) {
                Some(shown) => {
                    let shown = MessageRef::new(message.chat.clone(), shown.clone());
                    slot.call(&cx, |channel, cx| async move { channel.edit(&cx, shown, message).await }).await
                }
                None => {
                    let (sending, again) = (message.clone(), letter.unsure && spec.idempotent && edits);
                    let sent = slot.call(&cx, |channel, cx| async move { channel.send(&cx, sending).await }).await;
                    match sent {
                        // What has its key may have been the beginning of it only.
                        Ok(shown) if again => {
                            if let Err(error) = core.state.shown(letter.id, &shown.id) {
                                tracing::warn!(%error, "it cannot be stored which message was sent");
                            }
                            slot.call(&cx, |channel, cx| async move { channel.edit(&cx, shown, message).await }).await
                        }
                        sent => sent.map(drop),
                    }
                }
            }
        }
        Err(error) => Err(error),
    };
    result.map_err(|error| {
        let trouble = trouble(core, line, letter, &error);
        // Under a new key nothing tells it from what may have arrived under the old one.
        if trouble.unshow && letter.unsure && line.slot(core).is_ok_and(|slot| slot.spec().idempotent) {
            repeated(core, line, letter);
        }
        trouble
    })
}

/// What may have arrived is sent again.
fn repeated(core: &Core, line: &Line, letter: &Letter) {
    core.counts.repeated.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(channel = &**line.name(), letter = letter.id, "is sent again, and may arrive twice: the channel cannot tell");
}

/// What follows from an error.
fn trouble(core: &Core, line: &Line, letter: &Letter, error: &Error) -> Trouble {
    let config = core.config.load();
    let told = core.host.redactor().redact_error(error).to_string();
    let absent = matches!(error.code(), Code::NOT_READY | Code::PLUGIN_NOT_FOUND);
    // The end of the program is not the letter's fault, and nobody knows how far it got.
    let cut = error.code() == Code::CANCELLED;
    let worth = absent
        || cut
        || error.is_retryable()
        || matches!(error.code(), Code::EXECUTION_TIMEOUT | Code::PLUGIN_CRASHED | Code::NETWORK_FAILED);
    let ended = cut && core.over.is_cancelled();
    let spent = !absent && !ended && letter.attempts >= config.send_attempts || letter.age() >= config.send_age();
    let mut trouble = if worth && !spent {
        let pause = if absent { config.retry() * WITHOUT_PLUGIN } else { pause::after(letter.attempts, config.retry()).max(asked(error)) };
        tracing::warn!(
            channel = &**line.name(),
            letter = letter.id,
            error = told,
            "was not sent, and is sent again in {} ms",
            pause.as_millis()
        );
        Trouble::again_in(told, pause)
    } else if letter.shown.is_some() && !worth {
        tracing::warn!(channel = &**line.name(), letter = letter.id, error = told, "could not be edited, and is sent as a new message");
        let mut trouble = Trouble::again_in(told, Duration::ZERO);
        trouble.unshow = true;
        trouble
    } else {
        tracing::error!(channel = &**line.name(), letter = letter.id, error = told, "could not be sent and is a dead letter");
        let place = (&**line.name(), letter.message.chat.as_str());
        news::failed(core, place, letter.session.as_deref(), Failed::Sent, error.kind(), &told);
        Trouble::dead(told)
    };
    trouble.unsure = !had_no_effect(error);
    trouble.counts = !absent && !ended;
    trouble
}

/// The pause that a service asks for: `{"retry_after_ms": n}` in the data of the error.
pub(crate) fn asked(error: &Error) -> Duration {
    let ms = error.data().and_then(|data| data.get("retry_after_ms")).and_then(Value::as_u64);
    Duration::from_millis(ms.unwrap_or(0)).min(LONGEST_ASKED)
}

/// Whether a call of a channel has surely had no effect: as `{"may_have_arrived": true}` in the data of the error says, or else its code.
pub(crate) fn had_no_effect(error: &Error) -> bool {
    let told = error.data().and_then(|data| data.get("may_have_arrived")).and_then(Value::as_bool);
    let by_code = || {
        matches!(
            error.code(),
            Code::EXECUTION_TIMEOUT | Code::PLUGIN_CRASHED | Code::NETWORK_FAILED | Code::PLUGIN_EXCEPTION | Code::CANCELLED
        )
    };
    !told.unwrap_or_else(by_code)
}
