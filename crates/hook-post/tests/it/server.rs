//! A server that does as a script says, and keeps what it was sent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Most time that anything may take; far more than anything takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

/// What it does with a request.
#[derive(Clone)]
pub(crate) enum Does {
    /// Answers with these bytes.
    Says(String),
    /// Reads it, and never answers.
    Hangs,
    /// Sends a body that does not end.
    Floods,
}

impl Does {
    pub(crate) fn says(status: u16, body: &str) -> Self {
        Does::Says(format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()))
    }
}

impl Server {
    pub(crate) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?key=s3cret", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let kept = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (does, kept) = (does.clone(), kept.clone());
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !is_whole(&request) {
                        let mut chunk = [0; 4096];
                        match stream.read(&mut chunk).await {
                            Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                            _ => return,
                        }
                    }
                    kept.lock().unwrap().push(String::from_utf8(request).unwrap());
                    match does {
                        Does::Says(answer) => drop(stream.write_all(answer.as_bytes()).await),
                        // Until the client goes.
                        Does::Hangs => drop(stream.read(&mut [0]).await),
                        Does::Floods => {
                            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
                            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
                        }
                    }
                });
            }
        });
        Server { url, seen }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// The value of a header in a request.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}
