//! `chat`: a conversation over the terminal channel, answers as they are written; with `--json`, over lines of JSON.

mod commands;
mod lines;
mod plugins;
mod reply;

use std::{cell::RefCell, io::IsTerminal, pin::pin, sync::Arc};

use bespoke_agent::TurnEvent;
use bespoke_plugin_api::{BoxFuture, CallCx, CancelToken, Channel, Error, Inbound, Inbox, InboxSink, Kind};
use tokio::sync::mpsc;

use self::{
    commands::Said,
    reply::{Reply, left},
};
use super::force_end;
use crate::{
    cli::Chat,
    conversation::Conversation,
    exit::{Exit, Failure, Result},
    models::Consent,
    setup::{Need, Setup},
};

/// The words that `chat` takes behind a slash.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    commands::names()
}

/// The channel that `chat` talks over.
const CHANNEL: &str = "terminal";

pub(crate) async fn run(setup: &Setup, args: Chat) -> Result<()> {
    if setup.out.json {
        return lines::run(setup, args).await;
    }
    let channel = [CHANNEL.to_owned()];
    let mut needs = setup.text_needs();
    needs.push(Need::of(Kind::Channel, &channel));
    setup.start(&needs, &Consent::from(&args.fetching)).await?;
    let slot = setup.host.find::<dyn Channel>(CHANNEL)?;
    let mut conversation = Conversation::open(setup, &args.kept, CHANNEL)?;
    if std::io::stdin().is_terminal() {
        conversation.greet();
    }

    let (taken, mut messages) = mpsc::channel(1);
    let cx = CallCx::new();
    let inbox = Inbox::new(Arc::new(Taken(taken)));
    // The answer that Ctrl-C stops; without one, Ctrl-C ends the conversation.
    let answering = RefCell::new(None::<CancelToken>);
    let talk = async {
        while let Some(message) = messages.recv().await {
            let mut reply = Reply::open(&conversation, &slot, &message.chat)?;
            let cancel = CancelToken::new();
            answering.replace(Some(cancel.clone()));
            match commands::read(&message.text) {
                Said::Command(command) => {
                    let told = command.run(&cx.with_cancel(cancel.clone()), &mut conversation).await;
                    let told = told.unwrap_or_else(|failure| failure.to_string());
                    reply.push(&told).map_err(left)?;
                    if std::mem::take(&mut conversation.retry) {
                        answer(&mut conversation, &cx.with_cancel(cancel), Question::Last, &mut reply).await?;
                    }
                }
                Said::Message(text) => {
                    let text = text.to_owned();
                    let mut message = message;
                    message.text = text;
                    match conversation.received(&cx.with_cancel(cancel.clone()), message).await {
                        Ok(message) => {
                            let question = Question::New(&message.text);
                            answer(&mut conversation, &cx.with_cancel(cancel), question, &mut reply).await?;
                        }
                        Err(refused) => setup.out.note(refused.to_string()),
                    }
                }
            }
            answering.replace(None);
            reply.send(&conversation, &cx).await?;
        }
        Ok::<(), Failure>(())
    };

    let ended = {
        let listen = slot.run(&cx, |channel, cx| async move { channel.run(&cx, inbox).await });
        let (mut listen, mut talk) = (pin!(listen), pin!(talk));
        loop {
            tokio::select! {
                // An error: nobody reads the answers any more, so the next line is not waited for.
                talked = &mut talk => break talked,
                listened = &mut listen => break match listened {
                    Ok(()) => talk.await,
                    Err(error) => Err(error.into()),
                },
                Ok(()) = tokio::signal::ctrl_c() => {
                    let answer = answering.borrow().clone();
                    match answer {
                        // It was told already, and does not stop.
                        Some(answer) if answer.is_cancelled() => force_end(&setup.host).await,
                        Some(answer) => answer.cancel(),
                        None => break Err(Failure::new(Exit::Interrupted, "interrupted")),
                    }
                }
            }
        }
    };
    // Who is told of the end may take as long as the user says, and no longer than whoever waits for it likes.
    tokio::select! {
        () = conversation.end() => ended,
        Ok(()) = tokio::signal::ctrl_c() => force_end(&setup.host).await,
    }
}

/// What is to be answered.
#[derive(Clone, Copy)]
enum Question<'q> {
    New(&'q str),
    /// The last one, again.
    Last,
}

/// One turn. What goes wrong in it is told, and the conversation goes on: the next question may do better.
async fn answer(conversation: &mut Conversation<'_>, cx: &CallCx, question: Question<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut wrote = Ok(());
    let out = conversation.out();
    let on_event = |event| match event {
        TurnEvent::Text(text) if wrote.is_ok() => {
            wrote = reply.push(&text);
            if wrote.is_err() {
                cx.cancel_token().cancel();
            }
        }
        TurnEvent::ProviderFailed { shown: true, .. } if wrote.is_ok() => {
            out.told(&event);
            wrote = reply.begin_anew();
        }
        event => out.told(&event),
    };
    let turn = match question {
        Question::New(input) => conversation.turn(cx, input, on_event).await,
        Question::Last => conversation.again(cx, on_event).await,
    };
    wrote.map_err(left)?;
    let failed = turn.is_err();
    match turn {
        Ok(_) => {}
        Err(failure) if failure.exit == Exit::Interrupted => reply.push(" …").map_err(left)?,
        Err(failure) => out.note(failure.to_string()),
    }
    if failed && matches!(question, Question::Last) {
        out.note("The answer before stays.");
    }
    Ok(())
}

/// Hands what came in to the loop above. Nothing is stored: a terminal asks again.
struct Taken(mpsc::Sender<Inbound>);

impl InboxSink for Taken {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, bespoke_plugin_api::Result<()>> {
        let sender = self.0.clone();
        Box::pin(async move { sender.send(message).await.map_err(|_| Error::cancelled()) })
    }
}
