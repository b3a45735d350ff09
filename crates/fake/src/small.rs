//! The kinds that need a few lines each: embedder, command, hook, endpoint, accelerator.

use std::{sync::Arc, time::Duration};

use bespoke_plugin_api::{
    Accelerator, CallCx, Command, CommandRequest, Device, EmbedRequest, Embedder, Embeddings, Error, HookEvent, HookHandler, HookReply,
    HttpEndpoint, HttpRequest, HttpResponse, Output, PluginContext, Result, async_trait, serde_json::json,
};

use crate::{Fake, checksum, config::HookScript, tool::wait};

/// Length of a vector.
pub(crate) const DIMENSIONS: u32 = 16;

/// Vectors from hashes: equal texts are equal, others are far apart.
pub(crate) struct Hasher;

#[async_trait]
impl Embedder for Hasher {
    async fn embed(&self, _cx: &CallCx, request: EmbedRequest) -> Result<Embeddings> {
        Ok(Embeddings::new(request.texts.iter().map(|text| embed(text)).collect()))
    }
}

fn embed(text: &str) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..DIMENSIONS)
        .map(|dimension| {
            // The last bytes of the input reach only the lower bits of this hash: multiplied up once more.
            let hash = (checksum(text.bytes().chain(dimension.to_le_bytes())) ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let hash = (hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
            // The upper bits, from −1 up to 1.
            (hash >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

/// Prints its arguments; the first one, if it is a number, is the exit code.
pub(crate) struct Print;

#[async_trait]
impl Command for Print {
    async fn run(&self, _cx: &CallCx, request: CommandRequest, out: Output) -> Result<i32> {
        out.note(&format!("{} arguments", request.args.len()));
        for arg in &request.args {
            out.line(arg);
        }
        Ok(request.args.first().and_then(|a| a.parse::<u8>().ok()).map_or(0, i32::from))
    }
}

/// Does what the script says.
pub(crate) struct Handler(pub(crate) Arc<Fake>);

#[async_trait]
impl HookHandler for Handler {
    async fn on(&self, cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        match (&self.0.script().hook, event) {
            (HookScript::Replace(text), HookEvent::BeforeAgentRun { session, .. }) => {
                let event = HookEvent::before_agent_run(session.clone(), text.clone());
                Ok(HookReply::replace(event))
            }
            (HookScript::Continue | HookScript::Replace(_), _) => Ok(HookReply::Continue),
            (HookScript::Veto(reason), _) => Ok(HookReply::veto(reason.clone())),
            (HookScript::Fail(message), _) => Err(Error::internal(message.clone())),
            (HookScript::Panic(message), _) => std::panic::panic_any(message.clone()),
            (HookScript::SlowMs(ms), _) => {
                wait(&self.0, cx, Duration::from_millis(*ms)).await?;
                Ok(HookReply::Continue)
            }
        }
    }
}

/// Does with messages what a script says.
pub(crate) struct Guard {
    pub(crate) cx: PluginContext,
    pub(crate) script: HookScript,
}

#[async_trait]
impl HookHandler for Guard {
    async fn on(&self, _cx: &CallCx, event: &HookEvent) -> Result<HookReply> {
        match &self.script {
            HookScript::Continue => Ok(HookReply::Continue),
            HookScript::Replace(text) => {
                let mut event = event.clone();
                match &mut event {
                    HookEvent::AfterMessageReceive { message, .. } => text.clone_into(&mut message.text),
                    HookEvent::BeforeMessageSend { message, .. } => text.clone_into(&mut message.text),
                    _ => return Ok(HookReply::Continue),
                }
                Ok(HookReply::replace(event))
            }
            HookScript::Veto(reason) => Ok(HookReply::veto(reason.clone())),
            HookScript::Fail(message) => Err(Error::internal(message.clone())),
            HookScript::Panic(message) => std::panic::panic_any(message.clone()),
            HookScript::SlowMs(ms) => {
                self.cx.sleep(Duration::from_millis(*ms)).await;
                Ok(HookReply::Continue)
            }
        }
    }
}

/// Tells a request what it looked like.
pub(crate) struct Mirror;

#[async_trait]
impl HttpEndpoint for Mirror {
    async fn handle(&self, _cx: &CallCx, request: HttpRequest) -> Result<HttpResponse> {
        let head = json!({ "method": request.method, "url": request.url, "headers": request.headers }).to_string();
        Ok(HttpResponse::new(200).header("content-type", "application/octet-stream").header("x-request", head).body(request.body))
    }
}

/// Two devices that do not exist.
pub(crate) struct Card;

#[async_trait]
impl Accelerator for Card {
    async fn devices(&self, _cx: &CallCx) -> Result<Vec<Device>> {
        Ok(vec![Device::new(0, "Fake One").memory(8 << 30), Device::new(1, "Fake Two")])
    }
}
