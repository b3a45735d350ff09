//! What a command may try to get out, each in two runs: without the wall it must work, so that the attempt is a real one; behind the wall
//! it must fail and be reported.

use std::{
    fs,
    io::Write,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    process::Command,
    thread,
};

use bespoke_sandbox::{Policy, What};

use crate::kit::{Outcome, PROGRAM, Place, closed_for_python, of_python, run, unique};

struct Attempt {
    name: &'static str,
    /// Python that fails, or comes to its end.
    code: &'static str,
    what: What,
    /// What must hold so that it works without the wall.
    needs: Needs,
}

#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Root,
    /// A kernel that lets anybody do it.
    Kernel,
}

const fn attempt(name: &'static str, what: What, needs: Needs, code: &'static str) -> Attempt {
    Attempt { name, code, what, needs }
}

/// `OUT` is a folder outside, `HOST` the host's process, `INSIDE` the only folder that may be written.
const BEFORE: &str = r#"
import os, sys, socket, ctypes, struct, subprocess, signal, resource, shutil, stat
OUT, HOST = os.environ["OUT"], int(os.environ["HOST"])
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result < 0: raise OSError(ctypes.get_errno(), "refused")
    return result
"#;

use Needs::{Kernel, Nothing, Root};

const ATTEMPTS: &[Attempt] = &[
    attempt("read a file", What::Read, Nothing, "open(OUT + '/secret').read()"),
    attempt("read through ..", What::Read, Nothing, "open('../outside/secret').read()"),
    attempt("read through a link", What::Read, Nothing, "os.symlink(OUT + '/secret', 'link'); open('link').read()"),
    attempt("read through a link of a folder", What::Read, Nothing, "os.symlink(OUT, 'folder'); open('folder/secret').read()"),
    attempt(
        "read through a descriptor of a folder",
        What::Read,
        Nothing,
        "d = os.open(OUT, os.O_PATH); os.open('secret', os.O_RDONLY, dir_fd=d)",
    ),
    attempt("read through /proc/self/root", What::Read, Nothing, "open('/proc/self/root' + OUT + '/secret').read()"),
    attempt("read through /proc/self/cwd", What::Read, Nothing, "open('/proc/self/cwd/../outside/secret').read()"),
    attempt("read through the root of the host", What::Read, Nothing, "open(f'/proc/{HOST}/root' + OUT + '/secret').read()"),
    attempt("list a folder", What::Read, Nothing, "os.listdir(OUT)"),
    attempt("list all processes", What::Read, Nothing, "os.listdir('/proc')"),
    attempt("the host's environment", What::Read, Nothing, "assert open(f'/proc/{HOST}/environ').read()"),
    attempt("the environment of process 1", What::Read, Kernel, "assert open('/proc/1/environ').read() is not None"),
    attempt("the supervisor's environment", What::Read, Nothing, "open(f'/proc/{os.getppid()}/environ').read()"),
    attempt("the host's memory", What::Read, Nothing, "open(f'/proc/{HOST}/mem', 'rb')"),
    attempt(
        "the host's descriptors",
        What::Read,
        Nothing,
        "[open(f'/proc/{HOST}/fd/{n}', 'rb') for n in os.listdir(f'/proc/{HOST}/fd')[:1]]",
    ),
    attempt("write a new file", What::Write, Nothing, "open(OUT + '/new', 'w').write('x')"),
    attempt("write into a file", What::Write, Nothing, "open(OUT + '/secret', 'r+').write('x')"),
    attempt("append through a link", What::Write, Nothing, "os.symlink(OUT + '/secret', 'link'); open('link', 'a').write('x')"),
    attempt("empty a file", What::Write, Nothing, "os.truncate(OUT + '/secret', 0)"),
    attempt("empty a file while it is opened", What::Write, Nothing, "os.open(OUT + '/secret', os.O_RDONLY | os.O_TRUNC)"),
    attempt("give a file a second name inside", What::Write, Nothing, "os.link(OUT + '/secret', 'hard')"),
    attempt("move a file in", What::Write, Nothing, "os.rename(OUT + '/secret', 'mine')"),
    attempt("move a file out", What::Write, Nothing, "open('mine', 'w').close(); os.rename('mine', OUT + '/theirs')"),
    attempt("remove a file", What::Write, Nothing, "os.unlink(OUT + '/secret')"),
    attempt("make a folder", What::Write, Nothing, "os.mkdir(OUT + '/folder')"),
    attempt("make a link", What::Write, Nothing, "os.symlink('x', OUT + '/link')"),
    attempt("make a pipe", What::Write, Nothing, "os.mkfifo(OUT + '/pipe')"),
    attempt("change the mode", What::Write, Nothing, "os.chmod(OUT + '/secret', 0o666)"),
    attempt("change the mode through a link", What::Write, Nothing, "os.symlink(OUT + '/secret', 'link'); os.chmod('link', 0o666)"),
    attempt("change times", What::Write, Nothing, "os.utime(OUT + '/secret', (1, 1))"),
    attempt("change the owner", What::Write, Nothing, "os.chown(OUT + '/secret', os.getuid(), -1)"),
    attempt("change attributes", What::Write, Kernel, "os.setxattr(OUT + '/secret', 'user.x', b'x')"),
    attempt("TCP", What::Network, Nothing, "socket.create_connection(('127.0.0.1', int(os.environ['TCP'])))"),
    attempt("listen", What::Network, Nothing, "socket.create_server(('127.0.0.1', 0))"),
    attempt(
        "UDP",
        What::Network,
        Nothing,
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(os.environ['UDP'])))",
    ),
    attempt("a Unix socket by path", What::Network, Nothing, "socket.socket(socket.AF_UNIX).connect(OUT + '/stream')"),
    attempt(
        "a Unix socket without a path",
        What::Network,
        Nothing,
        "socket.socket(socket.AF_UNIX).connect('\\0' + os.environ['ABSTRACT'])",
    ),
    attempt(
        "a Unix datagram from a pair",
        What::Network,
        Nothing,
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', OUT + '/datagram')",
    ),
    attempt("netlink", What::Network, Nothing, "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    attempt("a raw socket", What::Network, Root, "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    attempt("a packet socket", What::Network, Root, "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)"),
    attempt("another program", What::Execute, Nothing, "subprocess.run(['/bin/true'], check=True)"),
    attempt("a shell", What::Execute, Nothing, "assert os.system('true') == 0"),
    attempt(
        "a script of its own",
        What::Execute,
        Nothing,
        "open('script', 'w').write('#!/bin/sh\\n'); os.chmod('script', 0o755); subprocess.run(['./script'], check=True)",
    ),
    attempt(
        "a copy of itself",
        What::Execute,
        Nothing,
        "shutil.copy(sys.executable, 'copy'); os.chmod('copy', 0o755); subprocess.run([os.path.abspath('copy'), '-S', '-c', ''], check=True, env={'PYTHONHOME': sys.prefix})",
    ),
    attempt(
        "a program without a file",
        What::Execute,
        Nothing,
        "f = os.memfd_create('x'); os.write(f, open(sys.executable, 'rb').read()); subprocess.run([f'/proc/self/fd/{f}', '-S', '-c', ''], pass_fds=[f], check=True, env={'PYTHONHOME': sys.prefix})",
    ),
    attempt(
        "a program through the dynamic linker",
        What::Read,
        Nothing,
        "import glob; ld = (glob.glob('/lib64/ld-linux-*') + glob.glob('/lib/ld-linux-*'))[0]; subprocess.run([ld, '/bin/true'], check=True)",
    ),
    attempt("trace the host", What::Inspect, Kernel, "must(libc.ptrace(0x4206, HOST, 0, 0))"),
    attempt("trace the supervisor", What::Inspect, Kernel, "must(libc.ptrace(0x4206, os.getppid(), 0, 0))"),
    attempt(
        "read the host's memory by a call",
        What::Inspect,
        Kernel,
        "b = ctypes.create_string_buffer(1); a = int(os.environ['ADDRESS']); v = struct.pack('QQ', ctypes.addressof(b), 1); r = struct.pack('QQ', a, 1); must(libc.process_vm_readv(HOST, v, 1, r, 1, 0))",
    ),
    attempt("take a descriptor of the host", What::Signal, Kernel, "p = os.pidfd_open(HOST); must(libc.syscall(438, p, 0, 0))"),
    attempt("signal the host", What::Signal, Nothing, "os.kill(HOST, 0)"),
    attempt("signal the supervisor", What::Signal, Nothing, "os.kill(os.getppid(), 0)"),
    attempt("signal the group of the host", What::Signal, Nothing, "os.killpg(os.getpgid(HOST), 0)"),
    attempt("signal through a descriptor", What::Signal, Nothing, "signal.pidfd_send_signal(os.pidfd_open(HOST), 0)"),
    attempt("signal a thread of the host", What::Signal, Nothing, "must(libc.tgkill(HOST, HOST, 0))"),
    attempt("slow the host down", What::Signal, Nothing, "os.setpriority(os.PRIO_PROCESS, HOST, os.getpriority(os.PRIO_PROCESS, HOST))"),
    attempt("bind the host to a core", What::Signal, Nothing, "os.sched_setaffinity(HOST, os.sched_getaffinity(HOST))"),
    attempt(
        "limit the host",
        What::Privilege,
        Nothing,
        "resource.prlimit(HOST, resource.RLIMIT_CORE, resource.prlimit(HOST, resource.RLIMIT_CORE))",
    ),
    attempt(
        "raise its own limit",
        What::Privilege,
        Kernel,
        "h = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (h + 1, h + 1))",
    ),
    attempt("memory of the system", What::Inspect, Kernel, "m = must(libc.shmget(0, 4096, 0o1600)); libc.shmctl(m, 0, None)"),
    attempt("a queue of the system", What::Inspect, Kernel, "q = must(libc.msgget(0, 0o1600)); libc.msgctl(q, 0, None)"),
    attempt("have the kernel signal the host", What::Signal, Nothing, "import fcntl; fcntl.fcntl(os.pipe()[0], 8, HOST)"),
    attempt("watch a folder", What::Read, Nothing, "must(libc.inotify_add_watch(must(libc.inotify_init()), OUT.encode(), 0x100))"),
    attempt("a namespace of users", What::Privilege, Kernel, "must(libc.unshare(0x10000000))"),
    attempt("a namespace by clone", What::Privilege, Kernel, CLONE),
    attempt("mount", What::Privilege, Root, "must(libc.unshare(0x20000)); must(libc.mount(b'none', b'.', b'tmpfs', 0, None))"),
    attempt("chroot", What::Privilege, Root, "os.chroot('.')"),
    attempt("enter a namespace", What::Privilege, Root, "must(libc.setns(os.open('/proc/self/ns/uts', os.O_RDONLY), 0))"),
    attempt("another personality", What::Privilege, Nothing, "must(libc.personality(0x0040000))"),
    attempt("a ring", What::Privilege, Kernel, "must(libc.syscall(425, 1, ctypes.create_string_buffer(120)))"),
    attempt("another host name", What::Privilege, Root, "socket.sethostname(socket.gethostname())"),
    attempt("keys of the kernel", What::Privilege, Kernel, "must(libc.syscall(KEYCTL, 0, -5, 1))"),
];

#[cfg(target_arch = "x86_64")]
const CLONE: &str = "p = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)\nif p == 0: os._exit(0)\nmust(p)";
#[cfg(not(target_arch = "x86_64"))]
const CLONE: &str = "p = libc.syscall(220, 0x10000000 | 17, 0, 0, 0, 0)\nif p == 0: os._exit(0)\nmust(p)";

/// One attempt among listeners of its own, so that those that change something do not disturb each other.
fn tried(attempt: &Attempt, policy: Policy) -> Outcome {
    let place = Place::new();
    let inside = place.folder("inside");
    let outside = place.folder("outside");
    place.file("outside/secret", "secret");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _stream = UnixListener::bind(outside.join("stream")).unwrap();
    let _datagram = UnixDatagram::bind(outside.join("datagram")).unwrap();
    let name = format!("bespoke-{}-{}", std::process::id(), unique());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let byte = Box::new(7u8);

    let numbers = if cfg!(target_arch = "x86_64") { "KEYCTL = 250\n" } else { "KEYCTL = 219\n" };
    let code = format!("{BEFORE}{numbers}{}\nprint('ESCAPED')", attempt.code);
    let mut order = of_python(policy.write([&inside]), &inside, &code);
    for (name, value) in [
        ("OUT", outside.display().to_string()),
        ("HOST", std::process::id().to_string()),
        ("TCP", tcp.local_addr().unwrap().port().to_string()),
        ("UDP", udp.local_addr().unwrap().port().to_string()),
        ("ABSTRACT", name),
        ("ADDRESS", (&raw const *byte as usize).to_string()),
        ("HOME", "/nonexistent".to_owned()),
    ] {
        order.env.push((name.into(), value.into()));
    }
    run(order)
}

fn root() -> bool {
    // The folder of a process belongs to whom it runs as.
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

fn problems_of(attempt: &Attempt) -> Vec<String> {
    let mut problems = Vec::new();
    let mut limited = closed_for_python();
    limited.limits.open_files = Some(256);
    let behind = tried(attempt, limited);
    if behind.stdout.contains("ESCAPED") {
        problems.push(format!("{}: it worked behind the wall: {behind:?}", attempt.name));
    }
    if !behind.stderr.contains("Error") {
        problems.push(format!("{}: it did not fail by an error: {behind:?}", attempt.name));
    }
    if behind.denied(attempt.what).is_empty() {
        problems.push(format!("{}: not reported as {:?}: {behind:?}", attempt.name, attempt.what));
    }
    let possible = match attempt.needs {
        Nothing => true,
        Root => root(),
        Kernel => false,
    };
    let mut limited = Policy::open();
    limited.limits.open_files = Some(256);
    let free = tried(attempt, limited);
    if possible && !free.stdout.contains("ESCAPED") {
        problems.push(format!("{}: it does not work without the wall, so that it tells nothing: {free:?}", attempt.name));
    } else if !free.stdout.contains("ESCAPED") {
        // Not hidden, and no failure: the machine refuses it anyway.
        let last = free.stderr.lines().last().unwrap_or_default();
        std::io::stderr().write_all(format!("{}: refused without the wall, too: {last}\n", attempt.name).as_bytes()).unwrap();
    }
    problems
}

#[test]
fn every_attempt_is_refused_and_reported() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let problems = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(attempt) = ATTEMPTS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let found = problems_of(attempt);
                    problems.lock().unwrap().extend(found);
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// With the network it is TCP and UDP that can be had, and nothing else.
#[test]
fn a_granted_network_opens_no_other_socket() {
    let refused =
        ["a Unix socket by path", "a Unix socket without a path", "a Unix datagram from a pair", "a raw socket", "a packet socket"];
    for attempt in ATTEMPTS.iter().filter(|attempt| attempt.what == What::Network) {
        let outcome = tried(attempt, closed_for_python().network());
        let escaped = outcome.stdout.contains("ESCAPED");
        assert_eq!(escaped, !refused.contains(&attempt.name), "{}: {outcome:?}", attempt.name);
        assert!(escaped || !outcome.denied(What::Network).is_empty(), "{}: {outcome:?}", attempt.name);
    }
}

/// The same once more as somebody without any rights, where the tests run as root.
#[test]
fn every_attempt_is_refused_to_a_user_without_rights() {
    if !root() || Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    // What was built may lie in a folder of root alone.
    let place = Place::new();
    let (tests, supervisor) = (place.0.join("tests"), place.0.join("bespoke-exec"));
    fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_bespoke-exec"), &supervisor).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(tests)
        .args(["--exact", "escapes::every_attempt_is_refused_and_reported"])
        .env(PROGRAM, supervisor)
        .env("HOME", &place.0)
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
