//! The server that runs, as the other verbs ask it; and errors on their way there and back. What it answers is in `cmd::serve`.

use std::time::Duration;

use bespoke_control::{Client, ClientError, Fault, Streaming};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    exit::{Exit, Failure, Result},
    paths::Paths,
};

/// How long an answer may take that is no work.
const AT_ONCE: Duration = Duration::from_secs(20);
/// How long anything may take: starts and drains of plugins have their own limits, which are shorter.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A server of this user.
#[derive(Debug)]
pub(crate) struct Running {
    client: Client,
}

impl Running {
    /// The server of this home; `None` when none runs.
    ///
    /// # Errors
    /// When there is one that we may not reach, or that does not want us.
    pub(crate) async fn find(paths: &Paths) -> Result<Option<Self>> {
        let Some(client) = Client::connect(&paths.socket()).await? else { return Ok(None) };
        Ok(Some(Running { client }))
    }

    /// As [`find`](Self::find), for who can do nothing without.
    pub(crate) async fn required(paths: &Paths) -> Result<Self> {
        let none = || Failure::new(Exit::NotFound, format!("no server runs for {}", paths.home.display())).help("bespoke serve");
        Self::find(paths).await?.ok_or_else(none)
    }

    /// Asks what it knows.
    pub(crate) async fn look<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> Result<T> {
        self.within(AT_ONCE, method, params).await
    }

    /// Asks for something that may take a while.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> Result<T> {
        self.within(PATIENCE, method, params).await
    }

    async fn within<T: DeserializeOwned>(&mut self, limit: Duration, method: &str, params: Value) -> Result<T> {
        let late = |_| Failure::failed(format!("the server has not answered for {} s", limit.as_secs())).help("bespoke logs -n 50");
        let value = tokio::time::timeout(limit, self.client.call(method, params)).await.map_err(late)??;
        let odd = |e: serde_json::Error| {
            Failure::failed(format!("the server is of another version: it answers {method} with what this one does not know ({e})"))
        };
        serde_json::from_value(value).map_err(|e| odd(e).help("bespoke status"))
    }

    /// Asks, takes every item that comes before the answer, and waits as long as it takes.
    pub(crate) async fn each(&mut self, method: &str, params: Value, mut take: impl FnMut(Value)) -> Result<Value> {
        let mut items = self.client.stream(method, params).await?;
        while let Some(item) = items.next().await? {
            take(item);
        }
        Ok(items.answer().cloned().unwrap_or_default())
    }

    pub(crate) async fn stream(&mut self, method: &str, params: Value) -> Result<Streaming<'_>> {
        Ok(self.client.stream(method, params).await?)
    }
}

/// A failure as it travels: with its exit code.
pub(crate) fn fault(failure: Failure) -> Fault {
    let code = match failure.exit {
        Exit::Usage => bespoke_plugin_api::Code::INVALID_PARAMS,
        Exit::NotFound => bespoke_plugin_api::Code::PLUGIN_NOT_FOUND,
        Exit::Consent => bespoke_plugin_api::Code::PERMISSION_DENIED,
        Exit::Conflict => bespoke_plugin_api::Code::CONFLICT,
        Exit::Network => bespoke_plugin_api::Code::NETWORK_FAILED,
        Exit::Interrupted => bespoke_plugin_api::Code::CANCELLED,
        _ => bespoke_plugin_api::Code::INTERNAL_ERROR,
    };
    Fault::new(code.value(), failure.message).with_help(failure.help).with_data(json!({ "exit": failure.exit.code() }))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Fault(fault) => {
                let told = fault.data.as_ref().and_then(|data| u8::try_from(data["exit"].as_u64()?).ok());
                let exit = told.map_or(Exit::Failed, Exit::Of);
                Failure { exit, message: fault.message, help: fault.help }
            }
            ClientError::Gone => Failure::failed(error.to_string()).help("bespoke logs -n 50"),
            error => Failure::failed(error.to_string()).help("bespoke doctor"),
        }
    }
}
