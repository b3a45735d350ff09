//! A binary without the feature `state` keeps no conversations, and says so to whoever asks for one.

use bespoke_agent::Session;
use bespoke_host::HostBuilder;

use crate::{
    exit::{Exit, Failure, Result},
    paths::Paths,
    setup::build_with,
};

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Sessions {}

impl Sessions {
    pub(crate) fn open(_: &Kept) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn create(&self, _: &str) -> Result<Session> {
        match *self {}
    }

    pub(crate) fn resume(&self, _: &str) -> Result<Session> {
        match *self {}
    }

    pub(crate) fn latest(&self, _: &str) -> Result<Option<String>> {
        match *self {}
    }

    pub(crate) fn answered(&self, _: &str, _: &str, _: &str) -> Result<()> {
        match *self {}
    }

    pub(crate) fn rename(&self, _: &str, _: &str) -> Result<()> {
        match *self {}
    }

    pub(crate) fn markdown(&self, _: &str) -> Result<String> {
        match *self {}
    }

    pub(crate) fn recent(&self, _: u32) -> Result<Vec<String>> {
        match *self {}
    }
}

/// Plugins have nowhere to store anything.
#[derive(Clone)]
pub(crate) struct Kept;

impl Kept {
    pub(crate) fn of(_: &Paths) -> Self {
        Kept
    }

    pub(crate) fn give(&self, host: HostBuilder, _: bool) -> HostBuilder {
        host
    }
}

/// The error of a verb that needs what this binary does not have.
pub(crate) fn not_here() -> Failure {
    Failure::new(Exit::NotFound, "this binary keeps no conversations").help(build_with(&["state"]))
}
