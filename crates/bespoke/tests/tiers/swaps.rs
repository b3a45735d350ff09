//! One host, one plugin, whose build is another one at each restart: from each tier to each other, and the count goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bespoke_host::{Artifact, Candidate, Config, Host, Selection, Terms};
use bespoke_manifest::{Manifest, Swap};
use bespoke_plugin_api::{
    BoxFuture, CallCx, Instance, PluginContext, Result, Spec, Tool, ToolRequest,
    serde_json::{Value, json},
};

use crate::built::{TIERS, candidate};

/// Longer than it takes where two cores are shared by many.
const LONG: Duration = Duration::from_secs(300);

/// The builds of a plugin, of which one is there at a time.
struct Builds {
    builds: Vec<Arc<dyn Artifact>>,
    now: Arc<AtomicUsize>,
}

impl Builds {
    fn now(&self) -> &dyn Artifact {
        &*self.builds[self.now.load(Ordering::SeqCst)]
    }
}

impl Artifact for Builds {
    fn declare(&self, terms: &Terms) -> Result<Vec<Spec>> {
        self.now().declare(terms)
    }

    fn check(&self, config: &Value) -> Result<()> {
        self.now().check(config)
    }

    fn start(&self, cx: PluginContext, config: Value, terms: Terms) -> BoxFuture<'static, Result<Instance>> {
        self.now().start(cx, config, terms)
    }
}

async fn strike(host: &Host) -> String {
    let call = async {
        let slot = host.find::<dyn Tool>("strike")?;
        slot.call(&CallCx::new(), |tool, cx| async move { tool.call(&cx, ToolRequest::new(json!({ "times": 1 }))).await }).await
    };
    tokio::time::timeout(LONG, call).await.expect("it hangs").unwrap().to_text()
}

/// A way through the pairs of `n` that goes from each to each other once, and begins with 0.
fn ways(n: usize) -> Vec<usize> {
    let (mut way, mut left): (Vec<usize>, Vec<Vec<usize>>) =
        (Vec::new(), (0..n).map(|from| (0..n).filter(|to| *to != from).collect()).collect());
    let mut open = vec![0];
    while let Some(&at) = open.last() {
        match left[at].pop() {
            Some(to) => open.push(to),
            None => way.extend(open.pop()),
        }
    }
    way.reverse();
    way
}

#[test]
fn a_way_goes_from_each_to_each_other_once() {
    let way = ways(4);
    let mut pairs: Vec<_> = way.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!((way.len(), way[0], pairs.len()), (13, 0, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_each_tier_to_each_other_the_count_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let mut builds: Vec<(String, Arc<dyn Artifact>)> = vec![("compiled".into(), Arc::new(&chimes::BESPOKE_PLUGIN))];
    let mut first = None;
    for &tier in TIERS {
        let candidate = candidate("examples/plugins/chimes", tier, place.path());
        builds.push((tier.name().to_owned(), candidate.artifact.clone()));
        first.get_or_insert(candidate);
    }
    let now = Arc::new(AtomicUsize::new(0));
    let first = first.unwrap();
    let mut manifest = Manifest::clone(first.manifest.as_ref().unwrap());
    // One after the other, so that what the old one remembers is the new one's.
    manifest.swap = Swap::Exclusive;
    let (names, artifacts): (Vec<String>, Vec<Arc<dyn Artifact>>) = builds.into_iter().unzip();
    let plugin =
        Candidate { manifest: Ok(Arc::new(manifest)), artifact: Arc::new(Builds { builds: artifacts, now: now.clone() }), ..first };
    let config = Config::parse("bespoke.toml", "").unwrap();
    let host = Host::builder().config(config).data_dir(place.path().join("data")).plugins([plugin]).build().unwrap();
    tokio::time::timeout(LONG, host.start(Selection::All)).await.expect("it hangs");
    let mut count = 0;
    let mut seen = Vec::new();
    for (step, tier) in ways(names.len()).into_iter().enumerate() {
        if step > 0 {
            now.store(tier, Ordering::SeqCst);
            tokio::time::timeout(LONG, host.restart("chimes"))
                .await
                .expect("it hangs")
                .unwrap_or_else(|e| panic!("to {}: {e}", names[tier]));
        }
        count += 1;
        let said = strike(&host).await;
        assert_eq!(said, format!("Dong. That makes {count} in all."), "{}", names[tier]);
        let runs_in = host.rows().remove(0).facts.get("tier").cloned().unwrap_or_else(|| "compiled".into());
        seen.push(runs_in);
    }
    let expected: Vec<&str> = ways(names.len()).into_iter().map(|tier| &*names[tier]).collect();
    assert_eq!(seen, expected);
    tokio::time::timeout(LONG, host.shutdown()).await.expect("it hangs");
}
