//! Conversations that are kept, in `state.db` under the home.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bespoke_agent::Session;
use bespoke_host::{EventFilter, EventStats, EventStore, HostBuilder, KeyValue, Usage, UsageStore};
use bespoke_plugin_api::{Error, Event, Timestamp, bytes::Bytes};
use bespoke_state::{Filter, Meta, State, StateError};

use crate::{
    exit::{Exit, Failure, Result},
    paths::Paths,
};

/// The conversations of a user. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sessions(State);

impl Sessions {
    /// The store of this user; `None` in a program that keeps none.
    pub(crate) fn open(kept: &Kept) -> Result<Option<Self>> {
        Ok(Some(Sessions(kept.state()?)))
    }

    pub(crate) fn create(&self, channel: &str) -> Result<Session> {
        Ok(self.0.create(&Meta::default().channel(channel))?)
    }

    pub(crate) fn resume(&self, id: &str) -> Result<Session> {
        Ok(self.0.resume(id)?)
    }

    /// Id of the conversation of a channel in which something was said last.
    pub(crate) fn latest(&self, channel: &str) -> Result<Option<String>> {
        Ok(self.0.latest(channel, None)?.map(|summary| summary.id))
    }

    pub(crate) fn answered(&self, session: &str, provider: &str, model: &str) -> Result<()> {
        Ok(self.0.answered(session, Some(provider), Some(model))?)
    }

    pub(crate) fn rename(&self, session: &str, title: &str) -> Result<()> {
        self.0.rename(session, title)?;
        Ok(())
    }

    pub(crate) fn markdown(&self, session: &str) -> Result<String> {
        Ok(self.0.export(session, bespoke_state::Format::Markdown)?)
    }

    /// A line each, the latest first.
    pub(crate) fn recent(&self, most: u32) -> Result<Vec<String>> {
        let sessions = self.0.list(&Filter::default(), most, 0)?;
        Ok(sessions.into_iter().map(|s| format!("{}  {}", s.id, s.title)).collect())
    }
}

/// The one file that this program keeps things in, opened once, when the first one asks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Kept(Arc<Values>);

impl Kept {
    pub(crate) fn of(paths: &Paths) -> Self {
        Kept(Arc::new(Values { path: paths.state(), state: Mutex::default() }))
    }

    pub(crate) fn state(&self) -> Result<State, StateError> {
        self.0.state()
    }

    /// Gives a host the place where plugins store their values, and where it keeps what happens if it is told to.
    pub(crate) fn give(&self, host: HostBuilder, history: bool) -> HostBuilder {
        let host = host.store(self.0.clone()).usage(self.0.clone());
        if history { host.history(self.0.clone()) } else { host }
    }
}

struct Values {
    path: PathBuf,
    state: Mutex<Option<State>>,
}

impl Values {
    fn state(&self) -> Result<State, StateError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            Some(state) => Ok(state.clone()),
            None => Ok(state.insert(State::open(&self.path)?).clone()),
        }
    }
}

impl KeyValue for Values {
    fn load(&self, plugin: &str, key: &str) -> Result<Option<Bytes>, Error> {
        self.state()?.load(plugin, key)
    }

    fn store(&self, plugin: &str, key: &str, value: Option<Bytes>) -> Result<(), Error> {
        self.state()?.store(plugin, key, value)
    }
}

impl EventStore for Values {
    fn last(&self) -> Result<u64, Error> {
        EventStore::last(&self.state()?)
    }

    fn set_aside(&self, number: u64) -> Result<(), Error> {
        self.state()?.set_aside(number)
    }

    fn append(&self, events: &[Event]) -> Result<(), Error> {
        self.state()?.append(events)
    }

    fn query(&self, filter: &EventFilter) -> Result<Vec<Event>, Error> {
        self.state()?.query(filter)
    }

    fn stats(&self) -> Result<EventStats, Error> {
        self.state()?.stats()
    }

    fn retain(&self, most: u64, since: Timestamp) -> Result<u64, Error> {
        EventStore::retain(&self.state()?, most, since)
    }
}

impl UsageStore for Values {
    fn add(&self, at: Timestamp, usage: &BTreeMap<String, Usage>) -> Result<(), Error> {
        self.state()?.add(at, usage)
    }

    fn usage(&self, at: Timestamp, today: bool) -> Result<BTreeMap<String, Usage>, Error> {
        // Looking makes no file.
        if self.path.exists() { self.state()?.usage(at, today) } else { Ok(BTreeMap::new()) }
    }

    fn forget(&self, at: Timestamp, days: u32) -> Result<(), Error> {
        self.state()?.forget(at, days)
    }

    fn spend(&self, at: Timestamp, tokens: u64) -> Result<(), Error> {
        self.state()?.spend(at, tokens)
    }

    fn spent(&self, at: Timestamp) -> Result<u64, Error> {
        if self.path.exists() { self.state()?.spent(at) } else { Ok(0) }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let exit = match &error {
            StateError::Unknown { .. } | StateError::Gone { .. } | StateError::NoLetter { .. } => Exit::NotFound,
            StateError::Ambiguous { .. } | StateError::UnreadableLetter { .. } => Exit::Usage,
            StateError::Continued { .. } | StateError::LetterLeaves { .. } => Exit::Conflict,
            _ => Exit::Failed,
        };
        Failure { exit, message: error.to_string(), help: error.help() }
    }
}

/// The error of a verb that needs what this binary does not have; here it has it, and was told to keep nothing.
pub(crate) fn not_here() -> Failure {
    Failure::new(Exit::Usage, "this conversation is not to be kept, so it cannot go on with one that is")
}
