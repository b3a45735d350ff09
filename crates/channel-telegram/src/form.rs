//! The body that a file is sent with: a form of parts. Pure.

use bespoke_plugin_api::bytes::Bytes;

/// A body of the type `multipart/form-data`.
pub(crate) struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    /// An empty form. The boundary is made of `random`, so that no content can hold it by design.
    pub(crate) fn new(random: [u8; 16]) -> Self {
        let boundary = random.iter().fold(String::from("bespoke-"), |text, byte| text + &format!("{byte:02x}"));
        Form { boundary, body: Vec::new() }
    }

    /// Adds a field of text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.part(&format!("name=\"{name}\""), None, value.as_bytes());
    }

    /// Adds a file. What names it may come from anywhere: nothing of it ends the line that it stands in.
    pub(crate) fn file(&mut self, name: &str, file: &str, media_type: &str, content: &[u8]) {
        let file: String = file.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\' | '/') { '_' } else { c }).collect();
        let media_type: String = media_type.chars().filter(|c| c.is_ascii_graphic()).collect();
        self.part(&format!("name=\"{name}\"; filename=\"{file}\""), Some(&media_type), content);
    }

    fn part(&mut self, disposition: &str, media_type: Option<&str>, content: &[u8]) {
        let media_type = media_type.map_or(String::new(), |media_type| format!("content-type: {media_type}\r\n"));
        let head = format!("--{}\r\ncontent-disposition: form-data; {disposition}\r\n{media_type}\r\n", self.boundary);
        self.body.reserve(head.len() + content.len() + 64);
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
    }

    /// The content type and the body.
    pub(crate) fn finish(mut self) -> (String, Bytes) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_what_servers_read_whatever_a_file_is_called() {
        let mut form = Form::new([0xab; 16]);
        form.text("chat_id", "-5");
        form.file("document", "../a\"\r\nx: y", "audio/ogg\r\nx: y", b"\x00\xff");
        let (media_type, body) = form.finish();
        let boundary = format!("bespoke-{}", "ab".repeat(16));
        assert_eq!(media_type, format!("multipart/form-data; boundary={boundary}"));
        let expected = [
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"chat_id\"\r\n\r\n-5\r\n").as_bytes(),
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"document\"; filename=\".._a___x: y\"\r\n").as_bytes(),
            b"content-type: audio/oggx:y\r\n\r\n\x00\xff\r\n",
            format!("--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        assert_eq!(body, expected);
    }
}
