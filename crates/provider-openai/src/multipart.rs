//! The two bodies that a transcription is asked with: a form of parts, and a WAV file in memory. Pure.

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
    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.part(&format!("name=\"{name}\""), None, value.as_bytes())
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, file: &str, media_type: &str, content: &[u8]) -> &mut Self {
        self.part(&format!("name=\"{name}\"; filename=\"{file}\""), Some(media_type), content)
    }

    fn part(&mut self, disposition: &str, media_type: Option<&str>, content: &[u8]) -> &mut Self {
        let media_type = media_type.map_or(String::new(), |media_type| format!("content-type: {media_type}\r\n"));
        let head = format!("--{}\r\ncontent-disposition: form-data; {disposition}\r\n{media_type}\r\n", self.boundary);
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(content);
        self.body.extend_from_slice(b"\r\n");
        self
    }

    /// The content type and the body.
    pub(crate) fn finish(mut self) -> (String, Bytes) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body.into())
    }
}

/// A WAV file of 16-bit samples; `None` when it would be longer than the format allows.
pub(crate) fn wav(samples: &[f32], rate: u32) -> Option<Vec<u8>> {
    let data = u32::try_from(samples.len()).ok()?.checked_mul(2)?;
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&data.checked_add(36)?.to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    // 16 bytes of format: PCM, one channel, rate, bytes per second, bytes per frame, bits per sample.
    file.extend_from_slice(&16u32.to_le_bytes());
    file.extend_from_slice(&[1, 0, 1, 0]);
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&rate.checked_mul(2)?.to_le_bytes());
    file.extend_from_slice(&[2, 0, 16, 0]);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&data.to_le_bytes());
    for sample in samples {
        let scaled = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
        file.extend_from_slice(&scaled.to_le_bytes());
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_what_servers_read() {
        let mut form = Form::new([0xab; 16]);
        form.text("model", "whisper-1").file("file", "audio.wav", "audio/wav", b"\x00\xff");
        let (media_type, body) = form.finish();
        let boundary = format!("bespoke-{}", "ab".repeat(16));
        assert_eq!(media_type, format!("multipart/form-data; boundary={boundary}"));
        let expected = [
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n").as_bytes(),
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"audio.wav\"\r\n").as_bytes(),
            b"content-type: audio/wav\r\n\r\n\x00\xff\r\n",
            format!("--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        assert_eq!(body, expected);
    }

    #[test]
    fn a_wav_file_is_read_back_as_it_was() {
        let samples = [0.0, 0.5, -1.0, 1.0, 2.0, 1.0 / 32_768.0];
        let file = wav(&samples, 16_000).unwrap();
        let read = bespoke_audio::decode_wav(&file[..], std::path::Path::new("memory")).unwrap();
        assert_eq!(read.rate, 16_000);
        assert_eq!(read.samples, [0.0, 0.5, -1.0, 32_767.0 / 32_768.0, 32_767.0 / 32_768.0, 1.0 / 32_768.0]);
    }
}
