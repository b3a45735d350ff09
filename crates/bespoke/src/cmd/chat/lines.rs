//! `chat --json`: a message a line in, events a line out, for programs that hold a conversation.

use bespoke_agent::TurnEvent;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    cli::Chat,
    conversation::Conversation,
    exit::{Exit, Failure, Result},
    models::Consent,
    output::Out,
    setup::Setup,
};

/// The channel under which such conversations are kept.
const CHANNEL: &str = "pipe";

pub(super) async fn run(setup: &Setup, args: Chat) -> Result<()> {
    setup.start(&setup.text_needs(), &Consent::from(&args.fetching)).await?;
    let mut conversation = Conversation::open(setup, &args.kept, CHANNEL)?;
    let out = setup.out;
    out.json(&json!({ "type": "session", "session": conversation.id() }), false)?;
    let mut lines = read();
    while let Some(line) = lines.recv().await {
        let text = message(&line.map_err(|e| Failure::failed(format!("stdin: {e}")))?);
        if text.trim().is_empty() {
            continue;
        }
        let cx = super::super::interruptible();
        let mut wrote = Ok(());
        let turn = conversation.turn(&cx, &text, |event| {
            if wrote.is_ok() {
                wrote = tell(out, event);
                if wrote.is_err() {
                    cx.cancel_token().cancel();
                }
            }
        });
        let turn = turn.await;
        wrote?;
        match turn {
            Ok(turn) => {
                let value = json!({ "type": "turn", "text": turn.text, "provider": turn.provider, "model": turn.model, "finish": turn.finish,
                    "usage": turn.usage, "tool_calls": turn.tool_calls, "total_ms": turn.total.as_secs_f64() * 1e3 });
                out.json(&value, false)?;
            }
            Err(failure) => {
                out.json(&json!({ "type": "error", "message": failure.message, "help": failure.help }), false)?;
                if failure.exit == Exit::Interrupted {
                    conversation.end().await;
                    return Err(failure);
                }
            }
        }
    }
    conversation.end().await;
    Ok(())
}

fn tell(out: Out, event: TurnEvent) -> Result<()> {
    let value = match event {
        TurnEvent::Text(text) => json!({ "type": "text", "text": text }),
        TurnEvent::ToolStarted(call) => json!({ "type": "tool", "call": call }),
        TurnEvent::ToolFinished { call, output } => json!({ "type": "tool_result", "call": call, "output": output }),
        TurnEvent::ProviderFailed { provider, reason, shown } => {
            json!({ "type": "provider_failed", "provider": provider, "reason": reason, "shown": shown })
        }
        _ => return Ok(()),
    };
    out.json(&value, false)
}

/// A line is the message, or a JSON object whose `text` is: a message may have several lines.
fn message(line: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(line).ok();
    match value.as_ref().and_then(|value| value.get("text")?.as_str()) {
        Some(text) => text.to_owned(),
        None => line.to_owned(),
    }
}

/// Lines of stdin, as they come: reading blocks, so it has a thread of its own, which ends with the input or with the program.
fn read() -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_line_is_text_or_an_object_with_text() {
        assert_eq!(message("What time is it?"), "What time is it?");
        assert_eq!(message(r#"{"text":"one\ntwo"}"#), "one\ntwo");
        assert_eq!(message(r#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(message("\"quoted\""), "\"quoted\"");
    }
}
