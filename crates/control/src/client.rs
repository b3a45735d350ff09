//! The asking side: one request at a time, and what it streams.

use std::{io, path::Path};

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{
    ClientError, LONGEST_ANSWER,
    place::{to_try, user},
    wire::{CANCEL, Fault, ITEM, Line, Lines},
};

/// A connection to a server. Dropping it cancels what it asked for.
#[derive(Debug)]
pub struct Client {
    lines: Lines<OwnedReadHalf>,
    output: OwnedWriteHalf,
    next: u64,
}

/// What a request streams, and its answer after it.
#[derive(Debug)]
pub struct Streaming<'c> {
    client: &'c mut Client,
    id: u64,
    result: Option<Value>,
}

/// What a line of the server says about a request.
enum Said {
    Item(Value),
    Answer(Value),
}

impl Client {
    /// Connects with the server of a place; `None` when none runs there.
    ///
    /// # Errors
    /// When there is one that is not ours, or that we may not reach.
    pub async fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        let address = to_try(path);
        let failed = |source| ClientError::Io { path: address.clone(), source };
        let stream = match UnixStream::connect(&address).await {
            Ok(stream) => stream,
            // The last: a socket that nobody listens at any more.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let peer = stream.peer_cred().map_err(failed)?;
        if peer.uid() != user() {
            return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else's program listens there")));
        }
        let (input, output) = stream.into_split();
        // What stands around an answer or an item is short.
        Ok(Some(Client { lines: Lines::new(input, LONGEST_ANSWER + 1024), output, next: 1 }))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the server says, or that it is gone.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, ClientError> {
        let id = self.ask(method, params).await?;
        loop {
            if let Said::Answer(value) = self.said(id).await? {
                return Ok(value);
            }
        }
    }

    /// Asks for what comes piece by piece.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn stream(&mut self, method: &str, params: Value) -> Result<Streaming<'_>, ClientError> {
        let id = self.ask(method, params).await?;
        Ok(Streaming { client: self, id, result: None })
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<u64, ClientError> {
        let id = self.next;
        self.next += 1;
        match self.write(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await {
            Ok(()) => Ok(id),
            // It may have said why before it closed.
            Err(_) => Err(match self.said(id).await {
                Err(error) => error,
                Ok(_) => ClientError::Gone,
            }),
        }
    }

    async fn write(&mut self, value: Value) -> io::Result<()> {
        let mut line = serde_json::to_vec(&value)?;
        line.push(b'\n');
        self.output.write_all(&line).await
    }

    /// The next line that is about this request.
    async fn said(&mut self, id: u64) -> Result<Said, ClientError> {
        loop {
            let line = match self.lines.next().await {
                Ok(Line::Whole(line)) => line,
                Ok(Line::TooLong) => return Err(ClientError::Garbled("a line is too long".into())),
                Ok(Line::End) | Err(_) => return Err(ClientError::Gone),
            };
            let mut value: Value = serde_json::from_slice(&line).map_err(|e| ClientError::Garbled(e.to_string()))?;
            if value["method"] == ITEM {
                if value["params"]["id"] == id {
                    return Ok(Said::Item(value["params"]["item"].take()));
                }
                continue;
            }
            // Without an id it is about the connection.
            if value["id"] != id && !value["id"].is_null() {
                continue;
            }
            if let Some(error) = value.get_mut("error") {
                let fault: Fault = serde_json::from_value(error.take()).map_err(|e| ClientError::Garbled(e.to_string()))?;
                return Err(fault.into());
            }
            return Ok(Said::Answer(value["result"].take()));
        }
    }
}

impl Streaming<'_> {
    /// The next item; `None` when all were there.
    ///
    /// # Errors
    /// What the server says instead of an answer, or that it is gone.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        if self.result.is_some() {
            return Ok(None);
        }
        match self.client.said(self.id).await? {
            Said::Item(item) => Ok(Some(item)),
            Said::Answer(value) => {
                self.result = Some(value);
                Ok(None)
            }
        }
    }

    /// The answer, when all items were there.
    pub fn answer(&self) -> Option<&Value> {
        self.result.as_ref()
    }

    /// Asks the server to end it; its error comes from [`next`](Self::next).
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn cancel(&mut self) -> Result<(), ClientError> {
        let id = self.id;
        let said = self.client.write(json!({ "jsonrpc": "2.0", "method": CANCEL, "params": { "id": id } })).await;
        said.map_err(|_| ClientError::Gone)
    }
}
