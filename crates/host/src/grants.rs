//! Permissions have two keys: the manifest asks, the user grants. What was granted stands in a file of the user's, as it was shown, with
//! a digest; asking for more is asked again. Asking a person is the program's, enforcing a grant the tier's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bespoke_manifest::{Manifest, Permission, Permissions};
use bespoke_plugin_api::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ConfigFile, plugin::Tier};

/// Most bytes of the file that are read: far more than a thousand plugins need.
const MOST_BYTES: u64 = 8 << 20;
/// Most different things of a plugin that are counted one by one.
const MOST_USES: usize = 256;
/// What is counted when there are more.
const OTHERS: &str = "others";

const HEAD: &str = "\
# What you allowed each plugin, as it was shown to you. Written by `bespoke plugin grant` and `revoke`.
# An entry that is changed by hand counts no more: the plugin asks again.
";

/// The command that asks for the consent to a plugin.
pub(crate) fn command(id: &str) -> String {
    format!("bespoke plugin grant {id}")
}

/// What the user allowed: a file, read anew whenever it is asked, so that what another program writes counts at once.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    path: Option<PathBuf>,
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
    /// SHA-256 of tier, granted and refused, as 64 hexadecimal digits.
    pub digest: String,
    /// What was granted, as `permission: item`, sorted.
    pub granted: BTreeSet<String>,
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
        let any = |item: &String| if item == "*" { "any".to_owned() } else { item.clone() };
        write!(f, "{}: {}", self.permission, self.items.iter().map(any).collect::<Vec<_>>().join("; "))?;
        match &self.reason {
            Some(reason) => write!(f, " — {reason}"),
            None => f.write_str(" — gives no reason"),
        }
    }
}

impl Blocked {
    /// One sentence, for a row.
    pub fn reason(&self) -> String {
        let names: Vec<_> = self.new.required.iter().map(|asks| asks.permission.name()).collect();
        let why = self.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
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
        Grants { path: Some(path) }
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
                (Some(Grant { granted: BTreeSet::new(), refused: BTreeSet::new(), ..grant }), Some(why))
            }
            Some(grant) if grant.digest != digest(grant.tier, &grant.granted, &grant.refused) => {
                let why = "its entry among the grants was changed by hand".to_owned();
                (Some(Grant { granted: BTreeSet::new(), refused: BTreeSet::new(), ..grant }), Some(why))
            }
            grant => (grant, why),
        };
        let has = |permission, item: &str| grant.as_ref().is_some_and(|grant| grant.granted.contains(&entry(permission, item)));
        // What was left out before is not new, as long as it can be left out.
        let left_out = |permission: Permission, item: &str| {
            manifest.optional.contains(&permission) && grant.as_ref().is_some_and(|grant| grant.refused.contains(&entry(permission, item)))
        };
        let new = asked(manifest, |permission, item| !has(permission, item) && !left_out(permission, item));
        if new.required.is_empty() {
            return Consent::Granted(manifest.permissions.filtered(has));
        }
        Consent::Blocked(Blocked { new, before: grant.map(|grant| grant.version), why })
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
        let digest = digest(tier, &granted, &refused);
        let grant = Grant { version: manifest.version.to_string(), tier, digest, granted, refused };
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

/// Over one line for each entry, after the tier: nothing in an entry is a line break.
fn digest(tier: Tier, granted: &BTreeSet<String>, refused: &BTreeSet<String>) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("bespoke grant 1\ntier {}\n", tier.name()));
    granted.iter().for_each(|entry| hash.update(format!("granted {entry}\n")));
    refused.iter().for_each(|entry| hash.update(format!("refused {entry}\n")));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a plugin made use of, counted. Bounded, whatever the plugin does.
#[derive(Debug, Default)]
pub struct Used(Mutex<BTreeMap<(Permission, String), Count>>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
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
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let short: String = item.chars().take(128).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let key = (permission, short);
        let key = if counts.len() < MOST_USES || counts.contains_key(&key) { key } else { (permission, OTHERS.to_owned()) };
        let count = counts.entry(key).or_default();
        let number = if allowed { &mut count.used } else { &mut count.refused };
        *number = number.saturating_add(1);
    }

    /// What was counted, by permission and item.
    pub fn list(&self) -> Vec<Use> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |((permission, item), count): (&(Permission, String), &Count)| Use {
            permission: *permission,
            item: item.clone(),
            used: count.used,
            refused: count.refused,
        };
        counts.iter().map(line).collect()
    }
}
