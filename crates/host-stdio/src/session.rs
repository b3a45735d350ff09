//! One session from its first line to its last: what runs, what is answered, how it ends. What a method does is in `methods`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bespoke_host::{Host, State};
use bespoke_plugin_api::{CallCx, CancelToken, Code, Error, Result};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    Ended, Options,
    lines::{Line, Lines},
    methods::{self, Planned},
    rpc::{self, Message, Refused, Request},
    turns::Turns,
};

/// Answers that wait for the other side to read them; whoever has one more waits with it.
const QUEUE: usize = 64;
/// How long the last answers may take to be read.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all requests of a session share.
pub(crate) struct Session {
    pub(crate) host: Host,
    pub(crate) options: Options,
    pub(crate) turns: Turns,
    /// Ids in the order in which they were loaded.
    pub(crate) loaded: Mutex<Vec<String>>,
    /// Why the last load of a plugin that is not here failed.
    pub(crate) failures: Mutex<HashMap<String, Error>>,
    pub(crate) began: Instant,
    pub(crate) requests: AtomicU64,
    pub(crate) errors: AtomicU64,
    /// Method and time of the last one.
    pub(crate) last: Mutex<Option<(String, f64)>>,
    /// What can be cancelled, by a number of our own: ids are the other side's, and may come twice.
    under_way: Mutex<HashMap<u64, (Value, CancelToken)>>,
    serial: AtomicU64,
    /// Cancelled by `shutdown`.
    closing: CancelToken,
}

/// Where the answers go.
type Answers = mpsc::Sender<Value>;

pub(crate) async fn run<R, W>(host: Host, input: R, output: W, options: Options) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (most, stop, drain) = (options.longest_line, options.stop.clone(), options.drain);
    let session = Arc::new(Session::new(host, options));
    let (answers, queue) = mpsc::channel(QUEUE);
    let mut writer = tokio::spawn(write(output, queue, most));
    let mut lines = Lines::new(input, most);
    let mut requests = JoinSet::new();
    let ended = loop {
        let line = tokio::select! {
            biased;
            () = stop.cancelled() => break Ended::Stopped,
            () = session.closing.cancelled() => break Ended::Shutdown,
            wrote = &mut writer => break broken_output(wrote),
            Some(_) = requests.join_next() => continue,
            line = lines.next() => line,
        };
        let message = match line {
            Ok(Line::Whole(line)) => rpc::read(&line),
            Ok(Line::TooLong { id, length }) => {
                let message = format!("a line of {length} bytes; {most} are the most");
                Message::One(Err(Refused::new(id, Code::RESOURCE_EXHAUSTED, message)))
            }
            Ok(Line::End) => break Ended::EndOfInput,
            Err(error) => break Ended::Broken(format!("the input cannot be read: {error}")),
        };
        session.take(message, &answers, &mut requests);
    };
    // What was asked is answered; what takes too long is cancelled, and that is its answer.
    let over = async { while requests.join_next().await.is_some() {} };
    tokio::select! {
        () = over => {}
        () = patience(&ended, drain, &stop) => {
            session.under_way().values().for_each(|(_, token)| token.cancel());
            let rest = async { while requests.join_next().await.is_some() {} };
            if tokio::time::timeout(FAREWELL, rest).await.is_err() {
                tracing::warn!("requests did not end although they were cancelled");
            }
        }
    }
    drop((answers, requests));
    if !writer.is_finished() && tokio::time::timeout(FAREWELL, &mut writer).await.is_err() {
        tracing::warn!("nobody read the last answers");
        writer.abort();
    }
    ended
}

/// How long requests may go on after the end. Nobody waits for the answers of a broken session, and a stop is in a hurry.
async fn patience(ended: &Ended, drain: Duration, stop: &CancelToken) {
    match ended {
        Ended::Broken(_) => {}
        Ended::Stopped => tokio::time::sleep(drain.min(Duration::from_secs(2))).await,
        _ => tokio::select! {
            () = tokio::time::sleep(drain) => {}
            () = stop.cancelled() => {}
        },
    }
}

fn broken_output(wrote: Result<std::io::Result<()>, tokio::task::JoinError>) -> Ended {
    match wrote {
        Ok(Err(error)) => Ended::Broken(format!("the output cannot be written: {error}")),
        _ => Ended::Broken("the output was closed".into()),
    }
}

/// Writes answers, each a line, and flushes when there is no next one yet.
async fn write<W: AsyncWrite + Unpin>(mut output: W, mut queue: mpsc::Receiver<Value>, most: usize) -> std::io::Result<()> {
    while let Some(value) = queue.recv().await {
        output.write_all(&line_of(&value, most)).await?;
        if queue.is_empty() {
            output.flush().await?;
        }
    }
    output.flush().await
}

/// An answer as a line. One that is too long is answered by an error, so that whoever waits for it knows.
fn line_of(value: &Value, most: usize) -> Vec<u8> {
    let written = |value: &Value| serde_json::to_vec(value).unwrap_or_default();
    let mut line = written(value);
    if line.len() > most {
        let message = format!("the answer is {} bytes long; {most} are the most", line.len());
        let error = Error::new(Code::RESOURCE_EXHAUSTED, message);
        line = match value {
            Value::Array(all) => written(&all.iter().map(|one| rpc::answer(&one["id"], Err(error.clone()))).collect()),
            one => written(&rpc::answer(&one["id"], Err(error))),
        };
    }
    line.push(b'\n');
    line
}

impl Session {
    fn new(host: Host, options: Options) -> Self {
        let running = host.rows().into_iter().filter(|row| row.state == State::Ready).map(|row| row.id);
        Session {
            loaded: Mutex::new(running.collect()),
            host,
            options,
            turns: Turns::default(),
            failures: Mutex::default(),
            began: Instant::now(),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            last: Mutex::default(),
            under_way: Mutex::default(),
            serial: AtomicU64::new(0),
            closing: CancelToken::new(),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<u64, (Value, CancelToken)>> {
        lock(&self.under_way)
    }

    /// Requests under way.
    pub(crate) fn pending(&self) -> usize {
        self.under_way().len()
    }

    /// Cancels the requests of that id; whether there is one.
    pub(crate) fn cancel(&self, id: &Value) -> bool {
        let under_way = self.under_way();
        let meant: Vec<_> = under_way.values().filter(|(of, _)| of == id).map(|(_, token)| token.clone()).collect();
        drop(under_way);
        meant.iter().for_each(CancelToken::cancel);
        !meant.is_empty()
    }

    /// Takes no more requests.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Begins what a message asks for, in the order in which messages come, and sees to its answer.
    fn take(self: &Arc<Self>, message: Message, answers: &Answers, tasks: &mut JoinSet<()>) {
        match message {
            Message::Nothing => {}
            Message::One(request) => {
                let (id, answer) = self.begin(request);
                let (session, answers) = (self.clone(), answers.clone());
                tasks.spawn(async move {
                    let result = answer.await;
                    if let Some(value) = session.answered(id, result) {
                        // An error: the output is gone, and the session ends.
                        let _ = answers.send(value).await;
                    }
                });
            }
            Message::Batch(requests) => {
                let begun: Vec<_> = requests.into_iter().map(|request| self.begin(request)).collect();
                let (session, answers) = (self.clone(), answers.clone());
                tasks.spawn(async move {
                    let mut running = JoinSet::new();
                    for (place, (id, answer)) in begun.into_iter().enumerate() {
                        let session = session.clone();
                        running.spawn(async move {
                            let result = answer.await;
                            (place, session.answered(id, result))
                        });
                    }
                    let mut all: Vec<(usize, Value)> = Vec::new();
                    while let Some(done) = running.join_next().await {
                        all.extend(done.ok().and_then(|(place, answer)| Some((place, answer?))));
                    }
                    all.sort_by_key(|(place, _)| *place);
                    let all: Vec<Value> = all.into_iter().map(|(_, answer)| answer).collect();
                    if !all.is_empty() {
                        let _ = answers.send(all.into()).await;
                    }
                });
            }
        }
    }

    /// Puts a request in its place among the others. The future does it.
    fn begin(self: &Arc<Self>, request: Result<Request, Refused>) -> (Option<Value>, impl Future<Output = Result<Value>> + Send + 'static) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (id, planned) = match request {
            Ok(Request { id, method, params }) => {
                *lock(&self.last) = Some((method.clone(), now()));
                (id, methods::plan(self, &method, params))
            }
            Err(Refused { id, error }) => (Some(id), Err(error)),
        };
        let place = match &planned {
            Ok(planned) if !planned.is_immediate() && self.pending() >= self.options.most_requests => {
                let message = format!("{} requests are under way, which are the most", self.options.most_requests);
                Err(Error::new(Code::RESOURCE_EXHAUSTED, message).retryable())
            }
            Ok(planned) if planned.is_immediate() => Ok(None),
            Err(_) => Ok(None),
            Ok(_) => Ok(Some(Place::new(self, id.clone().unwrap_or_default()))),
        };
        let session = self.clone();
        let answer = async move {
            let (place, planned) = (place?, planned?);
            match (place, planned) {
                (_, Planned::Now(work)) => work(&session),
                (Some(place), Planned::Call(work)) => place.hold(work, true).await,
                (Some(place), Planned::Change(work)) => place.hold(work, false).await,
                (None, _) => Err(Error::internal("a request without a place")),
            }
        };
        (id, answer)
    }

    /// The answer to a request, unless it was a notification. Secrets stay here.
    fn answered(&self, id: Option<Value>, result: Result<Value>) -> Option<Value> {
        let result = result.map_err(|error| {
            self.errors.fetch_add(1, Ordering::Relaxed);
            self.clean(&error)
        });
        if let (None, Err(error)) = (&id, &result) {
            tracing::warn!(%error, "a notification could not be followed");
        }
        id.map(|id| rpc::answer(&id, result))
    }

    /// The same error, without secrets in its words.
    pub(crate) fn clean(&self, error: &Error) -> Error {
        self.host.redactor().redact_error(error)
    }
}

/// A request among those that are under way, until it is dropped.
struct Place {
    session: Arc<Session>,
    number: u64,
    token: CancelToken,
}

impl Place {
    fn new(session: &Arc<Session>, id: Value) -> Self {
        let (number, token) = (session.serial.fetch_add(1, Ordering::Relaxed), CancelToken::new());
        session.under_way().insert(number, (id, token.clone()));
        Place { session: session.clone(), number, token }
    }

    /// Does the work, until it is cancelled: whoever cancels gets an answer, even when the work does not listen. A panic of it is
    /// an answer too.
    async fn hold(self, work: methods::Work, can_be_given_up: bool) -> Result<Value> {
        let cx = CallCx::new().with_cancel(self.token.clone());
        // A task of its own: it may panic, and its caller must live.
        let mut task = tokio::spawn(work(cx));
        tokio::select! {
            done = &mut task => done.unwrap_or_else(|error| Err(Error::internal(format!("the request broke: {error}")))),
            () = self.token.cancelled() => {
                // What listens says best what became of it, but it is not waited for long.
                match tokio::time::timeout(Duration::from_millis(200), &mut task).await {
                    Ok(done) => done.unwrap_or_else(|error| Err(Error::internal(format!("the request broke: {error}")))),
                    Err(_) if can_be_given_up => {
                        task.abort();
                        Err(Error::cancelled())
                    }
                    Err(_) => Err(Error::cancelled().with_help("it goes on, and plugin/list says what became of it")),
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.session.under_way().remove(&self.number);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // Milliseconds are as exact as a time of day is.
    since.as_millis() as f64 / 1e3
}

/// `null` for what is not known.
pub(crate) fn milliseconds(duration: Duration) -> Value {
    json!((duration.as_secs_f64() * 1e6).round() / 1e3)
}
