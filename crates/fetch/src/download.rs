//! One file from a URL: resumed where the last try ended, refused as soon as it cannot be the pinned one.
//!
//! What came so far lies in a `.part` file named by the pinned digest. Because the content is pinned, a part may be
//! continued from any server that has the file: no entity tag is kept, the size in `Content-Range` is checked at once
//! and the digest at the end. A part that turns out wrong is deleted and the file fetched once more from its first
//! byte, so a bad part cannot fail for ever.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use ureq::{
    Agent,
    config::Config,
    http::{HeaderMap, header},
    tls::{RootCerts, TlsConfig},
};

use crate::{
    Limits, Pin,
    error::{Error, Failure, Stop},
    progress::{Phase, Watch},
    sink::{CHUNK, Sink},
};

/// How often a transfer that broke off after some progress is taken up again.
const RESUMES: u32 = 4;
/// How soon a cancel is noticed while nothing arrives.
const POLL: Duration = Duration::from_millis(100);

/// Completes `part`, verified against `pin` and flushed.
pub(crate) fn fetch(url: &str, pin: &Pin, part: &Path, limits: &Limits, watch: &mut Watch<'_>) -> Result<(), Stop> {
    let mut resumes = RESUMES;
    loop {
        let had = length(part);
        if had > pin.size {
            discard(part)?;
            continue;
        }
        let outcome = if had == pin.size {
            Sink::resume(part, pin)?.finish().map_err(Ended::Wrong)
        } else {
            transfer(url, pin, part, had, limits, watch)
        };
        match outcome {
            Ok(()) => return Ok(()),
            Err(Ended::Broken(failure)) => {
                if length(part) <= had || resumes == 0 {
                    return Err(failure.into());
                }
                resumes -= 1;
            }
            // The part itself may be what is wrong: once more without it.
            Err(Ended::Wrong(_)) if had > 0 => discard(part)?,
            Err(Ended::Wrong(stop)) => {
                discard(part)?;
                return Err(stop);
            }
            Err(Ended::Refused(failure)) => return Err(failure.into()),
            Err(Ended::Stopped(stop)) => return Err(stop),
        }
    }
}

/// How a transfer ended short of success.
enum Ended {
    /// Midway; what came is good as far as it goes.
    Broken(Failure),
    /// With other bytes than pinned, or with an answer that does not fit to the part.
    Wrong(Stop),
    /// By an answer that says nothing about the part: a missing page, or a page in place of the file. A login page of
    /// some network must not cost the part of a long download.
    Refused(Failure),
    /// By the caller, the time limit or the local disk.
    Stopped(Stop),
}

fn transfer(url: &str, pin: &Pin, part: &Path, had: u64, limits: &Limits, watch: &mut Watch<'_>) -> Result<(), Ended> {
    let stopped = |stop: Stop| Ended::Stopped(stop);
    watch.step(Phase::Downloading, had, Some(pin.size)).map_err(stopped)?;
    let from = request(url.to_owned(), had, limits.clone());
    let answer = match next(&from, had, pin, watch)? {
        Some(Event::Answer(answer)) => answer,
        Some(Event::Failed(failure)) => return Err(Ended::Broken(failure)),
        Some(Event::Bytes(_) | Event::End) | None => return Err(Ended::Broken(vanished())),
    };
    let mut sink = match answer.status {
        206 if had > 0 && answer.continues(had, pin.size) => Sink::resume(part, pin),
        200 if answer.length.is_some_and(|length| length != pin.size) => {
            let got = answer.length.unwrap_or_default();
            return Err(Ended::Refused(Failure::Size { got, size: pin.size }));
        }
        // A server that ignores the range sends the whole file: start over.
        200 => Sink::create(part, pin),
        206 => {
            let why = "the server answered with another range than was asked for";
            return Err(Ended::Wrong(Failure::Connection(why.to_owned()).into()));
        }
        416 => return Err(Ended::Wrong(Failure::Status(416).into())),
        status => return Err(Ended::Refused(Failure::Status(status))),
    }
    .map_err(|e| Ended::Stopped(e.into()))?;
    loop {
        match next(&from, sink.written(), pin, watch)? {
            Some(Event::Bytes(bytes)) => sink.push(&bytes).map_err(|stop| match stop {
                Stop::Source(_) => Ended::Wrong(stop),
                Stop::Fatal(_) => Ended::Stopped(stop),
            })?,
            Some(Event::End) if sink.written() == pin.size => return sink.finish().map_err(Ended::Wrong),
            // A server that closes early without having announced a length ends like a complete one.
            Some(Event::End) => return Err(Ended::Broken(Failure::Short { got: sink.written(), size: pin.size })),
            Some(Event::Failed(Failure::Connection(_))) if sink.written() > had => {
                return Err(Ended::Broken(Failure::Short { got: sink.written(), size: pin.size }));
            }
            Some(Event::Failed(failure)) => return Err(Ended::Broken(failure)),
            Some(Event::Answer(_)) | None => return Err(Ended::Broken(vanished())),
        }
    }
}

/// The next event; `None` when the connection's thread is gone. Asks the caller several times a second.
fn next(from: &Receiver<Event>, done: u64, pin: &Pin, watch: &mut Watch<'_>) -> Result<Option<Event>, Ended> {
    loop {
        watch.step(Phase::Downloading, done, Some(pin.size)).map_err(Ended::Stopped)?;
        match from.recv_timeout(POLL) {
            Ok(event) => return Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

enum Event {
    Answer(Answer),
    Bytes(Vec<u8>),
    End,
    Failed(Failure),
}

struct Answer {
    status: u16,
    /// Of the body, where the server announced it and did not encode the body.
    length: Option<u64>,
    encoded: bool,
    /// `Content-Range`, as start and, where given, the size of the whole.
    range: Option<(u64, Option<u64>)>,
}

impl Answer {
    fn continues(&self, at: u64, size: u64) -> bool {
        !self.encoded && self.range.is_some_and(|(start, total)| start == at && total.is_none_or(|total| total == size))
    }
}

/// Runs the exchange on a thread of its own, which ends by itself soon after the receiver is dropped: at the next
/// chunk, or at [`Limits::stall`] when none comes.
fn request(url: String, had: u64, limits: Limits) -> Receiver<Event> {
    let (to, from) = mpsc::sync_channel(8);
    let refused = to.clone();
    let spawned = thread::Builder::new().name("fetch".to_owned()).spawn(move || exchange(&url, had, &limits, &to));
    if let Err(e) = spawned {
        // The channel has room for the first event.
        let _ = refused.try_send(Event::Failed(Failure::Connection(format!("no thread for it: {e}"))));
    }
    from
}

fn exchange(url: &str, had: u64, limits: &Limits, to: &SyncSender<Event>) {
    let mut request = agent(limits).get(url);
    if had > 0 {
        request = request.header(header::RANGE, format!("bytes={had}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(e) => {
            let _ = to.send(Event::Failed(failure(e, limits)));
            return;
        }
    };
    let headers = response.headers();
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity");
    let answer = Answer {
        status: response.status().as_u16(),
        length: number(headers).filter(|_| !encoded),
        encoded,
        range: headers.get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).and_then(parse_range),
    };
    if to.send(Event::Answer(answer)).is_err() {
        return;
    }
    let mut body = response.into_body().into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        let event = match body.read(&mut chunk) {
            Ok(0) => Event::End,
            Ok(n) => {
                chunk.truncate(n);
                Event::Bytes(chunk)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => Event::Failed(failure(e.into(), limits)),
        };
        let last = !matches!(event, Event::Bytes(_));
        if to.send(event).is_err() || last {
            return;
        }
    }
}

/// Proxies come from the environment, certificates from the operating system.
fn agent(limits: &Limits) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Config::builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(10)
        .user_agent(concat!("bespoke-fetch/", env!("CARGO_PKG_VERSION")))
        // Ranges count bytes of the file, not of a compressed form of it.
        .accept_encoding("identity")
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.stall))
        .timeout_per_read(Some(limits.stall))
        .timeout_global(Some(limits.total))
        .build();
    Agent::new_with_config(config)
}

fn failure(e: ureq::Error, limits: &Limits) -> Failure {
    match e {
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => Failure::TimedOut(limits.connect),
        ureq::Error::Timeout(ureq::Timeout::PerRead | ureq::Timeout::RecvResponse) => Failure::TimedOut(limits.stall),
        ureq::Error::Timeout(_) => Failure::TimedOut(limits.total),
        ureq::Error::HostNotFound => Failure::Connection("the host name is not known".to_owned()),
        other => Failure::Connection(other.to_string()),
    }
}

fn vanished() -> Failure {
    Failure::Connection("the connection ended without an answer".to_owned())
}

fn number(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// `bytes 100-199/200` or `bytes 100-199/*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((start, total))
}

fn length(part: &Path) -> u64 {
    fs::metadata(part).map_or(0, |m| m.len())
}

fn discard(part: &Path) -> Result<(), Stop> {
    match fs::remove_file(part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", part)(e).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        assert_eq!(parse_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(parse_range("bytes 0-9/*"), Some((0, None)));
        for bad in ["bytes */200", "100-199/200", "bytes a-b/c", "bytes 5", ""] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
