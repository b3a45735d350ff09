//! Who contributes what: slots by kind and name. A snapshot behind one atomic pointer, so that a look-up takes no lock.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use bespoke_plugin_api::{
    Accelerator, Channel, Code, Command, Contract, Contribution, Embedder, Error, HookHandler, HttpEndpoint, Kind, OnFailure, Provider,
    Result, Spec, Stt, Tool, Tts, Vad,
};

use crate::{
    generation::Generation,
    needs::taken,
    plugin::PluginCell,
    slot::{Place, Serving, Slot, drop_caught},
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
    /// It was another plugin's; it serves what its plugin has under this name of the same kind.
    stands_for: Option<String>,
    /// The entry of the plugin whose name it was, while that runs beside the one that has it now.
    shadowed: Option<Box<Entry>>,
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
        Ok(Entry { plugin: plugin.id().into(), spec: Arc::new(spec.clone()), dynamic, stands_for: None, shadowed: None, slot })
    }

    /// Whether it is a hook whose silence is a no.
    fn guards(&self) -> bool {
        matches!(&*self.spec, Spec::Hook(spec) if spec.on_failure == OnFailure::Closed && !spec.observer)
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

    /// Replaces what a plugin offers at run time, beside what it declares. What stays as it was keeps its slot. What was offered
    /// before goes into `withdrawn`, also where this fails: objects of the plugin, to be dropped when no lock is held.
    ///
    /// # Errors
    /// As [`declare`](Self::declare), and `CONTRACT_MISMATCH` for a name that is declared or stands there twice.
    pub(crate) fn publish(
        &self,
        plugin: &Arc<PluginCell>,
        generation: &Arc<Generation>,
        contributions: &[Contribution],
        withdrawn: &mut Withdrawn,
    ) -> Result<()> {
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
        withdrawn.0.extend(gone.iter().filter_map(|entry| entry.slot.withdraw()));
        self.serve(generation, contributions, withdrawn)
    }

    /// Puts a generation in the place of the one before, in every slot: what it declares and what it has published. Slots that
    /// stay go from one object to the other in one step; new names serve before anybody can find them.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and `CONTRACT_MISMATCH` when a contribution was not declared. Then nothing has changed.
    pub(crate) fn replace(
        &self,
        plugin: &Arc<PluginCell>,
        generation: &Arc<Generation>,
        specs: &[Spec],
        contributions: &[Contribution],
        published: &[Contribution],
    ) -> Result<Withdrawn> {
        if let Some(other) = contributions.iter().find(|c| !specs.iter().any(|s| (s.kind(), s.name()) == (c.kind(), c.name()))) {
            return Err(undeclared(other.kind(), other.name()));
        }
        let mut wanted: Vec<(Entry, Option<&Contribution>)> = Vec::new();
        for spec in specs {
            let contribution = contributions.iter().find(|c| (c.kind(), c.name()) == (spec.kind(), spec.name()));
            wanted.push((Entry::new(plugin, spec, false)?, contribution));
        }
        for contribution in published {
            let entry = Entry::new(plugin, &contribution.spec(), true)?;
            let (kind, name) = (entry.kind(), entry.name());
            match wanted.iter().find(|(other, _)| (other.kind(), other.name()) == (kind, name)) {
                Some((other, _)) if other.dynamic => return Err(mismatch(format!("publishes {kind} `{name}` twice"))),
                Some(_) => return Err(mismatch(format!("publishes {kind} `{name}`, which plugin.toml declares"))),
                None => wanted.push((entry, Some(contribution))),
            }
        }
        let mut served = Vec::new();
        for (entry, contribution) in &wanted {
            served.extend(contribution.and_then(|contribution| entry.slot.serve(contribution, generation)));
        }
        let (mut before, mut gone) = (Vec::new(), Vec::new());
        self.change(|table| {
            (before, gone) = (Vec::new(), Vec::new());
            for of_kind in table.values_mut() {
                of_kind.retain(|_, old| {
                    if &*old.plugin != plugin.id() || old.stands_for.is_some() {
                        return true;
                    }
                    match wanted.iter().position(|(new, _)| (new.kind(), new.name()) == (old.kind(), old.name())) {
                        // Who holds its slot goes on with it, also where the new one is described in another way.
                        Some(at) => before.push((old.clone(), at)),
                        None => gone.push(old.clone()),
                    }
                    false
                });
            }
            for (at, (new, _)) in wanted.iter().enumerate() {
                let stays = before.iter().find(|(old, of)| *of == at && (&old.spec, old.dynamic) == (&new.spec, new.dynamic));
                put(table, plugin.id(), stays.map_or(new, |(old, _)| old).clone())?;
            }
            Ok(())
        })?;
        for (entry, at) in before {
            served.extend(match wanted[at].1 {
                Some(contribution) => entry.slot.serve(contribution, generation),
                None => entry.slot.withdraw(),
            });
        }
        served.extend(gone.iter().filter_map(|entry| entry.slot.withdraw()));
        let table = self.table.load();
        for entry in entries(&table).filter(|e| &*e.plugin == plugin.id()) {
            let own = entry.stands_for.as_ref().and_then(|name| table.get(&entry.kind())?.get(name));
            served.extend(own.and_then(|own| entry.slot.follow(&*own.slot)));
        }
        Ok(Withdrawn(served))
    }

    /// Lets a running plugin serve under all names of another, too. Where it has the same name itself, or none that fits, its
    /// first of the kind stands for it. Whoever holds a slot of the other goes on with the new one. What served before comes back.
    ///
    /// # Errors
    /// `CONTRACT_MISMATCH` when it has nothing of a kind. Then nothing has changed.
    pub(crate) fn hand_over(&self, old: &Arc<PluginCell>, new: &Arc<PluginCell>) -> Result<Withdrawn> {
        let mut moved: Vec<(Entry, Entry)> = Vec::new();
        self.change(|table| {
            moved.clear();
            for (kind, of_kind) in table.iter_mut() {
                let own = of_kind.values().flat_map(with_shadow).filter(|e| &*e.plugin == new.id() && e.stands_for.is_none());
                let own: Vec<Entry> = own.cloned().collect();
                for entry in of_kind.values_mut().filter(|e| &*e.plugin == old.id()) {
                    let after = match entry.shadowed.take_if(|shadowed| &*shadowed.plugin == new.id()) {
                        // The name goes back to whose it was.
                        Some(shadowed) => *shadowed,
                        None => {
                            let target = own.iter().find(|e| e.name() == entry.name()).or_else(|| own.first());
                            let Some(target) = target else {
                                return Err(mismatch(format!("offers no {kind} that could stand for `{}`", entry.name())));
                            };
                            let mut after = Entry::new(new, &entry.spec, entry.dynamic)?;
                            after.stands_for = Some(target.name().to_owned());
                            after.shadowed = entry.shadowed.take();
                            after.slot.follow(&*target.slot);
                            after
                        }
                    };
                    moved.push((entry.clone(), after.clone()));
                    *entry = after;
                }
            }
            Ok(())
        })?;
        let mut withdrawn = Withdrawn::default();
        for (before, after) in moved {
            withdrawn.0.extend(before.slot.withdraw());
            before.slot.forward_to(&*after.slot);
        }
        Ok(withdrawn)
    }

    /// Removes all slots of a plugin, those of its guards too: nobody knows it any more.
    pub(crate) fn forget(&self, plugin: &str) -> Withdrawn {
        let withdrawn = self.withdraw(plugin);
        // Removing refuses nothing.
        let _ = self.change(|table| {
            for of_kind in table.values_mut() {
                for entry in of_kind.values_mut() {
                    entry.shadowed.take_if(|shadowed| &*shadowed.plugin == plugin);
                    // Whose name it was has it again.
                    if &*entry.plugin == plugin
                        && let Some(shadowed) = entry.shadowed.take()
                    {
                        *entry = *shadowed;
                    }
                }
                of_kind.retain(|_, entry| &*entry.plugin != plugin);
            }
            Ok(())
        });
        withdrawn
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

    /// Lets the slots of a plugin serve from a generation; what they served before goes into `withdrawn`.
    ///
    /// # Errors
    /// `CONTRACT_MISMATCH` when a contribution was not declared.
    fn serve(&self, generation: &Arc<Generation>, contributions: &[Contribution], withdrawn: &mut Withdrawn) -> Result<()> {
        let table = self.table.load();
        for contribution in contributions {
            let (kind, name) = (contribution.kind(), contribution.name());
            let entry = table.get(&kind).and_then(|of_kind| of_kind.get(name)).filter(|e| &*e.plugin == generation.plugin());
            withdrawn.0.extend(entry.ok_or_else(|| undeclared(kind, name))?.slot.serve(contribution, generation));
        }
        Ok(())
    }

    /// Empties the slots of a plugin; they stay, and say why they do not serve.
    pub(crate) fn withdraw(&self, plugin: &str) -> Withdrawn {
        let table = self.table.load();
        Withdrawn(entries(&table).filter(|e| &*e.plugin == plugin).filter_map(|e| e.slot.withdraw()).collect())
    }

    /// Removes the slots of a plugin that did not come up, but not those of hooks that fail closed: they still say no.
    pub(crate) fn remove(&self, plugin: &str) -> Withdrawn {
        let withdrawn = self.withdraw(plugin);
        // Removing refuses nothing.
        let _ = self.change(|table| {
            for of_kind in table.values_mut() {
                of_kind.retain(|_, entry| &*entry.plugin != plugin || entry.guards());
            }
            Ok(())
        });
        withdrawn
    }
}

/// What was taken out of slots: objects of a plugin, to be dropped where they may block, or put back.
#[must_use = "dropping it may run code of the plugin"]
#[derive(Default)]
pub(crate) struct Withdrawn(Vec<Taken>);

/// Puts back what was taken out of one slot.
type Taken = Box<dyn FnOnce() + Send>;

impl Withdrawn {
    pub(crate) fn put_back(mut self) {
        std::mem::take(&mut self.0).into_iter().for_each(|put_back| put_back());
    }
}

impl Drop for Withdrawn {
    fn drop(&mut self) {
        self.0.drain(..).for_each(drop_caught);
    }
}

/// All entries, those in the shadow of others too.
fn entries(table: &Table) -> impl Iterator<Item = &Entry> {
    table.values().flat_map(BTreeMap::values).flat_map(with_shadow)
}

fn with_shadow(entry: &Entry) -> impl Iterator<Item = &Entry> {
    std::iter::successors(Some(entry), |entry| entry.shadowed.as_deref())
}

fn put(table: &mut Table, plugin: &str, entry: Entry) -> Result<()> {
    let (kind, name) = (entry.kind(), entry.name().to_owned());
    let of_kind = table.entry(kind).or_default();
    match of_kind.get_mut(&name) {
        Some(other) if other.plugin != entry.plugin && other.stands_for.is_some() => {
            other.shadowed = Some(Box::new(entry));
            Ok(())
        }
        Some(other) if other.plugin != entry.plugin => Err(taken(kind, &name, &other.plugin, plugin)),
        // Whoever holds its slot goes on with it.
        Some(other) if (&other.spec, other.dynamic) == (&entry.spec, entry.dynamic) => Ok(()),
        _ => {
            of_kind.insert(name, entry);
            Ok(())
        }
    }
}

fn undeclared(kind: Kind, name: &str) -> Error {
    mismatch(format!("contributes {kind} `{name}`, which it did not declare"))
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
    /// Serves from now on; what served before comes back.
    fn serve(&self, contribution: &Contribution, generation: &Arc<Generation>) -> Option<Taken>;
    fn withdraw(&self) -> Option<Taken>;
    /// Serves what another slot of the same contract serves; what served before comes back.
    fn follow(&self, other: &dyn ErasedSlot) -> Option<Taken>;
    /// Sends those who hold this slot to another of the same contract.
    fn forward_to(&self, other: &dyn ErasedSlot);
}

impl<T: Contract + ?Sized + 'static> ErasedSlot for Slot<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn serve(&self, contribution: &Contribution, generation: &Arc<Generation>) -> Option<Taken> {
        let (_, object) = T::of(contribution)?;
        let before = self.place.serving.swap(Some(Arc::new(Serving { object: object.clone(), generation: generation.clone() })));
        Some(taken_out(self, before?))
    }

    fn withdraw(&self) -> Option<Taken> {
        Some(taken_out(self, self.place.serving.swap(None)?))
    }

    fn follow(&self, other: &dyn ErasedSlot) -> Option<Taken> {
        let other = other.as_any().downcast_ref::<Self>()?;
        let before = self.place.serving.swap(other.place.serving.load_full());
        Some(taken_out(self, before?))
    }

    fn forward_to(&self, other: &dyn ErasedSlot) {
        if let Some(other) = other.as_any().downcast_ref::<Self>() {
            self.place.moved.store(Some(other.place.clone()));
        }
    }
}

fn taken_out<T: Contract + ?Sized + 'static>(slot: &Slot<T>, serving: Arc<Serving<T>>) -> Taken {
    let slot = slot.clone();
    Box::new(move || drop_caught(slot.place.serving.swap(Some(serving))))
}

fn empty_slot<T: Contract + ?Sized + 'static>(plugin: &Arc<PluginCell>, spec: &Spec) -> Result<Arc<dyn ErasedSlot>> {
    let typed =
        T::spec_of(spec).ok_or_else(|| Error::internal(format!("{} `{}` has the spec of another kind", spec.kind(), spec.name())))?;
    let place = Place::<T> {
        spec: typed.clone(),
        name: spec.name().to_owned(),
        plugin: plugin.clone(),
        serving: ArcSwapOption::empty(),
        moved: ArcSwapOption::empty(),
    };
    Ok(Arc::new(Slot { place: Arc::new(place) }))
}
