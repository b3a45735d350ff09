//! An answer while it is written: shown by editing a message, where the channel can, and that somebody writes at all. What the answer is in
//! the end is not decided here.

use std::{
    convert::Infallible,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bespoke_agent::{Turn, TurnEvent};
use bespoke_host::Slot;
use bespoke_plugin_api::{Channel, Error, Hook, MessageRef, Result};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    post::{asked, had_no_effect},
    turn::Asked,
};

/// An answer that is there sooner needs nobody to say that it is being written.
const WORTH_TELLING: Duration = Duration::from_millis(200);
/// How long people are shown that somebody writes, as channels have it.
const TYPING: Duration = Duration::from_secs(4);
/// How long saying so may take.
const TYPING_LIMIT: Duration = Duration::from_secs(3);
/// Most characters that are shown before the end: services do not take longer messages, and the end splits what is too long.
const SHOWN: usize = 3_000;

/// What a turn has said until now.
#[derive(Default)]
pub(crate) struct Board {
    text: Mutex<String>,
    changed: Notify,
    done: AtomicBool,
}

impl Board {
    /// Takes what happens in the turn.
    pub(crate) fn hear(&self, event: TurnEvent) {
        match event {
            TurnEvent::Text(text) => self.text().push_str(&text),
            TurnEvent::ProviderFailed { .. } => self.text().clear(),
            _ => return,
        }
        self.changed.notify_one();
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    fn text(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As much as is shown; `None` when there is nothing yet.
    fn shown(&self) -> Option<String> {
        let text = self.text();
        let text = text.trim();
        let shown: String = text.chars().take(SHOWN).collect();
        (!text.is_empty()).then(|| format!("{shown} …"))
    }
}

/// Has a turn that tells a board, and shows it meanwhile as far as the channel can and no hook wants to see the answer before it leaves.
pub(crate) async fn shown(asked: &Asked<'_>, board: &Board, turn: impl Future<Output = Result<Turn>> + Send) -> Result<Turn> {
    let turning = async {
        let result = turn.await;
        board.done.store(true, Ordering::Release);
        board.changed.notify_one();
        result
    };
    let showing = async {
        let Ok(slot) = asked.line.slot(asked.core) else { return };
        let edits = slot.spec().edits && !asked.core.host.hooks().wants(Hook::BeforeMessageSend);
        if edits || slot.spec().typing {
            Show { asked, board, slot, edits, message: None, said: String::new() }.run().await;
        }
    };
    // What is being sent when the turn is done is waited for: nobody could tell otherwise whether it was.
    tokio::join!(turning, showing).0
}

/// Has something done of which nobody sees anything, and shows meanwhile that somebody is at it, where the channel can.
pub(crate) async fn typed<T>(asked: &Asked<'_>, work: impl Future<Output = T> + Send) -> T {
    let typing = async {
        if let Ok(slot) = asked.line.slot(asked.core)
            && slot.spec().typing
        {
            let mut next = Instant::now() + WORTH_TELLING;
            loop {
                sleep_until(next).await;
                next = Instant::now() + TYPING;
                type_on(asked, &slot).await;
            }
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        done = work => done,
        never = typing => match never {},
    }
}

async fn type_on(asked: &Asked<'_>, slot: &Slot<dyn Channel>) {
    let (cx, chat) = (&asked.cx, asked.taken.message.chat.as_str());
    let told = slot.call(cx, |channel, cx| async move { channel.typing(&cx, chat).await });
    // A nicety: whatever comes of it.
    let _ = tokio::time::timeout(TYPING_LIMIT, told).await;
}

struct Show<'a> {
    asked: &'a Asked<'a>,
    board: &'a Board,
    slot: Slot<dyn Channel>,
    edits: bool,
    /// The message that shows it.
    message: Option<MessageRef>,
    said: String,
}

impl Show<'_> {
    async fn run(mut self) {
        let every = self.asked.core.config.load().edit_every();
        let mut typing = self.slot.spec().typing.then(|| Instant::now() + WORTH_TELLING);
        let mut edit = None;
        while !self.board.is_done() {
            if self.edits && edit.is_none() && self.board.shown().is_some_and(|text| text != self.said) {
                edit = Some(Instant::now() + every);
            }
            tokio::select! {
                biased;
                () = self.board.changed.notified() => {}
                () = at(edit) => {
                    edit = None;
                    if let Err(error) = self.edit().await {
                        // What a service asks for is kept; anything else ends it, and the answer comes as a whole.
                        match asked(&error) {
                            Duration::ZERO => self.edits = false,
                            pause => edit = Some(Instant::now() + pause),
                        }
                        tracing::debug!(channel = &**self.asked.line.name(), error = error.kind(), "an answer is not shown while it is written");
                    }
                }
                () = at(typing) => {
                    typing = Some(Instant::now() + TYPING);
                    type_on(self.asked, &self.slot).await;
                }
            }
        }
    }

    /// Shows what there is by now.
    async fn edit(&mut self) -> Result<()> {
        let Some(text) = self.board.shown() else { return Ok(()) };
        let message = self.asked.message(text.clone());
        // Not cancelled with the answer: what has been begun to be sent is sent.
        let cx = self.asked.core.cx();
        if let Some(shown) = &self.message {
            let (shown, slot) = (shown.clone(), &self.slot);
            slot.call(&cx, |channel, cx| async move { channel.edit(&cx, shown, message).await }).await?;
            self.said = text;
            return Ok(());
        }
        let (state, channel) = (&self.asked.core.state, self.asked.line.name());
        let Some(draft) = state.draft(self.asked.taken.id, channel, &message).map_err(Error::from)? else {
            // Something older is to be sent first; nothing is shown of this one.
            self.edits = false;
            return Ok(());
        };
        if let Some(shown) = draft.shown {
            // By the program before this one.
            self.message = Some(MessageRef::new(message.chat, shown));
            return Box::pin(self.edit()).await;
        }
        if draft.unsure && !self.slot.spec().idempotent {
            // It may have been shown. Whether it was or not, the answer comes as a whole: that is one message too many at most.
            self.edits = false;
            return Ok(());
        }
        let sent = self.slot.call(&cx, |channel, cx| async move { channel.send(&cx, draft.message).await }).await;
        match sent {
            Ok(shown) => {
                state.shown(draft.id, &shown.id).map_err(Error::from)?;
                self.message = Some(shown);
                self.said = text;
                Ok(())
            }
            Err(error) => {
                if had_no_effect(&error) {
                    state.draft_failed(draft.id).map_err(Error::from)?;
                }
                Err(error)
            }
        }
    }
}

/// Completes then; never without a moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
