//! What an author implements, and how the host sees it: `Plugin` is a type, `Descriptor` its erasure, `Instance` one life.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{BoxFuture, CallCx, Contribution, Error, Facts, Health, PluginApi, PluginContext, Result, Spec};

/// One configured life of a plugin.
///
/// Not object-safe on purpose: [`Descriptor::of`] erases it once. Reload makes a second instance beside the first, in every
/// tier; so state lives in the instance, **never in statics**.
pub trait Plugin: Send + Sync + Sized + 'static {
    /// Its configuration: the table `[plugins.<id>]`. Use `#[serde(deny_unknown_fields, default)]`.
    type Config: DeserializeOwned + Send + 'static;

    /// Declares what the plugin contributes. No instance, no I/O; must equal `[[provides]]` of plugin.toml.
    fn register(api: &mut PluginApi<Self>);

    /// Whether a configuration makes sense beyond its type: ranges, words that exclude each other. Asked when a configuration is checked,
    /// and before [`start`](Self::start) and [`reconfigure`](Self::reconfigure) see it. No I/O.
    ///
    /// # Errors
    /// `INVALID_PARAMS`; `path` in its data is the dotted path of the key.
    fn check(_config: &Self::Config) -> Result<()> {
        Ok(())
    }

    /// Whether it could use a runtime of its manifest, such as `onnx:cuda`, with this configuration: what it could not use is not
    /// installed for it. No I/O.
    fn uses_runtime(_config: &Self::Config, _runtime: &str) -> bool {
        true
    }

    /// Makes an instance. Time-boxed by the host; never waits for the network.
    fn start(cx: PluginContext, config: Self::Config) -> impl Future<Output = Result<Self>> + Send;

    /// Takes new values of fields that are `x-reload: live`. `Err` keeps the old ones.
    fn reconfigure(&self, _new: Self::Config) -> impl Future<Output = Result<Reload>> + Send {
        async { Ok(Reload::Restart) }
    }

    /// How it does. Cheap and without blocking; slow checks push [`PluginContext::report_health`].
    fn health(&self) -> Health {
        Health::Ok
    }

    /// What a person may want to know: which engine runs, which file, which device. Cheap.
    fn facts(&self) -> Facts {
        Facts::new()
    }

    /// What the next instance needs to go on where this one stopped.
    fn capture_state(&self) -> impl Future<Output = Result<Option<State>>> + Send {
        async { Ok(None) }
    }

    /// Goes on from a captured state. An unknown version is an `Err`, and the host rolls back.
    fn restore_state(&self, _state: State) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Ends it. Idempotent, time-boxed.
    fn shutdown(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What became of a new configuration. A word that this side does not know reads as [`Restart`](Reload::Restart), which is always right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reload {
    /// The instance runs with it.
    Applied,
    /// It needs a new instance.
    #[serde(other)]
    Restart,
}

/// A captured state: opaque bytes and the version of their layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct State {
    /// Version of the layout, chosen by the plugin.
    pub version: u32,
    /// The bytes.
    pub bytes: Bytes,
}

impl State {
    /// A state.
    pub fn new(version: u32, bytes: impl Into<Bytes>) -> Self {
        State { version, bytes: bytes.into() }
    }
}

/// Who a plugin is, from its manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PluginMeta {
    /// Id, which is the feature and the key of its configuration.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// SPDX expression.
    pub license: String,
}

impl PluginMeta {
    /// Who a plugin is.
    pub fn new(
        id: impl Into<String>,
        version: impl Into<String>,
        description: impl Into<String>,
        author: impl Into<String>,
        license: impl Into<String>,
    ) -> Self {
        PluginMeta {
            id: id.into(),
            version: version.into(),
            description: description.into(),
            author: author.into(),
            license: license.into(),
        }
    }
}

/// A plugin type, erased: what lies in the slice, in a dynamic library and in a guest alike.
#[derive(Debug)]
pub struct Descriptor {
    id: &'static str,
    package: Package,
    declare: fn() -> Vec<Spec>,
    check: fn(&Value) -> Result<()>,
    uses_runtime: fn(&Value, &str) -> bool,
    start: fn(PluginContext, Value) -> BoxFuture<'static, Result<Instance>>,
}

/// What the build knows of a plugin's crate; filled in by [`plugin!`](crate::plugin).
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Name of the crate.
    pub name: &'static str,
    /// Version of the crate.
    pub version: &'static str,
    /// Licence of the crate.
    pub license: &'static str,
    /// Text of plugin.toml.
    pub manifest: &'static str,
    /// Text of config.schema.json.
    pub config_schema: &'static str,
}

impl Descriptor {
    /// Erases a plugin type.
    pub const fn of<P: Plugin>(id: &'static str, package: Package) -> Self {
        Descriptor { id, package, declare: declare::<P>, check: check::<P>, uses_runtime: uses_runtime::<P>, start: start::<P> }
    }

    /// The id: a literal, so that slices can be sorted without parsing a manifest.
    pub const fn id(&self) -> &'static str {
        self.id
    }

    /// The crate it comes from.
    pub const fn package(&self) -> &Package {
        &self.package
    }

    /// What it says it contributes. Runs plugin code: guard it.
    pub fn declare(&self) -> Vec<Spec> {
        (self.declare)()
    }

    /// Whether a configuration fits.
    ///
    /// # Errors
    /// `INVALID_PARAMS`; `data.path` is the dotted path of the offending key.
    pub fn check(&self, config: &Value) -> Result<()> {
        (self.check)(config)
    }

    /// Whether it could use a runtime with this configuration; not with one that does not fit.
    pub fn uses_runtime(&self, config: &Value, runtime: &str) -> bool {
        (self.uses_runtime)(config, runtime)
    }

    /// Makes an instance.
    pub fn start(&self, cx: PluginContext, config: Value) -> BoxFuture<'static, Result<Instance>> {
        (self.start)(cx, config)
    }
}

/// A running plugin, whatever tier it runs in: its life and what it contributes.
pub struct Instance {
    /// Its life.
    pub life: Arc<dyn Life>,
    /// What it contributes.
    pub contributions: Vec<Contribution>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("contributions", &self.contributions).finish_non_exhaustive()
    }
}

/// The object-safe half of [`Plugin`]: what the host does with an instance after its start.
pub trait Life: Send + Sync {
    /// See [`Plugin::health`].
    fn health(&self) -> Health;
    /// See [`Plugin::facts`].
    fn facts(&self) -> Facts;
    /// See [`Plugin::reconfigure`].
    fn reconfigure(&self, config: Value) -> BoxFuture<'_, Result<Reload>>;
    /// See [`Plugin::capture_state`].
    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>>;
    /// See [`Plugin::restore_state`].
    fn restore_state(&self, state: State) -> BoxFuture<'_, Result<()>>;
    /// See [`Plugin::shutdown`].
    fn shutdown(&self) -> BoxFuture<'_, ()>;
    /// Calls a method by the name that the plugin itself gives it, beside what it contributes: foreign plugins have such.
    ///
    /// # Errors
    /// `METHOD_NOT_FOUND`, which is what every plugin answers that is written against this crate.
    fn invoke<'a>(&'a self, _cx: &'a CallCx, method: &'a str, _args: Value) -> BoxFuture<'a, Result<Value>> {
        Box::pin(std::future::ready(Err(Error::unsupported(method))))
    }
    /// The methods that [`invoke`](Self::invoke) takes, by name.
    ///
    /// # Errors
    /// When the plugin does not say.
    fn methods(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Completes, with the reason, when the instance has ended although nobody stopped it. One inside the program never does.
    fn ended(&self) -> BoxFuture<'static, Error> {
        Box::pin(std::future::pending())
    }
}

impl<P: Plugin> Life for P {
    fn health(&self) -> Health {
        Plugin::health(self)
    }

    fn facts(&self) -> Facts {
        Plugin::facts(self)
    }

    fn reconfigure(&self, config: Value) -> BoxFuture<'_, Result<Reload>> {
        Box::pin(async move { Plugin::reconfigure(self, sensible::<P>(&config)?).await })
    }

    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>> {
        Box::pin(Plugin::capture_state(self))
    }

    fn restore_state(&self, state: State) -> BoxFuture<'_, Result<()>> {
        Box::pin(Plugin::restore_state(self, state))
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(Plugin::shutdown(self))
    }
}

fn declare<P: Plugin>() -> Vec<Spec> {
    let mut api = PluginApi::<P>::new();
    P::register(&mut api);
    api.specs()
}

fn check<P: Plugin>(config: &Value) -> Result<()> {
    sensible::<P>(config).map(drop)
}

fn uses_runtime<P: Plugin>(config: &Value, runtime: &str) -> bool {
    parse::<P>(config).is_ok_and(|config| P::uses_runtime(&config, runtime))
}

fn start<P: Plugin>(cx: PluginContext, config: Value) -> BoxFuture<'static, Result<Instance>> {
    Box::pin(async move {
        let config = sensible::<P>(&config)?;
        let mut api = PluginApi::<P>::new();
        P::register(&mut api);
        let plugin = Arc::new(P::start(cx, config).await?);
        Ok(Instance { contributions: api.project(&plugin), life: plugin })
    })
}

fn sensible<P: Plugin>(config: &Value) -> Result<P::Config> {
    let config = parse::<P>(config)?;
    P::check(&config)?;
    Ok(config)
}

fn parse<P: Plugin>(config: &Value) -> Result<P::Config> {
    serde_path_to_error::deserialize(config).map_err(|e| {
        let path = e.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Error::invalid_params(e.into_inner().to_string()).with_data(json!({ "path": path }))
    })
}

/// The slice that [`plugin!`](crate::plugin) fills. Its order changes with the linker: read it through [`compiled_in`].
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[allow(unsafe_code, reason = "linkme places the elements in a link section")]
#[linkme::distributed_slice]
pub static BESPOKE_PLUGINS_V1: [Option<&'static Descriptor>];

/// Keeps the slice from being empty, which crashes one linker.
#[cfg(not(target_family = "wasm"))]
#[allow(unsafe_code, reason = "linkme places the element in a link section")]
#[linkme::distributed_slice(BESPOKE_PLUGINS_V1)]
static SENTINEL: Option<&'static Descriptor> = None;

/// The plugins of this binary, sorted by id. Two of one id stand side by side: the host reports them.
#[cfg(not(target_family = "wasm"))]
pub fn compiled_in() -> Vec<&'static Descriptor> {
    let mut all: Vec<_> = BESPOKE_PLUGINS_V1.iter().copied().flatten().collect();
    all.sort_by_key(|d| (d.id(), d.package().name));
    all
}

/// Registers a plugin type: one line per plugin crate, beside `plugin.toml` and `config.schema.json`.
///
/// It makes `pub static BESPOKE_PLUGIN`, which the guests of other tiers serve, and, off wasm, the entry in the slice of
/// compiled-in plugins. Nothing is exported by name, so any number of plugins link into one binary.
#[macro_export]
macro_rules! plugin {
    ($id:literal, $ty:ty) => {
        /// The descriptor of this crate's plugin.
        pub static BESPOKE_PLUGIN: $crate::Descriptor = $crate::Descriptor::of::<$ty>(
            $id,
            $crate::Package {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                license: env!("CARGO_PKG_LICENSE"),
                manifest: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.toml")),
                config_schema: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json")),
            },
        );

        $crate::__link!(BESPOKE_PLUGIN);
    };
}

/// The slice entry. Chosen by target here, in plugin-api: a `cfg` inside `plugin!` would see the plugin's own features.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __link {
    ($descriptor:ident) => {
        #[allow(unsafe_code, reason = "linkme places the element in a link section")]
        const _: () = {
            #[$crate::linkme::distributed_slice($crate::BESPOKE_PLUGINS_V1)]
            #[linkme(crate = $crate::linkme)]
            static ENTRY: ::core::option::Option<&'static $crate::Descriptor> = ::core::option::Option::Some(&$descriptor);
        };
    };
}

/// A wasm guest exports its one descriptor from a shim; there is nothing to collect.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __link {
    ($descriptor:ident) => {};
}
