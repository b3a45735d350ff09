//! What a program can ask of the host, by name: parameters in, work out. The session runs the work and answers.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bespoke_host::{Candidate, Host, Row, State};
use bespoke_manifest::Dialect;
use bespoke_plugin_api::{BoxFuture, CallCx, Code, Error, Kind, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    session::{Session, lock, milliseconds, now},
    seven,
    turns::ANY,
};

/// The methods of the host itself, sorted.
pub(crate) const METHODS: &[&str] = &[
    "$/cancel",
    "ping",
    "plugin/call",
    "plugin/get_config_schema",
    "plugin/health",
    "plugin/list",
    "plugin/load",
    "plugin/swap",
    "plugin/unload",
    "shutdown",
    "status",
];

/// Something to be done under a context.
pub(crate) type Work = Box<dyn FnOnce(CallCx) -> BoxFuture<'static, Result<Value>> + Send>;

/// Something that is done in a moment.
type Moment = Box<dyn FnOnce(&Session) -> Result<Value> + Send>;

/// What a request comes to.
pub(crate) enum Planned {
    /// At once, whatever else goes on.
    Now(Moment),
    /// Beside others; given up when nobody waits any more.
    Call(Work),
    /// Beside others; goes on when nobody waits any more, because half of it is worse than all of it.
    Change(Work),
}

impl Planned {
    pub(crate) fn is_immediate(&self) -> bool {
        matches!(self, Planned::Now(_))
    }

    fn call<F: Future<Output = Result<Value>> + Send + 'static>(work: impl FnOnce(CallCx) -> F + Send + 'static) -> Self {
        Planned::Call(Box::new(|cx| Box::pin(work(cx))))
    }

    fn change(work: impl Future<Output = Result<Value>> + Send + 'static) -> Self {
        Planned::Change(Box::new(|_| Box::pin(work)))
    }
}

/// What a method does with these parameters. Requests are planned in the order in which they come.
pub(crate) fn plan(session: &Arc<Session>, method: &str, params: Value) -> Result<Planned> {
    let session = session.clone();
    Ok(match method {
        "ping" => Planned::Now(Box::new(|_| Ok(json!("pong")))),
        "status" => Planned::Now(Box::new(|session| Ok(session.status()))),
        "$/cancel" => {
            let Cancel { id } = read(params)?;
            Planned::Now(Box::new(move |session| Ok(json!({ "cancelled": session.cancel(&id) }))))
        }
        "shutdown" => {
            let Shutdown { reason } = read(params)?;
            Planned::Now(Box::new(move |session| {
                let pending = session.pending();
                session.close();
                Ok(json!({ "status": "shutting_down", "reason": reason, "timestamp": now(), "pending": pending }))
            }))
        }
        "plugin/list" => {
            let Nothing {} = read(params)?;
            Planned::call(|_| async move { session.list().await })
        }
        "plugin/health" => {
            let Named { name } = read(params)?;
            Planned::call(|_| async move { session.health(name.as_deref()).await })
        }
        "plugin/get_config_schema" => {
            let Schema { plugin_id } = read(params)?;
            Planned::call(|_| async move { session.config_schema(&plugin_id).await })
        }
        "plugin/load" => {
            let load: Load = read(params)?;
            if load.config.as_ref().is_some_and(|config| !config.is_object()) {
                return Err(Error::invalid_params("`config` is an object"));
            }
            let of = match (&load.name, &load.path) {
                (Some(name), None) => key(name),
                (None, Some(_)) => ANY.to_owned(),
                _ => return Err(Error::invalid_params("either `name` or `path` is needed")),
            };
            let (earlier, turn) = (session.turns.earlier(&[&of]), session.turns.take(&[&of]));
            Planned::change(async move {
                earlier.over().await;
                let result = session.load(load).await;
                drop(turn);
                result
            })
        }
        "plugin/unload" => {
            let Unload { name } = read(params)?;
            let (earlier, turn) = (session.turns.earlier(&[&key(&name)]), session.turns.take(&[&key(&name)]));
            Planned::change(async move {
                earlier.over().await;
                let result = session.unload(&name).await;
                drop(turn);
                result
            })
        }
        "plugin/swap" => {
            let swap: Swap = read(params)?;
            let names = [key(&swap.old), key(&swap.new)];
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (earlier, turn) = (session.turns.earlier(&names), session.turns.take(&names));
            Planned::change(async move {
                earlier.over().await;
                let result = session.swap(swap).await;
                drop(turn);
                result
            })
        }
        "plugin/call" => {
            let Call { plugin, method, args } = read(params)?;
            let earlier = session.turns.earlier(&[&key(&plugin)]);
            Planned::call(|cx| async move {
                earlier.over().await;
                let id = session.loaded_plugin(&plugin).await?;
                session.host.invoke(&cx, &id, &method, args).await
            })
        }
        contract => match contract.split_once('/') {
            Some((contract, method)) if contract != "plugin" && !method.is_empty() => {
                let kind = kind_of(contract).ok_or_else(|| {
                    let known = CONTRACTS.iter().map(|(name, _)| *name).chain(Kind::ALL.iter().map(|kind| kind.name()));
                    let close =
                        bespoke_manifest::closest(contract, known).map_or(String::new(), |close| format!("; did you mean `{close}`?"));
                    Error::new(Code::CONTRACT_NOT_FOUND, format!("there is no contract `{contract}`{close}"))
                })?;
                let (plugin, args) = addressed(params)?;
                let (contract, method) = (contract.to_owned(), method.to_owned());
                let earlier = session.turns.earlier(&[&plugin.as_deref().map_or_else(|| ANY.to_owned(), key)]);
                Planned::call(move |cx| async move {
                    earlier.over().await;
                    session.contract(&cx, (&contract, kind), &method, plugin.as_deref(), args).await
                })
            }
            _ => {
                let close = bespoke_manifest::closest(method, METHODS.iter().copied())
                    .map_or(String::new(), |close| format!("; did you mean `{close}`?"));
                return Err(Error::new(Code::METHOD_NOT_FOUND, format!("there is no method `{method}`{close}")).with_help("status"));
            }
        },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    id: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shutdown {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schema {
    #[serde(alias = "name")]
    plugin_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    path: Option<PathBuf>,
    #[serde(default)]
    config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unload {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Swap {
    old: String,
    new: String,
    #[serde(default)]
    config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    plugin: String,
    method: String,
    #[serde(default = "no_args")]
    args: Value,
}

fn no_args() -> Value {
    json!({})
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T> {
    if params.as_array().is_some_and(|all| !all.is_empty()) {
        return Err(Error::invalid_params("the methods of the host take their parameters by name"));
    }
    let params = if params.is_array() { json!({}) } else { params };
    serde_json::from_value(params).map_err(|error| Error::invalid_params(error.to_string()))
}

/// The member `plugin` of the parameters of a contract, and the rest of them, which are the arguments.
fn addressed(mut params: Value) -> Result<(Option<String>, Value)> {
    match params.as_object_mut().and_then(|params| params.shift_remove("plugin")) {
        None => Ok((None, params)),
        Some(Value::String(plugin)) => Ok((Some(plugin), params)),
        Some(_) => Err(Error::invalid_params("`plugin` is the name of a plugin")),
    }
}

/// App Factory's names of contracts, where they are not ours.
const CONTRACTS: &[(&str, Kind)] = &[("llm", Kind::Provider), ("embedding", Kind::Embedder), ("mcp", Kind::Tool)];
/// Contracts of App Factory that are none of ours: a plugin of theirs has methods, and contributes nothing.
const OTHERS: &[&str] = &["debug", "vision"];

/// The kind that a contract is, none for one of [`OTHERS`]; nothing for a word that is no contract.
fn kind_of(contract: &str) -> Option<Option<Kind>> {
    let kind = Kind::from_name(contract).or_else(|| CONTRACTS.iter().find(|(name, _)| *name == contract).map(|(_, kind)| *kind));
    kind.map(Some).or_else(|| OTHERS.contains(&contract).then_some(None))
}

fn contract_of(row: &Row) -> Option<&str> {
    let kind = row.kinds.first()?;
    let theirs = CONTRACTS.iter().find(|(_, of)| of.name() == kind && *of != Kind::Tool);
    Some(theirs.map_or(kind.as_str(), |(name, _)| name))
}

/// How names are compared: App Factory writes `my_plugin` where an id is `my-plugin`.
fn key(name: &str) -> String {
    name.replace('_', "-")
}

/// A plugin that is here, or could be loaded.
struct Known {
    row: Row,
    /// Where it was found; nothing for one that the host has from elsewhere.
    candidate: Option<Candidate>,
    /// Whether the host has it.
    is_here: bool,
    /// It was loaded, and starts with its next call.
    rests: bool,
}

impl Known {
    fn is_loaded(&self) -> bool {
        self.rests || self.is_here && matches!(self.row.state, State::Ready | State::Starting | State::Draining)
    }
}

/// The row of a plugin that the host does not have.
fn row_of(candidate: &Candidate) -> Row {
    let mut row = Row::missing(&candidate.id, Vec::new(), "", "");
    (row.state, row.tier, row.reason, row.fix) = (State::Unloaded, candidate.tier, None, None);
    match &candidate.manifest {
        Ok(manifest) => {
            row.kinds = manifest.kinds().iter().map(|kind| kind.name().to_owned()).collect();
            row.provides = manifest.provides.iter().map(|p| format!("{}:{}", p.kind, p.name.as_deref().unwrap_or("*"))).collect();
            row.version = manifest.version.to_string();
            row.description = manifest.description.clone();
        }
        Err(error) => {
            row.state = State::Failed;
            row.health = "failed".into();
            (row.reason, row.fix) = (Some(error.message().to_owned()), error.help().map(str::to_owned));
        }
    }
    row
}

impl Session {
    fn status(&self) -> Value {
        let last = lock(&self.last).clone();
        let loaded = lock(&self.loaded).clone();
        let mut methods: Vec<String> = METHODS.iter().map(|method| (*method).to_owned()).collect();
        for id in &loaded {
            methods.extend(self.host.methods(id).into_iter().map(|(method, _)| {
                // A tool is a method by its name.
                if method.contains('.') { method.replacen('.', "/", 1) } else { format!("{}/{method}", Kind::Tool) }
            }));
        }
        methods.sort();
        methods.dedup();
        json!({
            "version": self.options.version,
            "request_count": self.requests.load(Ordering::Relaxed),
            "error_count": self.errors.load(Ordering::Relaxed),
            "last_request": last.map(|(method, at)| json!({ "method": method, "timestamp": at })),
            "registered_methods": methods,
            "loaded": loaded,
            "in_flight": self.pending(),
            "uptime_s": self.began.elapsed().as_secs(),
            "pid": std::process::id(),
            "longest_line": self.options.longest_line,
        })
    }

    /// All plugins there are, by id.
    async fn known(&self) -> Vec<Known> {
        let (source, host) = (self.options.source.clone(), self.host.clone());
        // Folders are read, and plugins asked how they do.
        let found = tokio::task::spawn_blocking(move || (source.all(), host.rows())).await;
        let (mut candidates, rows) = found.unwrap_or_default();
        let mut known: Vec<Known> = Vec::new();
        for row in rows {
            let at = candidates.iter().position(|candidate| candidate.id == row.id);
            let candidate = at.map(|at| candidates.swap_remove(at));
            known.push(Known { row, candidate, is_here: true, rests: false });
        }
        known.extend(candidates.into_iter().map(|candidate| Known {
            row: row_of(&candidate),
            candidate: Some(candidate),
            is_here: false,
            rests: false,
        }));
        let loaded = lock(&self.loaded).clone();
        for known in &mut known {
            known.rests = known.is_here && known.row.state == State::Unloaded && loaded.contains(&known.row.id);
        }
        for known in known.iter_mut().filter(|known| !known.is_here) {
            if let Some(error) = lock(&self.failures).get(&known.row.id) {
                known.row.state = State::Failed;
                known.row.health = "failed".into();
                (known.row.reason, known.row.fix) = (Some(error.message().to_owned()), error.help().map(str::to_owned));
            }
        }
        known.sort_by(|a, b| a.row.id.cmp(&b.row.id));
        known
    }

    /// The plugin that a name means.
    async fn named(&self, name: &str) -> Result<Known> {
        let mut known = self.known().await;
        let is_meant = |k: &Known| key(&k.row.id) == key(name);
        match known.iter().position(|k| k.row.id == name).or_else(|| known.iter().position(is_meant)) {
            Some(at) => Ok(known.swap_remove(at)),
            None => {
                let close = bespoke_manifest::closest(name, known.iter().map(|k| k.row.id.as_str()));
                let meant = close.map_or(String::new(), |close| format!("; did you mean `{close}`?"));
                Err(Error::new(Code::PLUGIN_NOT_FOUND, format!("no plugin `{name}`{meant}")).with_help("plugin/list"))
            }
        }
    }

    /// The id of a plugin that serves.
    async fn loaded_plugin(&self, name: &str) -> Result<String> {
        // Most names are ids of plugins that were loaded here, for which no folder is read.
        if let Some(id) = lock(&self.loaded).iter().find(|id| key(id) == key(name)) {
            return Ok(id.clone());
        }
        let known = self.named(name).await?;
        if known.is_loaded() {
            return Ok(known.row.id);
        }
        let why = known.row.reason.map_or(String::new(), |reason| format!(": {reason}"));
        let error = Error::new(Code::NOT_READY, format!("is not loaded{why}")).with_plugin(&known.row.id);
        Err(error.with_help(known.row.fix.unwrap_or_else(|| format!("plugin/load {{\"name\":\"{}\"}}", known.row.id))))
    }

    /// As [`known`](Self::known), for who looks: what is being loaded starts.
    async fn shown(&self) -> Vec<Known> {
        let mut all = self.known().await;
        for known in all.iter_mut().filter(|known| !known.is_loaded() && self.turns.is_changing(&key(&known.row.id))) {
            known.row.state = State::Starting;
        }
        all
    }

    async fn list(&self) -> Result<Value> {
        let rows = self.shown().await.into_iter().map(|known| {
            let invalid = known.candidate.as_ref().and_then(|candidate| candidate.manifest.as_ref().err().map(|e| e.message().to_owned()));
            let failed =
                matches!(known.row.state, State::Failed | State::Quarantined | State::Blocked).then(|| known.row.reason.clone()).flatten();
            let errors: Vec<String> = invalid.clone().into_iter().chain(failed.filter(|reason| Some(reason) != invalid.as_ref())).collect();
            let mut row = fields(&known.row);
            row.insert("name".into(), json!(known.row.id));
            row.insert("contract".into(), json!(contract_of(&known.row)));
            row.insert("path".into(), json!(known.candidate.as_ref().map(|candidate| &candidate.origin)));
            row.insert("valid".into(), json!(invalid.is_none()));
            row.insert("loaded".into(), json!(known.is_loaded()));
            row.insert("errors".into(), json!(errors));
            Value::Object(row)
        });
        Ok(rows.collect())
    }

    async fn health(&self, name: Option<&str>) -> Result<Value> {
        match name {
            Some(name) => {
                let id = self.named(name).await?.row.id;
                let shown = self.shown().await.into_iter().find(|known| known.row.id == id);
                shown.map(|known| health(&known)).ok_or_else(|| Error::new(Code::PLUGIN_NOT_FOUND, format!("`{id}` is gone")))
            }
            None => Ok(Value::Object(self.shown().await.iter().map(|known| (known.row.id.clone(), health(known))).collect())),
        }
    }

    async fn config_schema(&self, name: &str) -> Result<Value> {
        let known = self.named(name).await?;
        let text = self.host.config_schema(&known.row.id).map(|text| text.to_string());
        let text = text.or_else(|| known.candidate.as_ref().map(|candidate| candidate.config_schema.to_string())).unwrap_or_default();
        let schema: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
        Ok(json!({ "plugin_id": known.row.id, "config_schema": schema }))
    }

    async fn load(&self, load: Load) -> Result<Value> {
        let known = match (load.name, load.path) {
            (Some(name), _) => self.named(&name).await?,
            (None, path) => self.opened(path.unwrap_or_default()).await?,
        };
        let (id, began) = (known.row.id.clone(), Instant::now());
        match (known.is_loaded(), load.config) {
            (true, None) => {
                let error = Error::new(Code::ALREADY_LOADED, "is loaded already").with_plugin(&id);
                return Err(error.with_help("send `config` to change its configuration, or plugin/unload first"));
            }
            (true, Some(config)) => {
                self.host.configure(&id, config).await.map_err(|error| named_after(error, &id))?;
            }
            (false, config) => {
                if known.row.state == State::Disabled {
                    let reason = known.row.reason.unwrap_or_else(|| "it is switched off".into());
                    let error = Error::new(Code::NOT_READY, reason).with_plugin(&id);
                    return Err(known.row.fix.map_or(error.clone(), |fix| error.with_help(fix)));
                }
                let Some(candidate) = known.candidate else {
                    return Err(Error::new(Code::LOAD_FAILED, "is here, but not among those that can be loaded").with_plugin(&id));
                };
                if known.is_here {
                    // What never ran, or runs no more, makes room for what is loaded now.
                    self.host.unload(&id).await.map_err(|error| named_after(error, &id))?;
                }
                let loaded = self.host.load(candidate, config).await.map_err(|error| named_after(error, &id));
                lock(&self.loaded).retain(|loaded| *loaded != id);
                match &loaded {
                    Ok(()) => {
                        lock(&self.failures).remove(&id);
                        lock(&self.loaded).push(id.clone());
                    }
                    Err(error) => _ = lock(&self.failures).insert(id.clone(), self.clean(error)),
                }
                loaded?;
            }
        }
        let row = row(&self.host, &id).await?;
        let manifest = self.host.manifest(&id);
        Ok(json!({
            "name": id,
            "version": row.version,
            "contract": contract_of(&row),
            "path": self.origin(&id).await,
            "initialized": row.state == State::Ready,
            "status": seven::status(&row),
            "state": row.state,
            "display_name": manifest.as_ref().map_or(id.as_str(), |manifest| manifest.name.as_str()),
            "description": row.description,
            "load_errors": [],
            "load_duration_ms": milliseconds(began.elapsed()),
        }))
    }

    /// A plugin that the other side names by its folder.
    async fn opened(&self, path: PathBuf) -> Result<Known> {
        let source = self.options.source.clone();
        let opened = tokio::task::spawn_blocking(move || source.open(&path)).await;
        let candidate = opened.unwrap_or_else(|error| Err(Error::internal(format!("the folder could not be read: {error}"))))?;
        let here = self.host.rows().into_iter().find(|row| row.id == candidate.id);
        Ok(match here {
            Some(row) => Known { row, candidate: Some(candidate), is_here: true, rests: false },
            None => Known { row: row_of(&candidate), candidate: Some(candidate), is_here: false, rests: false },
        })
    }

    async fn origin(&self, id: &str) -> Option<String> {
        self.known().await.into_iter().find(|known| known.row.id == id)?.candidate.map(|candidate| candidate.origin)
    }

    async fn unload(&self, name: &str) -> Result<Value> {
        let id = self.loaded_plugin(name).await?;
        self.host.unload(&id).await.map_err(|error| named_after(error, &id))?;
        lock(&self.loaded).retain(|loaded| *loaded != id);
        Ok(json!({ "success": true, "plugin": id }))
    }

    async fn swap(&self, swap: Swap) -> Result<Value> {
        let began = Instant::now();
        let old = self.loaded_plugin(&swap.old).await?;
        let new = self.named(&swap.new).await?;
        let id = new.row.id.clone();
        let report = |success: bool, rolled_back: bool, errors: Vec<String>| {
            json!({
                "success": success, "old_plugin": old, "new_plugin": id, "rollback_performed": rolled_back, "errors": errors,
                "swap_duration_ms": milliseconds(began.elapsed()),
            })
        };
        match self.swap_now(&old, new, swap.config).await {
            Ok(()) => {
                let mut loaded = lock(&self.loaded);
                // It has the place of the old one, also among those that serve a contract.
                match loaded.iter().position(|loaded| *loaded == old) {
                    Some(at) => loaded[at] = id.clone(),
                    None => loaded.push(id.clone()),
                }
                drop(loaded);
                Ok(report(true, false, Vec::new()))
            }
            Err(error) => {
                let rolled_back = error.code() == Code::HOTSWAP_FAILED;
                let data = report(false, rolled_back, vec![self.clean(&error).message().to_owned()]);
                Err(named_after(error, &id).with_data(data))
            }
        }
    }

    /// The new one may be here or not, and may get other values.
    async fn swap_now(&self, old: &str, new: Known, config: Option<Value>) -> Result<()> {
        let id = new.row.id.clone();
        let was_loaded = new.is_loaded();
        let added = !was_loaded && (!new.is_here || config.is_some());
        if added {
            let Some(candidate) = new.candidate else {
                return Err(Error::new(Code::LOAD_FAILED, "is here, but not among those that can be loaded"));
            };
            if new.is_here {
                self.host.unload(&id).await?;
            }
            // It stands beside the old one, which serves meanwhile.
            self.host.load(candidate, config).await.map_err(|error| still_serves(old, &error))?;
        } else if let Some(config) = config {
            self.host.configure(&id, config).await.map_err(|error| still_serves(old, &error))?;
        }
        let swapped = self.host.swap(old, &id).await;
        if swapped.is_err()
            && added
            && let Err(error) = self.host.unload(&id).await
        {
            tracing::warn!(plugin = id, %error, "did not end well after a swap that failed");
        }
        swapped
    }

    /// A call of `<contract>/<method>`.
    async fn contract(
        &self,
        cx: &CallCx,
        (contract, kind): (&str, Option<Kind>),
        method: &str,
        plugin: Option<&str>,
        args: Value,
    ) -> Result<Value> {
        let id = match plugin {
            Some(plugin) => self.loaded_plugin(plugin).await?,
            None => self.serving(contract, kind, method).await?,
        };
        // A plugin of several kinds may have a method of that name in each of them; a tool has its name to itself.
        let full = match kind {
            Some(kind) if kind != Kind::Tool => format!("{}.{method}", kind.name()),
            _ => method.to_owned(),
        };
        self.host.invoke(cx, &id, &full, args).await
    }

    /// Whoever serves a contract: of tools the one that has this tool, else the one that was loaded first.
    async fn serving(&self, contract: &str, kind: Option<Kind>, method: &str) -> Result<String> {
        if let Some(kind @ Kind::Tool) = kind
            && let Some(id) = self.host.provider_of(kind, method)
        {
            return Ok(id);
        }
        let loaded = lock(&self.loaded).clone();
        let serves = |id: &&String| {
            self.host.manifest(id).is_some_and(|manifest| match kind {
                Some(kind) => manifest.kinds().contains(&kind),
                None => manifest.dialect == Dialect::AppFactory && manifest.provides.is_empty(),
            })
        };
        if let Some(id) = loaded.iter().find(serves) {
            return Ok(id.clone());
        }
        let rows = self.host.rows();
        let ready =
            rows.iter().find(|row| row.state == State::Ready && kind.is_some_and(|kind| row.kinds.iter().any(|of| of == kind.name())));
        ready.map(|row| row.id.clone()).ok_or_else(|| {
            let error = Error::new(Code::NOT_READY, format!("no plugin that is loaded serves `{contract}`"));
            error.with_help("plugin/list says which ones could be loaded")
        })
    }
}

async fn row(host: &Host, id: &str) -> Result<Row> {
    let (host, id) = (host.clone(), id.to_owned());
    let row = tokio::task::spawn_blocking(move || host.rows().into_iter().find(|row| row.id == id)).await;
    row.ok().flatten().ok_or_else(|| Error::internal("the plugin is gone"))
}

/// A swap that failed before it began: nothing happened to the old one. What the caller got wrong stays his.
fn still_serves(old: &str, error: &Error) -> Error {
    if [Code::INVALID_PARAMS, Code::PERMISSION_DENIED, Code::MANIFEST_INVALID].contains(&error.code()) {
        return error.clone();
    }
    let told = Error::new(Code::HOTSWAP_FAILED, format!("`{old}` goes on: {}", error.message()));
    error.help().map_or(told.clone(), |help| told.with_help(help))
}

/// An error that says whose it is.
fn named_after(error: Error, id: &str) -> Error {
    if error.plugin().is_some() { error } else { error.with_plugin(id) }
}

fn fields(row: &Row) -> Map<String, Value> {
    match serde_json::to_value(row) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn health(known: &Known) -> Value {
    let row = &known.row;
    let message = row.reason.clone().unwrap_or_else(|| match row.state {
        // A plugin may have words of its own for it.
        State::Ready if row.health == "ok" => {
            row.facts.get("message").filter(|own| !own.is_empty()).map_or("Operational", |own| own).into()
        }
        state => state.name().into(),
    });
    json!({
        "plugin": row.id,
        "status": seven::status(row),
        "message": message,
        "details": row.facts,
        "latency_ms": row.latency_ms,
        "memory_mb": row.memory_mb,
        "state": row.state,
        "health": row.health,
        "in_flight": row.in_flight,
        "calls": row.calls,
        "errors": row.errors,
        "fix": row.fix,
    })
}
