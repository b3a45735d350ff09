//! The section `[serve]`. Who serves is `cmd::serve`.

pub(crate) use bespoke_serve::ServeConfig;

pub(crate) const CONFIG_SCHEMA: Option<&str> = Some(bespoke_serve::CONFIG_SCHEMA);
