//! An endpoint under the gateway: here it answers with what it is sent.

use std::sync::Arc;

use bespoke_plugin_api::{
    CallCx, EndpointSpec, HttpEndpoint, HttpRequest, HttpResponse, Plugin, PluginApi, PluginContext, Result, async_trait,
    serde::{self, Deserialize},
};

/// The table `[plugins.__ID__]`. Each field has a default, and says what may change while the plugin runs.
#[derive(Deserialize)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize), schemars(extend("additionalProperties" = false)))]
pub struct Config {
    /// The media type of each answer.
    #[cfg_attr(test, schemars(extend("x-reload" = "restart")))]
    pub content_type: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { content_type: "text/plain; charset=utf-8".into() }
    }
}

/// One instance.
pub struct __TYPE__ {
    config: Config,
}

impl Plugin for __TYPE__ {
    type Config = Config;

    fn register(api: &mut PluginApi<Self>) {
        api.http(EndpointSpec::new("__NAME__"), |plugin| Arc::new(Endpoint(plugin.clone())));
    }

    async fn start(_cx: PluginContext, config: Config) -> Result<Self> {
        Ok(__TYPE__ { config })
    }
}

bespoke_plugin_api::plugin!("__ID__", __TYPE__);

struct Endpoint(Arc<__TYPE__>);

#[async_trait]
impl HttpEndpoint for Endpoint {
    async fn handle(&self, cx: &CallCx, request: HttpRequest) -> Result<HttpResponse> {
        cx.check()?;
        if request.method != "POST" {
            return Ok(HttpResponse::new(405).header("allow", "POST"));
        }
        Ok(HttpResponse::new(200).header("content-type", &self.0.config.content_type).body(request.body))
    }
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{Contribution, serde_json::json};
    use bespoke_plugin_testkit::{Conformance, TestHost, block_on, check_config_schema};

    use super::*;

    #[test]
    fn answers_with_what_it_is_sent() {
        let instance = block_on(BESPOKE_PLUGIN.start(TestHost::new().context("__ID__"), json!({}))).unwrap();
        let [Contribution::Http(_, endpoint)] = &instance.contributions[..] else { panic!("{instance:?}") };
        let handle = |request| block_on(endpoint.handle(&CallCx::new(), request)).unwrap();
        let response = handle(HttpRequest::new("POST", "/").body("hello".into()));
        assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]));
        assert_eq!(handle(HttpRequest::new("GET", "/")).status, 405);
    }

    #[test]
    fn behaves_the_same_in_every_tier() {
        Conformance::new(&BESPOKE_PLUGIN).check();
    }

    #[test]
    fn the_schema_is_fresh() {
        check_config_schema(env!("CARGO_MANIFEST_DIR"), schemars::schema_for!(Config));
    }
}
