//! Nothing of a library runs before its user has said so.

use std::{fs, path::Path};

use bespoke_host::{Config, ReloadOutcome, Selection, State};

use crate::kit::{World, act, row, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_library_that_is_not_trusted_is_not_even_opened() {
    let world = World::new();
    let mark = world.path().join("loaded");
    let library = world.c_library("NOTHING", &[("MARK", &mark)]);
    // What it would guard is asked for also where it does not run.
    let folder = world.folder("faults", &[("tool", "faults"), ("hook", "guard")], &library);
    let manifest = fs::read_to_string(folder.join("plugin.toml")).unwrap().replace("name = \"guard\"", "name = \"guard\"\ndynamic = true");
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    let host = world.host_configured("", vec![world.candidate(&folder)]).await;
    let blocked = row(&host, "faults");
    assert_eq!(blocked.state, State::Blocked, "{blocked:?}");
    assert_eq!(blocked.fix.as_deref(), Some("bespoke plugin grant faults"));
    assert!(blocked.reason.is_some_and(|why| why.contains("code inside this program") && why.contains("not trusted yet")));
    act(&host, "faults", "").await.unwrap_err();
    within(host.restart("faults")).await.unwrap_err();
    host.check_config().await.unwrap();
    assert!(!mark.exists(), "code of it ran");

    let allowed = Config::parse("bespoke.toml", "[plugins.faults]\nallow_native = true\n").unwrap();
    within(host.reload(allowed)).await;
    within(host.start(Selection::All)).await;
    assert_eq!(within(act(&host, "faults", "")).await.unwrap(), "a word");
    let ready = row(&host, "faults");
    assert_eq!(ready.state, State::Ready, "{ready:?}");
    assert_eq!(ready.facts["trusted"], "yes: its permissions are not enforceable in this tier");
    assert_eq!(fs::read_to_string(&mark).unwrap(), "loaded\n", "one copy, for the question and for the start");

    // Trust that is taken back ends it.
    let report = within(host.reload(Config::parse("bespoke.toml", "").unwrap())).await;
    assert_eq!(report.plugins[0].outcome, ReloadOutcome::Stopped, "{report:?}");
    assert_eq!(row(&host, "faults").state, State::Blocked);
    act(&host, "faults", "").await.unwrap_err();
    within(host.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_trusted_and_no_other_of_the_same_id() {
    let world = World::new();
    let mark = world.path().join("loaded");
    let library = world.c_library("NOTHING", &[("MARK", &mark)]);
    let trusted = world.folder("faults", &[("tool", "faults")], &library);
    let [link, other] = ["link", "other"].map(|name| world.path().join(name));
    std::os::unix::fs::symlink(&trusted, &link).unwrap();
    fs::create_dir(&other).unwrap();
    for file in fs::read_dir(&trusted).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), other.join(file.file_name())).unwrap();
    }
    let config = |folder: &Path| format!("[plugins.faults]\nallow_native = {:?}\n", folder.to_str().unwrap());
    for (named, folder, runs) in [
        (&trusted, &trusted, true),
        // As long as a link leads there, it is that folder.
        (&trusted, &link, true),
        (&link, &trusted, true),
        (&trusted, &other, false),
        (&world.path().join("gone"), &trusted, false),
    ] {
        let host = world.host_configured(&config(named), vec![world.candidate(folder)]).await;
        let row = row(&host, "faults");
        let wanted = if runs { State::Ready } else { State::Blocked };
        assert_eq!(row.state, wanted, "{named:?} {folder:?}: {row:?}");
        let why = format!("plugins.faults.allow_native is for {}", named.display());
        assert!(runs || row.reason.as_ref().is_some_and(|reason| reason.ends_with(&why)), "{row:?}");
        within(host.shutdown()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_requires_a_wall_gets_no_library() {
    let world = World::new();
    let mark = world.path().join("loaded");
    let plugin = world.fault_with("NOTHING", &[("MARK", &mark)]);
    let host = world.host_with("sandbox = \"required\"", [plugin]).await;
    let refused = row(&host, "faults");
    assert_eq!(refused.state, State::Failed, "{refused:?}");
    assert!(refused.reason.is_some_and(|why| why.contains("nothing holds a library")));
    assert!(refused.fix.is_some_and(|fix| fix.starts_with("bespoke config set plugins.faults.sandbox auto")));
    assert!(!mark.exists(), "code of it ran");
}
