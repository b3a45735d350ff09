//! Running the tools that a model asked for, with hooks around each. A tool that fails is told to the model, not to the user.

use std::time::Duration;

use bespoke_host::{Host, Outcome};
use bespoke_plugin_api::{CallCx, Code, Error, Hook, HookEvent, Result, Tool, ToolCall, ToolOutput, ToolRequest, ToolSpec};

/// The longest one tool may take.
const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// Most bytes of a tool's answer that the model is shown; more would push the conversation out of its window.
const ANSWER_LIMIT: usize = 16 * 1024;

/// The tools that the model is told of: those of `names`, or all.
///
/// # Errors
/// `PLUGIN_NOT_FOUND` for a name that no plugin provides.
pub(crate) fn offered(host: &Host, names: Option<&[String]>) -> Result<Vec<ToolSpec>> {
    let registry = host.registry();
    match names {
        Some(names) => names.iter().map(|name| Ok(registry.find::<dyn Tool>(name)?.spec().clone())).collect(),
        None => {
            let tools = registry.all::<dyn Tool>();
            Ok(tools.iter().filter(|slot| slot.is_ready() && !host.is_stand_in(slot.plugin())).map(|slot| slot.spec().clone()).collect())
        }
    }
}

/// Runs one call. Whatever goes wrong becomes an answer that the model can read; only cancellation is an error.
pub(crate) async fn run(host: &Host, cx: &CallCx, session: &str, call: ToolCall, offered: &[ToolSpec]) -> Result<(ToolCall, ToolOutput)> {
    let asked =
        host.hooks().run(cx, Hook::BeforeToolExecute, || HookEvent::BeforeToolExecute { session: session.to_owned(), call: call.clone() });
    let call = match asked.await {
        None => call,
        Some(Outcome::Proceed(HookEvent::BeforeToolExecute { call, .. })) => call,
        Some(Outcome::Proceed(_)) => return Err(Error::internal("a hook changed the place of its event")),
        Some(Outcome::Vetoed { plugin, reason }) => return Ok((call, ToolOutput::error(format!("refused by {plugin}: {reason}")))),
    };
    let output = if offered.iter().any(|spec| spec.name == call.name) {
        execute(host, cx, &call).await?
    } else {
        let names: Vec<_> = offered.iter().map(|spec| spec.name.as_str()).collect();
        ToolOutput::error(format!("there is no tool `{}`; there is {}", call.name, names.join(", ")))
    };
    let event = || HookEvent::AfterToolExecute { session: session.to_owned(), call: call.clone(), output: output.clone() };
    Ok(match host.hooks().run(cx, Hook::AfterToolExecute, event).await {
        None => (call, output),
        Some(Outcome::Proceed(HookEvent::AfterToolExecute { output, .. })) => (call, output),
        Some(Outcome::Proceed(_)) => return Err(Error::internal("a hook changed the place of its event")),
        Some(Outcome::Vetoed { plugin, reason }) => (call, ToolOutput::error(format!("withheld by {plugin}: {reason}"))),
    })
}

async fn execute(host: &Host, cx: &CallCx, call: &ToolCall) -> Result<ToolOutput> {
    let slot = match host.registry().find::<dyn Tool>(&call.name) {
        Ok(slot) => slot,
        Err(error) => return Ok(ToolOutput::error(error.message())),
    };
    let args = call.args.clone();
    let running = slot.call(cx, |tool, cx| async move { tool.call(&cx, ToolRequest::new(args)).await });
    let result = tokio::select! {
        result = tokio::time::timeout(TOOL_LIMIT, running) => result,
        () = cx.cancelled() => return Err(Error::cancelled()),
    };
    match result {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.code() == Code::CANCELLED && cx.is_cancelled() => Err(error),
        Ok(Err(error)) => Ok(ToolOutput::error(format!("{}: {}", error.kind(), error.message()))),
        Err(_) => Ok(ToolOutput::error(format!("no answer within {TOOL_LIMIT:?}"))),
    }
}

/// What the model reads of an answer.
pub(crate) fn for_model(output: &ToolOutput) -> String {
    let mut text = output.to_text();
    if text.len() > ANSWER_LIMIT {
        let cut = (0..=ANSWER_LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let left_out = text.len() - cut;
        text.truncate(cut);
        text.push_str(&format!("\n[{left_out} more bytes left out]"));
    }
    if output.is_error { format!("error: {text}") } else { text }
}
