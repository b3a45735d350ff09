//! The files of messages: fetching them, and choosing how one is sent.

use bespoke_multipart::Form;
use bespoke_plugin_api::{Attachment, CallCx, Error, Result, serde_json::json};

use crate::{
    api::FilePath,
    client::Body,
    core::Core,
    failure::{Failure, Kind},
    receive::Wanted,
    retry::backoff,
};

/// How often a file is asked for.
const TRIES: u32 = 3;
/// Most bytes of a file that a bot may send, and of a picture.
const LARGEST: usize = 50_000_000;
const LARGEST_PHOTO: usize = 10_000_000;

/// Fetches a file.
pub(crate) async fn fetch(core: &Core, call: &CallCx, wanted: &Wanted) -> Result<Attachment, Failure> {
    let mut tries = 0;
    loop {
        match try_fetch(core, call, wanted).await {
            Err(Failure { kind: Kind::Flood(wait), .. }) if tries + 1 < TRIES => {
                tries += 1;
                core.pause(call, wait).await?;
            }
            Err(Failure { kind: Kind::Passing | Kind::Unsent | Kind::Unreadable { .. }, .. }) if tries + 1 < TRIES => {
                tries += 1;
                core.pause(call, backoff(tries, core.chance())).await?;
            }
            result => return result,
        }
    }
}

async fn try_fetch(core: &Core, call: &CallCx, wanted: &Wanted) -> Result<Attachment, Failure> {
    let most = core.settings.max_file;
    let too_large = |size: u64| Failure::too_large(format!("it has {size} bytes, and plugins.telegram.max_file_bytes is {most}"));
    if let Some(size) = wanted.file.file_size.filter(|size| *size > most) {
        return Err(too_large(size));
    }
    let found: FilePath = core.client.call(call, "getFile", Body::Json(json!({ "file_id": wanted.file.file_id }))).await?;
    if let Some(size) = found.file_size.filter(|size| *size > most) {
        return Err(too_large(size));
    }
    let path = found.file_path.ok_or_else(|| Failure::passing("getFile: the file has no path".to_owned()))?;
    let data = core.client.download(call, &path, most).await?;
    let attachment = if wanted.voice { Attachment::voice(&wanted.mime, data) } else { Attachment::new(&wanted.mime, data) };
    Ok(match &wanted.name {
        Some(name) => attachment.name(name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()),
        None => attachment,
    })
}

/// How a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) method: &'static str,
    /// The field of the file.
    pub(crate) field: &'static str,
}

/// What always works.
pub(crate) const DOCUMENT: Way = Way { method: "sendDocument", field: "document" };

/// The way that shows a file for what it is.
///
/// # Errors
/// `INVALID_PARAMS` when it is empty or larger than Telegram takes.
pub(crate) fn way(attachment: &Attachment) -> Result<Way> {
    let size = attachment.data.len();
    if size == 0 || size > LARGEST {
        let message = format!("a file of {size} bytes; Telegram takes 1 to {LARGEST}");
        return Err(Error::invalid_params(message));
    }
    let mime = attachment.mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(match mime.as_str() {
        "audio/ogg" | "audio/opus" | "audio/mpeg" | "audio/mp4" if attachment.voice => Way { method: "sendVoice", field: "voice" },
        "audio/mpeg" | "audio/mp4" => Way { method: "sendAudio", field: "audio" },
        "image/jpeg" | "image/png" | "image/webp" if size <= LARGEST_PHOTO => Way { method: "sendPhoto", field: "photo" },
        _ => DOCUMENT,
    })
}

/// The form that sends it.
pub(crate) fn form(core: &Core, way: Way, attachment: &Attachment, fields: &[(&str, String)]) -> Body {
    let mut random = [0; 16];
    // A boundary that is the same each time is only in the way of files that were made for it.
    let _ = core.cx.host().random(&mut random);
    let mut form = Form::new(random);
    for (name, value) in fields {
        form.text(name, value);
    }
    let name = attachment.name.clone().unwrap_or_else(|| default_name(attachment));
    form.file(way.field, &name, &attachment.mime, &attachment.data);
    let (content_type, body) = form.finish();
    Body::Form(content_type, body)
}

fn default_name(attachment: &Attachment) -> String {
    let kind = attachment.mime.rsplit('/').next().unwrap_or_default();
    let extension: String = kind.chars().take_while(char::is_ascii_alphanumeric).take(8).collect();
    let stem = if attachment.voice { "voice" } else { "file" };
    if extension.is_empty() { stem.to_owned() } else { format!("{stem}.{extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_as_what_it_is() {
        let large = vec![0; LARGEST_PHOTO + 1];
        for (attachment, method) in [
            (Attachment::voice("audio/ogg; codecs=opus", vec![1]), "sendVoice"),
            (Attachment::new("audio/ogg", vec![1]), "sendDocument"),
            (Attachment::voice("audio/wav", vec![1]), "sendDocument"),
            (Attachment::new("audio/mpeg", vec![1]), "sendAudio"),
            (Attachment::new("image/PNG", vec![1]), "sendPhoto"),
            (Attachment::new("image/png", large), "sendDocument"),
            (Attachment::new("text/plain", vec![1]), "sendDocument"),
        ] {
            assert_eq!(way(&attachment).unwrap().method, method, "{}", attachment.mime);
        }
        assert!(way(&Attachment::new("text/plain", vec![])).is_err());
        assert!(way(&Attachment::new("text/plain", vec![0; LARGEST + 1])).is_err());
        assert_eq!(default_name(&Attachment::voice("audio/ogg; codecs=opus", vec![1])), "voice.ogg");
        assert_eq!(default_name(&Attachment::new("application/vnd.x-y", vec![1])), "file.vnd");
    }
}
