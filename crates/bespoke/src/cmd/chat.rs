//! `chat`: a conversation over the terminal channel, answers as they are written.

use std::{cell::RefCell, pin::pin, sync::Arc};

use bespoke_agent::{Agent, Session, TurnEvent};
use bespoke_plugin_api::{BoxFuture, CallCx, CancelToken, Channel, Code, Duplex, Error, Inbound, Inbox, InboxSink, Kind, MessageRef, next};
use tokio::sync::mpsc;

use crate::{
    cli::{Chat, Global},
    exit::{Exit, Failure, Result},
    models::Consent,
    output::Out,
    setup::{Need, Setup},
};

/// The channel that `chat` talks over.
const CHANNEL: &str = "terminal";

pub(crate) async fn run(global: &Global, args: Chat) -> Result<()> {
    let setup = Setup::new(global, &[])?;
    let channel = [CHANNEL.to_owned()];
    let mut needs = setup.text_needs();
    needs.push(Need::of(Kind::Channel, &channel));
    setup.start(&needs, &Consent::from(&args.fetching)).await?;
    let slot = setup.host.find::<dyn Channel>(CHANNEL)?;
    let agent = setup.agent()?;
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        setup.out.note(format!("{} answers. Ctrl-C stops an answer, Ctrl-D or /quit ends the conversation.", agent.providers().join(", ")));
    }

    let (taken, mut messages) = mpsc::channel(1);
    let lease = slot.lease()?;
    let cx = CallCx::new();
    let inbox = Inbox::new(Arc::new(Taken(taken)));
    // The answer that Ctrl-C stops; without one, Ctrl-C ends the conversation.
    let answering = RefCell::new(None::<CancelToken>);
    let talk = async {
        let mut session = Session::new("chat");
        while let Some(message) = messages.recv().await {
            let mut reply = slot.enter(|channel| channel.stream(&message.chat))?;
            let cancel = CancelToken::new();
            answering.replace(Some(cancel.clone()));
            answer(setup.out, &agent, &cx.with_cancel(cancel), &mut session, &message.text, &mut **reply).await?;
            answering.replace(None);
            reply.finish().map_err(left)?;
            while let Some(sent) = next(&mut **reply).await {
                sent.map_err(left)?;
            }
        }
        agent.end(&cx, session).await;
        Ok::<(), Failure>(())
    };
    let talked = {
        // The channel runs as long as the conversation, so no time limit of a single call holds for it.
        let (mut listen, mut talk) = (pin!(lease.run(&cx, inbox)), pin!(talk));
        loop {
            tokio::select! {
                // An error: nobody reads the answers any more, so the next line is not waited for.
                talked = &mut talk => break talked,
                listened = &mut listen => break match listened {
                    Ok(()) => talk.await,
                    Err(error) => Err(error.into()),
                },
                Ok(()) = tokio::signal::ctrl_c() => match answering.borrow().as_ref() {
                    Some(answer) => answer.cancel(),
                    None => break Err(Failure::new(Exit::Interrupted, "interrupted")),
                },
            }
        }
    };
    drop(lease);
    setup.host.shutdown().await;
    talked
}

/// One turn. What goes wrong in it is told, and the conversation goes on: the next question may do better.
async fn answer(
    out: Out,
    agent: &Agent,
    cx: &CallCx,
    session: &mut Session,
    input: &str,
    reply: &mut dyn Duplex<str, MessageRef>,
) -> Result<()> {
    let mut wrote = Ok(());
    let turn = agent.turn(cx, session, input, |event| match event {
        TurnEvent::Text(text) if wrote.is_ok() => {
            wrote = reply.push(&text);
            if wrote.is_err() {
                cx.cancel_token().cancel();
            }
        }
        TurnEvent::ToolStarted(call) => out.note(format!("[{} {}]", call.name, call.args)),
        TurnEvent::ProviderFailed { provider, reason } => out.note(format!("[{provider} failed, the next one is asked: {reason}]")),
        _ => {}
    });
    let turn = turn.await;
    wrote.map_err(left)?;
    match turn {
        Ok(_) => {}
        Err(error) if error.code() == Code::CANCELLED => reply.push(" …").map_err(left)?,
        Err(error) => out.note(Failure::from(error).to_string()),
    }
    Ok(())
}

/// A channel that cancels has lost whom it talks with: the conversation is over, and that is no failure.
fn left(error: Error) -> Failure {
    if error.code() == Code::CANCELLED { Failure::new(Exit::Ok, "") } else { error.into() }
}

/// Hands what came in to the loop above. Nothing is stored: a terminal asks again.
struct Taken(mpsc::Sender<Inbound>);

impl InboxSink for Taken {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, bespoke_plugin_api::Result<()>> {
        let sender = self.0.clone();
        Box::pin(async move { sender.send(message).await.map_err(|_| Error::cancelled()) })
    }
}
