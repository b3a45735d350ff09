//! Where there are no unix sockets, nobody can be asked.

use std::{convert::Infallible, io, path::Path, sync::Arc};

use crate::{BindError, Handler};

/// A socket that others may connect to: there is none.
#[derive(Debug)]
pub struct Server(Infallible);

/// A place at which nobody answers any more.
#[derive(Debug)]
pub struct Held(Infallible);

impl Server {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "this system has no sockets of that kind");
        Err(BindError::Io { path: path.to_owned(), source })
    }

    /// Cannot be reached.
    pub fn address(&self) -> &Path {
        match self.0 {}
    }

    /// Cannot be reached.
    pub async fn serve<H: Handler>(self, _: Arc<H>, _: impl Future<Output = ()> + Send) -> Held {
        match self.0 {}
    }
}
