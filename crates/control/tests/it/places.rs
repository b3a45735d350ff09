//! Who has the place: one server at a time, and none after a kill.

use std::{
    future,
    io::BufRead as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bespoke_control::{BindError, Client, Server};

use crate::talk::{Answers, LIMIT};

/// Set in a child of this test: the socket at which it serves until it is killed.
const CHILD: &str = "BESPOKE_CONTROL_TEST_SOCKET";

#[tokio::test]
async fn without_a_server_there_is_no_client() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/control.sock");
    assert!(Client::connect(&path).await.unwrap().is_none());
    std::fs::create_dir(folder.path().join("run")).unwrap();
    // A socket that nobody listens at, as a killed server leaves it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(Client::connect(&path).await.unwrap().is_none());
    let server = Server::bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    match Server::bind(&path) {
        Err(BindError::Taken { pid }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    assert!(Client::connect(&path).await.unwrap().is_some(), "the refused one has broken nothing");
    drop(server);
    assert!(!path.exists(), "it is taken away");
    assert!(Client::connect(&path).await.unwrap().is_none());
}

/// Not a test of its own: the server that the next one kills.
#[tokio::test]
async fn serves_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let server = Server::bind(Path::new(&path)).unwrap();
    tokio::spawn(server.serve(Arc::new(Answers::default()), future::pending()));
    let mut client = Client::connect(Path::new(&path)).await.unwrap().unwrap();
    client.call("echo", serde_json::json!({})).await.unwrap();
    // The sign that it serves; its parent kills it.
    eprintln!("serves");
    tokio::time::sleep(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/control.sock");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "places::serves_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("serves")), "the child says that it serves");
    match Server::bind(&path) {
        Err(error @ BindError::Taken { pid }) => {
            assert_eq!(pid, Some(child.id()));
            assert!(error.to_string().contains(&child.id().to_string()));
        }
        other => panic!("{other:?}"),
    }
    let mut client = Client::connect(&path).await.unwrap().unwrap();
    let waits = tokio::spawn(async move { client.call("wait", serde_json::json!({})).await });
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap().unwrap();
    assert!(matches!(gone, Err(bespoke_control::ClientError::Gone)), "{gone:?}");
    assert!(path.exists(), "it had no time to take its socket away");
    let _server = Server::bind(&path).unwrap();
    assert!(Client::connect(&path).await.unwrap().is_some());
}
