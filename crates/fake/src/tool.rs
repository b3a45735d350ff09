//! Two tools: one that gives back what it gets, one that takes its time.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bespoke_plugin_api::{
    CallCx, Error, Part, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    bytes::Bytes,
    serde::{self, Deserialize},
    serde_json::json,
};

use crate::Fake;

pub(crate) fn echo_spec() -> ToolSpec {
    ToolSpec::new("fake_echo", "Gives its arguments back. `fail`, `panic` and `bytes` make it do what they say.").input(json!({
        "type": "object",
        "properties": {
            "fail": { "type": "string", "description": "fail with this message" },
            "panic": { "type": "string", "description": "panic with this message" },
            "bytes": { "type": "integer", "description": "add so many bytes" }
        }
    }))
}

pub(crate) fn wait_spec() -> ToolSpec {
    ToolSpec::new("fake_wait", "Waits, and says how far it is.").input(json!({
        "type": "object",
        "properties": {
            "ms": { "type": "integer", "description": "how long, in milliseconds" },
            "steps": { "type": "integer", "description": "in how many steps, 1 to 1000" }
        },
        "additionalProperties": false
    }))
}

pub(crate) struct Echo;

#[async_trait]
impl Tool for Echo {
    async fn call(&self, _cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let args = request.args;
        if let Some(message) = args["panic"].as_str() {
            std::panic::panic_any(message.to_owned());
        }
        if let Some(message) = args["fail"].as_str() {
            return Err(Error::internal(message));
        }
        let mut output = ToolOutput::text(args.to_string());
        if let Some(count) = args["bytes"].as_u64() {
            let bytes: Bytes = (0..count.min(1 << 20)).map(|n| n as u8).collect();
            output.content.push(Part::blob("application/octet-stream", bytes));
        }
        Ok(output.with_data(args))
    }
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
struct WaitArgs {
    ms: u64,
    steps: u32,
}

impl Default for WaitArgs {
    fn default() -> Self {
        WaitArgs { ms: 10, steps: 2 }
    }
}

pub(crate) struct Wait(pub(crate) Arc<Fake>);

#[async_trait]
impl Tool for Wait {
    async fn call(&self, cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let WaitArgs { ms, steps } = request.parse()?;
        let steps = steps.clamp(1, 1000);
        for step in 0..steps {
            cx.progress(json!({ "done": step, "of": steps }));
            wait(&self.0, cx, Duration::from_millis(ms) / steps).await?;
        }
        Ok(ToolOutput::text(format!("waited {ms} ms")))
    }
}

/// Sleeps, unless the caller goes first.
pub(crate) async fn wait(fake: &Fake, cx: &CallCx, time: Duration) -> Result<()> {
    let (mut sleep, mut cancelled) = (fake.cx.sleep(time), cx.cancelled());
    poll_fn(|task| {
        if Pin::new(&mut cancelled).poll(task).is_ready() {
            return Poll::Ready(Err(Error::cancelled()));
        }
        sleep.as_mut().poll(task).map(Ok)
    })
    .await
}
