//! The thread of a child: carries what it says to the proxy and the log, writes what could not be written at once, asks whether it is
//! still there, ends it, and knows how it ended. It never waits for the child but in `poll`.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bespoke_host::Used;
use bespoke_manifest::Permission;
use bespoke_plugin_api::{Code, Error, HostApi, Level, Result};
use bespoke_plugin_proxy::{Proxy, Receiver};
use bespoke_protocol::{
    Kind, MAX_FRAME,
    line::{Incoming, LineReader, Side},
    put_plain,
};
use bespoke_sandbox::{Acted, Report, What};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, pipe_with},
};
use tokio::sync::{oneshot, watch};

use crate::{
    child::{Child, Launch},
    ending::{Ending, Exit},
    log::{LastLines, Log},
    outbox::{MOST_WAITING, Outbox, PipeLink, Waker},
    rate::Rate,
    watch::{Due, Patience, Watch},
};

/// Read at once.
const PIECE: usize = 64 << 10;
/// How long a child that has closed a pipe may take to end by itself, so that how it ended is known.
const LINGER: Duration = Duration::from_millis(500);
/// How long a child that was killed may take to go. One that hangs in the kernel is left behind.
const DYING: Duration = Duration::from_secs(5);
/// How often one looks for the end of a child that nothing tells of.
const LOOK_EVERY: Duration = Duration::from_millis(20);
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

/// Starts a child on a thread of its own, which is there as long as the child is. The proxy comes when it runs; dropping that ends it.
///
/// # Errors
/// `LOAD_FAILED` when it cannot be started; `RESOURCE_EXHAUSTED` when there is no thread.
pub(crate) async fn start(id: &str, launch: Launch, host: Arc<dyn HostApi>, patience: Patience) -> Result<(Proxy, Handle)> {
    let (tell, told) = oneshot::channel();
    let name = id.to_owned();
    std::thread::Builder::new()
        .name(format!("plugin-{id}"))
        .spawn(move || match begin(&launch, host, patience) {
            Ok((pump, proxy, handle)) => {
                // Nobody waits any more: the proxy that comes back is dropped, which ends the child.
                drop(tell.send(Ok((proxy, handle))));
                pump.run(&name);
            }
            Err(e) => drop(tell.send(Err(e))),
        })
        .map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the plugin's process: {e}")))?;
    told.await.unwrap_or_else(|_| Err(Error::internal("the thread of the plugin's process ended without a word")))
}

fn begin(launch: &Launch, host: Arc<dyn HostApi>, patience: Patience) -> Result<(Pump, Proxy, Handle)> {
    let (wakes, waker) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no pipe for the plugin's process: {e}")))?;
    let waker = Waker::new(waker);
    let mut child = Child::start(launch, &waker)?;
    let stdin = child.take_stdin().ok_or_else(|| Error::internal("a child without a standard input"))?;
    let outbox = Outbox::new(stdin, waker.clone());
    let (proxy, receiver) = Proxy::new(host.clone(), Arc::new(PipeLink(outbox.clone())));
    let (status, watching) = watch::channel(Status { pid: child.pid(), ..Status::default() });
    let last = Arc::new(LastLines::default());
    let now = Instant::now();
    let pump = Pump {
        child,
        wakes: wakes.into(),
        waker,
        outbox: outbox.clone(),
        receiver,
        lines: LineReader::new(Side::Guest, MAX_FRAME),
        log: Log::new(host, last.clone(), now),
        used: launch.used.clone(),
        last: last.clone(),
        watch: Watch::new(patience, now),
        patience,
        status,
        noise: [Rate::new(NOISE_BURST, NOISE_PER_SECOND, now), Rate::new(NOISE_BURST, NOISE_PER_SECOND, now)],
        quiet_until: [now; 2],
        open: [true; 2],
        phase: Phase::Runs,
        why: None,
        greeted: false,
        failed: None,
    };
    Ok((pump, proxy, Handle { outbox, status: watching, last, started: SystemTime::now() }))
}

struct Pump {
    child: Child,
    wakes: File,
    waker: Arc<Waker>,
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
    open: [bool; 2],
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
    stdin: bool,
    out: [bool; 2],
    ended: bool,
}

impl Pump {
    fn run(mut self, id: &str) {
        let mut piece = vec![0; PIECE];
        let exit = loop {
            let now = Instant::now();
            self.obey(now);
            if self.child.must_look()
                && let Some(exit) = self.child.gone()
            {
                break exit;
            }
            if let Phase::Dies(until) = self.phase
                && now >= until
            {
                break Exit::Unknown("it was killed and does not go".into());
            }
            let ready = match self.wait(now) {
                Ok(ready) => ready,
                Err(e) => {
                    self.end(now, format!("could not be listened to any more: {e}"));
                    // Nothing tells of its end any more.
                    std::thread::sleep(LOOK_EVERY);
                    self.child.gone();
                    continue;
                }
            };
            if ready.woken {
                // How often it was woken does not matter.
                let _ = self.wakes.read(&mut piece);
                self.waker.awake();
                self.hear_reports();
            }
            if ready.woken || ready.stdin {
                self.outbox.flush();
                let returned = self.outbox.take_returned();
                if !returned.is_empty() {
                    // Frames of our own.
                    let _ = self.receiver.receive(&returned);
                }
            }
            for one in [OUT, ERR] {
                if ready.out[one] {
                    self.read(one, &mut piece);
                }
            }
            if (ready.ended || ready.woken)
                && let Some(exit) = self.child.gone()
            {
                break exit;
            }
        };
        self.outbox.close();
        self.last_words(&mut piece);
        let orders = self.outbox.orders();
        let ending = Ending { exit, why: self.why.take(), greeted: self.greeted };
        let error = match self.failed.take() {
            Some(error) => error,
            None => ending.error(&self.last),
        };
        tracing::debug!(plugin = id, ?ending, "its process has ended");
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
                    self.failed = Some(Error::new(Code::LOAD_FAILED, format!("its process could not be started: {stage}: {message}")));
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
            Phase::Runs if !self.open[OUT] => self.phase = Phase::Ends(now + LINGER),
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
                    let closed = if self.open[OUT] { "input" } else { "output" };
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
    fn wait(&self, now: Instant) -> io::Result<Ready> {
        let mut until = match self.phase {
            Phase::Runs => self.watch.next(),
            Phase::Ends(until) | Phase::Dies(until) => until,
        };
        if self.child.must_look() {
            until = until.min(now + LOOK_EVERY);
        }
        let reads = [OUT, ERR].map(|one| {
            let quiet = self.quiet_until[one];
            if self.open[one] && quiet > now {
                until = until.min(quiet);
            }
            self.open[one] && quiet <= now
        });
        let limit = until.saturating_duration_since(now);
        // Rounded up: waking a moment too early is a turn for nothing.
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: (limit.subsec_nanos() + 999).min(999_999_999).into() };

        let stdin = self.outbox.full_pipe();
        let fds: [(Option<BorrowedFd<'_>>, PollFlags); 5] = [
            (Some(self.wakes.as_fd()), PollFlags::IN),
            (stdin.as_ref().map(|pipe| pipe.as_fd()), PollFlags::OUT),
            (reads[OUT].then(|| self.child.stdout.as_fd()), PollFlags::IN),
            (reads[ERR].then(|| self.child.stderr.as_fd()), PollFlags::IN),
            (self.child.ended(), PollFlags::IN),
        ];
        let [woken, stdin, out, err, ended] = wait_for(fds, &limit)?;
        Ok(Ready { woken, stdin, out: [out, err], ended })
    }

    /// Reads once, so that neither pipe starves the other.
    fn read(&mut self, one: usize, piece: &mut [u8]) -> usize {
        let mut pipe = if one == OUT { &self.child.stdout } else { &self.child.stderr };
        match pipe.read(piece) {
            Ok(0) => self.closed(one),
            Ok(n) => {
                let now = Instant::now();
                self.watch.heard(now);
                if self.status.borrow().silent.is_some() {
                    self.status.send_modify(|status| status.silent = None);
                }
                if one == OUT {
                    self.output(&piece[..n], now);
                } else {
                    self.log.stderr(&piece[..n], now);
                    self.quiet_until[ERR] = now + self.noise[ERR].charge(n, now);
                }
                return n;
            }
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => self.closed(one),
        }
        0
    }

    fn closed(&mut self, one: usize) {
        let now = Instant::now();
        if std::mem::replace(&mut self.open[one], false) {
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
    fn last_words(&mut self, piece: &mut [u8]) {
        for one in [OUT, ERR] {
            let mut left = LAST_WORDS;
            while left > 0 && self.open[one] {
                match self.read(one, piece) {
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

/// Which of these are ready; what is not there never is. A pipe that was closed at the other end is ready, too.
fn wait_for<const N: usize>(fds: [(Option<BorrowedFd<'_>>, PollFlags); N], limit: &Timespec) -> io::Result<[bool; N]> {
    let mut at = [None; N];
    let mut polled = Vec::with_capacity(N);
    for (slot, (fd, flags)) in at.iter_mut().zip(&fds) {
        if let Some(fd) = fd {
            *slot = Some(polled.len());
            polled.push(PollFd::from_borrowed_fd(*fd, *flags));
        }
    }
    match poll(&mut polled, Some(limit)) {
        Ok(_) => Ok(at.map(|at| at.is_some_and(|at| !polled[at].revents().is_empty()))),
        Err(rustix::io::Errno::INTR) => Ok([false; N]),
        Err(e) => Err(e.into()),
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
