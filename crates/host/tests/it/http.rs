//! Which hosts a plugin may reach: what its manifest asks for, and what the user wrote.

use std::sync::{Arc, Mutex};

use bespoke_host::{Config, Host, HttpAllowed, HttpClient, Selection};
use bespoke_plugin_api::{BoxFuture, Error, HttpReply, HttpRequest, HttpResponse, PluginContext, Result};
use expect_test::expect;

use crate::kit::{Plug, told, within};

/// Writes down what each request was allowed, and answers 200.
#[derive(Default)]
struct Recorder(Mutex<Vec<HttpAllowed>>);

impl HttpClient for Recorder {
    fn send(&self, allowed: HttpAllowed, _: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        self.0.lock().unwrap().push(allowed);
        Box::pin(async { Ok(HttpResponse::new(200).into()) })
    }
}

/// The list that a plugin with these permissions gets under a configuration, or the error of its request.
async fn list(permissions: &str, config: &str, client: Option<Arc<Recorder>>) -> String {
    let context: Arc<Mutex<Option<PluginContext>>> = Arc::default();
    let given = context.clone();
    let plug = Plug::new("web").extra(permissions).starts(move |cx, _| {
        *given.lock().unwrap() = Some(cx);
        async { Ok(()) }
    });
    let config = Config::parse("bespoke.toml", config).unwrap().with_env([("BASE".to_owned(), "https://env.example/v1".to_owned())]);
    let mut host = Host::builder().config(config).plugins([plug]);
    if let Some(client) = client.clone() {
        host = host.http(client);
    }
    let host = host.build().unwrap();
    within(host.start(Selection::All)).await;
    let cx = context.lock().unwrap().take().unwrap();
    if let Err(error) = within(cx.http(HttpRequest::new("GET", "https://a.example/"))).await {
        return told(&error);
    }
    let allowed = client.unwrap().0.lock().unwrap().pop().unwrap();
    assert_eq!(allowed.plugin, "web");
    let hosts = allowed.hosts.iter().map(|h| format!("{}{} by {}\n", h.pattern, if h.private { " (private, too)" } else { "" }, h.source));
    let keys = allowed.keys.iter().map(|k| format!("{}{} now {:?}\n", k.key, if k.private { " (private, too)" } else { "" }, k.written));
    hosts.chain(keys).collect()
}

const ASKS: &str = r#"
[permissions]
network_access = [
    "api.example.com",
    { host = "localhost:8080", private = true },
    { config = "base_url", default = ["default.example"], private = true },
    { config = "allow", default = ["*"] },
    { config = "servers.url" },
]
"#;

#[tokio::test]
async fn the_manifest_asks_and_the_configuration_says_which() {
    let rows = [
        ("nothing asked", "", ""),
        ("nothing configured", ASKS, ""),
        ("one string, out of the environment", ASKS, "[plugins.web]\nbase_url = '${BASE}'\n"),
        ("lists", ASKS, "[plugins.web]\nallow = ['a.example', 'b.example']\nbase_url = ['http://127.0.0.1:1', 'x']\n"),
        ("an empty list is nothing, not the default", ASKS, "[plugins.web]\nallow = []\nbase_url = ''\n"),
        (
            "below a table, and in a list of tables",
            ASKS,
            "[[plugins.web.servers]]\nurl = 'one.example'\n[[plugins.web.servers]]\nurl = 'two.example'\n[[plugins.web.servers]]\nname = 'three'\n",
        ),
        ("other types grant nothing", ASKS, "[plugins.web]\nallow = 7\nbase_url = { a = 'b' }\nservers = 'url'\n"),
        ("a list with other types grants what is a string", ASKS, "[plugins.web]\nallow = ['a.example', 7, ['b.example'], { c = 'c' }]\n"),
    ];
    let mut table = String::new();
    for (name, asks, config) in rows {
        table += &format!("# {name}\n{}", list(asks, config, Some(Arc::default())).await);
    }
    expect![[r##"
        # nothing asked
        # nothing configured
        api.example.com by plugin.toml
        localhost:8080 (private, too) by plugin.toml
        default.example by plugin.toml
        * by plugin.toml
        plugins.web.base_url (private, too) now None
        plugins.web.allow now None
        plugins.web.servers.url now None
        # one string, out of the environment
        api.example.com by plugin.toml
        localhost:8080 (private, too) by plugin.toml
        https://env.example/v1 (private, too) by plugins.web.base_url
        * by plugin.toml
        plugins.web.base_url (private, too) now None
        plugins.web.allow now None
        plugins.web.servers.url now None
        # lists
        api.example.com by plugin.toml
        localhost:8080 (private, too) by plugin.toml
        http://127.0.0.1:1 (private, too) by plugins.web.base_url
        x (private, too) by plugins.web.base_url
        a.example by plugins.web.allow
        b.example by plugins.web.allow
        plugins.web.base_url (private, too) now Some(["http://127.0.0.1:1", "x"])
        plugins.web.allow now Some(["a.example", "b.example"])
        plugins.web.servers.url now None
        # an empty list is nothing, not the default
        api.example.com by plugin.toml
        localhost:8080 (private, too) by plugin.toml
         (private, too) by plugins.web.base_url
        plugins.web.base_url (private, too) now None
        plugins.web.allow now Some([])
        plugins.web.servers.url now None
        # below a table, and in a list of tables
        api.example.com by plugin.toml
        localhost:8080 (private, too) by plugin.toml
        default.example by plugin.toml
        * by plugin.toml
        one.example by plugins.web.servers.url
        two.example by plugins.web.servers.url
        plugins.web.base_url (private, too) now None
        plugins.web.allow now None
        plugins.web.servers.url now None
        # other types grant nothing
        api.example.com by plugin.toml
        localhost:8080 (private, too) by plugin.toml
        plugins.web.base_url (private, too) now None
        plugins.web.allow now None
        plugins.web.servers.url now None
        # a list with other types grants what is a string
        api.example.com by plugin.toml
        localhost:8080 (private, too) by plugin.toml
        default.example by plugin.toml
        a.example by plugins.web.allow
        b.example by plugins.web.allow
        plugins.web.base_url (private, too) now None
        plugins.web.allow now None
        plugins.web.servers.url now None
    "##]]
    .assert_eq(&table);
}

/// What a plugin may reach is what the configuration says that it runs with, not what was written last.
#[tokio::test]
async fn a_plugin_that_keeps_its_values_keeps_its_hosts() {
    let (context, client) = (Arc::<Mutex<Option<PluginContext>>>::default(), Arc::<Recorder>::default());
    let given = context.clone();
    let plug = Plug::new("web").extra("[permissions]\nnetwork_access = [{ config = \"allow\" }]\n").starts(move |cx, config| {
        let given = given.clone();
        async move {
            // A start may ask already, with the values that it is given.
            cx.http(HttpRequest::new("GET", "https://a.example/")).await?;
            if config["allow"][0] == "bad.example" {
                return Err(Error::internal("not there"));
            }
            *given.lock().unwrap() = Some(cx);
            Ok(())
        }
    });
    let read = |host: &str| Config::parse("bespoke.toml", &format!("[plugins.web]\nallow = ['{host}']\n")).unwrap();
    let host = Host::builder().config(read("good.example")).plugins([plug]).http(client.clone()).build().unwrap();
    within(host.start(Selection::All)).await;
    let mut said = String::new();
    for name in ["good.example", "bad.example", "new.example"] {
        let report = within(host.reload(read(name))).await;
        let outcome = report.plugins.first().map_or("nothing".to_owned(), |p| format!("{:?}", p.outcome));
        let cx = context.lock().unwrap().clone().unwrap();
        within(cx.http(HttpRequest::new("GET", "https://a.example/"))).await.unwrap();
        let asked: Vec<_> = client.0.lock().unwrap().drain(..).map(|allowed| allowed.hosts[0].pattern.clone()).collect();
        said += &format!("{name}: {outcome}; asked with {}\n", asked.join(", "));
    }
    expect![[r#"
        good.example: nothing; asked with good.example, good.example
        bad.example: Kept; asked with bad.example, good.example
        new.example: Swapped; asked with new.example, new.example
    "#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn a_program_without_a_client_says_so() {
    expect![[r#"
        METHOD_NOT_FOUND this program has no HTTP client: it was built without the feature `http`
            help: build it again with the feature `http`; it comes with the plugins that need it
    "#]]
    .assert_eq(&list(ASKS, "", None).await);
}
