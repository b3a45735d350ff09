//! What plugins store, alone and through a host.

use std::sync::{Arc, Mutex};

use bespoke_host::{Host, KeyValue, Selection};
use bespoke_plugin_api::{Code, Descriptor, Package, Plugin, PluginApi, PluginContext, Result, bytes::Bytes, serde_json::Map};
use bespoke_state::{KEY_LIMIT, KEYS_LIMIT, State, TOTAL_LIMIT, VALUE_LIMIT};

use crate::kit::{number, opened, raw};

fn bytes(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

#[test]
fn each_plugin_has_its_own_values() {
    let (_folder, state) = opened();
    state.store("a", "key", bytes("one")).unwrap();
    state.store("b", "key", bytes("two")).unwrap();
    state.store("a", "key", bytes("three\0four")).unwrap();
    state.store("a", "empty", bytes("")).unwrap();
    let again = State::open(state.path()).unwrap();
    for (plugin, key, value) in [
        ("a", "key", bytes("three\0four")),
        ("b", "key", bytes("two")),
        ("a", "empty", bytes("")),
        ("a", "other", None),
        ("c", "key", None),
    ] {
        assert_eq!(again.load(plugin, key).unwrap(), value, "{plugin} {key}");
    }
    again.store("a", "key", None).unwrap();
    again.store("a", "key", None).unwrap();
    assert_eq!(state.load("a", "key").unwrap(), None);
    assert_eq!(state.load("b", "key").unwrap(), bytes("two"));
}

#[test]
fn what_is_too_large_is_refused_and_the_old_value_stays() {
    let (_folder, state) = opened();
    let of = |length: usize| Some(Bytes::from(vec![7; length]));
    let refused = |key: &str, value: Option<Bytes>| {
        let error = state.store("p", key, value).unwrap_err();
        assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED);
        error.message().to_owned()
    };
    state.store("p", "key", of(VALUE_LIMIT)).unwrap();
    assert_eq!(refused("key", of(VALUE_LIMIT + 1)), "p may not store it: a value has at most 1048576 bytes, this one 1048577");
    assert_eq!(state.load("p", "key").unwrap(), of(VALUE_LIMIT));
    state.store("p", &"k".repeat(KEY_LIMIT), of(1)).unwrap();
    assert_eq!(refused("", of(1)), "p may not store it: a key has 1 to 256 bytes, this one 0");
    assert_eq!(refused(&"k".repeat(KEY_LIMIT + 1), of(1)), "p may not store it: a key has 1 to 256 bytes, this one 257");

    // The rest of what it may have, put there without us.
    let connection = raw(state.path());
    connection.execute("INSERT INTO plugin_values VALUES ('p', 'rest', zeroblob(?1))", [(TOTAL_LIMIT - VALUE_LIMIT - 2) as i64]).unwrap();
    state.store("p", "last", of(1)).unwrap();
    assert_eq!(refused("more", of(1)), "p may not store it: the values of a plugin have at most 67108864 bytes together");
    state.store("p", "last", of(1)).unwrap();
    state.store("p", "key", of(VALUE_LIMIT)).unwrap();
    state.store("q", "key", of(VALUE_LIMIT)).unwrap();
    state.store("p", "key", of(1)).unwrap();
    state.store("p", "more", of(1)).unwrap();

    let many = format!(
        "WITH RECURSIVE n (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n WHERE at < {KEYS_LIMIT})
         INSERT INTO plugin_values SELECT 'many', at, x'00' FROM n"
    );
    connection.execute(&many, []).unwrap();
    let error = state.store("many", "one more", of(1)).unwrap_err();
    assert_eq!(error.message(), "many may not store it: a plugin has at most 10000 keys");
    state.store("many", "1", of(2)).unwrap();
    assert_eq!(number(&connection, "SELECT count(*) FROM plugin_values WHERE plugin = 'many'"), KEYS_LIMIT as i64);
}

/// A plugin that hands its context out.
struct Open;

static CONTEXT: Mutex<Option<PluginContext>> = Mutex::new(None);

impl Plugin for Open {
    type Config = Map<String, bespoke_plugin_api::serde_json::Value>;

    fn register(_: &mut PluginApi<Self>) {}

    async fn start(cx: PluginContext, _: Self::Config) -> Result<Self> {
        *CONTEXT.lock().unwrap() = Some(cx);
        Ok(Open)
    }
}

#[tokio::test]
async fn a_plugin_stores_through_its_host() {
    let manifest = "id = \"open\"\ndescription = \"d\"\nauthor = \"a\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";
    let package = Package { name: "open", version: "0.1.0", license: "Apache-2.0", manifest, config_schema: "{}" };
    let descriptor: &'static Descriptor = Box::leak(Box::new(Descriptor::of::<Open>("open", package)));
    let started = async |store: Option<Arc<dyn KeyValue>>| {
        let mut builder = Host::builder().plugins([descriptor]);
        if let Some(store) = store {
            builder = builder.store(store);
        }
        let host = builder.build().unwrap();
        host.start(Selection::All).await;
        let rows = host.rows();
        let cx = CONTEXT.lock().unwrap().take().unwrap_or_else(|| panic!("{rows:?}"));
        (host, cx.host().clone())
    };
    let (_folder, state) = opened();
    let (host, cx) = started(Some(Arc::new(state.clone()))).await;
    assert_eq!(cx.load("key").await.unwrap(), None);
    cx.store("key", bytes("value")).await.unwrap();
    assert_eq!(cx.load("key").await.unwrap(), bytes("value"));
    assert_eq!(state.load("open", "key").unwrap(), bytes("value"), "under its id");
    let error = cx.store("", bytes("value")).await.unwrap_err();
    assert_eq!(error.code(), Code::RESOURCE_EXHAUSTED);
    cx.store("key", None).await.unwrap();
    assert_eq!(cx.load("key").await.unwrap(), None);
    host.shutdown().await;

    let (host, cx) = started(None).await;
    for error in [cx.load("key").await.unwrap_err(), cx.store("key", None).await.unwrap_err()] {
        assert_eq!((error.code(), error.message()), (Code::METHOD_NOT_FOUND, "this program keeps nothing for plugins between two runs"));
        assert!(error.help().is_some());
    }
    host.shutdown().await;
}
