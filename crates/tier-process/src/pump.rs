//! The task of a child: carries what it says to the proxy and the log, writes what could not be written at once, asks whether it is
//! still there, ends it, and knows how it ended. It never blocks: what it waits for, it waits for in one place.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use bespoke_host::Used;
use bespoke_manifest::Permission;
use bespoke_plugin_api::{Code, Error, HostApi, Level, Result};
use bespoke_plugin_proxy::{MOST_WAITING, Proxy, Receiver};
use bespoke_protocol::{
    Kind, MAX_FRAME,
    line::{Incoming, LineReader, Side},
    put_plain,
};
use bespoke_sandbox::{Acted, Report, What};
use bespoke_tier::Rate;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::unix::pipe,
    sync::{oneshot, watch},
    time::{Sleep, sleep_until},
};

use crate::{
    child::{Child, Launch, Pipes},
    ending::{Ending, Exit},
    log::{LastLines, Log},
    outbox::{Outbox, PipeLink, Waker},
    watch::{Due, Patience, Watch},
};

/// Read at once, of the standard output and the standard error.
const PIECES: [usize; 2] = [128 << 10, 16 << 10];
/// How long a child that has closed a pipe may take to end by itself, so that how it ended is known.
const LINGER: Duration = Duration::from_millis(500);
/// How long a child that was killed may take to go. One that hangs in the kernel is left behind.
const DYING: Duration = Duration::from_secs(5);
/// Bytes that are no messages, and bytes for the log, that are taken without pause, and then a second.
const NOISE_BURST: u32 = 8 << 20;
const NOISE_PER_SECOND: u32 = 4 << 20;
/// Read at most when a child has ended: what it still had to say, and not what its heirs go on saying.
const LAST_WORDS: usize = 1 << 20;

/// A child that runs, as the rest of the tier holds it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) last: Arc<LastLines>,
    pub(crate) started: SystemTime,
}

/// What can be said of a child at this moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// Its process, once that is known.
    pub(crate) pid: Option<u32>,
    /// Parts of its wall that are not there.
    pub(crate) missing: Vec<String>,
    /// It does not answer, for so long.
    pub(crate) silent: Option<Duration>,
    pub(crate) ended: Option<Ended>,
}

/// A child has ended.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// As it was asked to.
    Asked,
    /// By itself, or because it had to be.
    Itself(Error),
}

/// Starts a child, and a task that is there as long as the child is. The proxy comes when it runs; dropping that ends it.
///
/// # Errors
/// `LOAD_FAILED` when it cannot be started; `RESOURCE_EXHAUSTED` when there is no thread to start it on.
pub(crate) async fn start(id: &str, launch: Launch, host: Arc<dyn HostApi>, patience: Patience) -> Result<(Proxy, Handle)> {
    let waker = Arc::new(Waker::default());
    let (tell, told) = oneshot::channel();
    let (woken, used) = (waker.clone(), launch.used.clone());
    // Making a process takes as long as it takes, and a runtime has more to do meanwhile.
    std::thread::Builder::new()
        .name(format!("start-{id}"))
        // Nobody waits any more: the child that comes back is dropped, which ends it.
        .spawn(move || drop(tell.send(Child::start(&launch, &woken))))
        .map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread to start the plugin's process: {e}")))?;
    let child = told.await.unwrap_or_else(|_| Err(Error::internal("the thread that starts the plugin's process ended without a word")))?;
    let (pump, proxy, handle) = Pump::new(child, used, waker, host, patience)
        .map_err(|e| Error::internal(format!("the plugin's process cannot be listened to: {e}")))?;
    tokio::spawn(pump.run(id.to_owned()));
    Ok((proxy, handle))
}

struct Pump {
    child: Child,
    /// Its standard output and its standard error, as long as they are open, and what was read last from each.
    pipes: [Option<pipe::Receiver>; 2],
    pieces: [Vec<u8>; 2],
    /// Its standard input, while something waits for room in it.
    full: Option<pipe::Sender>,
    waker: Arc<Waker>,
    /// Set to when there was once something to do: moved only to earlier times, so that a message does not cost a timer.
    timer: Pin<Box<Sleep>>,
    outbox: Arc<Outbox>,
    receiver: Receiver,
    lines: LineReader,
    log: Log,
    used: Arc<Used>,
    last: Arc<LastLines>,
    watch: Watch,
    patience: Patience,
    status: watch::Sender<Status>,
    /// Of the standard output and the standard error: what is no message, and from when on more of it is read.
    noise: [Rate; 2],
    quiet_until: [Instant; 2],
    phase: Phase,
    /// Why this side ends it, where it does.
    why: Option<String>,
    greeted: bool,
    /// Why it could not be started.
    failed: Option<Error>,
}

const OUT: usize = 0;
const ERR: usize = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Runs,
    /// It was asked to end, or has begun to, and has until then.
    Ends(Instant),
    /// It was killed.
    Dies(Instant),
}

#[derive(Default)]
struct Ready {
    woken: bool,
    due: bool,
    stdin: bool,
    read: [Option<io::Result<usize>>; 2],
}

impl Pump {
    fn new(
        mut child: Child,
        used: Arc<Used>,
        waker: Arc<Waker>,
        host: Arc<dyn HostApi>,
        patience: Patience,
    ) -> io::Result<(Self, Proxy, Handle)> {
        let Pipes { stdin, stdout, stderr } = child.take_pipes().ok_or_else(|| io::Error::other("it has no pipes"))?;
        let outbox = Outbox::new(stdin, waker.clone());
        let (proxy, receiver) = Proxy::new(host.clone(), Arc::new(PipeLink(outbox.clone())));
        let (status, watching) = watch::channel(Status { pid: child.pid(), ..Status::default() });
        let last = Arc::new(LastLines::default());
        let now = Instant::now();
        let watch = Watch::new(patience, now);
        let pump = Pump {
            child,
            used,
            pipes: [Some(pipe::Receiver::from_owned_fd(stdout)?), Some(pipe::Receiver::from_owned_fd(stderr)?)],
            pieces: PIECES.map(|size| vec![0; size]),
            full: None,
            waker,
            timer: Box::pin(sleep_until(watch.next().into())),
            outbox: outbox.clone(),
            receiver,
            lines: LineReader::new(Side::Guest, MAX_FRAME),
            log: Log::new(host, last.clone(), now),
            last: last.clone(),
            watch,
            patience,
            status,
            noise: [Rate::new(NOISE_BURST, NOISE_PER_SECOND, now), Rate::new(NOISE_BURST, NOISE_PER_SECOND, now)],
            quiet_until: [now; 2],
            phase: Phase::Runs,
            why: None,
            greeted: false,
            failed: None,
        };
        Ok((pump, proxy, Handle { outbox, status: watching, last, started: SystemTime::now() }))
    }

    async fn run(mut self, id: String) {
        let exit = loop {
            let now = Instant::now();
            self.obey(now);
            if let Phase::Dies(until) = self.phase
                && now >= until
            {
                break Exit::Unknown("it was killed and does not go".into());
            }
            let ready = self.wait(now).await;
            if ready.woken {
                self.hear_reports();
            }
            if ready.woken || ready.stdin {
                // Whether there is room for all of it is asked again.
                self.full = None;
                self.outbox.flush();
                let returned = self.outbox.take_returned();
                if !returned.is_empty() {
                    // Frames of our own.
                    let _ = self.receiver.receive(&returned);
                }
            }
            for (one, read) in [OUT, ERR].into_iter().zip(ready.read) {
                if let Some(read) = read {
                    self.take(one, read);
                }
            }
            if (ready.woken || ready.due || self.pipes[OUT].is_none())
                && let Some(exit) = self.child.gone()
            {
                break exit;
            }
        };
        self.outbox.close();
        self.last_words();
        let orders = self.outbox.orders();
        let ending = Ending { exit, why: self.why.take(), greeted: self.greeted };
        let error = match self.failed.take() {
            Some(error) => error,
            None => ending.error(&self.last),
        };
        tracing::debug!(plugin = &*id, ?ending, "its process has ended");
        // The process is taken out of the table before anybody hears that it has gone.
        drop(self.child);
        let ended = if orders.finish || orders.kill { Ended::Asked } else { Ended::Itself(error.clone()) };
        self.receiver.lost(error);
        self.status.send_modify(|status| {
            status.silent = None;
            status.ended = Some(ended);
        });
    }

    /// What the supervisor has to tell.
    fn hear_reports(&mut self) {
        let now = Instant::now();
        for report in self.child.reports() {
            match report {
                Report::Started { pid, missing } => self.status.send_modify(|status| {
                    status.pid = Some(pid);
                    status.missing = missing;
                }),
                Report::Failed { stage, message, .. } => {
                    let error = Error::new(Code::LOAD_FAILED, format!("its process could not be started: {stage}: {message}"));
                    self.failed = Some(match stage.strip_prefix("execute ") {
                        Some(program) => error.with_help(format!(
                            "file {program}   it has to be a program for this machine, or a script whose first line names one that is there (#!)"
                        )),
                        None => error,
                    });
                    self.child.has_ended(Exit::Unknown(message));
                }
                Report::Denied { what, call, argument, times } => {
                    let often = if times > 1 { format!(", {times} times") } else { String::new() };
                    if let Some(permission) = permission(what) {
                        self.used.count(permission, if argument.is_empty() { &call } else { &argument }, false);
                    }
                    let of = if argument.is_empty() { call } else { format!("{call} {argument}") };
                    self.log.say(Level::Warn, &format!("was refused ({}): {of}{often}", what.name()), now);
                }
                Report::Limited { limit, used, allowed, acted } => {
                    let acted = match acted {
                        Acted::Killed => "it was ended",
                        Acted::Throttled => "it was halted for a while",
                        _ => "the call failed",
                    };
                    let line = format!("reached its limit of {}: {used} of {allowed}; {acted}", limit.name());
                    self.log.say(Level::Warn, &line, now);
                }
                Report::Dropped { count } => self.log.say(Level::Warn, &format!("{count} reports of its wall were left out"), now),
                Report::Ended { code, signal, limit } => {
                    if let Some(limit) = limit {
                        self.why.get_or_insert_with(|| format!("reached its limit of {}", limit.name()));
                    }
                    let exit = code.map(Exit::Code).or(signal.map(Exit::Signal));
                    self.child.has_ended(exit.unwrap_or_else(|| Exit::Unknown("nobody knows how".into())));
                    self.phase = Phase::Dies(now + DYING);
                }
                Report::Left { pids } => {
                    self.log.say(Level::Error, &format!("processes of its could not be ended: {pids:?}"), now);
                }
                _ => {}
            }
        }
    }

    /// What this side wants of the child, and when it has waited long enough.
    fn obey(&mut self, now: Instant) {
        let orders = self.outbox.orders();
        if orders.overfull {
            self.end(now, format!("does not read: {} MiB waited for it", MOST_WAITING >> 20));
        }
        if orders.kill {
            self.kill(now);
        }
        match self.phase {
            Phase::Runs if orders.finish => {
                self.outbox.flush();
                self.phase = Phase::Ends(now + self.patience.goodbye);
            }
            Phase::Runs if orders.deaf => self.phase = Phase::Ends(now + LINGER),
            Phase::Runs if self.pipes[OUT].is_none() => self.phase = Phase::Ends(now + LINGER),
            Phase::Runs => match self.watch.due(now) {
                Due::Nothing => {}
                Due::Ping(ping) => {
                    self.plain(Kind::PING, ping);
                    let silent = self.watch.silent(now);
                    self.status.send_if_modified(|status| std::mem::replace(&mut status.silent, silent) != silent);
                }
                Due::End(silent) => self.end(now, format!("did not answer for {} s", silent.as_secs())),
            },
            Phase::Ends(until) if now >= until => {
                if !orders.finish {
                    let closed = if self.pipes[OUT].is_some() { "input" } else { "output" };
                    self.why.get_or_insert_with(|| format!("closed its standard {closed} and went on running"));
                }
                self.kill(now);
            }
            Phase::Ends(_) | Phase::Dies(_) => {}
        }
    }

    /// Ends it, for a reason.
    fn end(&mut self, now: Instant, why: String) {
        self.why.get_or_insert(why);
        self.kill(now);
    }

    fn kill(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Dies(_)) {
            self.child.kill();
            self.phase = Phase::Dies(now + DYING);
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, now: Instant) -> Ready {
        let mut until = match self.phase {
            Phase::Runs => self.watch.next(),
            Phase::Ends(until) | Phase::Dies(until) => until,
        };
        if let Some(every) = self.child.look_every() {
            until = until.min(now + every);
        }
        let reads = [OUT, ERR].map(|one| {
            let quiet = self.quiet_until[one];
            if self.pipes[one].is_some() && quiet > now {
                until = until.min(quiet);
            }
            quiet <= now
        });
        if self.timer.is_elapsed() || until < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(until.into());
        }
        match self.outbox.full_pipe() {
            // One that cannot be waited for is tried again when there is something else to do.
            Some(pipe) if self.full.is_none() => self.full = pipe.try_clone().and_then(pipe::Sender::from_file).ok(),
            Some(_) => {}
            // It is closed when nobody holds it any more.
            None => self.full = None,
        }
        let Pump { pipes, pieces, full, waker, timer, .. } = self;
        let mut woken = pin!(waker.woken());
        poll_fn(|cx| {
            let mut ready = Ready { woken: woken.as_mut().poll(cx).is_ready(), ..Ready::default() };
            if let Some(pipe) = full {
                ready.stdin = pipe.poll_write_ready(cx).is_ready();
            }
            // Each once, so that neither pipe starves the other.
            for one in [OUT, ERR] {
                if reads[one]
                    && let Some(pipe) = &mut pipes[one]
                {
                    let mut piece = ReadBuf::new(&mut pieces[one]);
                    if let Poll::Ready(read) = Pin::new(pipe).poll_read(cx, &mut piece) {
                        ready.read[one] = Some(read.map(|()| piece.filled().len()));
                    }
                }
            }
            ready.due = timer.as_mut().poll(cx).is_ready();
            if ready.woken || ready.due || ready.stdin || ready.read.iter().any(Option::is_some) {
                Poll::Ready(ready)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Takes what was read last.
    fn take(&mut self, one: usize, read: io::Result<usize>) -> usize {
        match read {
            Ok(0) => self.closed(one),
            Ok(n) => {
                let now = Instant::now();
                self.watch.heard(now);
                if self.status.borrow().silent.is_some() {
                    self.status.send_modify(|status| status.silent = None);
                }
                let piece = std::mem::take(&mut self.pieces[one]);
                if one == OUT {
                    self.output(&piece[..n], now);
                } else {
                    self.log.stderr(&piece[..n], now);
                    self.quiet_until[ERR] = now + self.noise[ERR].charge(n, now);
                }
                self.pieces[one] = piece;
                return n;
            }
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => self.closed(one),
        }
        0
    }

    fn closed(&mut self, one: usize) {
        let now = Instant::now();
        if self.pipes[one].take().is_some() {
            if one == OUT {
                let Pump { lines, log, receiver, .. } = self;
                lines.end(|incoming| match incoming {
                    Incoming::Stray(line) => log.stray(line, now),
                    Incoming::TooLong(skipped) => receiver.skipped(&skipped),
                    Incoming::Frame(_) => {}
                });
            } else {
                self.log.stderr_ended(now);
            }
        }
    }

    fn output(&mut self, bytes: &[u8], now: Instant) {
        let Pump { lines, log, outbox, receiver, greeted, .. } = self;
        let mut noise = 0;
        let mut to_child = Vec::new();
        lines.feed(bytes, |incoming| match incoming {
            Incoming::Frame(frame) => match frame.kind {
                Kind::PONG => {}
                Kind::PING => put_plain(&mut to_child, Kind::PONG, 0, frame.id),
                Kind::LOG | Kind::GOODBYE if !log.admits(now) => noise += frame.head.len(),
                kind => {
                    if kind == Kind::HELLO {
                        outbox.meet(&frame);
                        *greeted = true;
                    }
                    if kind == Kind::LOG {
                        noise += frame.head.len();
                    }
                    receiver.frame(&frame);
                }
            },
            Incoming::Stray(line) => {
                noise += line.len() + 64;
                log.stray(line, now);
            }
            Incoming::TooLong(skipped) => {
                noise += skipped.bytes;
                log.say(Level::Warn, &format!("what it said was passed over: {}", skipped.error().message()), now);
                receiver.skipped(&skipped);
            }
        });
        if !to_child.is_empty() {
            outbox.put(&to_child);
        }
        if noise > 0 {
            self.quiet_until[OUT] = now + self.noise[OUT].charge(noise, now);
        }
    }

    /// What the child had still said when it ended.
    fn last_words(&mut self) {
        for one in [OUT, ERR] {
            let mut left = LAST_WORDS;
            while left > 0
                && let Some(pipe) = &self.pipes[one]
            {
                // Also what the runtime has not been told of yet.
                let read = rustix::io::read(pipe, &mut self.pieces[one][..]).map_err(io::Error::from);
                match self.take(one, read) {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            self.closed(one);
        }
    }

    fn plain(&self, kind: Kind, id: u32) {
        let mut frame = Vec::new();
        put_plain(&mut frame, kind, 0, id);
        self.outbox.put(&frame);
    }
}

/// The permission that would have allowed it.
fn permission(what: What) -> Option<Permission> {
    match what {
        What::Read => Some(Permission::ReadFiles),
        What::Write => Some(Permission::WriteFiles),
        What::Execute => Some(Permission::SystemAccess),
        What::Network => Some(Permission::NetworkAccess),
        // Nothing allows these.
        _ => None,
    }
}
