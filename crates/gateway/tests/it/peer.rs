//! A peer that sends bytes, and reads answers.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::within;

pub(crate) struct Peer {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }
}

impl Peer {
    pub(crate) async fn new(address: SocketAddr) -> Self {
        Peer { stream: within(TcpStream::connect(address)).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) {
        self.send(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    }

    pub(crate) async fn ask(&mut self, body: &str) -> Answer {
        self.post("/hooks/door/bell", body).await;
        self.answer().await
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.unwrap_or_else(|| panic!("closed after {:?}", String::from_utf8_lossy(&self.read)))
    }

    /// The next answer; none when the connection ends before a byte of it.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, length)) = whole(&self.read) {
                self.read.drain(..length);
                return Some(answer);
            }
            let mut chunk = [0; 4096];
            match within(self.stream.read(&mut chunk)).await {
                Ok(n @ 1..) => self.read.extend_from_slice(&chunk[..n]),
                _ if self.read.is_empty() => return None,
                end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&self.read)),
            }
        }
    }

    /// That the other side closes without another word.
    pub(crate) async fn closed(&mut self) {
        let more = self.try_answer().await;
        assert!(more.is_none(), "{more:?}");
    }
}

fn whole(bytes: &[u8]) -> Option<(Answer, usize)> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..at]).unwrap().to_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let answer = Answer { status, head, body: String::new() };
    let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    let body = bytes.get(at + 4..at + 4 + length)?;
    Some((Answer { body: String::from_utf8_lossy(body).into_owned(), ..answer }, at + 4 + length))
}
