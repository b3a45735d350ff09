//! The listening side: binds the place, lets peers of the same user in, as many as may be at once. What a connection does is in
//! `connection`.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    BindError, Handler, MOST_CONNECTIONS, Peer,
    connection::connection,
    place::{Place, user},
    wire::{EXHAUSTED, Fault, answer},
};

/// How long connections may take to end when the server does.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long is waited when the system has no more files for us.
const BREATH: Duration = Duration::from_millis(100);

/// A socket that others may connect to.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    /// Who may connect.
    owner: u32,
    /// Given back last.
    place: Place,
}

impl Server {
    /// Takes the place, and listens: whoever connects from now on waits for [`serve`](Self::serve). What a killed server left there is
    /// replaced. The last folder of the path is made, and closed to others. Belongs into a tokio runtime.
    ///
    /// # Errors
    /// [`BindError::Taken`] when a server runs there.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let place = Place::take(path)?;
        let listener = UnixListener::bind(&place.address).map_err(|source| BindError::Io { path: place.address.clone(), source })?;
        place.close_to_others()?;
        Ok(Server { listener, owner: user(), place })
    }

    /// Where the socket is; another path than was asked for where that was too long for a socket.
    pub fn address(&self) -> &Path {
        &self.place.address
    }

    /// Answers until `stop` is ready. Then requests under way are dropped, connections closed, and nobody finds the server any more; the place
    /// is given back when what comes back is dropped.
    pub async fn serve<H: Handler>(self, handler: Arc<H>, stop: impl Future<Output = ()> + Send) -> Held {
        let (closing, closed) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut number = 0;
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection to the control socket was not taken");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let pid = match stream.peer_cred() {
                Ok(peer) if peer.uid() == self.owner => peer.pid(),
                Ok(peer) => {
                    tracing::warn!(uid = peer.uid(), "somebody else tried the control socket");
                    continue;
                }
                Err(_) => continue,
            };
            if connections.len() >= MOST_CONNECTIONS {
                refuse(&stream);
                continue;
            }
            number += 1;
            connections.spawn(connection(stream, handler.clone(), Peer { number, pid }, closed.clone()));
        }
        drop((closing, closed));
        let ended = async { while connections.join_next().await.is_some() {} };
        // The rest are aborted with the set.
        let _ = tokio::time::timeout(FAREWELL, ended).await;
        Held(self.place)
    }
}

/// A place at which nobody answers any more, and that nobody else can take yet.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "it is there to be dropped")] Place);

/// Tells one connection too many, without waiting for it.
fn refuse(stream: &UnixStream) {
    let fault = Fault::new(EXHAUSTED, format!("{MOST_CONNECTIONS} programs talk with the server already"));
    // A line this short fits, or nobody reads it.
    let _ = stream.try_write(&answer(&Value::Null, Err(fault)));
}

/// The last line of a connection that is not let in.
pub(crate) async fn farewell(mut stream: UnixStream, fault: Fault) {
    let _ = tokio::time::timeout(FAREWELL, stream.write_all(&answer(&Value::Null, Err(fault)))).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::Items;

    struct Nobody;

    impl Handler for Nobody {
        async fn call(&self, _: &Peer, _: &str, _: Value, _: &Items) -> Result<Value, Fault> {
            Ok(Value::Null)
        }
    }

    #[tokio::test]
    async fn somebody_else_is_not_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        let mut server = Server::bind(&path).unwrap();
        // As if we were not the owner.
        server.owner = user() + 1;
        let served = tokio::spawn(server.serve(Arc::new(Nobody), std::future::pending()));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let mut read = Vec::new();
        assert_eq!(stream.read_to_end(&mut read).await.unwrap(), 0, "it is closed without a word");
        served.abort();
    }
}
