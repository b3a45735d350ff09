//! A tool that tells the model the date and the time. Portable: the clock is the host's.

use std::sync::{Arc, PoisonError, RwLock};

use bespoke_plugin_api::{
    CallCx, Error, Plugin, PluginApi, PluginContext, Reload, Result, Tool, ToolOutput, ToolRequest, ToolSpec, async_trait,
    serde::{self, Deserialize},
    serde_json::json,
};
use jiff::{Timestamp, tz::TimeZone};

/// The table `[plugins.clock]`.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema), derive(serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// IANA name of the zone that is meant when the model names none.
    #[cfg_attr(test, schemars(extend("x-reload" = "live")))]
    pub time_zone: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { time_zone: "UTC".into() }
    }
}

/// One instance.
pub struct Clock {
    cx: PluginContext,
    zone: RwLock<TimeZone>,
}

impl Plugin for Clock {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        let spec =
            ToolSpec::new("clock", "Tells the current date, weekday and time. Call it whenever the answer depends on now.").input(json!({
                "type": "object",
                "properties": {
                    "time_zone": { "type": "string", "description": "IANA time zone such as Europe/Paris; the user's own when absent" }
                },
                "additionalProperties": false
            }));
        api.tool(spec, |clock| Arc::new(Tell(clock.clone())));
    }

    async fn start(cx: PluginContext, config: Config) -> Result<Self> {
        Ok(Clock { cx, zone: RwLock::new(zone(&config.time_zone)?) })
    }

    async fn reconfigure(&self, new: Config) -> Result<Reload> {
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = zone(&new.time_zone)?;
        Ok(Reload::Applied)
    }
}

bespoke_plugin_api::plugin!("clock", Clock);

fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name)
        .map_err(|_| Error::invalid_params(format!("`{name}` is no time zone")).with_help("use an IANA name such as Europe/Paris or UTC"))
}

#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields)]
struct Args {
    #[serde(default)]
    time_zone: Option<String>,
}

struct Tell(Arc<Clock>);

#[async_trait]
impl Tool for Tell {
    async fn call(&self, _cx: &CallCx, request: ToolRequest) -> Result<ToolOutput> {
        let args: Args = request.parse()?;
        let zone = match args.time_zone.as_deref().map(zone) {
            // The model can mend a zone it made up, so it is told instead of failing the turn.
            Some(Err(e)) => return Ok(ToolOutput::error(format!("{e}; {}", e.help().unwrap_or_default()))),
            Some(Ok(zone)) => zone,
            None => self.0.zone.read().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let micros = i64::try_from(self.0.cx.now().0).map_err(|_| Error::internal("the host's clock is out of range"))?;
        let now = Timestamp::from_microsecond(micros).map_err(|e| Error::internal(format!("the host's clock: {e}")))?.to_zoned(zone);
        let data = json!({ "iso": now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(), "weekday": now.strftime("%A").to_string() });
        Ok(ToolOutput::text(now.strftime("It is %A, %-d %B %Y, %H:%M (%Z).").to_string()).with_data(data))
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_schema_is_fresh() {
        bespoke_plugin_testkit::check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
