//! The client under a host: what a plugin's manifest and the user's configuration open, and the commands that open more.

use std::sync::{Arc, Mutex};

use bespoke_host::{Artifact, Candidate, Config, Host, Selection, Terms, Tier};
use bespoke_http::{
    Client,
    testing::{Names, Server},
};
use bespoke_manifest::{Inherited, Manifest};
use bespoke_plugin_api::{
    BoxFuture, Error, Facts, Health, HttpRequest, Instance, Life, PluginContext, Reload, Result, Spec, State, serde_json::Value,
};
use expect_test::expect;

use crate::kit::{told, within};

/// A plugin that hands its context to the test.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<Option<PluginContext>>>);

impl Artifact for Open {
    fn declare(&self, _: &Terms) -> Result<Vec<Spec>> {
        Ok(Vec::new())
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn start(&self, cx: PluginContext, _: Value, _: Terms) -> BoxFuture<'static, Result<Instance>> {
        *self.0.lock().unwrap() = Some(cx);
        Box::pin(async { Ok(Instance { life: Arc::new(Idle), contributions: Vec::new() }) })
    }
}

struct Idle;

impl Life for Idle {
    fn health(&self) -> Health {
        Health::Ok
    }

    fn facts(&self) -> Facts {
        Facts::new()
    }

    fn reconfigure(&self, _: Value) -> BoxFuture<'_, Result<Reload>> {
        Box::pin(async { Ok(Reload::Restart) })
    }

    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>> {
        Box::pin(async { Ok(None) })
    }

    fn restore_state(&self, _: State) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// What a plugin `web` with these permissions hears about each URL.
async fn table(network: Names, permissions: &str, config: &str, urls: &[&str]) -> String {
    let open = Open::default();
    let head = "id = \"web\"\ndescription = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";
    let manifest = format!("{head}[permissions]\nnetwork_access = [{permissions}]\n");
    let inherited = Inherited { version: "1.0.0", license: "Apache-2.0" };
    let plugin = Candidate {
        id: "web".into(),
        tier: Tier::Compiled,
        origin: "test".into(),
        manifest: Manifest::parse("plugin.toml", &manifest, Some(inherited)).map(Arc::new).map_err(Error::from),
        config_schema:
            r#"{ "properties": { "allow": { "type": "array" }, "allow_private": { "type": "array" }, "base_url": { "type": "string" } } }"#
                .into(),
        artifact: Arc::new(open.clone()),
    };
    let client = Client::builder().network(network).build();
    let config = Config::parse("bespoke.toml", config).unwrap();
    let host = Host::builder().config(config).http(Arc::new(client)).plugins([plugin]).build().unwrap();
    within(host.start(Selection::All)).await;
    let cx = open.0.lock().unwrap().take().unwrap();
    let mut table = String::new();
    for url in urls {
        let said = match within(cx.http(HttpRequest::new("GET", *url))).await {
            Ok(reply) => format!("{}\n", reply.status),
            Err(error) => told(&error),
        };
        table += &format!("{url}\n  {}", said.trim_start_matches("PERMISSION_DENIED "));
    }
    within(host.shutdown()).await;
    table
}

async fn network() -> (Server, Names) {
    let server = Server::of("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let network = Names::new().public("api.example.com", server.address()).public("other.test", server.address());
    let network = network.name("nas.test", &["192.168.1.5"]).route("192.168.1.5:8080", server.address());
    (server, network.name("meta.test", &["169.254.169.254"]))
}

#[tokio::test]
async fn a_list_and_a_list_for_private_hosts() {
    let (_server, network) = network().await;
    let asks = "{ config = \"allow\", default = [\"*\"] }, { config = \"allow_private\", private = true }";
    let urls = [
        "http://api.example.com/",
        "http://other.test/",
        "http://other.test:8080/",
        "http://nas.test:8080/",
        "http://127.0.0.1:8080/",
        "http://meta.test/",
        "http://0.0.0.0/",
    ];
    let mut said = String::new();
    for config in [
        "",
        "[plugins.web]\nallow = ['api.example.com']\nallow_private = ['192.168.0.0/16:8080']\n",
        "[plugins.web]\nallow = []\nallow_private = ['http://user:s3cret@nas.test']\n",
        "[plugins.web]\nallow = ['other.test', \"it's\"]\n",
    ] {
        said += &format!("# {config:?}\n{}", table(network.clone(), asks, config, &urls).await);
    }
    expect![[r##"
        # ""
        http://api.example.com/
          200
        http://other.test/
          200
        http://other.test:8080/
          plugin `web` may not send requests to other.test:8080: plugins.web.allow and plugins.web.allow_private do not list it for port 8080
            help: bespoke config set plugins.web.allow '["*","other.test:8080"]'
        http://nas.test:8080/
          plugin `web` may not send requests to nas.test:8080: plugins.web.allow and plugins.web.allow_private do not list it for port 8080
            help: bespoke config set plugins.web.allow '["*","nas.test:8080"]'
        http://127.0.0.1:8080/
          plugin `web` may not send requests to 127.0.0.1:8080: plugins.web.allow and plugins.web.allow_private do not list it for port 8080
            help: bespoke config set plugins.web.allow_private '["127.0.0.1:8080"]'
        http://meta.test/
          plugin `web` may not send requests to meta.test: it leads to 169.254.169.254, where a cloud machine gets its credentials
        http://0.0.0.0/
          plugin `web` may not send requests to 0.0.0.0: it is an unspecified address
        # "[plugins.web]\nallow = ['api.example.com']\nallow_private = ['192.168.0.0/16:8080']\n"
        http://api.example.com/
          200
        http://other.test/
          plugin `web` may not send requests to other.test: plugins.web.allow and plugins.web.allow_private do not list it
            help: bespoke config set plugins.web.allow '["api.example.com","other.test"]'
        http://other.test:8080/
          plugin `web` may not send requests to other.test:8080: plugins.web.allow and plugins.web.allow_private do not list it
            help: bespoke config set plugins.web.allow '["api.example.com","other.test:8080"]'
        http://nas.test:8080/
          plugin `web` may not send requests to nas.test:8080: plugins.web.allow and plugins.web.allow_private do not list it
            help: bespoke config set plugins.web.allow '["api.example.com","nas.test:8080"]'
        http://127.0.0.1:8080/
          plugin `web` may not send requests to 127.0.0.1:8080: plugins.web.allow and plugins.web.allow_private do not list it
            help: bespoke config set plugins.web.allow_private '["192.168.0.0/16:8080","127.0.0.1:8080"]'
        http://meta.test/
          plugin `web` may not send requests to meta.test: plugins.web.allow and plugins.web.allow_private do not list it
            help: bespoke config set plugins.web.allow '["api.example.com","meta.test"]'
        http://0.0.0.0/
          plugin `web` may not send requests to 0.0.0.0: it is an unspecified address
        # "[plugins.web]\nallow = []\nallow_private = ['http://user:s3cret@nas.test']\n"
        http://api.example.com/
          INVALID_PARAMS plugins.web.allow_private: an entry is no host, URL or range of addresses that plugin `web` could be allowed
            help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8
        http://other.test/
          INVALID_PARAMS plugins.web.allow_private: an entry is no host, URL or range of addresses that plugin `web` could be allowed
            help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8
        http://other.test:8080/
          INVALID_PARAMS plugins.web.allow_private: an entry is no host, URL or range of addresses that plugin `web` could be allowed
            help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8
        http://nas.test:8080/
          INVALID_PARAMS plugins.web.allow_private: an entry is no host, URL or range of addresses that plugin `web` could be allowed
            help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8
        http://127.0.0.1:8080/
          INVALID_PARAMS plugins.web.allow_private: an entry is no host, URL or range of addresses that plugin `web` could be allowed
            help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8
        http://meta.test/
          INVALID_PARAMS plugins.web.allow_private: an entry is no host, URL or range of addresses that plugin `web` could be allowed
            help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8
        http://0.0.0.0/
          INVALID_PARAMS plugins.web.allow_private: an entry is no host, URL or range of addresses that plugin `web` could be allowed
            help: write a host such as example.com, *.example.com, 10.0.0.5:8080 or [::1], a URL, or a range such as 10.0.0.0/8
        # "[plugins.web]\nallow = ['other.test', \"it's\"]\n"
        http://api.example.com/
          plugin `web` may not send requests to api.example.com: plugins.web.allow and plugins.web.allow_private do not list it
            help: add "api.example.com" to plugins.web.allow in bespoke.toml
        http://other.test/
          200
        http://other.test:8080/
          plugin `web` may not send requests to other.test:8080: plugins.web.allow and plugins.web.allow_private do not list it for port 8080
            help: add "other.test:8080" to plugins.web.allow in bespoke.toml
        http://nas.test:8080/
          plugin `web` may not send requests to nas.test:8080: plugins.web.allow and plugins.web.allow_private do not list it
            help: add "nas.test:8080" to plugins.web.allow in bespoke.toml
        http://127.0.0.1:8080/
          plugin `web` may not send requests to 127.0.0.1:8080: plugins.web.allow and plugins.web.allow_private do not list it
            help: bespoke config set plugins.web.allow_private '["127.0.0.1:8080"]'
        http://meta.test/
          plugin `web` may not send requests to meta.test: plugins.web.allow and plugins.web.allow_private do not list it
            help: add "meta.test" to plugins.web.allow in bespoke.toml
        http://0.0.0.0/
          plugin `web` may not send requests to 0.0.0.0: it is an unspecified address
    "##]].assert_eq(&said);
}

#[tokio::test]
async fn a_base_url_opens_its_host_wherever_it_is() {
    let (server, network) = network().await;
    let asks = "{ config = \"base_url\", default = [\"api.example.com\"], private = true }";
    let loopback = server.url("/v1");
    let urls = ["http://api.example.com/v1/chat", "http://nas.test:8080/v1", loopback.as_str(), "http://other.test/", "http://meta.test/"];
    let configs = [
        String::new(),
        "[plugins.web]\nbase_url = 'http://nas.test:8080/v1'\n".to_owned(),
        format!("[plugins.web]\nbase_url = '{loopback}'\n"),
        "[plugins.web]\nbase_url = 'http://meta.test/v1'\n".to_owned(),
    ];
    let mut said = String::new();
    for config in &configs {
        said += &format!("# {config:?}\n{}", table(network.clone(), asks, config, &urls).await);
    }
    expect![[r##"
        # ""
        http://api.example.com/v1/chat
          200
        http://nas.test:8080/v1
          plugin `web` may not send requests to nas.test:8080: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://nas.test:8080'
        http://127.0.0.1:PORT/v1
          plugin `web` may not send requests to 127.0.0.1:PORT: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://127.0.0.1:PORT'
        http://other.test/
          plugin `web` may not send requests to other.test: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://other.test'
        http://meta.test/
          plugin `web` may not send requests to meta.test: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://meta.test'
        # "[plugins.web]\nbase_url = 'http://nas.test:8080/v1'\n"
        http://api.example.com/v1/chat
          plugin `web` may not send requests to api.example.com: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://api.example.com'
        http://nas.test:8080/v1
          200
        http://127.0.0.1:PORT/v1
          plugin `web` may not send requests to 127.0.0.1:PORT: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://127.0.0.1:PORT'
        http://other.test/
          plugin `web` may not send requests to other.test: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://other.test'
        http://meta.test/
          plugin `web` may not send requests to meta.test: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://meta.test'
        # "[plugins.web]\nbase_url = 'http://127.0.0.1:PORT/v1'\n"
        http://api.example.com/v1/chat
          plugin `web` may not send requests to api.example.com: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://api.example.com'
        http://nas.test:8080/v1
          plugin `web` may not send requests to nas.test:8080: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://nas.test:8080'
        http://127.0.0.1:PORT/v1
          200
        http://other.test/
          plugin `web` may not send requests to other.test: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://other.test'
        http://meta.test/
          plugin `web` may not send requests to meta.test: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://meta.test'
        # "[plugins.web]\nbase_url = 'http://meta.test/v1'\n"
        http://api.example.com/v1/chat
          plugin `web` may not send requests to api.example.com: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://api.example.com'
        http://nas.test:8080/v1
          plugin `web` may not send requests to nas.test:8080: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://nas.test:8080'
        http://127.0.0.1:PORT/v1
          plugin `web` may not send requests to 127.0.0.1:PORT: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://127.0.0.1:PORT'
        http://other.test/
          plugin `web` may not send requests to other.test: plugins.web.base_url does not list it
            help: bespoke config set plugins.web.base_url 'http://other.test'
        http://meta.test/
          plugin `web` may not send requests to meta.test: it leads to 169.254.169.254, where a cloud machine gets its credentials
    "##]]
    .assert_eq(&said.replace(&server.address().to_string(), "127.0.0.1:PORT"));
}

#[tokio::test]
async fn a_manifest_without_keys_is_what_would_have_to_change() {
    let (_server, network) = network().await;
    let urls = ["http://api.example.com/", "http://nas.test:8080/", "http://192.168.1.5:8080/", "http://meta.test/"];
    let asks = "\"api.example.com\", \"nas.test:8080\", { host = \"192.168.1.5:8080\", private = true }, \"meta.test\"";
    let mut said = table(network.clone(), "", "", &urls[..1]).await;
    said += &table(network, asks, "", &urls).await;
    expect![[r#"
        http://api.example.com/
          plugin `web` may not send requests to api.example.com: plugin.toml does not list it
            help: add "api.example.com" to network_access under [permissions] in plugin.toml
        http://api.example.com/
          200
        http://nas.test:8080/
          200
        http://192.168.1.5:8080/
          200
        http://meta.test/
          plugin `web` may not send requests to meta.test: it leads to 169.254.169.254, where a cloud machine gets its credentials
    "#]]
    .assert_eq(&said);
}
