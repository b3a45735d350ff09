//! A small HTTP server on the loopback: each request is answered by the test, as wrongly as it likes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// The first byte that is asked for, with a Range header.
    pub(crate) from: Option<usize>,
    pub(crate) accept_encoding: Option<String>,
    pub(crate) accept: Option<String>,
    /// The Authorization header, as sent.
    pub(crate) authorization: Option<String>,
}

/// What goes over the wire after a request.
pub(crate) enum Send {
    Text(String),
    Bytes(Vec<u8>),
    /// Bytes one by one, with a pause after each.
    Drip(Vec<u8>, Duration),
    /// Nothing until the flag is set, at most ten seconds.
    Until(Arc<AtomicBool>),
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Vec<Send> + std::marker::Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stop, answer) = (Arc::clone(&seen), Arc::clone(&over), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve(stream.unwrap(), &log, &*answer));
            }
        });
        Self { address, seen, over }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The same server under another host name.
    pub(crate) fn url_by_name(&self, path: &str) -> String {
        format!("http://localhost:{}/{path}", self.address.port())
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// A correct answer, ranges included.
pub(crate) fn correct(request: &Request, content: &[u8]) -> Vec<Send> {
    match request.from {
        Some(from) if from < content.len() => {
            let rest = content[from..].to_vec();
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            vec![head(206, &[("Content-Range", &range), ("Content-Length", &rest.len().to_string())]), Send::Bytes(rest)]
        }
        Some(_) => vec![head(416, &[("Content-Length", "0")])],
        None => whole(content),
    }
}

/// The whole file, whatever was asked for.
pub(crate) fn whole(content: &[u8]) -> Vec<Send> {
    vec![head(200, &[("Content-Length", &content.len().to_string())]), Send::Bytes(content.to_vec())]
}

pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Send {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Send::Text(format!("HTTP/1.1 {status} Status\r\n{headers}Connection: close\r\n\r\n"))
}

/// Waits for something that another thread does; fails after ten seconds.
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let since = Instant::now();
    while !ready() {
        assert!(since.elapsed() < Duration::from_secs(10), "waited 10 s for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Vec<Send>) {
    let mut request = Request { path: String::new(), from: None, accept_encoding: None, accept: None, authorization: None };
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { return };
        let lower = line.to_ascii_lowercase();
        if line.is_empty() {
            break;
        } else if let Some(rest) = line.strip_prefix("GET ").or_else(|| line.strip_prefix("CONNECT ")) {
            let path = rest.split(' ').next().unwrap();
            request.path = path.strip_prefix('/').unwrap_or(path).to_owned();
        } else if lower.starts_with("authorization: ") {
            request.authorization = Some(line["authorization: ".len()..].to_owned());
        } else if let Some(accept) = lower.strip_prefix("accept: ") {
            request.accept = Some(accept.to_owned());
        } else if let Some(range) = lower.strip_prefix("range: bytes=") {
            request.from = Some(range.trim_end_matches('-').parse().unwrap());
        } else if let Some(encoding) = lower.strip_prefix("accept-encoding: ") {
            request.accept_encoding = Some(encoding.to_owned());
        }
    }
    seen.lock().unwrap().push(request.clone());
    for send in answer(&request) {
        let sent = match send {
            Send::Text(text) => stream.write_all(text.as_bytes()),
            Send::Bytes(bytes) => stream.write_all(&bytes),
            Send::Drip(bytes, pause) => bytes.iter().try_for_each(|byte| {
                thread::sleep(pause);
                stream.write_all(&[*byte])
            }),
            Send::Until(flag) => {
                let since = Instant::now();
                while !flag.load(Ordering::Relaxed) && since.elapsed() < Duration::from_secs(10) {
                    thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
