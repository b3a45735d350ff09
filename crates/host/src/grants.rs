//! Permissions have two keys: the manifest asks, the user grants. What was granted stands in a file of the user's, as it was shown, with
//! a digest; asking for more is asked again. Asking a person is the program's, enforcing a grant the tier's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use bespoke_manifest::{Manifest, Permission, Permissions};
use bespoke_plugin_api::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ConfigFile, candidate::Tier};

/// Most bytes of the file that are read: far more than a thousand plugins need.
const MOST_BYTES: u64 = 8 << 20;
/// Most different things of a plugin that are counted one by one.
const MOST_USES: usize = 256;
/// What is counted when there are more.
const OTHERS: &str = "others";
/// Most plugins whose use is kept; beyond them, the one that was used longest ago is forgotten.
const MOST_PLUGINS: usize = 512;

const HEAD: &str = "\
# What you allowed each plugin, as it was shown to you. Written by `bespoke plugin grant` and `revoke`.
# An entry that is changed by hand counts no more: the plugin asks again.
";

/// The command that asks for the consent to a plugin.
pub(crate) fn command(id: &str) -> String {
    format!("bespoke plugin grant {id}")
}

/// What the user allowed: a file, read anew whenever it is asked, so that what another program writes counts at once. Beside it lies what
/// plugins made use of until now, which outlives the programs that counted it.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    path: Option<PathBuf>,
    /// What plugins that were taken out made use of, until it is kept.
    left: Arc<Mutex<BTreeMap<String, Counts>>>,
}

/// What was allowed to one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Grant {
    /// The version of the plugin that asked.
    pub version: String,
    /// The tier for which it asked: another wall is another question.
    pub tier: Tier,
    /// SHA-256 of tier, granted, places and refused, as 64 hexadecimal digits.
    pub digest: String,
    /// What was granted, as `permission: item`, sorted.
    pub granted: BTreeSet<String>,
    /// Of what was granted, where files and folders were: behind all links, as they stood then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, String>,
    /// What was optional and was not granted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refused: BTreeSet<String>,
}

/// What a plugin asks for, as a person is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Asked {
    /// Without these it does not start.
    pub required: Vec<Asks>,
    /// Without these it does less.
    pub optional: Vec<Asks>,
}

/// One permission that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Asks {
    /// Which one, by its name in manifests.
    #[serde(serialize_with = "by_name")]
    pub permission: Permission,
    /// Of what: hosts, folders, programs.
    pub items: Vec<String>,
    /// What the plugin needs it for, in the words of its author.
    pub reason: Option<String>,
}

/// How far a plugin may go.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Consent {
    /// It may have this, and start.
    Granted(Permissions),
    /// It may not start: nobody granted this.
    Blocked(Blocked),
}

/// Why a plugin waits for its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Blocked {
    /// What it asks for and was not granted.
    pub new: Asked,
    /// The version that was granted less; `None` for a plugin that nobody was asked about.
    pub before: Option<String>,
    /// Why an answer that was given counts no more, or cannot be read.
    pub why: Option<String>,
    /// It is a dynamic library, and nobody has said that it may be one.
    pub native: bool,
}

fn by_name<S: serde::Serializer>(permission: &Permission, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(permission.name())
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    grants: BTreeMap<String, Grant>,
}

/// What a manifest asks for.
pub fn ask(manifest: &Manifest) -> Asked {
    asked(manifest, |_, _| true)
}

fn asked(manifest: &Manifest, keep: impl Fn(Permission, &str) -> bool) -> Asked {
    let mut asked = Asked::default();
    for permission in Permission::ALL.iter().copied() {
        let mut items = manifest.permissions.items(permission);
        items.retain(|item| keep(permission, item));
        if !items.is_empty() {
            let list = if manifest.optional.contains(&permission) { &mut asked.optional } else { &mut asked.required };
            list.push(Asks { permission, items, reason: manifest.reasons.get(&permission).cloned() });
        }
    }
    asked
}

impl Asked {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.optional.is_empty()
    }

    /// One line for each permission.
    pub fn lines(&self) -> Vec<String> {
        let required = self.required.iter().map(Asks::to_string);
        required.chain(self.optional.iter().map(|asks| format!("{asks} (optional)"))).collect()
    }
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = |item: &String| match () {
            () if item == "*" => "any".to_owned(),
            // What is shown is what is granted: a name may be a link to something larger.
            () if is_place(self.permission, item) => match place(item) {
                Ok(place) if Path::new(&place) != written(item) => format!("{item} (which is {place})"),
                _ => item.clone(),
            },
            () => item.clone(),
        };
        write!(f, "{}: {}", self.permission, self.items.iter().map(any).collect::<Vec<_>>().join("; "))?;
        match &self.reason {
            Some(reason) => write!(f, " — {reason}"),
            None => f.write_str(" — gives no reason"),
        }
    }
}

impl Blocked {
    /// A dynamic library that nobody has trusted; another one may have been, and then `why` says which.
    pub(crate) fn native(why: Option<String>) -> Self {
        Blocked { new: Asked::default(), before: None, why, native: true }
    }

    /// One sentence, for a row.
    pub fn reason(&self) -> String {
        let why = self.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
        if self.native {
            return format!("is a dynamic library: code inside this program, which no wall can hold, and it is not trusted yet{why}");
        }
        let names: Vec<_> = self.new.required.iter().map(|asks| asks.permission.name()).collect();
        match &self.before {
            Some(version) => format!("asks for more than version {version} was granted: {}{why}", names.join(", ")),
            None => format!("waits for your consent to {}{why}", names.join(", ")),
        }
    }

    /// The same as an error, with the command that asks.
    pub fn error(&self, id: &str) -> Error {
        Error::new(Code::PERMISSION_DENIED, self.reason()).with_help(command(id))
    }
}

impl Grants {
    /// Of a program whose user grants nothing.
    pub fn none() -> Self {
        Grants::default()
    }

    /// Those in a file, which need not be there.
    pub fn at(path: PathBuf) -> Self {
        Grants { path: Some(path), left: Arc::default() }
    }

    /// Whether there is a file, and so a place to keep something.
    pub(crate) fn are_kept(&self) -> bool {
        self.path.is_some()
    }

    /// How far a plugin may go in a tier. One that is compiled in has what it asks for: whoever built the program chose it. What is
    /// wrong with the file blocks those that ask for something.
    pub fn consent(&self, manifest: &Manifest, tier: Tier) -> Consent {
        if tier == Tier::Compiled || manifest.permissions.is_empty() {
            return Consent::Granted(manifest.permissions.clone());
        }
        let (grant, why) = match self.of(&manifest.id) {
            Ok(grant) => (grant, None),
            Err(error) => (None, Some(error.message().to_owned())),
        };
        let (grant, why) = match grant {
            Some(grant) if grant.tier != tier => {
                let why = format!("what was granted was for the tier {}", grant.tier.name());
                (Some(grant.emptied()), Some(why))
            }
            Some(grant) if grant.digest != grant.digest() => {
                let why = "its entry among the grants was changed by hand".to_owned();
                (Some(grant.emptied()), Some(why))
            }
            grant => (grant, why),
        };
        let has = |permission, item: &str| {
            let (entry, needs_place) = (entry(permission, item), is_place(permission, item));
            grant.as_ref().is_some_and(|grant| grant.granted.contains(&entry) && (!needs_place || grant.places.contains_key(&entry)))
        };
        // What was left out before is not new, as long as it can be left out.
        let left_out = |permission: Permission, item: &str| {
            manifest.optional.contains(&permission) && grant.as_ref().is_some_and(|grant| grant.refused.contains(&entry(permission, item)))
        };
        let new = asked(manifest, |permission, item| !has(permission, item) && !left_out(permission, item));
        if new.required.is_empty() {
            let mut granted = manifest.permissions.filtered(has);
            let lists = [
                (Permission::ReadFiles, &mut granted.read_files),
                (Permission::WriteFiles, &mut granted.write_files),
                (Permission::SystemAccess, &mut granted.system_access),
            ];
            for (permission, items) in lists {
                for item in items {
                    if let Some(place) = grant.as_ref().and_then(|grant| grant.places.get(&entry(permission, item))) {
                        item.clone_from(place);
                    }
                }
            }
            return Consent::Granted(granted);
        }
        Consent::Blocked(Blocked { new, before: grant.map(|grant| grant.version), why, native: false })
    }

    /// What was allowed to a plugin.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the file cannot be read, or is none of this program's.
    pub fn of(&self, id: &str) -> Result<Option<Grant>> {
        Ok(self.read()?.grants.remove(id))
    }

    /// Grants all that a plugin requires, and those of its optional permissions. It replaces what was granted before.
    ///
    /// # Errors
    /// `INVALID_PARAMS` for a permission that is not asked for as an optional one; as [`of`](Self::of); and when the file cannot be
    /// written.
    pub fn grant(&self, manifest: &Manifest, tier: Tier, optional: &[Permission]) -> Result<()> {
        if let Some(other) = optional.iter().find(|p| !manifest.optional.contains(p)) {
            let asks = if manifest.permissions.has(*other) { "requires" } else { "does not ask for" };
            let message = format!("the plugin {asks} `{other}`: it is no optional permission of its");
            return Err(Error::new(Code::INVALID_PARAMS, message).with_help(format!("bespoke plugin info {}", manifest.id)));
        }
        let (mut granted, mut refused) = (BTreeSet::new(), BTreeSet::new());
        for permission in Permission::ALL.iter().copied() {
            let yes = !manifest.optional.contains(&permission) || optional.contains(&permission);
            let list = if yes { &mut granted } else { &mut refused };
            list.extend(manifest.permissions.items(permission).iter().map(|item| entry(permission, item)));
        }
        let mut places = BTreeMap::new();
        for permission in Permission::ALL.iter().copied() {
            for item in manifest.permissions.items(permission).iter().filter(|item| is_place(permission, item)) {
                let entry = entry(permission, item);
                if granted.contains(&entry) {
                    places.insert(entry, place(item)?);
                }
            }
        }
        let mut grant = Grant { version: manifest.version.to_string(), tier, digest: String::new(), granted, places, refused };
        grant.digest = grant.digest();
        self.change(|grants| _ = grants.insert(manifest.id.clone(), grant))
    }

    /// Forgets what was allowed to a plugin; whether there was something.
    ///
    /// # Errors
    /// As [`of`](Self::of); and when the file cannot be written.
    pub fn revoke(&self, id: &str) -> Result<bool> {
        let mut was = false;
        self.change(|grants| was = grants.remove(id).is_some())?;
        Ok(was)
    }

    /// What plugins made use of and what they were refused, of one, as it was kept. Nothing where nothing can be read: it is no more than a
    /// record.
    pub(crate) fn kept_uses(&self, id: &str) -> Counts {
        let mut all = self.uses_file().map(|path| uses(&path)).unwrap_or_default();
        let mut counts = all.plugins.remove(id).map(|uses| counts_of(&uses.uses)).unwrap_or_default();
        if let Some(left) = self.left.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            add(&mut counts, left);
        }
        counts
    }

    /// Takes over what a plugin made use of that is taken out, until it is kept.
    pub(crate) fn leave(&self, id: &str, used: &Used) {
        if self.path.is_some() {
            add(self.left.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default(), &used.take());
        }
    }

    /// Keeps what these plugins made use of since the last time, added to what other programs kept. What cannot be written is counted on,
    /// and kept later. Waits for the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn keep_uses(&self, plugins: &[(String, Arc<Used>)]) -> io::Result<()> {
        let Some(path) = self.uses_file() else { return Ok(()) };
        let mut new = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, used) in plugins {
            let counts = used.take();
            if !counts.is_empty() {
                add(new.entry(id.clone()).or_default(), &counts);
            }
        }
        new.retain(|_, counts| !counts.is_empty());
        if new.is_empty() {
            return Ok(());
        }
        let kept = write_uses(&path, &new);
        if kept.is_err() {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            new.iter().for_each(|(id, counts)| add(left.entry(id.clone()).or_default(), counts));
        }
        kept
    }

    fn uses_file(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_file_name("used.json"))
    }

    fn read(&self) -> Result<File> {
        match &self.path {
            Some(path) => read(path),
            None => Ok(File::default()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Grant>)) -> Result<()> {
        let Some(path) = &self.path else {
            return Err(Error::new(Code::METHOD_NOT_FOUND, "this program keeps no grants"));
        };
        let unwritten = |error: io::Error| Error::new(Code::INTERNAL_ERROR, format!("{}: cannot be written: {error}", path.display()));
        let lock = ConfigFile::lock(path).map_err(unwritten)?;
        // Under the lock: what another program granted meanwhile stays.
        let mut file = read(path)?;
        file.version = 1;
        change(&mut file.grants);
        let text = toml::to_string_pretty(&file).map_err(|e| Error::internal(format!("the grants: {e}")))?;
        lock.write(&format!("{HEAD}{text}")).map_err(unwritten)
    }
}

fn read(path: &Path) -> Result<File> {
    let unusable = |why: String| {
        let help = format!("mend it, or remove it to be asked anew: rm {}", path.display());
        Error::new(Code::INVALID_REQUEST, format!("{}: {why}", path.display())).with_help(help)
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        metadata => metadata.map_err(|e| unusable(format!("cannot be read: {e}")))?,
    };
    if !metadata.is_file() || metadata.len() > MOST_BYTES {
        return Err(unusable("is no file of grants".into()));
    }
    let text = fs::read_to_string(path).map_err(|e| unusable(format!("cannot be read: {e}")))?;
    let file: File = toml::from_str(&text).map_err(|e| unusable(format!("is no file of grants: {}", e.to_string().trim())))?;
    if file.version > 1 {
        return Err(unusable(format!("was written by a newer program (version {})", file.version)));
    }
    Ok(file)
}

fn entry(permission: Permission, item: &str) -> String {
    format!("{permission}: {item}")
}

/// Whether it is a place of files.
fn is_place(permission: Permission, item: &str) -> bool {
    match permission {
        Permission::ReadFiles | Permission::WriteFiles => true,
        Permission::SystemAccess => item.starts_with('/'),
        _ => false,
    }
}

/// A place as it is written, with the user's home for `~`.
fn written(item: &str) -> PathBuf {
    match (item.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(item),
    }
}

/// Where a file or folder is behind all links, as far as it is there; `~` is the user's home.
fn place(item: &str) -> Result<String> {
    let path = written(item);
    if !path.is_absolute() {
        return Err(Error::invalid_params(format!("{item}: nobody's home is known here")));
    }
    // What is not there yet is made below what is.
    let mut missing = Vec::new();
    let mut there = path.as_path();
    let real = loop {
        match (fs::canonicalize(there), there.parent(), there.file_name()) {
            (Ok(real), ..) => break real,
            (Err(_), Some(parent), Some(name)) => {
                missing.push(name);
                there = parent;
            }
            (Err(_), ..) => break there.to_path_buf(),
        }
    };
    let place: PathBuf = std::iter::once(real.as_os_str()).chain(missing.into_iter().rev()).collect();
    let plain = |place: &String| !place.contains(char::is_control);
    place
        .into_os_string()
        .into_string()
        .ok()
        .filter(plain)
        .ok_or_else(|| Error::invalid_params(format!("{item}: a link leads to a name that cannot be shown, so that it cannot be granted")))
}

impl Grant {
    /// With nothing in it, as it counts no more.
    fn emptied(self) -> Self {
        Grant { granted: BTreeSet::new(), places: BTreeMap::new(), refused: BTreeSet::new(), ..self }
    }

    /// Over one line for each entry, after the tier: nothing in an entry is a line break.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("bespoke grant 1\ntier {}\n", self.tier.name()));
        self.granted.iter().for_each(|entry| hash.update(format!("granted {entry}\n")));
        self.places.iter().for_each(|(entry, place)| hash.update(format!("place {entry}\n{place}\n")));
        self.refused.iter().for_each(|entry| hash.update(format!("refused {entry}\n")));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a plugin made use of and nobody has kept yet, counted. Bounded, whatever the plugin does.
#[derive(Debug, Default)]
pub struct Used(Mutex<Counts>);

/// By permission, and of what.
pub(crate) type Counts = BTreeMap<(Permission, String), Count>;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    used: u64,
    refused: u64,
}

/// One line of what was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Use {
    /// Which permission.
    #[serde(serialize_with = "by_name")]
    pub permission: Permission,
    /// Of what: a host, a contribution, the name of a secret. `others` stands for all that are too many.
    pub item: String,
    /// How often.
    pub used: u64,
    /// How often it was tried and refused.
    pub refused: u64,
}

impl Used {
    /// Counts one use, or one refusal. The item is a name, never a value: it is shown.
    pub fn count(&self, permission: Permission, item: &str, allowed: bool) {
        let short: String = item.chars().take(128).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let count = if allowed { Count { used: 1, refused: 0 } } else { Count { used: 0, refused: 1 } };
        add_one(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), (permission, short), count);
    }

    /// What was counted and not kept yet, by permission and item.
    pub fn list(&self) -> Vec<Use> {
        listed(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was counted, together with what was counted before.
    pub(crate) fn list_with(&self, mut before: Counts) -> Vec<Use> {
        add(&mut before, &self.0.lock().unwrap_or_else(PoisonError::into_inner));
        listed(&before)
    }

    fn take(&self) -> Counts {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) fn listed(counts: &Counts) -> Vec<Use> {
    let line = |((permission, item), count): (&(Permission, String), &Count)| Use {
        permission: *permission,
        item: item.clone(),
        used: count.used,
        refused: count.refused,
    };
    counts.iter().map(line).collect()
}

fn add(counts: &mut Counts, more: &Counts) {
    more.iter().for_each(|(key, count)| add_one(counts, key.clone(), *count));
}

fn add_one(counts: &mut Counts, key: (Permission, String), more: Count) {
    let key = if counts.len() < MOST_USES || counts.contains_key(&key) { key } else { (key.0, OTHERS.to_owned()) };
    let count = counts.entry(key).or_default();
    count.used = count.used.saturating_add(more.used);
    count.refused = count.refused.saturating_add(more.refused);
}

/// What was kept of all plugins.
#[derive(Default, Serialize, Deserialize)]
struct UsesFile {
    version: u32,
    plugins: BTreeMap<String, Uses>,
}

/// What was kept of one.
#[derive(Default, Serialize, Deserialize)]
struct Uses {
    /// When it was written last, in seconds since the Unix epoch.
    last: u64,
    uses: Vec<KeptUse>,
}

#[derive(Serialize, Deserialize)]
struct KeptUse {
    /// By its name in manifests; one that nobody knows any more is left out.
    permission: String,
    item: String,
    used: u64,
    refused: u64,
}

fn counts_of(uses: &[KeptUse]) -> Counts {
    let mut counts = Counts::new();
    for KeptUse { permission, item, used, refused } in uses {
        if let Some(permission) = Permission::ALL.iter().find(|known| known.name() == permission) {
            add_one(&mut counts, (*permission, item.clone()), Count { used: *used, refused: *refused });
        }
    }
    counts
}

/// What lies there. A file that is none of this program's counts as none: it is replaced by the next one.
fn uses(path: &Path) -> UsesFile {
    let is_ours = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= MOST_BYTES);
    let text = if is_ours { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    serde_json::from_str(&text).ok().filter(|file: &UsesFile| file.version == 1).unwrap_or_default()
}

fn write_uses(path: &Path, new: &BTreeMap<String, Counts>) -> io::Result<()> {
    let lock = ConfigFile::lock(path)?;
    // Under the lock: what another program kept meanwhile stays.
    let mut file = uses(path);
    file.version = 1;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    for (id, counts) in new {
        let kept = file.plugins.entry(id.clone()).or_default();
        let mut all = counts_of(&kept.uses);
        add(&mut all, counts);
        let line = |Use { permission, item, used, refused }| KeptUse { permission: permission.name().to_owned(), item, used, refused };
        *kept = Uses { last: now, uses: listed(&all).into_iter().map(line).collect() };
    }
    while file.plugins.len() > MOST_PLUGINS {
        let oldest = file.plugins.iter().min_by_key(|(_, uses)| uses.last).map(|(id, _)| id.clone());
        oldest.and_then(|id| file.plugins.remove(&id));
    }
    lock.write(&serde_json::to_string(&file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(grants: &Grants, id: &str) -> Vec<String> {
        let line = |used: Use| format!("{} {} {}/{}", used.permission, used.item, used.used, used.refused);
        listed(&grants.kept_uses(id)).into_iter().map(line).collect()
    }

    #[test]
    fn what_is_used_outlives_its_program_and_is_added_to_what_others_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [here, there] = [0, 1].map(|_| Grants::at(folder.path().join("grants.toml")));
        let used = Arc::new(Used::default());
        let plugins = [("a".to_owned(), used.clone())];
        here.keep_uses(&plugins).unwrap();
        assert!(!folder.path().join("used.json").exists(), "nothing was used, and nothing is written");
        used.count(Permission::Secrets, "token", true);
        used.count(Permission::Secrets, "password", false);
        here.keep_uses(&plugins).unwrap();
        here.keep_uses(&plugins).unwrap();
        used.count(Permission::Secrets, "token", true);
        there.keep_uses(&plugins).unwrap();
        assert_eq!(shown(&here, "a"), ["secrets password 0/1", "secrets token 2/0"]);
        assert_eq!(shown(&here, "b"), [""; 0]);
        // One that is taken out is not forgotten.
        used.count(Permission::Env, "LANG", true);
        here.leave("a", &used);
        assert_eq!(shown(&here, "a").len(), 3);
        here.keep_uses(&[]).unwrap();
        assert_eq!(shown(&there, "a").len(), 3);
        // A file that somebody broke is replaced.
        fs::write(folder.path().join("used.json"), "{").unwrap();
        used.count(Permission::Env, "LANG", true);
        here.keep_uses(&plugins).unwrap();
        assert_eq!(shown(&there, "a"), ["env LANG 1/0"]);
        assert_eq!(shown(&Grants::none(), "a"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_kept_is_counted_on_and_what_is_kept_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let grants = Grants::at(folder.path().join("missing/grants.toml"));
        fs::write(folder.path().join("missing"), "no folder").unwrap();
        let used = Arc::new(Used::default());
        for n in 0..2 * MOST_USES {
            used.count(Permission::NetworkAccess, &format!("host-{n}"), true);
        }
        let plugins = [("a".to_owned(), used)];
        grants.keep_uses(&plugins).unwrap_err();
        assert_eq!(grants.kept_uses("a").len(), MOST_USES + 1);
        fs::remove_file(folder.path().join("missing")).unwrap();
        grants.keep_uses(&plugins).unwrap();
        let all = listed(&grants.kept_uses("a"));
        assert_eq!((all.len(), all.iter().map(|used| used.used).sum::<u64>()), (MOST_USES + 1, 2 * MOST_USES as u64));
        for n in 0..MOST_PLUGINS + 8 {
            let used = Arc::new(Used::default());
            used.count(Permission::Env, "LANG", true);
            grants.leave(&format!("p{n}"), &used);
        }
        grants.keep_uses(&[]).unwrap();
        assert_eq!(uses(&folder.path().join("missing/used.json")).plugins.len(), MOST_PLUGINS);
    }
}
