//! What tools, providers, embedders, commands, hooks, channels, endpoints and accelerators owe. Speech has a file of its own.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Examination, Fault, LET_GO, Shared, is_fault,
    report::{Kept, Part, Tried, read},
    samples,
};
use crate::{
    conformance::{
        record::{caught, line, read as read_stream},
        script::hook_event,
    },
    rules::stream_ends,
};
use bespoke_plugin_api::{
    BoxFuture, CallCx, CancelToken, Channel, ChatDelta, ChatRequest, Code, Command, CommandRequest, Contribution, EmbedRequest, Embedder,
    EmbedderSpec, HookHandler, HookReply, HookSpec, HttpEndpoint, HttpRequest, Inbound, Inbox, InboxSink, Message, Output, OutputSink,
    Provider, Result as ApiResult, Tool, ToolRequest, ToolSpec,
};

pub(super) fn check(exam: &Examination, found: &Contribution, part: &mut Part<'_, '_>) {
    match found {
        Contribution::Tool(spec, tool) => of_tool(exam, spec, &**tool, part),
        Contribution::Provider(_, provider) => of_provider(exam, &**provider, part),
        Contribution::Embedder(spec, embedder) => of_embedder(exam, spec, &**embedder, part),
        Contribution::Command(_, command) => of_command(exam, &**command, part),
        Contribution::Hook(spec, handler) => part.check("answers an event", || of_hook(exam, spec, &**handler)),
        Contribution::Channel(_, channel) => {
            part.check("stops listening when it is told to", || stops_listening(&**channel));
            part.check("ends the streams that it opens", || {
                stream_ends(found, 0, &[])
                    .map_err(|got| Fault::new("a stream that comes to its end", got, read::STREAMS))
                    .map(|()| Kept::Yes)
            });
        }
        Contribution::Http(_, endpoint) => of_endpoint(exam, &**endpoint, part),
        Contribution::Accelerator(_, accelerator) => {
            part.check("names its devices", || says(exam, "devices", accelerator.devices(&CallCx::new())))
        }
        _ => part.check("is of a kind that is examined", || Ok(Kept::Untried("this program does not know the kind".into()))),
    }
}

/// A call that may fail, if it says why in its own words.
fn says<T>(exam: &Examination, what: &str, work: impl Future<Output = ApiResult<T>>) -> Tried {
    match exam.within(what, work)? {
        Err(e) if is_fault(&e) => Err(Fault::new("an answer, or an error that says why", line(&e), read::CALLS).help(e.help())),
        _ => Ok(Kept::Yes),
    }
}

/// A call that may fail in any way, as long as the instance outlives it.
fn stands<T>(exam: &Examination, what: &str, work: impl Future<Output = ApiResult<T>>) -> Result<(), Fault> {
    match exam.within(what, work)? {
        Err(e) if e.code() == Code::PLUGIN_CRASHED => Err(Fault::new("an error", line(&e), read::CALLS).help(e.help())),
        _ => Ok(()),
    }
}

fn of_tool(exam: &Examination, spec: &ToolSpec, tool: &dyn Tool, part: &mut Part<'_, '_>) {
    part.check("says to a model what it does and takes", || {
        let schema = &spec.input_schema;
        if spec.description.trim().is_empty() {
            return Err(Fault::new("a description", "an empty one", read::KINDS));
        }
        if schema["type"] != "object" {
            return Err(Fault::new("a schema of type \"object\"", schema.to_string(), read::KINDS));
        }
        Ok(Kept::Yes)
    });
    let cx = CallCx::new();
    part.check("answers a call by its schema", || {
        let args = exam.cases.args_of(&spec.name).unwrap_or_else(|| samples::fitting(&spec.input_schema));
        says(exam, "the call", tool.call(&cx, ToolRequest::new(args)))
    });
    part.check("outlives arguments that break its schema", || {
        for args in samples::strange() {
            stands(exam, "the call", tool.call(&cx, ToolRequest::new(args)))?;
        }
        Ok(Kept::Yes)
    });
}

fn of_provider(exam: &Examination, provider: &dyn Provider, part: &mut Part<'_, '_>) {
    let cx = CallCx::new();
    part.check("names its models", || says(exam, "models", provider.models(&cx)));
    part.check("ends its answer with why it ended", || {
        let request = ChatRequest::new(vec![Message::user("Say hello.")]).max_tokens(8);
        let answer = async {
            let stream = provider.chat(&cx, request).await?;
            Ok(read_stream(stream).await)
        };
        let (deltas, error) = match exam.within("the answer", answer)? {
            Ok(read) => read,
            Err(e) => (Vec::new(), Some(e)),
        };
        if let Some(e) = error {
            return if is_fault(&e) {
                Err(Fault::new("an answer, or an error that says why", line(&e), read::CALLS))
            } else {
                Ok(Kept::Yes)
            };
        }
        let finished = deltas.iter().filter(|delta| matches!(delta, ChatDelta::Finish { .. })).count();
        if finished == 1 && matches!(deltas.last(), Some(ChatDelta::Finish { .. })) {
            return Ok(Kept::Yes);
        }
        Err(Fault::new("one `finish`, at the end", format!("{finished} of them; the last is {:?}", deltas.last()), read::KINDS))
    });
    part.check("outlives a conversation without messages", || {
        let chat = async { Ok(read_stream(provider.chat(&cx, ChatRequest::new(Vec::new())).await?).await) };
        stands(exam, "the answer", chat).map(|()| Kept::Yes)
    });
}

fn of_embedder(exam: &Examination, spec: &EmbedderSpec, embedder: &dyn Embedder, part: &mut Part<'_, '_>) {
    let cx = CallCx::new();
    part.check("gives each text a vector of its length", || {
        let texts = ["hello", "", "hello", "ünïcödé"].map(str::to_owned).to_vec();
        let wanted = texts.len();
        let vectors = match exam.within("embed", embedder.embed(&cx, EmbedRequest::new(texts)))? {
            Ok(embedded) => embedded.vectors,
            Err(e) if is_fault(&e) => return Err(Fault::new("vectors, or an error that says why", line(&e), read::CALLS)),
            Err(e) => return Ok(Kept::Untried(line(&e))),
        };
        let lengths: Vec<usize> = vectors.iter().map(Vec::len).collect();
        if lengths != vec![spec.dimensions as usize; wanted] {
            return Err(Fault::new(format!("{wanted} vectors of {} numbers", spec.dimensions), format!("{lengths:?}"), read::KINDS));
        }
        if vectors.iter().flatten().any(|number| !number.is_finite()) {
            return Err(Fault::new("finite numbers", "one that is not", read::KINDS));
        }
        if vectors[0] != vectors[2] {
            return Err(Fault::new("the same vector for the same text", "another one", read::KINDS));
        }
        Ok(Kept::Yes)
    });
    part.check("outlives no texts", || stands(exam, "embed", embedder.embed(&cx, EmbedRequest::new(vec![]))).map(|()| Kept::Yes));
}

/// What a command says goes nowhere.
struct Nowhere;

impl OutputSink for Nowhere {
    fn line(&self, _: &str) {}
    fn note(&self, _: &str) {}
}

fn of_command(exam: &Examination, command: &dyn Command, part: &mut Part<'_, '_>) {
    let cx = CallCx::new();
    for (rule, args) in [("runs without arguments", vec![]), ("outlives arguments that it does not know", vec!["--no-such".to_owned(); 3])]
    {
        part.check(rule, || {
            match exam.within("the command", command.run(&cx, CommandRequest::new(args), Output::new(Arc::new(Nowhere))))? {
                Ok(0..=255) => Ok(Kept::Yes),
                Ok(code) => Err(Fault::new("an exit code from 0 to 255", code.to_string(), read::KINDS)),
                Err(e) if is_fault(&e) => Err(Fault::new("an exit code, or an error that says why", line(&e), read::CALLS)),
                Err(_) => Ok(Kept::Yes),
            }
        });
    }
}

fn of_hook(exam: &Examination, spec: &HookSpec, handler: &dyn HookHandler) -> Tried {
    let Some(event) = hook_event(spec.hook) else { return Ok(Kept::Untried("there is no sample of its event".into())) };
    match exam.within("the handler", handler.on(&CallCx::new(), &event))? {
        Ok(HookReply::Continue | HookReply::Veto { .. }) => Ok(Kept::Yes),
        Ok(HookReply::Replace { event: other, .. }) if other.hook() == spec.hook => Ok(Kept::Yes),
        Ok(reply) => Err(Fault::new(format!("a reply about {}", spec.hook.name()), format!("{reply:?}"), read::KINDS)),
        Err(e) if is_fault(&e) => Err(Fault::new("a reply, or an error that says why", line(&e), read::CALLS)),
        Err(_) => Ok(Kept::Yes),
    }
}

/// Takes what a channel hears.
struct Taking(Shared<Vec<Inbound>>);

impl InboxSink for Taking {
    fn accept(&self, message: Inbound) -> BoxFuture<'static, ApiResult<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        Box::pin(std::future::ready(Ok(())))
    }
}

fn stops_listening(channel: &dyn Channel) -> Tried {
    let token = CancelToken::new();
    let cx = CallCx::new().with_cancel(token.clone());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = caught(channel.run(&cx, Inbox::new(Arc::new(Taking(heard)))));
    match crate::rules::cancelled_when_waiting(listening, &token) {
        None => Err(Fault::new("`run` ends when it is cancelled", format!("it goes on {} s later", LET_GO.as_secs()), read::KINDS)),
        Some(Err(e)) if is_fault(&e) => Err(Fault::new("`run` ends in order", line(&e), read::CALLS)),
        Some(_) => Ok(Kept::Yes),
    }
}

fn of_endpoint(exam: &Examination, endpoint: &dyn HttpEndpoint, part: &mut Part<'_, '_>) {
    let cx = CallCx::new();
    let requests = [
        ("answers GET", HttpRequest::new("GET", "/hooks/x?a=1")),
        ("answers a body that is no text", HttpRequest::new("POST", "/hooks/x").body((&b"\x00\xffraw"[..]).into())),
    ];
    for (rule, request) in requests {
        part.check(rule, || match exam.within("the answer", endpoint.handle(&cx, request))? {
            Ok(response) if (100..600).contains(&response.status) => Ok(Kept::Yes),
            Ok(response) => Err(Fault::new("a status from 100 to 599", response.status.to_string(), read::KINDS)),
            Err(e) if is_fault(&e) => Err(Fault::new("an answer, or an error that says why", line(&e), read::CALLS)),
            Err(_) => Ok(Kept::Yes),
        });
    }
}
