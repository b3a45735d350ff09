//! `chat`: a conversation over the terminal channel, answers as they are written.

use std::{cell::RefCell, pin::pin, sync::Arc};

use bespoke_agent::{Agent, Session, TurnEvent};
use bespoke_host::{Host, Leased, Outcome, Slot};
use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Channel, Code, Duplex, Error, Hook, HookEvent, Inbound, Inbox, InboxSink, Kind, MessageRef, Outbound,
    next,
};
use tokio::sync::mpsc;

use crate::{
    cli::Chat,
    exit::{Exit, Failure, Result},
    models::Consent,
    output::Out,
    setup::{Need, Setup},
};

/// The channel that `chat` talks over.
const CHANNEL: &str = "terminal";

pub(crate) async fn run(setup: &Setup, args: Chat) -> Result<()> {
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
    let cx = CallCx::new();
    let inbox = Inbox::new(Arc::new(Taken(taken)));
    // The answer that Ctrl-C stops; without one, Ctrl-C ends the conversation.
    let answering = RefCell::new(None::<CancelToken>);
    let talk = async {
        let mut session = Session::new("chat");
        while let Some(message) = messages.recv().await {
            let mut reply = Reply::open(&setup.host, &slot, &message.chat)?;
            let cancel = CancelToken::new();
            answering.replace(Some(cancel.clone()));
            match received(&setup.host, &cx, message).await {
                Ok(message) => answer(setup.out, &agent, &cx.with_cancel(cancel), &mut session, &message.text, &mut reply).await?,
                Err(refused) => setup.out.note(refused.to_string()),
            }
            answering.replace(None);
            reply.send(&setup.host, &cx).await?;
        }
        agent.end(&cx, session).await;
        Ok::<(), Failure>(())
    };

    {
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
                Ok(()) = tokio::signal::ctrl_c() => match answering.borrow().as_ref() {
                    Some(answer) => answer.cancel(),
                    None => break Err(Failure::new(Exit::Interrupted, "interrupted")),
                },
            }
        }
    }
}

/// One turn. What goes wrong in it is told, and the conversation goes on: the next question may do better.
async fn answer(out: Out, agent: &Agent, cx: &CallCx, session: &mut Session, input: &str, reply: &mut Reply<'_>) -> Result<()> {
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

/// A message as the hooks leave it.
async fn received(host: &Host, cx: &CallCx, message: Inbound) -> Result<Inbound> {
    let event = || HookEvent::after_message_receive(CHANNEL, message.clone());
    match host.hooks().run(cx, Hook::AfterMessageReceive, event).await {
        Some(Outcome::Proceed(HookEvent::AfterMessageReceive { message, .. })) => Ok(message),
        Some(Outcome::Vetoed { plugin, reason }) => Err(Failure::new(Exit::Consent, format!("refused by {plugin}: {reason}"))),
        _ => Ok(message),
    }
}

/// An answer on its way: shown as it is written, unless a hook wants to see it whole before it leaves.
enum Reply<'s> {
    Stream(Leased<dyn Channel, Box<dyn Duplex<str, MessageRef>>>),
    Whole { slot: &'s Slot<dyn Channel>, chat: String, text: String },
}

impl<'s> Reply<'s> {
    fn open(host: &Host, slot: &'s Slot<dyn Channel>, chat: &str) -> Result<Self> {
        if host.hooks().wants(Hook::BeforeMessageSend) {
            return Ok(Reply::Whole { slot, chat: chat.to_owned(), text: String::new() });
        }
        Ok(Reply::Stream(slot.enter(|channel| channel.stream(chat))?))
    }

    fn push(&mut self, text: &str) -> bespoke_plugin_api::Result<()> {
        match self {
            Reply::Stream(stream) => stream.push(text),
            Reply::Whole { text: all, .. } => {
                all.push_str(text);
                Ok(())
            }
        }
    }

    async fn send(self, host: &Host, cx: &CallCx) -> Result<()> {
        let (slot, message) = match self {
            Reply::Stream(mut stream) => {
                stream.finish().map_err(left)?;
                while let Some(sent) = next(&mut **stream).await {
                    sent.map_err(left)?;
                }
                return Ok(());
            }
            Reply::Whole { slot, chat, text } => (slot, Outbound::new(chat, text)),
        };
        let event = || HookEvent::before_message_send(CHANNEL, message.clone());
        let message = match host.hooks().run(cx, Hook::BeforeMessageSend, event).await {
            Some(Outcome::Proceed(HookEvent::BeforeMessageSend { message, .. })) => message,
            Some(Outcome::Vetoed { plugin, reason }) => Outbound::new(message.chat, format!("[withheld by {plugin}: {reason}]")),
            _ => message,
        };
        slot.call(cx, |channel, cx| async move { channel.send(&cx, message).await }).await.map(drop).map_err(left)
    }
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
