//! Programs and folders that are not there: the hook that names them fails, each time and by its own rule, and the others go on.

use std::os::unix::fs::PermissionsExt;

use bespoke_hook_exec::BESPOKE_PLUGIN;
use bespoke_host::{Config, Host, Selection};
use bespoke_plugin_api::CallCx;

use crate::world::{ask, within};

async fn host(entries: &str, data: &std::path::Path) -> Host {
    let config = Config::parse("bespoke.toml", &format!("[plugins.exec]\nhooks = [{entries}]\n")).unwrap();
    let host = Host::builder().config(config).plugins([&BESPOKE_PLUGIN]).data_dir(data.to_owned()).build().unwrap();
    within(host.start(Selection::All)).await;
    host
}

#[tokio::test]
async fn what_is_not_there_is_a_failure_of_its_hook_alone() {
    let temp = tempfile::tempdir().unwrap();
    for (entry, why) in [
        ("command = ['/no/such/guard']", "there is no program `/no/such/guard` at this path"),
        ("command = ['/etc/passwd']", "there is no program `/etc/passwd` at this path"),
        ("command = ['no-such-guard']", "there is no program `no-such-guard` in /usr/local/bin:/usr/bin:/bin"),
        ("command = ['true'], cwd = '/no/such/folder'", "there is no folder /no/such/folder"),
    ] {
        for (rule, said) in [
            ("on_failure = 'open'", "hello".to_owned()),
            ("on_failure = 'closed'", format!("exec vetoed: `a` could not decide and fails closed: {why}")),
            ("on_failure = 'closed', observer = true", "hello".to_owned()),
        ] {
            let other = "{ name = 'b', hook = 'before_agent_run', priority = -1, timeout_ms = 60000, command = ['true'] }";
            let host = host(&format!("{{ name = 'a', hook = 'before_agent_run', {rule}, {entry} }}, {other}"), temp.path()).await;
            let row = host.rows().remove(0);
            assert_eq!((row.state.name(), row.health.as_str()), ("ready", "degraded"), "{row:?}");
            assert_eq!(row.reason, Some(format!("`a` cannot be asked: {why}")));
            assert_eq!(ask(&host, &CallCx::new(), "hello").await, said, "{rule} {entry}");
            within(host.shutdown()).await;
        }
    }
}

#[tokio::test]
async fn a_program_that_comes_later_is_asked_from_then_on() {
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("late");
    let entry = format!(
        "{{ name = 'a', hook = 'before_agent_run', timeout_ms = 60000, on_failure = 'closed', command = ['{}'] }}",
        program.display()
    );
    let host = host(&entry, temp.path()).await;
    assert!(ask(&host, &CallCx::new(), "hello").await.contains("there is no program"));
    std::fs::write(&program, "#!/bin/sh\necho I see >&2; exit 2\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ask(&host, &CallCx::new(), "hello").await, "exec vetoed: I see");
    assert_eq!(host.rows().remove(0).health, "ok");
    std::fs::remove_file(&program).unwrap();
    assert!(ask(&host, &CallCx::new(), "hello").await.contains("there is no program"));
    assert_eq!(host.rows().remove(0).health, "degraded");
}

#[tokio::test]
async fn a_table_that_makes_no_sense_stops_whatever_a_hook_can_stop() {
    let temp = tempfile::tempdir().unwrap();
    let config = "[plugins.exec]\nhooks = [{ name = 'a', hook = 'before_agent_run', command = ['true'], on_failure = 'close' }]\n";
    let host = Host::builder()
        .config(Config::parse("bespoke.toml", config).unwrap())
        .plugins([&BESPOKE_PLUGIN])
        .data_dir(temp.path().to_owned())
        .build()
        .unwrap();
    within(host.start(Selection::All)).await;
    let said = ask(&host, &CallCx::new(), "hello").await;
    assert!(said.starts_with("exec vetoed: exec does not run: bespoke.toml:2:") && said.contains("plugin disable exec"), "{said}");
}
