//! Bodies of the type `multipart/form-data` (RFC 7578), in which files are sent over HTTP. Sends nothing, and has no randomness.
//!
//! ```
//! let mut form = bespoke_multipart::Form::new([7; 16]);
//! form.text("chat_id", "-5").file("document", "list.csv", "text/csv", b"a,b");
//! let (content_type, body) = form.finish();
//! assert!(content_type.starts_with("multipart/form-data; boundary="));
//! assert!(body.ends_with(b"--\r\n"));
//! ```

use bytes::Bytes;

/// Bytes of a part besides its content and its names, at most.
const HEAD: usize = 256;

/// A form, in memory.
#[derive(Debug)]
pub struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    /// An empty form. The boundary is made of `random`: nobody who does not know it can make a content that holds it.
    pub fn new(random: [u8; 16]) -> Self {
        let boundary = random.iter().fold(String::from("bespoke-"), |text, byte| text + &format!("{byte:02x}"));
        Form { boundary, body: Vec::new() }
    }

    /// Adds a field of text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.part(&format!("name=\"{}\"", quoted(name)), None, value.as_bytes())
    }

    /// Adds a file. What names it may come from anywhere: nothing of it ends the line that it stands in, and its name has no folders.
    pub fn file(&mut self, name: &str, file: &str, media_type: &str, content: &[u8]) -> &mut Self {
        let media_type: String = media_type.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        self.part(&format!("name=\"{}\"; filename=\"{}\"", quoted(name), quoted(file)), Some(media_type.trim()), content)
    }

    fn part(&mut self, disposition: &str, media_type: Option<&str>, content: &[u8]) -> &mut Self {
        let media_type = media_type.map_or(String::new(), |media_type| format!("content-type: {media_type}\r\n"));
        let head = format!("--{}\r\ncontent-disposition: form-data; {disposition}\r\n{media_type}\r\n", self.boundary);
        // With the last line, so that the file, which is nearly all of it, is copied once.
        self.body.reserve(head.len() + content.len() + HEAD);
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
        self
    }

    /// The content type and the body.
    pub fn finish(mut self) -> (String, Bytes) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body.into())
    }
}

/// A name between quotation marks, without what servers read differently there.
fn quoted(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\' | '/') { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_what_servers_read_whatever_a_file_is_called() {
        let mut form = Form::new([0xab; 16]);
        form.text("chat_id", "-5").file("document", "../a\"\r\nx: y\u{85}é", "audio/ogg; codecs=opus\r\nx: y", b"\x00\xff");
        let (media_type, body) = form.finish();
        let boundary = format!("bespoke-{}", "ab".repeat(16));
        assert_eq!(media_type, format!("multipart/form-data; boundary={boundary}"));
        let expected = [
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"chat_id\"\r\n\r\n-5\r\n").as_bytes(),
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"document\"; filename=\".._a___x: y_é\"\r\n").as_bytes(),
            b"content-type: audio/ogg; codecs=opusx: y\r\n\r\n\x00\xff\r\n",
            format!("--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        assert_eq!(body, expected);
    }

    #[test]
    fn a_form_of_nothing_ends() {
        let (_, body) = Form::new([0; 16]).finish();
        assert_eq!(body, format!("--bespoke-{}--\r\n", "00".repeat(16)));
    }
}
