//! One connection from its first line to its last: which requests run, what is answered, how it ends.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, watch},
    task::{AbortHandle, Id, JoinError, JoinSet},
};

use crate::{
    Handler, LONGEST_REQUEST, MOST_REQUESTS, Peer,
    server::farewell,
    wire::{CANCEL, CANCELLED, EXHAUSTED, Fault, INTERNAL_ERROR, INVALID_REQUEST, Items, Line, Lines, Request, answer, request},
};

/// Lines that wait for the client to read them; whoever has one more waits with it.
const QUEUE: usize = 16;
/// How long the last lines may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Requests under way.
#[derive(Default)]
struct Running {
    tasks: JoinSet<Result<Value, Fault>>,
    ids: HashMap<Id, (Value, AbortHandle)>,
}

pub(crate) async fn connection<H: Handler>(stream: UnixStream, handler: Arc<H>, peer: Peer, mut closing: watch::Receiver<()>) {
    let welcome = tokio::select! {
        welcome = handler.connected(&peer) => welcome,
        // An error, as nobody ever writes: the server is gone.
        _ = closing.changed() => return,
    };
    if let Err(fault) = welcome {
        return farewell(stream, fault).await;
    }
    let (input, output) = stream.into_split();
    let (out, queue) = mpsc::channel(QUEUE);
    let mut writer = tokio::spawn(write(output, queue));
    let mut lines = Lines::new(input, LONGEST_REQUEST);
    let mut running = Running::default();
    let talk = async {
        loop {
            let said = tokio::select! {
                Some(ended) = running.tasks.join_next_with_id() => running.ended(ended),
                line = lines.next() => match line {
                    Ok(Line::Whole(line)) => running.take(&line, &handler, &peer, &out),
                    Ok(Line::TooLong) => {
                        let fault = Fault::new(EXHAUSTED, format!("the line is longer than {LONGEST_REQUEST} bytes"));
                        _ = out.send(answer(&Value::Null, Err(fault))).await;
                        break;
                    }
                    Ok(Line::End) | Err(_) => break,
                },
            };
            // An error: nobody reads any more.
            if let Some(line) = said
                && out.send(line).await.is_err()
            {
                break;
            }
        }
    };
    tokio::select! {
        () = talk => {}
        // A client that reads nothing may be gone all the same.
        _ = &mut writer => {}
        _ = closing.changed() => {}
    }
    // Whoever waited is gone: so is what ran for it.
    drop((running, out));
    if !writer.is_finished() && tokio::time::timeout(LAST_WORDS, &mut writer).await.is_err() {
        writer.abort();
    }
    handler.disconnected(&peer).await;
}

/// Writes lines until there are no more, or nobody takes them.
async fn write<W: AsyncWrite + Unpin>(mut output: W, mut queue: mpsc::Receiver<Vec<u8>>) -> std::io::Result<()> {
    while let Some(line) = queue.recv().await {
        output.write_all(&line).await?;
    }
    output.shutdown().await
}

impl Running {
    /// Begins what a line asks for; what is to be said at once.
    fn take<H: Handler>(&mut self, line: &[u8], handler: &Arc<H>, peer: &Peer, out: &mpsc::Sender<Vec<u8>>) -> Option<Vec<u8>> {
        let Request { id, method, params } = match request(line) {
            Ok(request) => request,
            Err(refused) => {
                let (id, fault) = *refused;
                return Some(answer(&id, Err(fault)));
            }
        };
        if method == CANCEL {
            let meant = self.ids.values().find(|(id, _)| *id == params["id"]);
            meant.inspect(|(_, task)| task.abort());
            return id.map(|id| answer(&id, Ok(meant.is_some().into())));
        }
        // Without an id nobody wants to know what becomes of it, and nothing here is done unseen.
        let id = id?;
        let refused = |code, why: String| Some(answer(&id, Err(Fault::new(code, why))));
        if self.ids.values().any(|(known, _)| *known == id) {
            return refused(INVALID_REQUEST, format!("a request with the id {id} is under way"));
        }
        if self.ids.len() >= MOST_REQUESTS {
            return refused(EXHAUSTED, format!("{MOST_REQUESTS} requests are under way"));
        }
        let (handler, peer, items) = (handler.clone(), peer.clone(), Items::new(id.clone(), out.clone()));
        let task = self.tasks.spawn(async move { handler.call(&peer, &method, params, &items).await });
        self.ids.insert(task.id(), (id, task));
        None
    }

    /// The answer to a request that is over.
    fn ended(&mut self, ended: Result<(Id, Result<Value, Fault>), JoinError>) -> Option<Vec<u8>> {
        let (task, result) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => (error.id(), Err(Fault::new(CANCELLED, "cancelled"))),
            Err(error) => (error.id(), Err(Fault::new(INTERNAL_ERROR, "the server broke at this request; its log says more"))),
        };
        let (id, _) = self.ids.remove(&task)?;
        Some(answer(&id, result))
    }
}
