//! `[resources]`: what a plugin needs of the machine, which becomes its limits. One slice of limits drives the manifest, the
//! configuration and what is shown; enforcing them is the tier's.

/// What a plugin needs of the machine, and so may use at most. `None` leaves it to the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resources {
    /// Memory in MiB.
    pub memory_mb: Option<u32>,
    /// Address space of each process in MiB. Not for programs that reserve much, such as Node.js.
    pub address_space_mb: Option<u32>,
    /// Share of the processors; 100 is one of them.
    pub cpu_percent: Option<u32>,
    /// CPU time of each process in seconds, over its whole life.
    pub cpu_seconds: Option<u32>,
    /// Room in its data folder in MiB.
    pub disk_mb: Option<u32>,
    /// Threads that one request may use.
    pub threads: Option<u32>,
    /// Most time a start may take, in milliseconds.
    pub start_timeout_ms: Option<u32>,
    /// Files and sockets that are open at once.
    pub open_files: Option<u32>,
    /// Size of one file that it writes, in MiB.
    pub file_mb: Option<u32>,
    /// Processes and threads of its, all together.
    pub processes: Option<u32>,
    /// Requests through the host's client, in one second.
    pub network_per_s: Option<u32>,
}

/// One key of `[resources]`, and of the limits in a configuration.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limit {
    /// The key.
    pub key: &'static str,
    /// The least value that makes sense.
    pub least: u32,
    /// The greatest value that is taken.
    pub most: u32,
    /// What it limits, in words.
    pub about: &'static str,
    get: fn(&Resources) -> Option<u32>,
    set: fn(&mut Resources, Option<u32>),
}

macro_rules! limits {
    ($($key:ident $least:literal ..= $most:literal $about:literal;)*) => {
        &[$(Limit {
            key: stringify!($key),
            least: $least,
            most: $most,
            about: $about,
            get: |resources| resources.$key,
            set: |resources, value| resources.$key = value,
        }),*]
    };
}

impl Resources {
    /// Every limit, in the order in which they are shown.
    pub const LIMITS: &[Limit] = limits! {
        memory_mb 1..=1_048_576 "memory in MiB";
        address_space_mb 16..=268_435_456 "address space of each process, in MiB";
        cpu_percent 1..=102_400 "share of the processors; 100 is one of them";
        cpu_seconds 1..=31_536_000 "CPU time of each process over its life, in seconds";
        disk_mb 1..=1_048_576 "room in its data folder, in MiB";
        threads 1..=1024 "threads that one request may use";
        start_timeout_ms 1..=600_000 "most time a start may take, in milliseconds";
        open_files 16..=1_048_576 "files and sockets that are open at once";
        file_mb 1..=1_048_576 "size of one file that it writes, in MiB";
        processes 1..=65_536 "processes and threads of its, all together";
        network_per_s 1..=1_000_000 "requests through the host's client, in one second";
    };

    /// Those limits that are set, in their order.
    pub fn set(&self) -> impl Iterator<Item = (&'static Limit, u32)> {
        let own = *self;
        Self::LIMITS.iter().filter_map(move |limit| Some((limit, limit.of(&own)?)))
    }

    /// Of each limit, the lower one.
    #[must_use]
    pub fn lowest(self, other: Resources) -> Resources {
        let mut both = self;
        for (limit, value) in other.set() {
            limit.put(&mut both, limit.of(&self).map_or(value, |own| own.min(value)));
        }
        both
    }
}

impl Limit {
    /// The limit of a key.
    pub fn named(key: &str) -> Option<&'static Limit> {
        Resources::LIMITS.iter().find(|limit| limit.key == key)
    }

    /// Its value.
    pub fn of(&self, resources: &Resources) -> Option<u32> {
        (self.get)(resources)
    }

    /// Sets it.
    pub fn put(&self, resources: &mut Resources, value: u32) {
        (self.set)(resources, Some(value));
    }
}
