//! From a link to an instance: hello, start, and the contributions that the guest said it has.

use std::{
    future::poll_fn,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
};

use bespoke_plugin_api::{CallCx, Code, Error, HostApi, Instance, Result, serde_json::Value};
use bespoke_protocol::{
    DEFAULT_PAYLOAD, GuestHello, HostHello, Kind, OLDEST_PROTOCOL, PROTOCOL, Setup, Vitals, agree, line::BLOB, method, put_json,
};

use crate::{contracts::contribution, inner::Inner, life::RemoteLife, link::Link, receiver::Receiver};

/// A guest that has not been started. One link, one guest, one instance.
pub struct Proxy {
    inner: Arc<Inner>,
    max_payload: u64,
}

/// What an instance is started with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StartOptions {
    /// Id that the guest must have.
    pub id: String,
    /// Its configuration, complete.
    pub config: Value,
    /// A folder of its own, where its tier and permissions allow one.
    pub data_dir: Option<PathBuf>,
    /// Threads that one request may use.
    pub cpu_budget: u16,
    /// The model files that its manifest names: the guest is told where each lies, because it cannot wait for an answer.
    pub models: Vec<String>,
    /// The native runtimes that its manifest names, told as its models are.
    pub runtimes: Vec<String>,
}

impl StartOptions {
    /// With one thread, no folder and no models.
    pub fn new(id: impl Into<String>, config: Value) -> Self {
        StartOptions { id: id.into(), config, data_dir: None, cpu_budget: 1, models: Vec::new(), runtimes: Vec::new() }
    }

    /// With a folder.
    #[must_use]
    pub fn data_dir(mut self, dir: Option<PathBuf>) -> Self {
        self.data_dir = dir;
        self
    }

    /// With so many threads to spend.
    #[must_use]
    pub fn cpu_budget(mut self, threads: u16) -> Self {
        self.cpu_budget = threads.max(1);
        self
    }

    /// With the model files of its manifest.
    #[must_use]
    pub fn models(mut self, files: Vec<String>) -> Self {
        self.models = files;
        self
    }

    /// With the runtimes of its manifest.
    #[must_use]
    pub fn runtimes(mut self, specs: Vec<String>) -> Self {
        self.runtimes = specs;
        self
    }
}

impl Proxy {
    /// A proxy over a link, and the half of it that the driver keeps. `host` is the plugin's own host api: what it grants,
    /// stamps and counts holds for the guest too, and its `spawn` runs what the guest asks for.
    pub fn new(host: Arc<dyn HostApi>, link: Arc<dyn Link>) -> (Self, Receiver) {
        let inner = Inner::new(host, link);
        let receiver = Receiver::new(&inner);
        (Proxy { inner, max_payload: DEFAULT_PAYLOAD }, receiver)
    }

    /// Says in the hello that the driver takes messages of at most so many bytes; 64 MiB when it is not called.
    #[must_use]
    pub fn max_payload(mut self, bytes: u64) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Asks the guest who it is and what it contributes. It starts nothing; the host sets the time limit.
    ///
    /// # Errors
    /// `LOAD_FAILED` when there is no common protocol or the guest is another plugin; `PLUGIN_CRASHED`.
    pub async fn describe(&self, id: &str) -> Result<GuestHello> {
        let mut frame = Vec::new();
        let hello = HostHello {
            protocol: PROTOCOL,
            oldest: OLDEST_PROTOCOL,
            host: concat!("bespoke/", env!("CARGO_PKG_VERSION")).to_owned(),
            features: vec![BLOB.to_owned()],
            max_payload: self.max_payload,
        };
        put_json(&mut frame, Kind::HELLO, 0, &hello)?;
        self.inner.send(Kind::HELLO.lane(), &frame)?;
        let hello = poll_fn(|cx| self.inner.hello.poll(cx.waker())).await?;
        agree(hello.protocol, hello.oldest)?;
        if hello.plugin != id {
            let error = Error::new(Code::LOAD_FAILED, format!("the guest is the plugin `{}`, not `{id}`", hello.plugin));
            return Err(error.with_help("mend id in its plugin.toml, or build the plugin that it names"));
        }
        Ok(hello)
    }

    /// Starts the instance.
    ///
    /// # Errors
    /// As [`describe`](Self::describe), and what the plugin's `start` says.
    pub async fn start(self, options: StartOptions) -> Result<Instance> {
        let hello = self.describe(&options.id).await?;
        let inner = self.inner;
        let models = options.models.into_iter().map(|file| (file.clone(), inner.host.model(&file).into())).collect();
        let runtimes = options.runtimes.into_iter().map(|spec| (spec.clone(), inner.host.runtime(&spec).into())).collect();
        let setup = Setup { config: options.config, data_dir: options.data_dir, cpu_budget: options.cpu_budget, models, runtimes };
        let vitals: Vitals = inner.call(&CallCx::new(), method::START, "", &setup).await?;
        *inner.vitals() = vitals;
        let contributions = hello.specs.into_iter().filter_map(|spec| contribution(&inner, spec)).collect();
        Ok(Instance { contributions, life: Arc::new(RemoteLife { inner }) })
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy")
    }
}

/// Where the guest's HELLO arrives.
#[derive(Default)]
pub(crate) struct HelloSlot(Mutex<(Option<Result<GuestHello>>, Option<Waker>)>);

impl HelloSlot {
    /// The first one counts.
    pub(crate) fn fill(&self, hello: Result<GuestHello>) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0.get_or_insert(hello);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<GuestHello>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.0 {
            Some(hello) => Poll::Ready(hello.clone()),
            None => {
                state.1 = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}
