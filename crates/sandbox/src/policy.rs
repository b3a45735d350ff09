//! What a command may touch and how much it may use, as plain data that travels to its supervisor. It enforces nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The wall around one command and all that it starts.
///
/// [`Policy::closed`] allows what any program needs to start and nothing else; add to it. [`Policy::open`] has no wall: the command is
/// supervised, limited and never left behind, and may otherwise do what its user may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Policy {
    /// Whether there is a wall. Without one, `files` and `network` mean nothing.
    pub wall: bool,
    /// Files and folders by what may be done with them.
    pub files: Files,
    /// What of the network can be reached without the host.
    pub network: Network,
    /// How much may be used.
    pub limits: Limits,
    /// How long the command and what it started have between the request to end and being killed, when the host is gone or the command
    /// has ended by itself; in milliseconds.
    pub grace_ms: u64,
}

/// Files and folders; a folder stands for all below it. Paths that do not exist when the command starts are passed over.
///
/// **Invariant:** a path that leads through a link when the command starts is passed over, too: what was looked at when the policy was
/// made is what is opened, whoever may write there meanwhile. Give paths without links.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Files {
    /// May be read and listed.
    pub read: Vec<PathBuf>,
    /// May be read, made, changed, moved and removed; never executed.
    pub write: Vec<PathBuf>,
    /// May be executed, beside the command itself and its interpreters. Whoever executes must read, too.
    pub execute: Vec<PathBuf>,
}

/// What of the network a command can reach by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Network {
    /// Nothing: no socket can be made but pairs.
    #[default]
    None,
    /// TCP and UDP, to any address. Unix sockets and raw sockets stay closed, as they lead to other programs of this machine.
    Direct,
}

/// How much a command and all that it starts may use together, unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Memory in bytes; over it, all are killed. Measured, so that a fast one is over it for a moment. With it, and a wall, memory that
    /// is nobody's own is refused (`memfd_create`, shared memory without a file): it stays where no measurement sees it.
    pub memory: Option<u64>,
    /// Address space of each process in bytes; an allocation over it fails. Not for programs that reserve much, such as V8 and CUDA.
    pub address_space: Option<u64>,
    /// Share of one core in percent; 200 are two cores. Over it, all are halted for a while.
    pub cpu_percent: Option<u32>,
    /// CPU time of each process in seconds; over it, it is killed.
    pub cpu_seconds: Option<u64>,
    /// Open files of each process; over it, opening fails.
    pub open_files: Option<u64>,
    /// Size of each file that is written, in bytes; over it, writing fails.
    pub file_size: Option<u64>,
    /// What one folder may hold; over it, all are killed.
    pub disk: Option<Disk>,
    /// Processes, the command among them; over it, starting one fails.
    pub processes: Option<u32>,
    /// Threads of all processes, the first of each among them; over it, starting one fails.
    pub threads: Option<u32>,
}

/// A quota of one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Which one; the command may write there.
    pub folder: PathBuf,
    /// What its files may take, in bytes.
    pub bytes: u64,
}

/// What a command may have that no policy spoke of.
const GRACE_MS: u64 = 2_000;

impl Policy {
    /// Supervised only: no wall.
    pub fn open() -> Self {
        Policy { wall: false, files: Files::default(), network: Network::None, limits: Limits::default(), grace_ms: GRACE_MS }
    }

    /// What any program needs to start (libraries, locales, time zones), and nothing else.
    pub fn closed() -> Self {
        let mut policy = Policy { wall: true, ..Policy::open() };
        policy.files.read.extend(of_machine(&EVERY_PROGRAM));
        policy.files.write.extend(of_machine(&EVERY_DEVICE));
        policy
    }

    /// With these to be read.
    #[must_use]
    pub fn read<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.files.read.extend(paths.into_iter().map(Into::into));
        self
    }

    /// With these to be read and written.
    #[must_use]
    pub fn write<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.files.write.extend(paths.into_iter().map(Into::into));
        self
    }

    /// With these to be executed, and read.
    #[must_use]
    pub fn execute<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        for path in paths {
            let path = path.into();
            self.files.read.push(path.clone());
            self.files.execute.push(path);
        }
        self
    }

    /// With the programs of this machine to be executed.
    #[must_use]
    pub fn any_program(self) -> Self {
        self.execute(of_machine(&PROGRAMS))
    }

    /// With the network, and the files that names and certificates are looked up in.
    #[must_use]
    pub fn network(mut self) -> Self {
        self.network = Network::Direct;
        self.read(of_machine(&FOR_NETWORK))
    }

    /// With what a Python interpreter reads: its own prefix, and for a virtual environment that of the interpreter that it was made
    /// from.
    #[must_use]
    pub fn python(self, interpreter: &Path) -> Self {
        let folders = crate::python::folders(interpreter);
        self.read(folders)
    }
}

/// Folders that are the machine's own, behind its links (`/lib` leads to `/usr/lib`), as far as they are there.
fn of_machine(paths: &[&str]) -> Vec<PathBuf> {
    // Whose folder in `/proc` is meant, the process says that opens it.
    let real = |path: &&str| if path.starts_with("/proc/self") { Some(PathBuf::from(path)) } else { fs::canonicalize(path).ok() };
    paths.iter().filter_map(real).collect()
}

/// Libraries and facts that programs read when they start. No home, no configuration of services, no list of users.
const EVERY_PROGRAM: [&str; 26] = [
    "/lib",
    "/lib64",
    "/lib32",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib32",
    "/usr/local/lib",
    "/usr/share/locale",
    "/usr/share/zoneinfo",
    "/usr/share/i18n",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/ssl/openssl.cnf",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/nix/store",
    "/gnu/store",
];

/// Devices that hold nothing. Not `/dev/zero`: mapped as shared, it is memory that nobody measures.
const EVERY_DEVICE: [&str; 4] = ["/dev/null", "/dev/full", "/dev/random", "/dev/urandom"];

/// How names and certificates are looked up.
const FOR_NETWORK: [&str; 10] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    // Not the folders above, which may hold private keys.
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
];

/// Where programs are.
const PROGRAMS: [&str; 8] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/local", "/lib"];
