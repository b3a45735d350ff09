//! What plugins keep between two runs: small values under keys of their own. Where the bytes lie is the store's business.

use std::sync::Arc;

use bespoke_plugin_api::{Code, Error, Result, bytes::Bytes};
use tokio::runtime::Handle;

/// Keeps values for plugins. Called on threads that may block.
pub trait KeyValue: Send + Sync {
    /// What a plugin stored under a key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, plugin: &str, key: &str) -> Result<Option<Bytes>>;

    /// Stores a value durably; `None` removes it, and removing what is not there is no error.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when it is larger than the store takes; when it cannot be written.
    fn store(&self, plugin: &str, key: &str, value: Option<Bytes>) -> Result<()>;
}

/// Asks the store, off the async threads.
pub(crate) async fn ask<T: Send + 'static>(
    runtime: Handle,
    store: Option<Arc<dyn KeyValue>>,
    work: impl FnOnce(&dyn KeyValue) -> Result<T> + Send + 'static,
) -> Result<T> {
    let Some(store) = store else {
        return Err(Error::new(Code::METHOD_NOT_FOUND, "this program keeps nothing for plugins between two runs")
            .with_help("build it with a feature that brings the feature `state`"));
    };
    match runtime.spawn_blocking(move || work(&*store)).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("the store of plugins broke: {error}"))),
    }
}
