//! Bodies: which types travel, and what of them is bulk. Bulk is empty in the JSON head and raw in the blob; a peer that
//! cannot write blobs may leave it in the head, where the reader takes it as it is.

use bespoke_plugin_api::{
    Audio, AudioChunk, ChatDelta, ChatRequest, CommandRequest, Device, EmbedRequest, Embeddings, Error, Event, Health, HookEvent,
    HookReply, HttpRequest, HttpResponse, Inbound, MessageRef, ModelInfo, Outbound, Part, Reload, Result, State, SttEvent, SttOptions,
    SttRequest, ToolOutput, ToolRequest, Transcript, TtsOptions, VadEvent, VadOptions, Voice,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    AcceptArgs,
    data::{put_samples, read_samples},
};

/// Something that travels as arguments, answer or event.
pub trait Body: Serialize + DeserializeOwned + Send + 'static {
    /// Whether it can travel: JSON has no words for numbers that are not finite, and would drop them silently.
    ///
    /// # Errors
    /// `INVALID_PARAMS`, naming the field.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// A copy without its bulk, for the head; `None` when nothing of it is bulk.
    fn light(&self) -> Option<Self> {
        None
    }

    /// Appends the bulk.
    fn put_bulk(&self, _blob: &mut Vec<u8>) {}

    /// Takes the bulk back.
    ///
    /// # Errors
    /// `INVALID_PARAMS` when the blob does not fit the head.
    fn take_bulk(&mut self, _blob: &[u8]) -> Result<()> {
        Ok(())
    }
}

macro_rules! plain {
    ($($ty:ty),+ $(,)?) => { $(impl Body for $ty {})+ };
}

plain!(
    (),
    i32,
    String,
    Value,
    ChatDelta,
    CommandRequest,
    EmbedRequest,
    Event,
    Health,
    HookEvent,
    HookReply,
    MessageRef,
    Reload,
    SttEvent,
    SttOptions,
    ToolRequest,
    Transcript,
    VadOptions,
    Vec<Device>,
    Vec<ModelInfo>,
    Vec<Voice>,
    Vec<String>,
    Nothing,
    ChatArgs,
    HttpHead,
);

impl Body for ChatRequest {
    fn check(&self) -> Result<()> {
        finite("temperature", self.temperature)?;
        finite("top_p", self.top_p)
    }
}

impl Body for VadEvent {
    fn check(&self) -> Result<()> {
        match self {
            VadEvent::Window { probability, .. } => finite("probability", Some(*probability)),
            _ => Ok(()),
        }
    }
}

impl Body for TtsOptions {
    fn check(&self) -> Result<()> {
        finite("speed", self.speed)
    }
}

fn finite(field: &str, value: Option<f32>) -> Result<()> {
    match value.filter(|v| !v.is_finite()) {
        Some(v) => Err(Error::invalid_params(format!("{field} is {v}"))),
        None => Ok(()),
    }
}

/// Arguments of a method that takes none: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// Arguments of `channel.edit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelEdit {
    /// The message that was sent.
    pub message: MessageRef,
    /// What it becomes.
    pub new: Outbound,
}

/// Arguments of `channel.typing` and `channel.stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatArgs {
    /// The conversation.
    pub chat: String,
}

/// What `host.http` answers first; the body follows in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHead {
    /// Status, 100–599.
    pub status: u16,
    /// Names in lower case, in order, repeated where the server repeated them.
    pub headers: Vec<(String, String)>,
}

/// Arguments of `host.store`; the value is the blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreArgs {
    /// The key.
    pub key: String,
    /// The value; absent removes it.
    #[serde(default)]
    pub value: Option<Bytes>,
}

impl Body for StoreArgs {
    fn light(&self) -> Option<Self> {
        Some(StoreArgs { key: self.key.clone(), value: self.value.as_ref().map(|_| Bytes::new()) })
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        blob.extend_from_slice(self.value.as_deref().unwrap_or_default());
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        if let Some(value) = &mut self.value {
            take_bytes(value, blob);
        }
        Ok(())
    }
}

impl Body for Bytes {
    fn light(&self) -> Option<Self> {
        Some(Bytes::new())
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        blob.extend_from_slice(self);
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        take_bytes(self, blob);
        Ok(())
    }
}

impl Body for Option<Bytes> {
    fn light(&self) -> Option<Self> {
        Some(self.as_ref().map(|_| Bytes::new()))
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        blob.extend_from_slice(self.as_deref().unwrap_or_default());
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        if let Some(value) = self {
            take_bytes(value, blob);
        }
        Ok(())
    }
}

impl Body for SttRequest {
    fn light(&self) -> Option<Self> {
        let mut light = self.clone();
        light.audio = Audio::new([], self.audio.rate);
        Some(light)
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        put_samples(blob, &self.audio.samples);
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        take_audio(&mut self.audio, blob)
    }
}

impl Body for AudioChunk {
    fn light(&self) -> Option<Self> {
        Some(AudioChunk::new(Audio::new([], self.audio.rate)))
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        put_samples(blob, &self.audio.samples);
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        take_audio(&mut self.audio, blob)
    }
}

impl Body for HttpRequest {
    fn light(&self) -> Option<Self> {
        let mut light = self.clone();
        light.body = Bytes::new();
        Some(light)
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        blob.extend_from_slice(&self.body);
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        take_bytes(&mut self.body, blob);
        Ok(())
    }
}

impl Body for HttpResponse {
    fn light(&self) -> Option<Self> {
        let mut light = self.clone();
        light.body = Bytes::new();
        Some(light)
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        blob.extend_from_slice(&self.body);
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        take_bytes(&mut self.body, blob);
        Ok(())
    }
}

impl Body for State {
    fn light(&self) -> Option<Self> {
        Some(State::new(self.version, Bytes::new()))
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        blob.extend_from_slice(&self.bytes);
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        take_bytes(&mut self.bytes, blob);
        Ok(())
    }
}

impl Body for Option<State> {
    fn light(&self) -> Option<Self> {
        self.as_ref().map(State::light)
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        if let Some(state) = self {
            state.put_bulk(blob);
        }
    }

    fn take_bulk(&mut self, blob: &[u8]) -> Result<()> {
        self.as_mut().map_or(Ok(()), |state| state.take_bulk(blob))
    }
}

/// The vectors leave the head as empty arrays; the blob is, for each, its length as u32 and its numbers as f32.
impl Body for Embeddings {
    fn light(&self) -> Option<Self> {
        Some(Embeddings::new(vec![Vec::new(); self.vectors.len()]))
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        for vector in &self.vectors {
            put_len(blob, vector.len());
            put_samples(blob, vector);
        }
    }

    fn take_bulk(&mut self, mut blob: &[u8]) -> Result<()> {
        if blob.is_empty() {
            return Ok(());
        }
        for vector in &mut self.vectors {
            let numbers = take_len(&mut blob)?.saturating_mul(4);
            read_samples(take(&mut blob, numbers)?, vector)?;
        }
        at_end(blob)
    }
}

/// The bytes of each attachment leave the head; the blob is, for each in order, its length as u32 and its bytes.
macro_rules! with_attachments {
    ($($ty:ty: $($path:ident).+),+ $(,)?) => { $(impl Body for $ty {
        fn light(&self) -> Option<Self> {
            if self.$($path).+.is_empty() {
                return None;
            }
            let mut light = self.clone();
            light.$($path).+.iter_mut().for_each(|attachment| attachment.data = Bytes::new());
            Some(light)
        }

        fn put_bulk(&self, blob: &mut Vec<u8>) {
            for attachment in &self.$($path).+ {
                put_len(blob, attachment.data.len());
                blob.extend_from_slice(&attachment.data);
            }
        }

        fn take_bulk(&mut self, mut blob: &[u8]) -> Result<()> {
            if blob.is_empty() {
                return Ok(());
            }
            for attachment in &mut self.$($path).+ {
                let len = take_len(&mut blob)?;
                attachment.data = Bytes::copy_from_slice(take(&mut blob, len)?);
            }
            at_end(blob)
        }
    })+ };
}

with_attachments!(Inbound: attachments, Outbound: attachments, ChannelEdit: new.attachments, AcceptArgs: message.attachments);

/// The bytes of each blob part leave the head; the blob is, for each in order, its length as u32 and its bytes. The bulk of
/// kinds of parts that come later stands behind it, where a reader that does not know them leaves it.
impl Body for ToolOutput {
    fn light(&self) -> Option<Self> {
        if !self.content.iter().any(|p| matches!(p, Part::Blob { .. })) {
            return None;
        }
        let mut light = self.clone();
        for part in &mut light.content {
            if let Part::Blob { bytes, .. } = part {
                *bytes = Bytes::new();
            }
        }
        Some(light)
    }

    fn put_bulk(&self, blob: &mut Vec<u8>) {
        for part in &self.content {
            if let Part::Blob { bytes, .. } = part {
                put_len(blob, bytes.len());
                blob.extend_from_slice(bytes);
            }
        }
    }

    fn take_bulk(&mut self, mut blob: &[u8]) -> Result<()> {
        if blob.is_empty() {
            return Ok(());
        }
        for part in &mut self.content {
            if let Part::Blob { bytes, .. } = part {
                let len = take_len(&mut blob)?;
                *bytes = Bytes::copy_from_slice(take(&mut blob, len)?);
            }
        }
        if self.content.contains(&Part::Unknown) { Ok(()) } else { at_end(blob) }
    }
}

fn take_audio(audio: &mut Audio, blob: &[u8]) -> Result<()> {
    if !blob.is_empty() {
        let mut samples = Vec::with_capacity(blob.len() / 4);
        read_samples(blob, &mut samples)?;
        audio.samples = samples.into();
    }
    Ok(())
}

fn take_bytes(bytes: &mut Bytes, blob: &[u8]) {
    if !blob.is_empty() {
        *bytes = Bytes::copy_from_slice(blob);
    }
}

fn put_len(blob: &mut Vec<u8>, len: usize) {
    // A length over u32 makes the frame too long, which the writer refuses.
    blob.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

fn take_len(blob: &mut &[u8]) -> Result<usize> {
    let (len, rest) = blob.split_first_chunk::<4>().ok_or_else(too_short)?;
    *blob = rest;
    Ok(u32::from_le_bytes(*len) as usize)
}

fn take<'a>(blob: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (piece, rest) = blob.split_at_checked(len).ok_or_else(too_short)?;
    *blob = rest;
    Ok(piece)
}

fn at_end(rest: &[u8]) -> Result<()> {
    if rest.is_empty() { Ok(()) } else { Err(Error::invalid_params(format!("{} bytes of the blob belong to nothing", rest.len()))) }
}

fn too_short() -> Error {
    Error::invalid_params("the blob is shorter than its head says")
}
