//! `chat --json`: a message a line in, events a line out, for programs that hold a conversation.

use std::{
    fmt::Display,
    io::{BufRead, Read},
};

use bespoke_agent::TurnEvent;
use bespoke_host::Refused;
use bespoke_plugin_api::{CallCx, Inbound};
use serde_json::json;
use tokio::sync::mpsc;

use super::super::{LONGEST_PIPE, interruptible, too_long};
use crate::{
    cli::Chat,
    conversation::{Conversation, Exchange},
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
    let talked = talk(&mut conversation, setup.out).await;
    conversation.end().await;
    talked
}

async fn talk(conversation: &mut Conversation<'_>, out: Out) -> Result<()> {
    let cx = interruptible(&conversation.setup().host);
    out.json(&json!({ "type": "session", "session": conversation.id() }), false)?;
    let mut lines = read();
    for number in 1_u64.. {
        let line = tokio::select! {
            biased;
            () = cx.cancelled() => return Err(Failure::new(Exit::Interrupted, "interrupted")),
            line = lines.recv() => line,
        };
        let Some(line) = line else { break };
        let text = message(&line?);
        if text.trim().is_empty() {
            continue;
        }
        let message = Inbound::new(CHANNEL, CHANNEL, number.to_string(), text);
        if let Err(failure) = answer(conversation, out, &cx, message).await? {
            out.json(&json!({ "type": "error", "message": failure.message, "help": failure.help }), false)?;
            if failure.exit == Exit::Interrupted {
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// One turn. What goes wrong in it is inside, and the conversation goes on; the error is that nobody reads any more.
async fn answer(conversation: &mut Conversation<'_>, out: Out, cx: &CallCx, message: Inbound) -> Result<Result<()>> {
    let cx = cx.with_cancel(cx.cancel_token().child());
    let mut wrote = Ok(());
    let exchange = conversation.exchange(&cx, message, |event| {
        if wrote.is_ok() {
            wrote = tell(out, event);
            if wrote.is_err() {
                cx.cancel_token().cancel();
            }
        }
    });
    let exchange = exchange.await;
    wrote?;
    let Exchange { turn, withheld } = match exchange {
        Ok(exchange) => exchange,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Some(Refused { plugin, reason, .. }) = withheld {
        out.json(&json!({ "type": "withheld", "plugin": plugin, "reason": reason }), false)?;
    }
    let turn = match turn {
        Ok(turn) => turn,
        Err(failure) => return Ok(Err(failure)),
    };
    let value = json!({ "type": "turn", "text": turn.text, "provider": turn.provider, "model": turn.model, "finish": turn.finish,
        "usage": turn.usage, "tool_calls": turn.tool_calls, "total_ms": turn.total.as_secs_f64() * 1e3 });
    out.json(&value, false)?;
    Ok(Ok(()))
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
fn read() -> mpsc::Receiver<Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        while let Some(line) = line(&mut stdin).transpose() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// The next line without its end; `None` after the last one.
fn line(input: &mut impl BufRead) -> Result<Option<String>> {
    let failed = |why: &dyn Display| Failure::failed(format!("stdin: {why}"));
    let mut bytes = Vec::new();
    // As much as it may have, and its end.
    if input.by_ref().take(LONGEST_PIPE + 2).read_until(b'\n', &mut bytes).map_err(|e| failed(&e))? == 0 {
        return Ok(None);
    }
    if bytes.pop_if(|byte| *byte == b'\n').is_some() {
        bytes.pop_if(|byte| *byte == b'\r');
    }
    if bytes.len() as u64 > LONGEST_PIPE {
        return Err(too_long());
    }
    String::from_utf8(bytes).map(Some).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_anyhow_and_are_not_endless() {
        let most = usize::try_from(LONGEST_PIPE).unwrap();
        let full = "x".repeat(most);
        let mut input = format!("one\r\n\ntwo\r\r\n{full}\r\nlast").into_bytes();
        let lines = |input: &[u8]| {
            let mut input = input;
            let mut lines = Vec::new();
            while let Some(line) = line(&mut input).map_err(|e| e.message)? {
                lines.push(line);
            }
            Ok::<_, String>(lines)
        };
        assert_eq!(lines(&input).unwrap(), ["one", "", "two\r", &full, "last"]);
        input.extend_from_slice(full.as_bytes());
        for input in [input, format!("{full}x\n").into_bytes(), format!("{full}xx").into_bytes()] {
            assert!(lines(&input).unwrap_err().contains("longer than 1 MiB"));
        }
        assert!(lines(b"\xff\n").unwrap_err().starts_with("stdin: "));
    }

    #[test]
    fn a_line_is_text_or_an_object_with_text() {
        assert_eq!(message("What time is it?"), "What time is it?");
        assert_eq!(message(r#"{"text":"one\ntwo"}"#), "one\ntwo");
        assert_eq!(message(r#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(message("\"quoted\""), "\"quoted\"");
    }
}
