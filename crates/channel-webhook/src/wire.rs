//! The bodies of both directions. Unknown keys are passed over: the other side may know more.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bespoke_plugin_api::{
    Attachment, Inbound, Outbound,
    serde::{self, Deserialize, Serialize},
    serde_json,
};

/// Characters of a name of a chat, a person or a message.
const MOST_NAME: usize = 256;
/// Files of one message.
const MOST_FILES: usize = 16;

/// A message that comes in.
#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Message {
    chat: String,
    sender: String,
    id: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    sender_name: Option<String>,
    #[serde(default)]
    attachments: Vec<File>,
}

/// A message that goes out.
#[derive(Serialize)]
#[serde(crate = "serde")]
struct Answer {
    chat: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<File>,
}

/// A file of either.
#[derive(Serialize, Deserialize)]
#[serde(crate = "serde")]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    mime: String,
    #[serde(default)]
    voice: bool,
    /// Its bytes in base64.
    data: String,
}

/// What a body says; or what is wrong with it, for whoever wrote it.
pub(crate) fn message(body: &[u8]) -> Result<Inbound, String> {
    let message: Message = serde_json::from_slice(body).map_err(|error| format!("the body is no message: {error}"))?;
    for (key, name) in [("chat", &message.chat), ("sender", &message.sender), ("id", &message.id)] {
        check_name(key, name)?;
    }
    if let Some(name) = &message.sender_name {
        check_name("sender_name", name)?;
    }
    if message.attachments.len() > MOST_FILES {
        return Err(format!("{} attachments, and {MOST_FILES} are the most", message.attachments.len()));
    }
    if message.text.trim().is_empty() && message.attachments.is_empty() {
        return Err("there is neither text nor a file".into());
    }
    let files: Result<Vec<_>, String> = message.attachments.into_iter().map(attachment).collect();
    let inbound = Inbound::new(message.chat, message.sender, message.id, message.text).attachments(files?);
    Ok(match message.sender_name {
        Some(name) => inbound.sender_name(name),
        None => inbound,
    })
}

fn check_name(key: &str, name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().count() > MOST_NAME || name.chars().any(char::is_control) {
        return Err(format!("`{key}` has to have 1 to {MOST_NAME} characters that can be shown"));
    }
    Ok(())
}

fn attachment(file: File) -> Result<Attachment, String> {
    check_name("mime", &file.mime)?;
    let data = STANDARD.decode(&file.data).map_err(|_| "the `data` of an attachment is no base64".to_owned())?;
    let attachment = if file.voice { Attachment::voice(file.mime, data) } else { Attachment::new(file.mime, data) };
    let Some(name) = file.name else { return Ok(attachment) };
    check_name("name", &name)?;
    // A name without folders, whoever's separator it is.
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    if matches!(last, "" | "." | "..") { Ok(attachment) } else { Ok(attachment.name(last.into())) }
}

/// The body of an answer.
pub(crate) fn answer(message: Outbound) -> serde_json::Result<Vec<u8>> {
    let file = |file: Attachment| File { name: file.name, mime: file.mime, voice: file.voice, data: STANDARD.encode(&file.data) };
    serde_json::to_vec(&Answer {
        chat: message.chat,
        text: message.text,
        idempotency_key: message.idempotency_key,
        reply_to: message.reply_to,
        attachments: message.attachments.into_iter().map(file).collect(),
    })
}
