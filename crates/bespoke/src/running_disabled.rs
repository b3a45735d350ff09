//! In a binary that serves nothing, no server is looked for: one of another binary would not be this one's to ask.

use std::convert::Infallible;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{exit::Result, paths::Paths};

/// A server of this user: there is none.
#[derive(Debug)]
pub(crate) struct Running(Infallible);

impl Running {
    pub(crate) async fn find(_: &Paths) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) async fn look<T: DeserializeOwned>(&mut self, _: &str, _: Value) -> Result<T> {
        match self.0 {}
    }

    pub(crate) async fn each(&mut self, _: &str, _: Value, _: impl FnMut(Value)) -> Result<Value> {
        match self.0 {}
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, _: &str, _: Value) -> Result<T> {
        match self.0 {}
    }
}
