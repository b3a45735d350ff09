//! What of the Bot API is read. Fields that are not here are not looked at.

use bespoke_plugin_api::serde::{self, Deserialize, Serialize, de::IgnoredAny};
use bespoke_plugin_api::serde_json::Value;

/// The answer to every request.
#[derive(Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    #[serde(default)]
    pub(crate) result: Value,
    #[serde(default)]
    pub(crate) error_code: Option<i64>,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) parameters: Option<Parameters>,
}

#[derive(Default, Deserialize)]
#[serde(crate = "serde", default)]
pub(crate) struct Parameters {
    pub(crate) retry_after: Option<f64>,
    pub(crate) migrate_to_chat_id: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Update {
    pub(crate) update_id: i64,
    #[serde(default)]
    pub(crate) message: Option<Message>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Message {
    pub(crate) message_id: i64,
    pub(crate) chat: Chat,
    #[serde(default)]
    pub(crate) from: Option<User>,
    #[serde(default)]
    pub(crate) message_thread_id: Option<i64>,
    #[serde(default)]
    pub(crate) is_topic_message: bool,
    /// The same for all messages of an album.
    #[serde(default)]
    pub(crate) media_group_id: Option<String>,
    #[serde(default)]
    pub(crate) reply_to_message: Option<Replied>,
    #[serde(default)]
    pub(crate) text: Option<String>,
    #[serde(default)]
    pub(crate) caption: Option<String>,
    #[serde(default)]
    pub(crate) voice: Option<File>,
    #[serde(default)]
    pub(crate) audio: Option<File>,
    #[serde(default)]
    pub(crate) document: Option<File>,
    /// The same in several sizes.
    #[serde(default)]
    pub(crate) photo: Vec<File>,
    #[serde(default)]
    pub(crate) sticker: Option<Sticker>,
    #[serde(default)]
    pub(crate) video: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) video_note: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) animation: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) location: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) contact: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) poll: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Chat {
    pub(crate) id: i64,
    /// `private`, `group`, `supergroup`, `channel`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct User {
    pub(crate) id: i64,
    #[serde(default)]
    pub(crate) is_bot: bool,
    #[serde(default)]
    pub(crate) first_name: String,
    #[serde(default)]
    pub(crate) last_name: Option<String>,
    #[serde(default)]
    pub(crate) username: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Replied {
    #[serde(default)]
    pub(crate) from: Option<User>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct File {
    pub(crate) file_id: String,
    #[serde(default)]
    pub(crate) file_size: Option<u64>,
    #[serde(default)]
    pub(crate) file_name: Option<String>,
    #[serde(default)]
    pub(crate) mime_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Sticker {
    #[serde(default)]
    pub(crate) emoji: Option<String>,
}

/// What `getFile` says.
#[derive(Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct FilePath {
    #[serde(default)]
    pub(crate) file_path: Option<String>,
    #[serde(default)]
    pub(crate) file_size: Option<u64>,
}

/// A message that was sent.
#[derive(Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Posted {
    pub(crate) message_id: i64,
}
