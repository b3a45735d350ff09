//! The host is killed, so that it can see to nothing any more: of its plugins, and of what they have started, nobody is left.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bespoke_host::{Grants, Grounds, Tier, open_folder};
use bespoke_tier_process as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{host_stdio::Served, program::User};

const PLUGINS: usize = 20;
const RUNS: usize = 50;
/// Of a plugin: itself, what sleeps beside it, and three that have left its session.
const PROCESSES: usize = 5;
/// How long what is left may take to go.
const SOON: Duration = Duration::from_secs(30);

/// Serves one tool. It, and all that it has started, ends for no request; some of that has another session and another parent.
const GUEST: &str = r#"
trap '' TERM HUP INT PIPE
leave() {
    sleep 1000 </dev/null >/dev/null 2>&1 &
    setsid sh -c "trap '' TERM HUP INT; sleep 1000 & sleep 1000" </dev/null >/dev/null 2>&1 &
}
while :; do
    IFS= read -r line || { sleep 1; continue; }
    id=${line#*\"id\":}
    id=${id%%[,\}]*}
    case $line in
    *'"method":"hello"'*)
        tool='{"kind":"tool","spec":{"name":"'$1'","description":"Does nothing.","input_schema":{"type":"object"}}}'
        result='{"protocol":1,"oldest":1,"plugin":"'$1'","version":"1.0.0","specs":['$tool'],"features":[]}'
        ;;
    *'"method":"plugin.start"'*)
        leave
        result='{"health":{"status":"ok"},"facts":{}}'
        ;;
    *'"method":"$/ping"'*)
        printf '{"jsonrpc":"2.0","method":"$/pong","params":{"id":%s}}\n' "$id"
        continue
        ;;
    *) continue ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

/// One that may start what it starts; every other one has no wall to stop it.
fn plugin(user: &User, grants: &Grants, n: usize) -> String {
    let id = format!("stubborn{n}");
    let folder = user.home().join("plugins").join(&id);
    fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "id = \"{id}\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"Stays.\"\nauthor = \"Somebody\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"{id}\"\n[process]\ncommand = [\"sh\", \"guest.sh\", \"{id}\"]\n\
         [permissions]\nsystem_access = [\"sleep\", \"setsid\", \"sh\"]\nreasons.system_access = \"to leave somebody behind\"\n"
    );
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
    fs::write(folder.join("guest.sh"), GUEST).unwrap();
    let found = open_folder(&folder, &Grounds::new(user.home().join("cache")));
    grants.grant(&found.manifest.unwrap(), Tier::Process, &[]).unwrap();
    if n.is_multiple_of(2) { String::new() } else { format!("[plugins.{id}]\nsandbox = \"off\"\n") }
}

/// The parent of a process, and when it began; `None` when it has ended, even if somebody has still to be told.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let runs = !matches!(fields[0], "Z" | "X");
    runs.then(|| (fields[1].parse().unwrap(), fields[19].parse().unwrap()))
}

/// What runs now, by its number and when it began: its parent, and whether it carries the mark, in its environment, in its arguments
/// or by where it is.
fn processes(mark: &Path) -> BTreeMap<(u32, u64), (u32, bool)> {
    let mark = mark.as_os_str().as_encoded_bytes();
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some((parent, born)) = stat(pid) else { continue };
        let holds = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let stands = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| holds(cwd.as_os_str().as_encoded_bytes()));
        let marked = pid != std::process::id() && (stands || holds(&read("environ")) || holds(&read("cmdline")));
        all.insert((pid, born), (parent, marked));
    }
    all
}

/// Those that come from this one, itself included.
fn family(all: &BTreeMap<(u32, u64), (u32, bool)>, of: u32) -> Vec<(u32, u64)> {
    let (mut found, mut wanted) = (Vec::new(), vec![of]);
    while let Some(next) = wanted.pop() {
        found.extend(all.keys().filter(|(pid, _)| *pid == next));
        wanted.extend(all.iter().filter(|(_, (parent, _))| *parent == next).map(|((pid, _), _)| *pid));
    }
    found
}

#[test]
fn nobody_outlives_a_host_that_is_killed() {
    let user = User::new();
    let grants = Grants::at(user.home().join("grants.toml"));
    fs::create_dir_all(user.home()).unwrap();
    let tables: String = (0..PLUGINS).map(|n| plugin(&user, &grants, n)).collect();
    // What is part of the program is no process, and some of it takes its time.
    let rows = user.json(["plugin", "list", "--json"]);
    let compiled = rows.as_array().unwrap().iter().filter(|row| row["tier"] == "compiled").map(|row| row["id"].as_str().unwrap());
    let compiled: String = compiled.map(|id| format!("[plugins.{id}]\nenabled = false\n")).collect();
    let user = user.configured(&(compiled + &tables));
    let mark = user.home();
    let (begun, mut gone) = (Instant::now(), Duration::ZERO);
    for run in 0..RUNS {
        let mut host = Served::new(&user, &["--auto-load"]);
        let loaded = host.ok("status", json!({}))["loaded"].clone();
        let stubborn = loaded.as_array().unwrap().iter().filter(|name| name.as_str().unwrap().starts_with("stubborn")).count();
        assert_eq!(stubborn, PLUGINS, "run {run}: {loaded}");
        let before = processes(&mark);
        let family = family(&before, host.id());
        let marked: Vec<_> = before.iter().filter(|(_, (_, marked))| *marked).map(|(process, _)| *process).collect();
        // What the last of them start may still be on its way.
        assert!(family.len() > PLUGINS * (PROCESSES - 2), "run {run}: {} in the family", family.len());
        assert!(marked.len() > PLUGINS * (PROCESSES - 2), "run {run}: {} are marked", marked.len());
        host.kill();
        let killed = Instant::now();
        let is_left = |(pid, born): &(u32, u64)| stat(*pid).is_some_and(|(_, since)| since == *born);
        let left = || {
            let known: Vec<_> = family.iter().filter(|process| is_left(process)).map(|(pid, _)| *pid).collect();
            // Who is not known is looked for once nobody is left of those that are: that reads all of /proc.
            let marked = || processes(&mark).into_iter().filter(|(_, (_, marked))| *marked).map(|((pid, _), _)| pid).collect();
            if known.is_empty() { marked() } else { known }
        };
        loop {
            let left = left();
            if left.is_empty() {
                gone = gone.max(killed.elapsed());
                break;
            }
            if killed.elapsed() > SOON {
                let what = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
                let what: Vec<_> = left.iter().map(what).collect();
                // They end for nothing else, and a test that fails leaves nobody behind, either.
                left.iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())).for_each(|pid| _ = kill_process(pid, Signal::KILL));
                panic!("run {run}: left are {what:?}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    println!("{RUNS} hosts with {PLUGINS} plugins each, killed in {:.1?}; nobody was left after {gone:.1?} at most", begun.elapsed());
}
