//! A package index on the loopback: pages of links and files with ranges, as wrong as a test wants them.

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

use crate::kit::Kit;

pub(crate) struct Index {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
}

/// A request: the file, or `project/` for a page, and the first byte that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) what: String,
    pub(crate) from: Option<usize>,
}

/// What is done with a file.
pub(crate) enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Half of it, then nothing until the flag is set, at most ten seconds.
    Half(Arc<AtomicBool>),
    /// Half of it, and then the connection ends.
    Cut,
    /// Another status, with a page.
    Status(u16),
    /// The file.
    Right,
}

impl Index {
    /// Serves the wheels of a kit.
    pub(crate) fn start(kit: &Kit) -> Self {
        Self::answering(kit, |_| Answer::Right)
    }

    pub(crate) fn answering(kit: &Kit, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let files: Vec<(String, String, Vec<u8>)> =
            kit.wheels.iter().map(|wheel| (wheel.project.clone(), wheel.file.clone(), wheel.bytes.clone())).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stop) = (Arc::clone(&seen), Arc::clone(&over));
        let shared = Arc::new((files, answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (log, shared) = (Arc::clone(&log), Arc::clone(&shared));
                thread::spawn(move || serve(stream.unwrap(), &log, &shared.0, &shared.1));
            }
        });
        Self { address, seen, over }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/simple/", self.address)
    }

    /// The requests for files, not those for pages.
    pub(crate) fn files(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| !seen.what.ends_with('/')).collect()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Waits for something that another thread or process does; fails after ten seconds.
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let since = Instant::now();
    while !ready() {
        assert!(since.elapsed() < Duration::from_secs(10), "waited 10 s for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Seen>>, files: &[(String, String, Vec<u8>)], answer: &dyn Fn(&Seen) -> Answer) {
    let (mut path, mut from) = (String::new(), None);
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { return };
        if line.is_empty() {
            break;
        } else if let Some(rest) = line.strip_prefix("GET /") {
            path = rest.split(' ').next().unwrap().to_owned();
        } else if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().ok();
        }
    }
    // Nobody who is gone is told anything.
    let _ = match (path.strip_prefix("simple/"), path.strip_prefix("files/")) {
        (Some(page), _) => {
            log.lock().unwrap().push(Seen { what: page.to_owned(), from });
            let of_page = files.iter().filter(|(project, ..)| page == format!("{project}/"));
            let links: String = of_page.map(|(_, file, _)| format!("<a href=\"../../files/{file}\">{file}</a>\n")).collect();
            let status = if links.is_empty() { 404 } else { 200 };
            send(&mut stream, status, "Content-Type: text/html\r\n", links.len(), links.as_bytes())
        }
        (_, Some(name)) => {
            let seen = Seen { what: name.to_owned(), from };
            log.lock().unwrap().push(seen.clone());
            let bytes = files.iter().find(|(_, file, _)| file == name).map(|(.., bytes)| bytes.clone()).unwrap_or_default();
            file(&mut stream, &bytes, from, answer(&seen))
        }
        _ => send(&mut stream, 404, "", 0, b""),
    };
}

fn file(stream: &mut TcpStream, bytes: &[u8], from: Option<usize>, answer: Answer) -> std::io::Result<()> {
    let half = bytes.len() / 2;
    match (answer, from) {
        (Answer::Status(status), _) => send(stream, status, "", 12, b"<html></html>"),
        (Answer::Bytes(other), _) => send(stream, 200, "", other.len(), &other),
        (Answer::Right, Some(from)) => {
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            send(stream, 206, &range, bytes.len() - from, &bytes[from..])
        }
        (Answer::Right, None) => send(stream, 200, "", bytes.len(), bytes),
        (Answer::Cut, _) => send(stream, 200, "", bytes.len(), &bytes[..half]),
        (Answer::Half(go_on), _) => {
            send(stream, 200, "", bytes.len(), &bytes[..half])?;
            let since = Instant::now();
            while !go_on.load(Ordering::Relaxed) && since.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(2));
            }
            stream.write_all(&bytes[half..])
        }
    }
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, length: usize, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)
}
