//! Where there are no unix sockets, no server is ever found.

use std::{convert::Infallible, path::Path};

use serde_json::Value;

use crate::ClientError;

/// A connection to a server: there is none.
#[derive(Debug)]
pub struct Client(Infallible);

/// What a request streams.
#[derive(Debug)]
pub struct Streaming<'c>(&'c Infallible);

impl Client {
    /// Finds none.
    ///
    /// # Errors
    /// Never.
    pub async fn connect(_: &Path) -> Result<Option<Self>, ClientError> {
        Ok(None)
    }

    /// Cannot be reached.
    ///
    /// # Errors
    /// Never.
    pub async fn call(&mut self, _: &str, _: Value) -> Result<Value, ClientError> {
        match self.0 {}
    }

    /// Cannot be reached.
    ///
    /// # Errors
    /// Never.
    pub async fn stream(&mut self, _: &str, _: Value) -> Result<Streaming<'_>, ClientError> {
        match self.0 {}
    }
}

impl Streaming<'_> {
    /// Cannot be reached.
    ///
    /// # Errors
    /// Never.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        match *self.0 {}
    }

    /// Cannot be reached.
    pub fn answer(&self) -> Option<&Value> {
        match *self.0 {}
    }

    /// Cannot be reached.
    ///
    /// # Errors
    /// Never.
    pub async fn cancel(&mut self) -> Result<(), ClientError> {
        match *self.0 {}
    }
}
