//! What handlers see of a message, and what becomes of their changes to it: they see its files without their bytes, and whatever they
//! leave keeps the bytes that it had. It asks nobody itself.

use bespoke_plugin_api::{Attachment, Error, HookEvent, Result};

/// An event as handlers see it.
pub(super) fn shown(event: &HookEvent) -> HookEvent {
    let Some(files) = files(event).filter(|files| files.iter().any(|file| !file.data.is_empty())) else { return event.clone() };
    let light = files.iter().map(Attachment::light).collect();
    // The bytes are shared, so this copies none of them.
    let mut shown = event.clone();
    if let Some(files) = files_mut(&mut shown) {
        *files = light;
    }
    shown
}

/// An event as a handler wants it, with what is not a handler's to change: whose message it is and where it belongs, and bytes of files.
///
/// # Errors
/// When it has changed one of those.
pub(super) fn settled(before: &HookEvent, mut after: HookEvent) -> Result<HookEvent> {
    match (before, &mut after) {
        (HookEvent::AfterMessageReceive { message: old, .. }, HookEvent::AfterMessageReceive { message: new, .. }) => {
            if (&old.chat, &old.sender, &old.id) != (&new.chat, &new.sender, &new.id) {
                return Err(Error::internal("changed whose message it is: `chat`, `sender` and `id` stay as they are"));
            }
        }
        (HookEvent::BeforeMessageSend { message: old, .. }, HookEvent::BeforeMessageSend { message: new, .. }) => {
            if old.chat != new.chat {
                return Err(Error::internal("changed where the message goes: `chat` stays as it is"));
            }
            // It says that a message is the same one, whatever a handler made of it.
            new.idempotency_key.clone_from(&old.idempotency_key);
        }
        _ => return Ok(after),
    }
    if let (Some(old), Some(new)) = (files(before), files_mut(&mut after)) {
        put_back(old, new)?;
    }
    Ok(after)
}

/// Gives each file that a handler left the bytes that it had: by all that is known of it, or, when it was renamed, by all but the name.
fn put_back(old: &[Attachment], new: &mut [Attachment]) -> Result<()> {
    let mut unused: Vec<&Attachment> = old.iter().collect();
    let mut renamed = Vec::new();
    for file in new {
        file.data = Default::default();
        match unused.iter().position(|old| old.name == file.name && is_like(old, file)) {
            Some(at) => file.data = unused.remove(at).data.clone(),
            None => renamed.push(file),
        }
    }
    for n in 0..renamed.len() {
        let alike = unused.iter().filter(|old| is_like(old, renamed[n])).count();
        let wanted = renamed[n..].iter().filter(|new| is_like(new, renamed[n])).count();
        match unused.iter().position(|old| is_like(old, renamed[n])) {
            // With fewer than there were nobody can say whose bytes a new name means, and one that was taken away must not come back.
            Some(at) if alike == wanted => renamed[n].data = unused.remove(at).data.clone(),
            Some(_) => {
                return Err(Error::internal("renamed one of several files that are alike and took another away: which is not clear"));
            }
            None => return Err(Error::internal("added a file: a handler may take files away and rename them")),
        }
    }
    Ok(())
}

fn is_like(a: &Attachment, b: &Attachment) -> bool {
    (&a.mime, a.voice, a.size) == (&b.mime, b.voice, b.size)
}

fn files(event: &HookEvent) -> Option<&Vec<Attachment>> {
    match event {
        HookEvent::AfterMessageReceive { message, .. } => Some(&message.attachments),
        HookEvent::BeforeMessageSend { message, .. } => Some(&message.attachments),
        _ => None,
    }
}

fn files_mut(event: &mut HookEvent) -> Option<&mut Vec<Attachment>> {
    match event {
        HookEvent::AfterMessageReceive { message, .. } => Some(&mut message.attachments),
        HookEvent::BeforeMessageSend { message, .. } => Some(&mut message.attachments),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Inbound, Outbound};

    use super::*;

    fn file(name: &str, bytes: &str) -> Attachment {
        Attachment::new("image/png", bytes.to_owned()).name(name.to_owned())
    }

    /// A handler sees `old`, and leaves `new`: names with sizes. What comes back is names with bytes, or why not.
    fn play(old: &[(&str, &str)], new: &[(&str, u64)]) -> String {
        let message = Outbound::new("c", "t").attachments(old.iter().map(|(name, bytes)| file(name, bytes)).collect());
        let before = HookEvent::before_message_send("chat", message);
        let mut after = shown(&before);
        assert!(files(&after).unwrap().iter().all(|file| file.data.is_empty()));
        *files_mut(&mut after).unwrap() = new.iter().map(|(name, size)| with_size(file(name, "smuggled"), *size)).collect();
        match settled(&before, after) {
            Ok(after) => {
                let left = files(&after).unwrap().iter();
                left.map(|f| format!("{}={}", f.name.as_deref().unwrap(), String::from_utf8_lossy(&f.data))).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.message().split(':').next().unwrap().to_owned(),
        }
    }

    fn with_size(mut file: Attachment, size: u64) -> Attachment {
        file.size = size;
        file
    }

    #[test]
    fn what_a_handler_leaves_keeps_its_bytes() {
        let two = &[("a", "AA"), ("b", "BBB")];
        let alike = &[("a", "AA"), ("b", "BB")];
        for (old, new, left) in [
            (two, &[("a", 2), ("b", 3)][..], "a=AA b=BBB"),
            (two, &[("b", 3)], "b=BBB"),
            (two, &[("b", 3), ("a", 2)], "b=BBB a=AA"),
            (two, &[("c", 3)], "c=BBB"),
            (two, &[], ""),
            (two, &[("a", 2), ("a", 2)], "added a file"),
            (two, &[("a", 8)], "added a file"),
            (alike, &[("b", 2)], "b=BB"),
            (alike, &[("c", 2), ("b", 2)], "c=AA b=BB"),
            (alike, &[("c", 2), ("d", 2)], "c=AA d=BB"),
            (alike, &[("c", 2)], "renamed one of several files that are alike and took another away"),
        ] {
            assert_eq!(play(old, new), left, "{new:?}");
        }
    }

    #[test]
    fn whose_message_it_is_stays() {
        let before = HookEvent::after_message_receive("chat", Inbound::new("c", "ann", "1", "t"));
        for new in [Inbound::new("d", "ann", "1", "t"), Inbound::new("c", "bob", "1", "t"), Inbound::new("c", "ann", "2", "t")] {
            assert!(settled(&before, HookEvent::after_message_receive("chat", new)).is_err());
        }
        let other = HookEvent::after_message_receive("chat", Inbound::new("c", "ann", "1", "other"));
        assert_eq!(settled(&before, other.clone()).unwrap(), other);

        let before = HookEvent::before_message_send("chat", Outbound::new("c", "t").idempotency_key("k".into()));
        assert!(settled(&before, HookEvent::before_message_send("chat", Outbound::new("d", "t"))).is_err());
        let kept = HookEvent::before_message_send("chat", Outbound::new("c", "o").idempotency_key("k".into()));
        assert_eq!(settled(&before, HookEvent::before_message_send("chat", Outbound::new("c", "o"))).unwrap(), kept);
    }
}
