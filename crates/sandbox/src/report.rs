//! What a supervisor tells its host, one JSON object a line. It holds nothing that the command says.

use serde::{Deserialize, Serialize};

/// One thing that happened behind the wall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Report {
    /// The command runs.
    Started {
        /// Its process.
        pid: u32,
        /// Parts of the wall that were asked for and are not there.
        missing: Vec<String>,
    },
    /// The command could not be started. Nothing follows.
    Failed {
        /// What was tried, such as `exec /usr/bin/python3`.
        stage: String,
        /// Why it failed, in words.
        message: String,
        /// The number of the system's error, where it was one.
        errno: Option<i32>,
    },
    /// Something was tried that the policy does not allow, and refused. The same thing is told once a while, with how often it was tried.
    Denied {
        /// What kind of thing it was.
        what: What,
        /// The system call.
        call: String,
        /// On what: a path, an address family, a process.
        argument: String,
        /// How often since it was last told.
        times: u64,
    },
    /// A limit was reached.
    Limited {
        /// Which one.
        limit: Limit,
        /// How much was used: bytes, percent or a number.
        used: u64,
        /// How much is allowed.
        allowed: u64,
        /// What was done.
        acted: Acted,
    },
    /// Reports that were not told, as nobody read them or they were too many.
    Dropped {
        /// How many.
        count: u64,
    },
    /// The command has ended. What it had started is ended, too, before the channel closes.
    Ended {
        /// Its exit status, where it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The limit that it was killed for.
        limit: Option<Limit>,
    },
    /// Processes that could not be ended. Only the kernel can hold one so.
    Left {
        /// Which ones.
        pids: Vec<u32>,
    },
}

/// A kind of thing that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// Reading or listing a file.
    Read,
    /// Making, changing, moving or removing a file.
    Write,
    /// Starting a program.
    Execute,
    /// Making a socket.
    Network,
    /// A signal to a process outside, or a change of how it runs.
    Signal,
    /// Looking into another process.
    Inspect,
    /// Raising a limit, or leaving the wall by namespaces, mounts, keys and the like.
    Privilege,
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Memory of all processes.
    Memory,
    /// Share of the CPU.
    CpuShare,
    /// CPU time.
    CpuTime,
    /// Size of one file.
    FileSize,
    /// What a folder holds.
    Disk,
    /// Number of processes.
    Processes,
    /// Number of threads.
    Threads,
}

/// What was done at a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Acted {
    /// All processes were killed.
    Killed,
    /// All processes were halted for a while.
    Throttled,
    /// The call failed.
    Refused,
}

impl What {
    /// Its name, as it is written in a report.
    pub fn name(self) -> &'static str {
        match self {
            What::Read => "read",
            What::Write => "write",
            What::Execute => "execute",
            What::Network => "network",
            What::Signal => "signal",
            What::Inspect => "inspect",
            What::Privilege => "privilege",
        }
    }
}

impl Limit {
    /// Its name, in words.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Memory => "memory",
            Limit::CpuShare => "CPU share",
            Limit::CpuTime => "CPU time",
            Limit::FileSize => "file size",
            Limit::Disk => "disk",
            Limit::Processes => "processes",
            Limit::Threads => "threads",
        }
    }
}
