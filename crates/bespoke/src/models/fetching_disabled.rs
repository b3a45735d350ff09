//! A binary without the feature `models` finds no model files, and says so.

use std::path::PathBuf;

use bespoke_host::{Config, Host, ModelStore};
use bespoke_manifest::Model;
use bespoke_plugin_api::{Code, Error};

use crate::{
    exit::{Exit, Failure, Result},
    models::{Checked, Consent, Listed},
    output::Out,
    paths::Paths,
    setup::build_with,
};

const WHY: &str = "this binary was built without the feature `models`, so it finds no model files";

/// See the feature `models`.
#[derive(Debug, Clone)]
pub(crate) struct Models;

impl Models {
    pub(crate) fn new(_paths: &Paths, _config: &Config) -> Self {
        Models
    }

    pub(crate) fn list(&self, _plugin: &str, models: &[Model], _consent: &Consent) -> Result<Vec<Listed>> {
        Ok(models.iter().map(|model| Listed { model: model.clone(), path: None, from: None }).collect())
    }

    pub(crate) fn verify(&self, _plugin: &str, _model: &Model) -> Result<Checked> {
        Err(Failure::new(Exit::NotFound, WHY).help(build_with(&["models"])))
    }

    pub(crate) fn fetch_each(
        &self,
        _plugin: &str,
        _models: &[Model],
        _consent: &Consent,
        _told: impl FnMut(&Model, Result<()>),
    ) -> Result<()> {
        Err(Failure::new(Exit::NotFound, WHY).help(build_with(&["models"])))
    }

    pub(crate) fn ensure(&self, _out: Out, _host: &Host, _plugins: &[String], _consent: &Consent) -> Result<()> {
        Err(Failure::new(Exit::NotFound, WHY).help(build_with(&["models"])))
    }
}

impl ModelStore for Models {
    fn find(&self, _plugin: &str, model: &Model) -> bespoke_plugin_api::Result<PathBuf> {
        Err(Error::new(Code::MODEL_NOT_FOUND, format!("{}: {WHY}", model.file)).with_help(build_with(&["models"])))
    }
}
