//! The builder in which a plugin says what it contributes, and the erased contributions that come out of it.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Accelerator, AcceleratorSpec, Channel, ChannelSpec, Command, CommandSpec, Embedder, EmbedderSpec, EndpointSpec, HookHandler, HookSpec,
    HttpEndpoint, Provider, ProviderSpec, Stt, SttSpec, Tool, ToolSpec, Tts, TtsSpec, Vad, VadSpec,
};

macro_rules! kinds {
    ($($(#[$doc:meta])* $method:ident: $kind:ident($contract:ident, $spec:ident) = $name:literal),+ $(,)?) => {
        /// What a contribution is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $name)] $kind),+
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];

            /// The name in manifests, listings and on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),+ }
            }
        }

        /// What is known of a contribution before its plugin starts.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "spec")]
        #[non_exhaustive]
        pub enum Spec {
            $($(#[$doc])* #[serde(rename = $name)] $kind($spec)),+
        }

        impl Spec {
            /// Its kind.
            pub const fn kind(&self) -> Kind {
                match self { $(Spec::$kind(_) => Kind::$kind),+ }
            }

            /// Its name, unique within its kind.
            pub fn name(&self) -> &str {
                match self { $(Spec::$kind(spec) => &spec.name),+ }
            }
        }

        /// Something that a running plugin contributes: its spec and the object that serves it.
        #[derive(Clone)]
        #[non_exhaustive]
        pub enum Contribution {
            $($(#[$doc])* $kind($spec, Arc<dyn $contract>)),+
        }

        impl Contribution {
            /// Its kind.
            pub const fn kind(&self) -> Kind {
                match self { $(Contribution::$kind(..) => Kind::$kind),+ }
            }

            /// Its name, unique within its kind.
            pub fn name(&self) -> &str {
                match self { $(Contribution::$kind(spec, _) => &spec.name),+ }
            }

            /// Its spec.
            pub fn spec(&self) -> Spec {
                match self { $(Contribution::$kind(spec, _) => Spec::$kind(spec.clone())),+ }
            }
        }

        enum Projection<P> {
            $($kind($spec, fn(&Arc<P>) -> Arc<dyn $contract>)),+
        }

        impl<P> PluginApi<P> {
            $($(#[$doc])*
            ///
            /// `project` is run for every new instance and must not do any work.
            pub fn $method(&mut self, spec: $spec, project: fn(&Arc<P>) -> Arc<dyn $contract>) -> &mut Self {
                self.projections.push(Projection::$kind(spec, project));
                self
            })+

            pub(crate) fn specs(&self) -> Vec<Spec> {
                self.projections.iter().map(|p| match p { $(Projection::$kind(spec, _) => Spec::$kind(spec.clone())),+ }).collect()
            }

            pub(crate) fn project(self, plugin: &Arc<P>) -> Vec<Contribution> {
                self.projections
                    .into_iter()
                    .map(|p| match p { $(Projection::$kind(spec, project) => Contribution::$kind(spec, project(plugin))),+ })
                    .collect()
            }
        }

        $(impl<'a> Contract for dyn $contract + 'a {
            type Spec = $spec;
            const KIND: Kind = Kind::$kind;
            fn spec_of(spec: &Spec) -> Option<&$spec> {
                match spec { Spec::$kind(spec) => Some(spec), _ => None }
            }
            fn of(contribution: &Contribution) -> Option<(&$spec, &Arc<Self>)> {
                match contribution { Contribution::$kind(spec, object) => Some((spec, object)), _ => None }
            }
        })+
    };
}

/// Collects what a plugin contributes, as projections: functions from an instance to an object of a contract.
pub struct PluginApi<P> {
    projections: Vec<Projection<P>>,
}

/// A contract trait, as a type: `dyn Tool`, `dyn Vad`, …. Lets a registry be asked by type.
pub trait Contract: Send + Sync {
    /// What is known of it before its plugin starts.
    type Spec: Clone + Send + Sync;
    /// Its kind.
    const KIND: Kind;
    /// The spec, if it is of this contract.
    fn spec_of(spec: &Spec) -> Option<&Self::Spec>;
    /// The spec and the object, if the contribution is of this contract.
    fn of(contribution: &Contribution) -> Option<(&Self::Spec, &Arc<Self>)>;
}

kinds! {
    /// Where people write to the agent.
    channel: Channel(Channel, ChannelSpec) = "channel",
    /// A function that a model may call.
    tool: Tool(Tool, ToolSpec) = "tool",
    /// A language model.
    provider: Provider(Provider, ProviderSpec) = "provider",
    /// Speech to text.
    stt: Stt(Stt, SttSpec) = "stt",
    /// Text to speech.
    tts: Tts(Tts, TtsSpec) = "tts",
    /// Voice activity detection.
    vad: Vad(Vad, VadSpec) = "vad",
    /// Texts to vectors.
    embedder: Embedder(Embedder, EmbedderSpec) = "embedder",
    /// A verb on the command line.
    command: Command(Command, CommandSpec) = "command",
    /// A place in the host's work.
    hook: Hook(HookHandler, HookSpec) = "hook",
    /// An endpoint under the gateway.
    http: Http(HttpEndpoint, EndpointSpec) = "http",
    /// Devices that engines may run on.
    accelerator: Accelerator(Accelerator, AcceleratorSpec) = "accelerator",
}

impl Kind {
    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Contribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

impl<P> PluginApi<P> {
    pub(crate) fn new() -> Self {
        PluginApi { projections: Vec::new() }
    }
}

impl<P> fmt::Debug for PluginApi<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.specs().iter().map(Spec::name)).finish()
    }
}
