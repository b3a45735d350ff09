//! One file from a URL: tried again while that can help, resumed where the last try ended, refused as soon as it cannot
//! be the wanted one.
//!
//! What came so far lies in a `.part` file named by the pinned digest. Because the content is pinned, a part may be
//! continued from any server that has the file: no entity tag is kept, the size in `Content-Range` is checked at once
//! and the digest at the end. A part that turns out wrong is deleted and the file fetched once more from its first
//! byte, so a bad part cannot fail for ever. Without a digest nothing is continued.

use std::{
    fs, io,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use url::Url;

use crate::{
    client::{Client, Event, Question},
    error::{Error, Failure, Stop},
    progress::{Phase, Watch},
    sink::{Sink, Want},
};

/// A try that got this much further does not count against [`crate::Limits::retries`].
const PROGRESS: u64 = 1024 * 1024;
/// The longest pause between two tries, whatever a server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How soon a cancel is noticed while nothing arrives.
const POLL: Duration = Duration::from_millis(100);

/// What a server said about what it sent.
pub(crate) struct Arrived {
    /// Where it came from, after redirects.
    pub(crate) url: Url,
    pub(crate) content_type: String,
}

/// Completes `part`, checked against `want` and flushed.
pub(crate) fn fetch(
    client: &Client,
    question: &Question,
    want: &Want,
    part: &Path,
    phase: Phase,
    watch: &mut Watch<'_>,
) -> Result<Arrived, Stop> {
    let limits = client.limits();
    let (mut tries, mut furthest, mut restarted) = (0, length(part), false);
    loop {
        let had = if want.sha256.is_some() { length(part) } else { 0 };
        if had > want.most() {
            discard(part)?;
            continue;
        }
        let outcome = if want.size == Some(had) {
            let whole = Sink::resume(part, want)?.finish().map_err(Ended::Wrong);
            whole.map(|_| Arrived { url: question.url.clone(), content_type: String::new() })
        } else {
            transfer(client, question, want, part, had, phase, watch)
        };
        let (failure, asked_pause) = match outcome {
            Ok(arrived) => return Ok(arrived),
            Err(Ended::Stopped(stop)) => return Err(stop),
            // The part itself may be what is wrong: once more without it.
            Err(Ended::Wrong(_)) if had > 0 && !restarted => {
                restarted = true;
                discard(part)?;
                continue;
            }
            Err(Ended::Wrong(stop)) => {
                discard(part)?;
                return Err(stop);
            }
            Err(Ended::Broken(failure, pause)) => (failure, pause),
        };
        let has = length(part);
        let further = has > furthest;
        if has >= furthest.saturating_add(PROGRESS) {
            tries = 0;
        }
        furthest = furthest.max(has);
        if tries == limits.retries || !(further || failure.may_pass()) {
            return Err(told(failure, has, want).into());
        }
        let pause = limits.backoff.saturating_mul(1 << tries.min(8)).max(asked_pause.unwrap_or_default());
        tries += 1;
        rest(pause.min(LONGEST_PAUSE), phase, had, want, watch)?;
    }
}

/// How a transfer ended short of success.
enum Ended {
    /// Midway or with a server in trouble; what came is good as far as it goes. With the pause that the server wants.
    Broken(Failure, Option<Duration>),
    /// With other bytes than wanted, or with an answer that does not fit to the part.
    Wrong(Stop),
    /// By the caller, the time limit or the local disk; or by an answer that says nothing about the part: a missing
    /// page, or a page in place of the file. A login page of some network must not cost the part of a long download.
    Stopped(Stop),
}

fn transfer(
    client: &Client,
    question: &Question,
    want: &Want,
    part: &Path,
    had: u64,
    phase: Phase,
    watch: &mut Watch<'_>,
) -> Result<Arrived, Ended> {
    let broken = |failure| Err(Ended::Broken(failure, None));
    watch.step(phase, had, want.size).map_err(Ended::Stopped)?;
    let from = client.ask(question, had);
    let answer = match next(&from, phase, had, want, watch)? {
        Event::Answer(answer) => answer,
        Event::Failed(failure) => return broken(failure),
        Event::Bytes(_) | Event::End => return broken(vanished()),
    };
    let mut sink = match answer.status {
        206 if had > 0 && answer.continues(had, want.size) => Sink::resume(part, want),
        200 if want.size.is_some() && answer.length.is_some_and(|length| Some(length) != want.size) => {
            let (got, size) = (answer.length.unwrap_or_default(), want.most());
            return Err(Ended::Stopped(Failure::Size { got, size }.into()));
        }
        200 if answer.encoded && want.sha256.is_none() => {
            let why = "the server sends a compressed form, which was not asked for";
            return Err(Ended::Stopped(Failure::Connection(why.to_owned()).into()));
        }
        // A server that ignores the range sends the whole file: start over.
        200 => Sink::create(part, want),
        206 => {
            let why = "the server answered with another range than was asked for";
            return Err(Ended::Wrong(Failure::Connection(why.to_owned()).into()));
        }
        416 => return Err(Ended::Wrong(Failure::Status(416).into())),
        status if Failure::Status(status).may_pass() => return Err(Ended::Broken(Failure::Status(status), answer.retry_after)),
        status => return Err(Ended::Stopped(Failure::Status(status).into())),
    }
    .map_err(|e| Ended::Stopped(e.into()))?;
    loop {
        match next(&from, phase, sink.written(), want, watch)? {
            Event::Bytes(bytes) => sink.push(&bytes).map_err(|stop| match stop {
                Stop::Source(_) => Ended::Wrong(stop),
                Stop::Fatal(_) => Ended::Stopped(stop),
            })?,
            // A server that closes early without having announced a length ends like a complete one.
            Event::End => match want.size.filter(|size| sink.written() < *size) {
                Some(size) => return broken(Failure::Short { got: sink.written(), size }),
                None => {
                    sink.finish().map_err(Ended::Wrong)?;
                    return Ok(Arrived { url: answer.url, content_type: answer.content_type });
                }
            },
            Event::Failed(failure) => return broken(failure),
            Event::Answer(_) => return broken(vanished()),
        }
    }
}

/// The next event. Asks the caller several times a second.
fn next(from: &Receiver<Event>, phase: Phase, done: u64, want: &Want, watch: &mut Watch<'_>) -> Result<Event, Ended> {
    loop {
        watch.step(phase, done, want.size).map_err(Ended::Stopped)?;
        match from.recv_timeout(POLL) {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Event::Failed(vanished())),
        }
    }
}

/// A pause in which a cancel is noticed.
fn rest(pause: Duration, phase: Phase, done: u64, want: &Want, watch: &mut Watch<'_>) -> Result<(), Stop> {
    let since = Instant::now();
    loop {
        watch.step(phase, done, want.size)?;
        let left = pause.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(POLL));
    }
}

/// What the last try failed with, as it looks from outside: a body that broke off is short, however it broke off.
fn told(failure: Failure, has: u64, want: &Want) -> Failure {
    match (failure, want.size) {
        (Failure::Dropped(_), Some(size)) if has > 0 => Failure::Short { got: has, size },
        (failure, _) => failure,
    }
}

fn vanished() -> Failure {
    Failure::Dropped("no answer".to_owned())
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
