//! Which parts of a wall this machine can enforce, and which of them a policy needs. It looks, and changes nothing.

use serde::Serialize;

use crate::policy::{Network, Policy};

/// One part of a wall, and whether this machine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ability {
    /// Which one.
    pub part: Part,
    /// Whether it is enforced here.
    pub enforced: bool,
    /// By what, or why not.
    pub detail: String,
}

/// A part of a wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Files by path.
    Files,
    /// TCP.
    Tcp,
    /// UDP, raw and Unix sockets.
    Sockets,
    /// System calls that lead out of a wall.
    Syscalls,
    /// Signals to others, and looking into them.
    Signals,
    /// What was refused is told.
    Reports,
    /// Memory of a group of processes.
    Memory,
    /// Share of the CPU.
    CpuShare,
    /// CPU time, open files, size of a file.
    ResourceLimits,
    /// What a folder holds.
    Disk,
    /// Number of processes and threads.
    Processes,
    /// No process outlives the host.
    NoOrphans,
}

impl Part {
    /// Its name, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Part::Files => "files",
            Part::Tcp => "tcp",
            Part::Sockets => "sockets",
            Part::Syscalls => "syscalls",
            Part::Signals => "signals",
            Part::Reports => "reports",
            Part::Memory => "memory",
            Part::CpuShare => "cpu_share",
            Part::ResourceLimits => "resource_limits",
            Part::Disk => "disk",
            Part::Processes => "processes",
            Part::NoOrphans => "no_orphans",
        }
    }
}

/// Every part, as it is here.
pub fn abilities() -> Vec<Ability> {
    crate::system::abilities()
}

/// The parts that this policy needs and this machine cannot enforce. Reports are not among them: a wall without them is as high.
pub fn missing(policy: &Policy) -> Vec<Ability> {
    lacking(policy, abilities())
}

fn lacking(policy: &Policy, abilities: Vec<Ability>) -> Vec<Ability> {
    abilities.into_iter().filter(|ability| !ability.enforced && needs(policy, ability.part)).collect()
}

fn needs(policy: &Policy, part: Part) -> bool {
    let limits = &policy.limits;
    match part {
        Part::NoOrphans => true,
        Part::Files | Part::Sockets | Part::Syscalls | Part::Signals => policy.wall,
        Part::Tcp => policy.wall && policy.network == Network::None,
        Part::Reports => false,
        Part::Memory => limits.memory.is_some(),
        Part::CpuShare => limits.cpu_percent.is_some(),
        Part::ResourceLimits => [limits.address_space, limits.cpu_seconds, limits.open_files, limits.file_size].iter().any(Option::is_some),
        Part::Disk => limits.disk.is_some(),
        Part::Processes => limits.processes.is_some() || limits.threads.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_lacks_only_what_it_needs() {
        let none: Vec<_> = [Part::Files, Part::Tcp, Part::Reports, Part::Memory, Part::NoOrphans]
            .into_iter()
            .map(|part| Ability { part, enforced: false, detail: String::new() })
            .collect();
        let parts = |policy: &Policy| lacking(policy, none.clone()).into_iter().map(|a| a.part).collect::<Vec<_>>();
        assert_eq!(parts(&Policy::open()), [Part::NoOrphans]);
        assert_eq!(parts(&Policy::closed()), [Part::Files, Part::Tcp, Part::NoOrphans]);
        assert_eq!(parts(&Policy::closed().network()), [Part::Files, Part::NoOrphans]);
        let mut limited = Policy::open();
        limited.limits.memory = Some(1);
        assert_eq!(parts(&limited), [Part::Memory, Part::NoOrphans]);
    }
}
