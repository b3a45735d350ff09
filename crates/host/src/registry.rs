//! Who contributes what: slots by kind and name. A snapshot behind one atomic pointer, so that a look-up takes no lock.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use bespoke_plugin_api::{
    Accelerator, Channel, Code, Command, Contract, Contribution, Embedder, Error, HookHandler, HttpEndpoint, Kind, Provider, Result, Spec,
    Stt, Tool, Tts, Vad,
};

use crate::{
    needs::taken,
    plugin::{Generation, PluginCell},
    slot::{Place, Serving, Slot},
};

/// The contributions of all plugins.
#[derive(Default)]
pub struct Registry {
    table: ArcSwap<Table>,
}

type Table = BTreeMap<Kind, BTreeMap<String, Entry>>;

/// A slot without its type, and the plugin it belongs to.
#[derive(Clone)]
struct Entry {
    plugin: Arc<str>,
    spec: Arc<Spec>,
    /// Published at run time, not declared.
    dynamic: bool,
    slot: Arc<dyn ErasedSlot>,
}

/// One line per kind, written once: runs `$body` with `$T` as the contract of the kind.
macro_rules! by_kind {
    ($kind:expr, $T:ident => $body:expr) => {
        match $kind {
            Kind::Accelerator => by_kind!(@ Accelerator, $T => $body),
            Kind::Channel => by_kind!(@ Channel, $T => $body),
            Kind::Command => by_kind!(@ Command, $T => $body),
            Kind::Embedder => by_kind!(@ Embedder, $T => $body),
            Kind::Hook => by_kind!(@ HookHandler, $T => $body),
            Kind::Http => by_kind!(@ HttpEndpoint, $T => $body),
            Kind::Provider => by_kind!(@ Provider, $T => $body),
            Kind::Stt => by_kind!(@ Stt, $T => $body),
            Kind::Tool => by_kind!(@ Tool, $T => $body),
            Kind::Tts => by_kind!(@ Tts, $T => $body),
            Kind::Vad => by_kind!(@ Vad, $T => $body),
            // `Kind` may grow in a newer plugin-api; a host that does not know a kind refuses it.
            other => Err(Error::new(Code::CONTRACT_NOT_FOUND, format!("this host does not know the kind `{other}`"))),
        }
    };
    (@ $contract:ident, $T:ident => $body:expr) => {{
        type $T = dyn $contract;
        $body
    }};
}

impl Entry {
    fn new(plugin: &Arc<PluginCell>, spec: &Spec, dynamic: bool) -> Result<Self> {
        let slot: Arc<dyn ErasedSlot> = by_kind!(spec.kind(), T => empty_slot::<T>(plugin, spec))?;
        Ok(Entry { plugin: plugin.id().into(), spec: Arc::new(spec.clone()), dynamic, slot })
    }

    fn kind(&self) -> Kind {
        self.spec.kind()
    }

    fn name(&self) -> &str {
        self.spec.name()
    }
}

impl Registry {
    /// The slot of that name, typed by its contract: `registry.get::<dyn Tool>("clock")`.
    pub fn get<T: Contract + ?Sized + 'static>(&self, name: &str) -> Option<Slot<T>> {
        let table = self.table.load();
        let entry = table.get(&T::KIND)?.get(name)?;
        entry.slot.as_any().downcast_ref::<Slot<T>>().cloned()
    }

    /// As [`get`](Self::get), with an error that names what there is.
    ///
    /// # Errors
    /// `PLUGIN_NOT_FOUND`.
    pub fn find<T: Contract + ?Sized + 'static>(&self, name: &str) -> Result<Slot<T>> {
        self.get(name).ok_or_else(|| {
            let known = self.names(T::KIND);
            let there_is =
                if known.is_empty() { "there is none in this program".to_owned() } else { format!("there is {}", known.join(", ")) };
            Error::new(Code::PLUGIN_NOT_FOUND, format!("no {} named `{name}`; {there_is}", T::KIND)).with_help("bespoke plugin list")
        })
    }

    /// All slots of a contract, by name.
    pub fn all<T: Contract + ?Sized + 'static>(&self) -> Vec<Slot<T>> {
        let table = self.table.load();
        let slots = table.get(&T::KIND).into_iter().flat_map(|of_kind| of_kind.values());
        slots.filter_map(|entry| entry.slot.as_any().downcast_ref::<Slot<T>>().cloned()).collect()
    }

    /// Names of a kind, sorted.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.table.load().get(&kind).map(|of_kind| of_kind.keys().cloned().collect()).unwrap_or_default()
    }

    /// Id of the plugin that has a name now.
    pub(crate) fn owner(&self, kind: Kind, name: &str) -> Option<Arc<str>> {
        Some(self.table.load().get(&kind)?.get(name)?.plugin.clone())
    }

    /// Adds empty slots for what a plugin declares: all, or none.
    ///
    /// # Errors
    /// `ALREADY_LOADED`, naming both plugins; `CONTRACT_NOT_FOUND` for a kind that this host does not know.
    pub(crate) fn declare(&self, plugin: &Arc<PluginCell>, specs: &[Spec]) -> Result<()> {
        let mut added = Vec::new();
        for spec in specs {
            added.push(Entry::new(plugin, spec, false)?);
        }
        self.change(|table| {
            for entry in &added {
                put(table, plugin.id(), entry.clone())?;
            }
            Ok(())
        })
    }

    /// Replaces what a plugin offers at run time, beside what it declares. What stays as it was keeps its slot.
    ///
    /// # Errors
    /// As [`declare`](Self::declare), and `CONTRACT_MISMATCH` for a name that is declared or stands there twice.
    pub(crate) fn publish(&self, plugin: &Arc<PluginCell>, generation: &Arc<Generation>, contributions: &[Contribution]) -> Result<()> {
        let mut added: Vec<Entry> = Vec::new();
        for contribution in contributions {
            let entry = Entry::new(plugin, &contribution.spec(), true)?;
            if added.iter().any(|other| (other.kind(), other.name()) == (entry.kind(), entry.name())) {
                return Err(mismatch(format!("publishes {} `{}` twice", entry.kind(), entry.name())));
            }
            // It serves before anybody can find it.
            entry.slot.serve(contribution, generation);
            added.push(entry);
        }
        let mut gone = Vec::new();
        self.change(|table| {
            gone.clear();
            for (kind, of_kind) in table.iter_mut() {
                of_kind.retain(|name, old| {
                    let mine = old.dynamic && &*old.plugin == plugin.id();
                    let stays = !mine || added.iter().any(|new| new.spec == old.spec && (new.kind(), new.name()) == (*kind, name.as_str()));
                    if !stays {
                        gone.push(old.clone());
                    }
                    stays
                });
            }
            for entry in &added {
                match table.get(&entry.kind()).and_then(|of_kind| of_kind.get(entry.name())) {
                    Some(old) if old.plugin == entry.plugin && !old.dynamic => {
                        return Err(mismatch(format!("publishes {} `{}`, which plugin.toml declares", entry.kind(), entry.name())));
                    }
                    // It stayed: whoever holds the old slot goes on with it.
                    Some(old) if old.plugin == entry.plugin => {}
                    _ => put(table, plugin.id(), entry.clone())?,
                }
            }
            Ok(())
        })?;
        gone.iter().for_each(|entry| entry.slot.withdraw());
        self.serve(generation, contributions)
    }

    /// Makes a changed copy of the table and puts it in place, unless `change` refuses. `change` may run more than once.
    fn change(&self, mut change: impl FnMut(&mut Table) -> Result<()>) -> Result<()> {
        let mut result = Ok(());
        self.table.rcu(|table| {
            let mut new = Table::clone(table);
            result = change(&mut new);
            if result.is_ok() { Arc::new(new) } else { table.clone() }
        });
        result
    }

    /// Lets the slots of a plugin serve from a generation.
    ///
    /// # Errors
    /// `CONTRACT_MISMATCH` when a contribution was not declared.
    pub(crate) fn serve(&self, generation: &Arc<Generation>, contributions: &[Contribution]) -> Result<()> {
        let table = self.table.load();
        for contribution in contributions {
            let (kind, name) = (contribution.kind(), contribution.name());
            let entry = table.get(&kind).and_then(|of_kind| of_kind.get(name)).filter(|e| &*e.plugin == generation.plugin());
            let entry = entry.ok_or_else(|| mismatch(format!("contributes {kind} `{name}`, which it did not declare")))?;
            entry.slot.serve(contribution, generation);
        }
        Ok(())
    }

    /// Empties the slots of a plugin; they stay, and say why they do not serve.
    pub(crate) fn withdraw(&self, plugin: &str) {
        for entry in self.table.load().values().flat_map(BTreeMap::values).filter(|e| &*e.plugin == plugin) {
            entry.slot.withdraw();
        }
    }

    /// Removes the slots of a plugin.
    pub(crate) fn remove(&self, plugin: &str) {
        self.withdraw(plugin);
        // Removing refuses nothing.
        let _ = self.change(|table| {
            for of_kind in table.values_mut() {
                of_kind.retain(|_, entry| &*entry.plugin != plugin);
            }
            Ok(())
        });
    }
}

fn put(table: &mut Table, plugin: &str, entry: Entry) -> Result<()> {
    let (kind, name) = (entry.kind(), entry.name().to_owned());
    let of_kind = table.entry(kind).or_default();
    match of_kind.get(&name) {
        Some(other) if other.plugin != entry.plugin => Err(taken(kind, &name, &other.plugin, plugin)),
        _ => {
            of_kind.insert(name, entry);
            Ok(())
        }
    }
}

fn mismatch(message: String) -> Error {
    Error::new(Code::CONTRACT_MISMATCH, message)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.load();
        f.debug_list().entries(table.iter().flat_map(|(kind, of_kind)| of_kind.keys().map(move |name| format!("{kind}:{name}")))).finish()
    }
}

trait ErasedSlot: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn serve(&self, contribution: &Contribution, generation: &Arc<Generation>);
    fn withdraw(&self);
}

impl<T: Contract + ?Sized + 'static> ErasedSlot for Slot<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn serve(&self, contribution: &Contribution, generation: &Arc<Generation>) {
        if let Some((_, object)) = T::of(contribution) {
            self.place.serving.store(Some(Arc::new(Serving { object: object.clone(), generation: generation.clone() })));
        }
    }

    fn withdraw(&self) {
        self.place.serving.store(None);
    }
}

fn empty_slot<T: Contract + ?Sized + 'static>(plugin: &Arc<PluginCell>, spec: &Spec) -> Result<Arc<dyn ErasedSlot>> {
    let typed =
        T::spec_of(spec).ok_or_else(|| Error::internal(format!("{} `{}` has the spec of another kind", spec.kind(), spec.name())))?;
    let place = Place::<T> { spec: typed.clone(), name: spec.name().to_owned(), plugin: plugin.clone(), serving: ArcSwapOption::empty() };
    Ok(Arc::new(Slot { place: Arc::new(place) }))
}
