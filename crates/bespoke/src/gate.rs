//! The section `[gateway]`. Who listens is `cmd::serve`.

pub(crate) use bespoke_gateway::GatewayConfig;

pub(crate) const CONFIG_SCHEMA: Option<&str> = Some(bespoke_gateway::CONFIG_SCHEMA);
