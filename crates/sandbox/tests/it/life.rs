//! How a command starts and ends, and that nothing of it is left behind.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bespoke_sandbox::{Policy, Report, Spawn, What, abilities, missing, spawn};

use crate::kit::{Place, closed_for_python, collect, eventually, of_python, python, run, unique};

#[test]
fn a_command_runs_behind_the_wall() {
    let place = Place::new();
    for policy in [Policy::open(), closed_for_python()] {
        let code = "import sys, json, ctypes, asyncio, subprocess, threading\n\
                    t = threading.Thread(target=print, args=['hello']); t.start(); t.join(); sys.exit(3)";
        let outcome = run(of_python(policy, &place.0, code));
        assert_eq!(outcome.stdout, "hello\n", "{outcome:?}");
        assert_eq!(outcome.code(), Some(3), "{outcome:?}");
        assert!(matches!(outcome.reports.first(), Some(Report::Started { .. })), "{outcome:?}");
        assert!(matches!(outcome.reports.last(), Some(Report::Ended { signal: None, limit: None, .. })), "{outcome:?}");
    }
}

#[test]
fn what_the_policy_grants_works_behind_the_wall() {
    let place = Place::new();
    let (inside, given) = (place.folder("inside"), place.folder("given"));
    place.file("given/text", "given");
    let code = "import os, shutil, tempfile, multiprocessing, sqlite3, subprocess, sys\n\
        assert open(os.environ['GIVEN'] + '/text').read() == 'given'\n\
        os.makedirs('a/b'); open('a/b/c', 'w').write('x'); os.chmod('a/b/c', 0o600); os.utime('a/b/c', (5, 6))\n\
        assert os.stat('a/b/c').st_mode & 0o777 == 0o600 and os.stat('a/b/c').st_mtime == 6\n\
        shutil.copy2('a/b/c', 'd'); os.rename('d', 'a/e'); os.link('a/e', 'f'); os.symlink('f', 'g'); open('g').read()\n\
        f = os.open('f', os.O_RDWR); os.fchmod(f, 0o640); os.utime(f); assert os.fstat(f).st_mode & 0o777 == 0o640\n\
        db = sqlite3.connect('x.db'); db.execute('create table t (a)'); db.commit()\n\
        p = multiprocessing.get_context('fork').Process(target=print, args=['forked'], kwargs={'flush': True}); p.start(); p.join()\n\
        subprocess.run([sys.executable, '-c', 'print(\"again\")'], check=True)\n\
        os.kill(p.pid, 0) if False else os.kill(os.getpid(), 0)\n\
        shutil.rmtree('a'); print('done', flush=True)";
    let mut order = of_python(closed_for_python().write([&inside]).read([&given]), &inside, code);
    order.env.push(("GIVEN".into(), given.into()));
    order.env.push(("HOME".into(), inside.into()));
    let outcome = run(order);
    assert_eq!(outcome.stdout, "forked\nagain\ndone\n", "{outcome:?}");
}

#[test]
fn a_setuid_bit_is_not_set() {
    let place = Place::new();
    let code = "import os; open('f', 'w').close(); os.chmod('f', 0o4755)";
    let outcome = run(of_python(closed_for_python().write([&place.0]), &place.0, code));
    assert!(outcome.stderr.contains("PermissionError"), "{outcome:?}");
    assert_eq!(outcome.denied(What::Write), [place.0.join("f").to_str().unwrap()], "{outcome:?}");
}

#[test]
fn a_command_that_is_not_there_is_a_failure() {
    let place = Place::new();
    for policy in [Policy::open(), Policy::closed()] {
        let mut order = of_python(policy, &place.0, "");
        order.command = vec!["/nowhere/program".into()];
        let outcome = run(order);
        let [Report::Failed { stage, errno: Some(2), .. }] = &outcome.reports[..] else { panic!("{outcome:?}") };
        assert_eq!(stage, "execute /nowhere/program");
    }
    let mut order = of_python(Policy::open(), &place.0, "");
    order.cwd = "/nowhere".into();
    assert!(spawn(order).is_err());
}

#[test]
fn the_environment_is_what_was_given() {
    let place = Place::new();
    let mut order =
        of_python(closed_for_python(), &place.0, "import os, sys; print(sorted(os.environ)); print(len(os.listdir('/proc/self/fd')))");
    order.env = vec![("LC_ALL".into(), "C.UTF-8".into()), ("LD_DEBUG".into(), "".into())];
    // Descriptors 0, 1, 2, and that of the list itself.
    assert_eq!(run(order).stdout, "['LC_ALL', 'LD_DEBUG']\n4\n");
}

#[test]
fn a_descriptor_that_leaks_does_not_reach_the_command() {
    let place = Place::new();
    let secret = fs::File::open(place.file("secret", "secret")).unwrap();
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&secret.as_fd());
    let code = format!("import os; print(os.read({number}, 6))");
    let plain = Command::new(python()).args(["-c", &code]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&plain.stdout), "b'secret'\n");
    for policy in [Policy::open(), closed_for_python()] {
        let outcome = run(of_python(policy, &place.0, &code));
        assert!(outcome.stderr.contains("Bad file descriptor"), "{outcome:?}");
    }
}

/// What leaves its parent, its group and its session, and ends for no request.
const STUBBORN: &str = "trap '' TERM HUP INT\n\
    setsid sh -c \"trap '' TERM; sh -c 'sleep 1000 & sleep 1000' & sleep 1000\" &\n\
    sleep 1000 &\n\
    echo ready\n\
    while :; do sleep 1000; done";

fn stubborn(mark: &str, wall: bool, place: &Path) -> Spawn {
    let mut policy = if wall { Policy::closed().any_program() } else { Policy::open() };
    policy.grace_ms = 50;
    let mut order = of_python(policy, place, "");
    order.command = vec!["/bin/sh".into(), "-c".into(), STUBBORN.into()];
    order.env = vec![("PATH".into(), "/usr/bin:/bin".into()), ("SANDBOX_MARK".into(), mark.into())];
    order.verb.push(mark.into());
    order
}

/// Those that carry a mark in their environment or their arguments, the dead not counted.
pub(crate) fn marked(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let holds = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
        if entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())
            && (holds(&read("environ")) || holds(&read("cmdline")))
            && entry.file_name().to_str() != Some(&std::process::id().to_string())
        {
            found.push(format!("{}: {}", entry.file_name().to_string_lossy(), String::from_utf8_lossy(&read("cmdline"))));
        }
    }
    found
}

fn mark() -> String {
    format!("mark-{}-{}-end", std::process::id(), unique())
}

#[test]
fn whoever_leaves_session_and_parent_is_ended() {
    let place = Place::new();
    for (wall, how) in [(true, "stop"), (true, "kill"), (true, "drop"), (false, "stop"), (false, "drop")] {
        let mark = mark();
        let mut child = spawn(stubborn(&mark, wall, &place.0)).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        eventually("all are there", || marked(&mark).len() >= 6);
        match how {
            "stop" => child.stop(Duration::from_millis(20)),
            "kill" => child.kill(),
            _ => {}
        }
        if how == "drop" {
            drop(child);
        } else {
            let outcome = collect(child);
            assert!(matches!(outcome.reports.last(), Some(Report::Ended { signal: Some(9), .. })), "{outcome:?}");
        }
        eventually("nobody is left", || marked(&mark).is_empty());
    }
}

#[test]
fn a_command_that_is_asked_to_end_hears_of_it() {
    let place = Place::new();
    let code = "import signal, sys\n\
                blocked = [line for line in open('/proc/self/status') if line.startswith('SigBlk')][0]\n\
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n\
                print(blocked.split()[1], flush=True)\n\
                signal.pause()";
    for mut policy in [Policy::open(), closed_for_python()] {
        // Longer than anybody waits: it ends by itself, or this hangs until then.
        policy.grace_ms = 60_000;
        let mut child = spawn(of_python(policy, &place.0, code)).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "0000000000000000\n");
        child.stop(Duration::from_secs(60));
        let outcome = collect(child);
        assert_eq!(outcome.code(), Some(7), "{outcome:?}");
    }
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let place = Place::new();
    let mark = mark();
    let mut order = stubborn(&mark, true, &place.0);
    order.command = vec!["/bin/sh".into(), "-c".into(), "setsid sh -c \"trap '' TERM; sleep 1000\" & exit 4".into()];
    let outcome = run(order);
    assert_eq!(outcome.code(), Some(4), "{outcome:?}");
    assert_eq!(marked(&mark), Vec::<String>::new());
}

/// Either of the two, by any signal that would end a program.
#[test]
fn a_supervisor_that_is_killed_leaves_nobody() {
    let place = Place::new();
    for (second, signal) in [(false, "-9"), (true, "-9"), (false, "-15"), (true, "-15"), (true, "-1")] {
        let mark = mark();
        let mut child = spawn(stubborn(&mark, true, &place.0)).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        eventually("all are there", || marked(&mark).len() >= 6);
        let mut victim = child.supervisor();
        if second {
            victim = only_child_of(victim);
        }
        Command::new("kill").args([signal, &victim.to_string()]).status().unwrap();
        child.wait().unwrap();
        eventually("nobody is left", || marked(&mark).is_empty());
    }
}

fn only_child_of(pid: u32) -> u32 {
    let children = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
        (parent == pid).then(|| entry.file_name().to_str()?.parse().ok())?
    });
    let children: Vec<u32> = children.collect();
    assert_eq!(children.len(), 1);
    children[0]
}

/// A host that is behind a filter with a listener, as in some containers: there can be no second one. The wall stands, and says less.
#[test]
fn a_wall_inside_another_one() {
    let place = Place::new();
    if std::env::var_os(HOST).is_none() {
        let mut policy = Policy::open();
        policy.limits.processes = Some(100);
        let mut order = of_python(policy, &place.0, "");
        let this = std::env::current_exe().unwrap();
        order.command = vec![this.into(), "--exact".into(), "life::a_wall_inside_another_one".into(), "--nocapture".into()];
        order.env.extend([(HOST.into(), "1".into())]);
        let outcome = run(order);
        assert!(outcome.stdout.contains("1 passed"), "{outcome:?}");
        return;
    }
    let code = "import os, socket\n\
        try: socket.socket(); print('socket')\n\
        except PermissionError: pass\n\
        try: os.listdir('/'); print('listed')\n\
        except PermissionError: pass\n\
        if os.fork() == 0: os._exit(0)\n\
        os.wait(); os.kill(os.getpid(), 0); print('done')";
    let mut policy = closed_for_python();
    policy.limits.processes = Some(10);
    let outcome = run(of_python(policy, &place.0, code));
    assert_eq!(outcome.stdout, "done\n", "{outcome:?}");
    assert!(
        matches!(&outcome.reports[..], [Report::Started { missing, .. }, Report::Ended { .. }] if missing == &["processes"]),
        "{outcome:?}"
    );
}

const HOST: &str = "SANDBOX_TEST_HOST";
const COMMANDS: usize = 20;
const ROUNDS: usize = 50;

/// Not a test by itself: the host that [`nobody_outlives_a_host_that_is_killed`] kills.
#[test]
fn a_host_to_be_killed() {
    let Ok(mark) = std::env::var(HOST) else { return };
    let place = std::env::temp_dir();
    let children: Vec<_> = (0..COMMANDS).map(|n| spawn(stubborn(&mark, n % 2 == 0, &place)).unwrap()).collect();
    for child in &children {
        let mut line = String::new();
        BufReader::new(std::fs::File::from(child.stdout.as_ref().unwrap().as_fd().try_clone_to_owned().unwrap()))
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
    }
    writeln!(std::io::stderr(), "all ready").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn nobody_outlives_a_host_that_is_killed() {
    for round in 0..ROUNDS {
        let mark = mark();
        let mut host = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "life::a_host_to_be_killed", "--nocapture"])
            .env(HOST, &mark)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(host.stderr.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line.contains("all ready")), "round {round}");
        if round == 0 {
            eventually("all are there", || marked(&mark).len() > COMMANDS * 6);
        }
        host.kill().unwrap();
        host.wait().unwrap();
        eventually("nobody is left", || marked(&mark).is_empty());
    }
}

#[test]
fn starting_and_ending_leaves_nothing_open() {
    let place = Place::new();
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let one = || {
        let mut order = of_python(Policy::closed().any_program(), &place.0, "");
        order.command = vec!["/bin/true".into()];
        drop(run(order));
    };
    one();
    // Other tests of this process open and close, too, unless each runs in a process of its own.
    let before = count();
    for _ in 0..20 {
        one();
    }
    assert!(count() <= before + 64, "{before} {}", count());
}

#[test]
fn the_machine_says_what_it_can() {
    let all = abilities();
    assert_eq!(all.len(), 12);
    assert!(all.iter().all(|ability| !ability.detail.is_empty()));
    let not: Vec<_> = all.iter().filter(|ability| !ability.enforced).map(|ability| ability.part).collect();
    assert_eq!(missing(&Policy::open()), [], "{not:?}");
}

#[test]
fn the_verb_is_not_for_people() {
    let output = Command::new(env!("CARGO_BIN_EXE_bespoke-exec")).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a command for people"));
}
