//! Lines of bytes, none longer than a limit. What they say is not its business.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::scan::Scan;

/// What a read takes at once.
const CHUNK: usize = 64 << 10;

/// What was read.
#[derive(Debug)]
pub(crate) enum Line {
    /// One without its end.
    Whole(Vec<u8>),
    /// One over the limit, which was passed over; the id of the request in it, where it could be read.
    TooLong { id: Option<Value>, length: u64 },
    /// There will be no more.
    End,
}

/// Takes an input apart. A line over the limit is passed over, so that it takes no memory and the next one is read as ever.
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    most: usize,
    line: Vec<u8>,
    /// Of a line over the limit, and how much of it has passed by.
    over: Option<(Scan, u64)>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(input: R, most: usize) -> Self {
        Lines { input: BufReader::with_capacity(CHUNK, input), most, line: Vec::new(), over: None }
    }

    /// The next line. A last one without an end counts. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> io::Result<Line> {
        loop {
            let bytes = self.input.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(if self.line.is_empty() && self.over.is_none() { Line::End } else { self.take() });
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            match &mut self.over {
                Some((scan, length)) => {
                    scan.feed(piece);
                    *length += piece.len() as u64;
                }
                None if self.line.len() + piece.len() > self.most => {
                    let mut scan = Scan::of(&self.line);
                    scan.feed(piece);
                    self.over = Some((scan, (self.line.len() + piece.len()) as u64));
                    self.line = Vec::new();
                }
                None => self.line.extend_from_slice(piece),
            }
            let used = piece.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Ok(self.take());
            }
        }
    }

    fn take(&mut self) -> Line {
        match self.over.take() {
            Some((scan, length)) => Line::TooLong { id: scan.id().cloned(), length },
            None => Line::Whole(std::mem::take(&mut self.line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_line_over_the_limit_is_passed_over_and_the_next_one_read() {
        let long = format!("{{\"params\":\"{}\",\"id\":9}}", "x".repeat(200_000));
        let input = format!("one\n\n{long}\ntwo");
        let mut lines = Lines::new(input.as_bytes(), 16);
        let mut read = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::Whole(line) => read.push(String::from_utf8(line).unwrap()),
                Line::TooLong { id, length } => {
                    assert_eq!((id, length), (Some(json!(9)), long.len() as u64));
                    read.push("too long".into());
                }
                Line::End => break,
            }
        }
        assert_eq!(read, ["one", "", "too long", "two"]);
    }
}
