//! What was compiled is used again, and not when it is not as it was left.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::kit::{World, echo, row, within};

fn entries(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut entries: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "cwasm")).collect();
    entries.sort();
    entries
}

/// Where the code of a fresh instance came from.
async fn from(world: &World) -> String {
    let host = world.host([world.acts()]).await;
    assert_eq!(echo(&host).await.unwrap(), "7");
    let component = row(&host, "acts").facts["component"].clone();
    within(host.shutdown()).await;
    drop(host);
    component.split(", ").nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_not_as_it_was_left_is_refused_and_made_anew() {
    let world = World::new().own_cache();
    assert_eq!(from(&world).await, "compiled");
    let folder = world.cache().join("wasm");
    let [entry] = &entries(&folder)[..] else { panic!("{:?}", entries(&folder)) };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&folder), mode(&folder.join("key")), mode(entry)], [0o700, 0o600, 0o600]);
    assert_eq!(from(&world).await, "cache");

    let good = fs::read(entry).unwrap();
    let middle = good.len() / 2;
    let other = World::new().own_cache();
    assert_eq!(from(&other).await, "compiled");
    let foreign = fs::read(&entries(&other.cache().join("wasm"))[0]).unwrap();
    let cases: [(&str, Vec<u8>); 6] = [
        ("a bit that turned", {
            let mut bytes = good.clone();
            bytes[middle] ^= 1;
            bytes
        }),
        ("cut off", good[..middle].to_vec()),
        ("cut off in the seal", good[..7].to_vec()),
        ("empty", Vec::new()),
        ("longer", [&good[..], b"x"].concat()),
        ("of another machine", foreign),
    ];
    for (name, bytes) in cases {
        fs::write(entry, bytes).unwrap();
        assert_eq!(from(&world).await, "compiled", "{name}");
        assert_eq!(from(&world).await, "cache", "{name}: it was made anew");
    }

    // Another name is another component, or another engine.
    let renamed = folder.join(entry.file_name().unwrap().to_str().unwrap().replace('-', "0-"));
    fs::rename(entry, &renamed).unwrap();
    assert_eq!(from(&world).await, "compiled");
    fs::copy(&renamed, entry).unwrap();
    // Without its key nothing holds, and there is a new one.
    fs::write(folder.join("key"), b"short").unwrap();
    assert_eq!(from(&world).await, "compiled");
    assert_eq!(from(&world).await, "cache");
}

/// What was not used for the longest time makes room, and nothing that runs; what a program that was killed has left goes, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_cache_has_an_end() {
    let world = World::new().own_cache();
    let folder = world.cache().join("wasm");
    let host = world.host([world.acts()]).await;
    assert_eq!(echo(&host).await.unwrap(), "7");
    let [entry] = &entries(&folder)[..] else { panic!("{:?}", entries(&folder)) };

    // So many hours old, of so many bytes.
    let put = |name: &str, hours: u64, bytes: u64| {
        let path = folder.join(name);
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap();
        if bytes > 0 {
            file.set_len(bytes).unwrap();
        }
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
        path
    };
    let (left, begun) = (put(".new-left", 2, 1), put(".new-begun", 0, 1));
    let olds: Vec<_> = (0..70).map(|n| put(&format!("other-{n}.cwasm"), 100 + n, 1)).collect();
    put(entry.file_name().unwrap().to_str().unwrap(), 1000, 0);

    // Another is compiled: the entry that runs stays, though it is the oldest, and of the others the youngest.
    let _ = within(host.load(world.text("nothing", "(component)"), None)).await.unwrap_err();
    assert!(entry.exists() && !left.exists() && begun.exists());
    assert_eq!(entries(&folder).len(), 64);
    let stay: Vec<_> = olds.iter().map(|path| path.exists()).collect();
    assert_eq!(stay, (0..70).map(|n| n < 62).collect::<Vec<_>>());

    // One that is too long for all of them goes before the younger ones.
    let (long, old) = (put("other-long.cwasm", 50, 1 << 30), &olds[0]);
    let _ = within(host.load(world.text("less", "(component (core module))"), None)).await.unwrap_err();
    assert!(entry.exists() && !long.exists() && !old.exists());
    within(host.shutdown()).await;
    drop(host);

    // Whoever uses an entry makes it young again.
    let aged = fs::metadata(entry).unwrap().modified().unwrap();
    assert_eq!(from(&world).await, "cache");
    assert!(fs::metadata(entry).unwrap().modified().unwrap() > aged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_one_costs_time_and_nothing_else() {
    let world = World::new().own_cache();
    fs::create_dir_all(world.cache()).unwrap();
    fs::write(world.cache().join("wasm"), "a file").unwrap();
    assert_eq!(from(&world).await, "compiled");
}
