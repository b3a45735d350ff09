//! A gateway with one plugin, whose endpoint does what the body of a request says.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bespoke_gateway::{Gateway, GatewayConfig};
use bespoke_host::{Config, Host, Selection};
use bespoke_plugin_api::{
    CallCx, CancelToken, Descriptor, EndpointSpec, Error, HttpEndpoint, HttpRequest, HttpResponse, Package, Plugin, PluginApi,
    PluginContext, Result, async_trait, serde::Deserialize, serde_json::json,
};
use tokio::{sync::Semaphore, task::JoinHandle};

/// Longer than anything takes, even where two cores are shared by many.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it hangs")
}

pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancelToken,
    serving: Option<JoinHandle<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let config = Config::parse("bespoke.toml", "").unwrap();
        let host = Host::builder().config(config).plugins([&DOOR]).build().unwrap();
        within(host.start(Selection::All)).await;
        let mut config = GatewayConfig::default();
        config.listen = "127.0.0.1:0".into();
        change(&mut config);
        let gateway = Gateway::bind(host.clone(), config).await.unwrap();
        let (address, stop) = (gateway.address(), CancelToken::new());
        let serving = tokio::spawn(gateway.serve(stop.clone()));
        World { host, address, stop, serving: Some(serving) }
    }

    /// Waits until it has ended after `stop`.
    pub(crate) async fn ended(&mut self) {
        within(self.serving.take().unwrap()).await.unwrap();
    }
}

/// Requests that wait for the test: how many have arrived, and how many may go on. One test, one process.
pub(crate) struct Held {
    pub(crate) arrived: Semaphore,
    pub(crate) released: Semaphore,
}

pub(crate) static HELD: Held = Held { arrived: Semaphore::const_new(0), released: Semaphore::const_new(0) };

/// Whether a request was cancelled: its work has ended, or was dropped.
pub(crate) static CANCELLED: Semaphore = Semaphore::const_new(0);

struct Told;

impl Drop for Told {
    fn drop(&mut self) {
        CANCELLED.add_permits(1);
    }
}

/// Where a blocked thread waits.
pub(crate) static BLOCKED: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

struct Door;

#[derive(Deserialize)]
#[serde(crate = "bespoke_plugin_api::serde", deny_unknown_fields, default)]
#[derive(Default)]
struct NoConfig {}

impl Plugin for Door {
    type Config = NoConfig;

    fn register(api: &mut PluginApi<Self>) {
        api.http(EndpointSpec::new("bell").body_limit(1000), |door| door.clone());
        api.http(EndpointSpec::new("gate").body_limit(16 << 20), |door| door.clone());
    }

    async fn start(_: PluginContext, _: NoConfig) -> Result<Self> {
        Ok(Door)
    }
}

#[async_trait]
impl HttpEndpoint for Door {
    async fn handle(&self, cx: &CallCx, request: HttpRequest) -> Result<HttpResponse> {
        if request.method != "POST" {
            return Ok(HttpResponse::new(405).header("allow", "POST").body(r#"{"error":"POST only"}"#.into()));
        }
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let (word, rest) = body.split_once(' ').unwrap_or((&body, ""));
        match word {
            "fail" => Err(Error::internal("the database password is s3cret")),
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            "wait" => {
                HELD.arrived.add_permits(1);
                HELD.released.acquire().await.unwrap().forget();
                Ok(HttpResponse::new(200).body(b"waited".to_vec().into()))
            }
            "until-cancelled" => {
                let _told = Told;
                HELD.arrived.add_permits(1);
                cx.cancelled().await;
                Err(Error::cancelled())
            }
            "block" => {
                HELD.arrived.add_permits(1);
                drop(BLOCKED.lock());
                Ok(HttpResponse::new(200))
            }
            "status" => Ok(HttpResponse::new(rest.parse().unwrap()).body(b"body".to_vec().into())),
            "header" => {
                let (name, value) = rest.split_once('=').unwrap();
                Ok(HttpResponse::new(200).header(name, value).body(b"body".to_vec().into()))
            }
            "big" => Ok(HttpResponse::new(200).body(vec![b'x'; rest.parse().unwrap()].into())),
            _ => {
                let seen = json!({ "method": request.method, "url": request.url, "headers": request.headers, "body": body });
                Ok(HttpResponse::new(202).header("content-type", "application/json").body(seen.to_string().into()))
            }
        }
    }
}

static DOOR: Descriptor = Descriptor::of::<Door>(
    "door",
    Package {
        name: "test-plugin",
        version: "0.1.0",
        license: "MIT",
        manifest: "id = \"door\"\ndescription = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n\
                   [[provides]]\nkind = \"http\"\nname = \"bell\"\n[[provides]]\nkind = \"http\"\nname = \"gate\"\n",
        config_schema: "{}",
    },
);
