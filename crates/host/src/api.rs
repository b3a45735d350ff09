//! What the host does for a plugin: the server behind every `PluginContext`, stamped with the plugin's id.

use std::{
    future::ready,
    path::PathBuf,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use bespoke_manifest::{Model, Permission, Permissions};
use bespoke_plugin_api::{
    BoxFuture, BoxStream, CallCx, Code, Contract, Contribution, EmbedRequest, Embedder, Error, Event, Health, HostApi, HttpReply,
    HttpRequest, Kind, Level, Result, RuntimePack, Target, Timestamp, ToolCall, bytes::Bytes,
};
use serde_json::Value;
use tokio::{runtime::Handle, sync::watch};

use crate::{
    Config, Events, Hooks, HttpClient, KeyValue, Registry, Slot, candidate::Tier, clock, commands::Names, generation::Footing, grants,
    http::host_of, plugin::PluginCell, registry::Withdrawn, slot::drop_caught, store,
};

/// Most bytes of an event of a plugin, topic and payload as JSON.
const MOST_OF_EVENT: usize = 64 << 10;

/// Where model files lie. The host does not know how they get there.
pub trait ModelStore: Send + Sync {
    /// The verified file of a plugin's manifest entry.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`, with the command that fetches it.
    fn find(&self, plugin: &str, model: &Model) -> Result<PathBuf>;
}

/// Where the libraries of native runtimes lie. The host does not know how they get there.
pub trait RuntimeStore: Send + Sync {
    /// The pack of that name, such as `onnx:cpu`. Loads nothing.
    ///
    /// # Errors
    /// `DEPENDENCY_MISSING`, with the command that installs it.
    fn find(&self, spec: &str) -> Result<RuntimePack>;
}

/// What all plugins of a host share.
pub(crate) struct Services {
    pub(crate) runtime: Handle,
    pub(crate) events: Events,
    pub(crate) registry: Registry,
    pub(crate) hooks: Hooks,
    /// Told when it may be that other contributions serve.
    pub(crate) offers: watch::Sender<()>,
    /// Names that commands may not have.
    pub(crate) names: Names,
    pub(crate) config: ArcSwap<Config>,
    pub(crate) models: Option<Arc<dyn ModelStore>>,
    pub(crate) runtimes: Option<Arc<dyn RuntimeStore>>,
    pub(crate) store: Option<Arc<dyn KeyValue>>,
    pub(crate) http: Option<Arc<dyn HttpClient>>,
    /// All that are known, by id.
    pub(crate) plugins: ArcSwap<Vec<Arc<PluginCell>>>,
}

impl Services {
    /// Other contributions serve than before: whoever keeps a list of them looks again.
    pub(crate) fn offers_changed(&self) {
        let missed = || {
            let (config, plugins) = (self.config(), self.plugins.load());
            plugins.iter().filter(|plugin| plugin.is_missed(&config)).cloned().collect()
        };
        self.hooks.update(&self.registry, missed);
        self.offers.send_replace(());
    }

    /// See [`Host::find`](crate::Host::find).
    pub(crate) fn find<T: Contract + ?Sized + 'static>(&self, name: &str) -> Result<Slot<T>> {
        self.registry.find(name).map_err(|unknown| match self.provider(T::KIND, name) {
            None => unknown,
            Some(plugin) if plugin.state() == crate::candidate::State::Ready => plugin.does_not_offer(T::KIND, name),
            Some(plugin) => plugin.not_ready(),
        })
    }

    /// The plugin that provides a name, as the manifests declare it. One that may serve goes before one that is switched off or
    /// was refused the name: that one only says why it does not.
    pub(crate) fn provider(&self, kind: Kind, name: &str) -> Option<Arc<PluginCell>> {
        let provides = |p: &&Arc<PluginCell>| {
            p.manifest.as_ref().is_some_and(|m| m.provides.iter().any(|c| c.kind == kind && c.name.as_deref() == Some(name)))
        };
        let known = self.plugins.load();
        let plugins = || known.iter().filter(provides);
        plugins().find(|p| p.may_serve()).or_else(|| plugins().next()).cloned()
    }

    /// The plugin of an id.
    pub(crate) fn plugin(&self, id: &str) -> Option<Arc<PluginCell>> {
        self.plugins.load().iter().find(|p| p.id() == id).cloned()
    }

    /// The configuration as it was read last.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    pub(crate) fn set_config(&self, config: Arc<Config>) {
        self.config.store(config);
    }
}

/// The host as one generation of a plugin sees it.
pub(crate) struct PluginHost {
    pub(crate) services: Arc<Services>,
    /// Weak: the cell holds the generation, whose plugin holds its context, which holds this.
    pub(crate) plugin: Weak<PluginCell>,
    pub(crate) id: Arc<str>,
    pub(crate) footing: Arc<Footing>,
}

impl PluginHost {
    /// Whether plugin.toml asks for calls of this contribution. What the plugin itself offers, it may call.
    fn may_call(&self, target: &Target) -> Result<Kind> {
        let Target { kind, name, .. } = target;
        let kind =
            Kind::from_name(kind).ok_or_else(|| Error::new(Code::CONTRACT_NOT_FOUND, format!("`{kind}` is no kind of contribution")))?;
        let own = self.services.registry.owner(kind, name).is_some_and(|owner| *owner == *self.id);
        if own {
            return Ok(kind);
        }
        let item = format!("{kind}:{name}");
        let what = format!("calls of the {kind} `{name}`");
        self.may(Permission::PluginCommunication, &item, &what, |granted| granted.may_call(kind, name)).map(|()| kind)
    }

    /// Whether a payload is what the plugin itself has promised of such an event.
    fn fits(&self, topic: &str, payload: &Value) -> Result<()> {
        let plugin = self.plugin.upgrade();
        let promised = plugin.as_ref().and_then(|p| p.manifest.as_ref()).and_then(|m| m.events.iter().find(|event| event.name == topic));
        let Some(schema) = promised.and_then(|event| event.schema.as_ref()) else { return Ok(()) };
        let faults: Vec<String> = bespoke_schema::check(schema, payload).iter().map(ToString::to_string).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let message = format!("the event `{topic}` is not what plugin.toml says of it: {}", faults.join("; "));
        Err(Error::invalid_params(message).with_help("emit what its schema in [[events]] says, or change the schema"))
    }

    /// Whether the plugin has a permission, which is counted: `item` as it would stand in plugin.toml, `what` in words.
    fn may(&self, permission: Permission, item: &str, what: &str, allows: impl Fn(&Permissions) -> bool) -> Result<()> {
        let plugin = self.plugin.upgrade();
        let asked = plugin.as_ref().and_then(|p| p.manifest.as_ref()).map(|m| &m.permissions);
        let granted = self.footing.granted.load();
        // Part of the program, it has what it asks for; any other has what was granted, and that is set before any of its code runs.
        let own = plugin.as_ref().is_some_and(|p| p.candidate.tier == Tier::Compiled);
        let allowed = granted.as_deref().or(asked.filter(|_| own)).is_some_and(&allows);
        if let Some(plugin) = &plugin {
            plugin.used.count(permission, item, allowed);
        }
        if allowed {
            return Ok(());
        }
        Err(match asked.filter(|asked| allows(asked)) {
            Some(_) => Error::new(Code::PERMISSION_DENIED, format!("the user has not granted {what}")).with_help(grants::command(&self.id)),
            None => Error::new(Code::PERMISSION_DENIED, format!("plugin.toml does not ask for {what}"))
                .with_help(format!("add \"{item}\" to {permission} under [permissions] in plugin.toml")),
        })
    }
}

/// Counts a request when it is over, whoever ends it.
struct Counted {
    plugin: Weak<PluginCell>,
    host: String,
    allowed: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(plugin) = self.plugin.upgrade() {
            plugin.used.count(Permission::NetworkAccess, &self.host, self.allowed);
        }
    }
}

impl HostApi for PluginHost {
    fn log(&self, level: Level, line: &str) {
        let plugin = &*self.id;
        match level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, "{line}"),
            _ => tracing::error!(target: "plugin", plugin, "{line}"),
        }
    }

    fn now(&self) -> Timestamp {
        clock::time_of_day()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let runtime = self.services.runtime.clone();
        Box::pin(async move {
            // The timer needs the runtime at its birth, and a plugin may poll from a thread of its own.
            let sleep = {
                let _inside = runtime.enter();
                tokio::time::sleep(time)
            };
            sleep.await;
        })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = self.services.runtime.spawn_blocking(work);
        let plugin = self.id.clone();
        Box::pin(async move {
            if let Err(error) = task.await {
                tracing::error!(target: "plugin", plugin = &*plugin, %error, "work on a blocking thread failed");
            }
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if let Err(error) = self.footing.spawn(&self.services.runtime, task) {
            self.report_health(Health::Degraded(error.message().to_owned()));
        }
    }

    fn call(&self, cx: &CallCx, target: Target, args: Value) -> BoxFuture<'static, Result<Value>> {
        let (services, cx) = (self.services.clone(), clock::from_plugin(cx.clone()).nested(&self.id));
        let allowed = self.may_call(&target);
        Box::pin(async move {
            let kind = allowed?;
            let cx = cx?;
            match kind {
                // The hooks stand around a tool whoever asks for it: a guard must not be passed by going through a plugin.
                Kind::Tool => {
                    let (_, output) = services.call_tool(&cx, ToolCall::new("", target.name, args), |_| Ok(())).await?;
                    Ok(serde_json::to_value(output)?)
                }
                Kind::Embedder => {
                    let request = serde_json::from_value::<EmbedRequest>(args);
                    let request = request.map_err(|e| Error::invalid_params(format!("an embedder takes {{ \"texts\": […] }}: {e}")))?;
                    let slot = services.find::<dyn Embedder>(&target.name)?;
                    let vectors = slot.call_apart(&cx, |embedder, cx| async move { embedder.embed(&cx, request).await }).await?;
                    Ok(serde_json::to_value(vectors)?)
                }
                kind => Err(Error::unsupported(&format!("calling a {kind} from a plugin"))),
            }
        })
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        let allowed = || {
            let client = self.services.http.as_ref().ok_or_else(|| {
                Error::new(Code::METHOD_NOT_FOUND, "this program has no HTTP client: it was built without the feature `http`")
                    .with_help("build it again with the feature `http`; it comes with the plugins that need it")
            })?;
            // Known before any of its code runs with the host at hand.
            let allowed = self.footing.http.load_full().ok_or_else(|| Error::new(Code::NOT_READY, "the plugin has not started"))?;
            Ok((client, allowed))
        };
        let ready_to_send = allowed().and_then(|ready| self.footing.rate.take(&self.id, tokio::time::Instant::now()).map(|()| ready));
        match ready_to_send {
            Ok((client, allowed)) => {
                let counted = Counted { plugin: self.plugin.clone(), host: host_of(&request.url).to_owned(), allowed: true };
                let reply = client.send((*allowed).clone(), request);
                Box::pin(async move {
                    // As a whole: a part of it would not be dropped with the request.
                    let mut counted = counted;
                    let reply = reply.await;
                    counted.allowed = !matches!(&reply, Err(error) if error.code() == Code::PERMISSION_DENIED);
                    reply
                })
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn publish(&self, mut contributions: Vec<Contribution>) -> Result<()> {
        let plugin = self.plugin.upgrade().ok_or_else(|| Error::new(Code::NOT_READY, "the host has stopped"))?;
        let manifest = plugin.manifest.as_deref();
        let may = |c: &Contribution| manifest.is_some_and(|m| m.may_publish(c.kind(), c.name()));
        if let Some(other) = contributions.iter().find(|c| !may(c)) {
            let (kind, name) = (other.kind(), other.name());
            let message = format!("publishes {kind} `{name}`, but plugin.toml marks no {kind} of this name as dynamic");
            return Err(Error::new(Code::CONTRACT_MISMATCH, message)
                .with_help(format!("write [[provides]] kind = \"{kind}\", name = \"{name}\", dynamic = true into plugin.toml")));
        }
        // All that is the plugin's outlives the lock: dropping it may run code of the plugin, which may publish.
        let (mut withdrawn, mut published_for) = (Withdrawn::default(), None);
        let published = {
            let _publishing = plugin.publishing.lock().unwrap_or_else(PoisonError::into_inner);
            let may = self.services.may_publish_commands(&plugin, &contributions, self.footing.serving());
            may.and_then(|()| self.footing.publisher(&mut contributions)).and_then(|generation| match published_for.insert(generation) {
                Some(generation) => self.services.registry.publish(&plugin, generation, &contributions, &mut withdrawn),
                None => Ok(()),
            })
        };
        if published_for.is_some_and(|generation| generation.is_some()) {
            self.services.offers_changed();
        }
        drop_caught(withdrawn);
        drop_caught(contributions);
        published
    }

    fn emit(&self, topic: &str, payload: Value) -> Result<()> {
        // Each listener and the history keep some thousand of them.
        let size = topic.len() + payload.to_string().len();
        if size > MOST_OF_EVENT {
            let message = format!("an event of {size} bytes is over the {MOST_OF_EVENT} that one may have");
            return Err(
                Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("send what is large by a call, and where it is by an event")
            );
        }
        self.fits(topic, &payload)?;
        self.services.events.emit(&format!("{}.{topic}", self.id), Some(&self.id), payload);
        Ok(())
    }

    fn subscribe(&self, prefix: &str) -> Result<BoxStream<Event>> {
        let own = prefix.strip_prefix(&*self.id).is_some_and(|rest| rest.starts_with('.'));
        if !own {
            let item = format!("event:{}", if prefix.is_empty() { "*" } else { prefix });
            let what = if prefix.is_empty() { "events of all".to_owned() } else { format!("events `{prefix}`") };
            self.may(Permission::PluginCommunication, &item, &what, |granted| granted.may_hear(prefix))?;
        }
        Ok(self.services.events.subscribe(prefix, Some(&self.id)))
    }

    fn secret(&self, name: &str) -> BoxFuture<'static, Result<String>> {
        let what = format!("the secret `{name}`");
        if let Err(error) = self.may(Permission::Secrets, name, &what, |granted| granted.secrets.iter().any(|s| s == name)) {
            return Box::pin(ready(Err(error)));
        }
        let (services, id, name) = (self.services.clone(), self.id.clone(), name.to_owned());
        Box::pin(async move {
            let (runtime, config) = (services.runtime.clone(), services.config());
            // It may be in a file or in a keyring that asks a person first.
            match runtime.spawn_blocking(move || config.secret(&id, &name)).await {
                Ok(result) => result,
                Err(error) => Err(Error::internal(format!("the look-up of the secret broke: {error}"))),
            }
        })
    }

    fn load(&self, key: &str) -> BoxFuture<'static, Result<Option<Bytes>>> {
        let (plugin, key, services) = (self.id.clone(), key.to_owned(), &self.services);
        Box::pin(store::ask(services.runtime.clone(), services.store.clone(), move |store| store.load(&plugin, &key)))
    }

    fn store(&self, key: &str, value: Option<Bytes>) -> BoxFuture<'static, Result<()>> {
        let (plugin, key, services) = (self.id.clone(), key.to_owned(), &self.services);
        Box::pin(store::ask(services.runtime.clone(), services.store.clone(), move |store| store.store(&plugin, &key, value)))
    }

    fn model(&self, file: &str) -> Result<PathBuf> {
        let manifest = self.plugin.upgrade().and_then(|p| p.manifest.clone());
        let model = manifest.as_ref().and_then(|m| m.models.iter().find(|model| model.file == file));
        let model = model.ok_or_else(|| Error::internal(format!("plugin.toml names no model file `{file}`")))?;
        match &self.services.models {
            Some(store) => store.find(&self.id, model),
            None => Err(Error::new(Code::MODEL_NOT_FOUND, format!("{file}: this host keeps no models"))),
        }
    }

    fn runtime(&self, spec: &str) -> Result<RuntimePack> {
        let manifest = self.plugin.upgrade().and_then(|p| p.manifest.clone());
        if !manifest.is_some_and(|m| m.runtimes.iter().any(|named| named == spec)) {
            return Err(Error::internal(format!("plugin.toml names no runtime `{spec}`")));
        }
        match &self.services.runtimes {
            Some(store) => store.find(spec),
            None => Err(Error::new(Code::DEPENDENCY_MISSING, format!("{spec}: this host keeps no runtimes"))),
        }
    }

    fn random(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer).map_err(|e| Error::internal(format!("no random bytes: {e}")))
    }

    fn report_health(&self, health: Health) {
        if let Some(plugin) = self.plugin.upgrade() {
            plugin.report(health);
        }
    }
}
