//! Which system calls the wall refuses, and which it asks the supervisor about. A table; how it is enforced is `filter`'s.

use libc::c_long;

use super::rule::{Ask, OpenFlags, Rule, Then, When};
use crate::{
    policy::{Network, Policy},
    report::What,
};

const EPERM: i32 = libc::EPERM;
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

// Newer than the tables of `libc`; numbers from 424 on are the same on every architecture.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;
const FILE_SETATTR: c_long = 469;
/// `memfd_create`: what is in it can never be executed.
const MFD_NOEXEC_SEAL: u32 = 8;
/// `mmap`: whose the memory is.
const KIND_OF_MAP: u32 = 0xf;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC_FSSETXATTR: u32 = 0x401C_5820;
const F_SETOWN_EX: i32 = 15;

macro_rules! call {
    ($name:ident) => {
        (numbers::$name, stringify!($name))
    };
}

/// The numbers, under the names that are told.
#[allow(non_upper_case_globals, reason = "they are the names of the calls")]
mod numbers {
    use libc::c_long;
    macro_rules! numbers {
        ($($name:ident = $number:ident),* $(,)?) => { $(pub(super) const $name: c_long = libc::$number;)* };
    }
    numbers! {
        ptrace = SYS_ptrace, process_vm_readv = SYS_process_vm_readv, process_vm_writev = SYS_process_vm_writev,
        pidfd_getfd = SYS_pidfd_getfd, process_madvise = SYS_process_madvise, process_mrelease = SYS_process_mrelease, kcmp = SYS_kcmp,
        perf_event_open = SYS_perf_event_open, bpf = SYS_bpf, mount = SYS_mount, umount2 = SYS_umount2,
        mount_setattr = SYS_mount_setattr, open_tree = SYS_open_tree, move_mount = SYS_move_mount, fsopen = SYS_fsopen,
        fsconfig = SYS_fsconfig, fsmount = SYS_fsmount, fspick = SYS_fspick, pivot_root = SYS_pivot_root, chroot = SYS_chroot,
        unshare = SYS_unshare, setns = SYS_setns, clone = SYS_clone, clone3 = SYS_clone3, keyctl = SYS_keyctl, add_key = SYS_add_key,
        request_key = SYS_request_key, userfaultfd = SYS_userfaultfd, io_uring_setup = SYS_io_uring_setup,
        io_uring_enter = SYS_io_uring_enter, io_uring_register = SYS_io_uring_register, open_by_handle_at = SYS_open_by_handle_at,
        init_module = SYS_init_module, finit_module = SYS_finit_module, delete_module = SYS_delete_module,
        kexec_load = SYS_kexec_load, reboot = SYS_reboot, swapon = SYS_swapon,
        swapoff = SYS_swapoff, personality = SYS_personality, acct = SYS_acct, quotactl = SYS_quotactl, syslog = SYS_syslog,
        settimeofday = SYS_settimeofday, clock_settime = SYS_clock_settime, clock_adjtime = SYS_clock_adjtime, adjtimex = SYS_adjtimex,
        sethostname = SYS_sethostname, setdomainname = SYS_setdomainname, vhangup = SYS_vhangup, fanotify_init = SYS_fanotify_init,
        migrate_pages = SYS_migrate_pages, move_pages = SYS_move_pages, prlimit64 = SYS_prlimit64,
        socket = SYS_socket, socketpair = SYS_socketpair, memfd_create = SYS_memfd_create, mmap = SYS_mmap, memfd_secret = SYS_memfd_secret,
        ioctl = SYS_ioctl, openat = SYS_openat, openat2 = SYS_openat2, execve = SYS_execve, execveat = SYS_execveat,
        unlinkat = SYS_unlinkat, renameat2 = SYS_renameat2, linkat = SYS_linkat, symlinkat = SYS_symlinkat,
        mkdirat = SYS_mkdirat, mknodat = SYS_mknodat, truncate = SYS_truncate, fchmod = SYS_fchmod, fchmodat = SYS_fchmodat,
        utimensat = SYS_utimensat, fchown = SYS_fchown, fchownat = SYS_fchownat, setxattr = SYS_setxattr, lsetxattr = SYS_lsetxattr,
        fsetxattr = SYS_fsetxattr, removexattr = SYS_removexattr, lremovexattr = SYS_lremovexattr, fremovexattr = SYS_fremovexattr,
        kill = SYS_kill, tkill = SYS_tkill, tgkill = SYS_tgkill, rt_sigqueueinfo = SYS_rt_sigqueueinfo,
        rt_tgsigqueueinfo = SYS_rt_tgsigqueueinfo, pidfd_open = SYS_pidfd_open, setpriority = SYS_setpriority,
        ioprio_set = SYS_ioprio_set, sched_setaffinity = SYS_sched_setaffinity, sched_setscheduler = SYS_sched_setscheduler,
        sched_setparam = SYS_sched_setparam, sched_setattr = SYS_sched_setattr, name_to_handle_at = SYS_name_to_handle_at,
        shmget = SYS_shmget, shmat = SYS_shmat, shmctl = SYS_shmctl, semget = SYS_semget, semctl = SYS_semctl, semop = SYS_semop,
        semtimedop = SYS_semtimedop, msgget = SYS_msgget, msgsnd = SYS_msgsnd, msgrcv = SYS_msgrcv, msgctl = SYS_msgctl,
        mq_open = SYS_mq_open, mq_unlink = SYS_mq_unlink, fcntl = SYS_fcntl, inotify_add_watch = SYS_inotify_add_watch,
    }
    #[cfg(target_arch = "x86_64")]
    numbers! {
        iopl = SYS_iopl, ioperm = SYS_ioperm, open = SYS_open, creat = SYS_creat, fork = SYS_fork, vfork = SYS_vfork,
        unlink = SYS_unlink, rmdir = SYS_rmdir, rename = SYS_rename, link = SYS_link, symlink = SYS_symlink, mkdir = SYS_mkdir,
        mknod = SYS_mknod, chmod = SYS_chmod, utime = SYS_utime, utimes = SYS_utimes, futimesat = SYS_futimesat, chown = SYS_chown,
        lchown = SYS_lchown, modify_ldt = SYS_modify_ldt, kexec_file_load = SYS_kexec_file_load, renameat = SYS_renameat, setrlimit = SYS_setrlimit,
        lookup_dcookie = SYS_lookup_dcookie, uselib = SYS_uselib, ustat = SYS_ustat, sysfs = SYS_sysfs,
    }
    #[cfg(target_arch = "aarch64")]
    numbers! { kexec_file_load = SYS_kexec_file_load }
    // `libc` has no names for these two here.
    #[cfg(target_arch = "aarch64")]
    pub(super) const renameat: c_long = 38;
    #[cfg(target_arch = "aarch64")]
    pub(super) const setrlimit: c_long = 164;
}

/// The lines for a policy. `signals` says that Landlock keeps signals inside, also where the supervisor cannot be asked.
pub(super) fn rules(policy: &Policy, signals: bool) -> Vec<Rule> {
    let mut table = Table(Vec::new());
    if policy.wall {
        table.paths();
        table.targets(signals);
        table.sockets(policy.network);
        table.programs(policy);
        table.privileges();
    }
    table.forks(policy.wall);
    table.0
}

struct Table(Vec<Rule>);

impl Table {
    fn add(&mut self, (call, name): (c_long, &'static str), when: &[When], then: Then) {
        self.0.push(Rule { call, name, when: when.to_vec(), then });
    }

    fn refuse(&mut self, what: What, calls: &[(c_long, &'static str)]) {
        for call in calls {
            self.add(*call, &[], Then::Refuse(what, EPERM));
        }
    }

    /// Calls on paths. Landlock decides on those that it knows; mode bits, owners, times and attributes it does not.
    fn paths(&mut self) {
        let open = |folder, path, flags| Then::Ask(Ask::Open { folder, path, flags }, 0);
        let names = |first, second| Then::Ask(Ask::Names { first, second }, 0);
        self.add(call!(openat), &[], open(Some(0), 1, OpenFlags::Argument(2)));
        self.add(call!(openat2), &[], open(Some(0), 1, OpenFlags::How(2)));
        self.add(call!(execve), &[], Then::Ask(Ask::Execute { folder: None, path: 0, flags: None }, 0));
        self.add(call!(execveat), &[], Then::Ask(Ask::Execute { folder: Some(0), path: 1, flags: Some(4) }, 0));
        self.add(call!(unlinkat), &[], names((Some(0), 1), None));
        self.add(call!(renameat), &[], names((Some(0), 1), Some((Some(2), 3))));
        self.add(call!(renameat2), &[], names((Some(0), 1), Some((Some(2), 3))));
        self.add(call!(linkat), &[], names((Some(0), 1), Some((Some(2), 3))));
        self.add(call!(symlinkat), &[], names((Some(1), 2), None));
        self.add(call!(mkdirat), &[], names((Some(0), 1), None));
        self.add(call!(mknodat), &[], names((Some(0), 1), None));
        // Landlock before version 3 does not know of it, and does not count as a wall for files.
        self.add(call!(truncate), &[], names((None, 0), None));
        let mode = |folder, path, mode, flags| Then::Ask(Ask::Mode { folder, path, mode, flags }, EPERM);
        self.add(call!(fchmod), &[], Then::Ask(Ask::ModeOfOpen, EPERM));
        self.add(call!(fchmodat), &[], mode(Some(0), 1, 2, None));
        self.add((FCHMODAT2, "fchmodat2"), &[], mode(Some(0), 1, 2, Some(3)));
        self.add(call!(utimensat), &[], Then::Ask(Ask::Times { folder: Some(0), path: Some(1), times: 2, flags: Some(3) }, EPERM));
        #[cfg(target_arch = "x86_64")]
        {
            self.add(call!(open), &[], open(None, 0, OpenFlags::Argument(1)));
            self.add(call!(creat), &[], open(None, 0, OpenFlags::Create));
            self.add(call!(unlink), &[], names((None, 0), None));
            self.add(call!(rmdir), &[], names((None, 0), None));
            self.add(call!(rename), &[], names((None, 0), Some((None, 1))));
            self.add(call!(link), &[], names((None, 0), Some((None, 1))));
            self.add(call!(symlink), &[], names((None, 1), None));
            self.add(call!(mkdir), &[], names((None, 0), None));
            self.add(call!(mknod), &[], names((None, 0), None));
            self.add(call!(chmod), &[], mode(None, 0, 1, None));
            // Old ways to set times, which libraries have left behind.
            self.refuse(What::Write, &[call!(utime), call!(utimes), call!(futimesat), call!(chown), call!(lchown)]);
        }
        // Names of files that somebody else makes, and attributes that need only reading; neither is known to Landlock.
        self.refuse(What::Read, &[call!(inotify_add_watch)]);
        for command in [FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR] {
            self.add(call!(ioctl), &[When::is(1, command)], Then::Refuse(What::Write, EPERM));
        }
        self.refuse(
            What::Write,
            &[
                call!(fchown),
                call!(fchownat),
                call!(setxattr),
                call!(lsetxattr),
                call!(fsetxattr),
                (SETXATTRAT, "setxattrat"),
                call!(removexattr),
                call!(lremovexattr),
                call!(fremovexattr),
                (REMOVEXATTRAT, "removexattrat"),
                (FILE_SETATTR, "file_setattr"),
            ],
        );
    }

    /// Signals, and changes of how another process runs, reach only descendants of the supervisor.
    fn targets(&mut self, signals: bool) {
        let signal = |process, group| Then::Ask(Ask::Target { process, group }, if signals { 0 } else { EPERM });
        let target = |process, group| Then::Ask(Ask::Target { process, group }, EPERM);
        self.add(call!(kill), &[], signal(0, true));
        self.add(call!(tkill), &[], signal(0, false));
        self.add(call!(tgkill), &[], signal(0, false));
        self.add(call!(rt_sigqueueinfo), &[], signal(0, false));
        self.add(call!(rt_tgsigqueueinfo), &[], signal(0, false));
        // Without it no signal can be sent through a descriptor of a process.
        self.add(call!(pidfd_open), &[], signal(0, false));
        for call in [call!(sched_setaffinity), call!(sched_setscheduler), call!(sched_setparam), call!(sched_setattr)] {
            self.add(call, &[When::is(0, 0)], Then::Allow);
            self.add(call, &[], target(0, false));
        }
        // Of a process, not of a group or of a user; the caller itself is 0.
        self.add(call!(setpriority), &[When::is(0, 0), When::is(1, 0)], Then::Allow);
        self.add(call!(setpriority), &[When::is(0, 0)], target(1, false));
        self.add(call!(setpriority), &[], Then::Refuse(What::Signal, EPERM));
        self.add(call!(ioprio_set), &[When::is(0, 1), When::is(1, 0)], Then::Allow);
        self.add(call!(ioprio_set), &[When::is(0, 1)], target(1, false));
        self.add(call!(ioprio_set), &[], Then::Refuse(What::Signal, EPERM));
        self.add(call!(prlimit64), &When::null(2), Then::Allow);
        self.add(call!(prlimit64), &[], Then::Ask(Ask::Limit { process: Some(0), resource: 1, new: 2 }, EPERM));
        // Whose signals a descriptor sends.
        for command in [libc::F_SETOWN, F_SETOWN_EX] {
            self.add(call!(fcntl), &[When::is(1, command as u32)], Then::Refuse(What::Signal, EPERM));
        }
        for command in [FIOSETOWN, SIOCSPGRP] {
            self.add(call!(ioctl), &[When::is(1, command)], Then::Refuse(What::Signal, EPERM));
        }
        self.add(call!(setrlimit), &[], Then::Ask(Ask::Limit { process: None, resource: 0, new: 1 }, EPERM));
    }

    fn sockets(&mut self, network: Network) {
        const STREAM: u32 = libc::SOCK_STREAM as u32;
        const DATAGRAM: u32 = libc::SOCK_DGRAM as u32;
        const SEQUENCE: u32 = libc::SOCK_SEQPACKET as u32;
        if network == Network::Direct {
            for family in [libc::AF_INET as u32, libc::AF_INET6 as u32] {
                for kind in [STREAM, DATAGRAM] {
                    self.add(call!(socket), &[When::is(0, family), When::masked(1, 0xf, kind)], Then::Allow);
                }
            }
            // Which addresses this machine has; resolvers ask for it. Changing them would need a capability.
            self.add(call!(socket), &[When::is(0, libc::AF_NETLINK as u32), When::is(2, 0)], Then::Allow);
        }
        self.add(call!(socket), &[], Then::Refuse(What::Network, EPERM));
        // A datagram socket of a pair can still send to any path.
        for kind in [STREAM, SEQUENCE] {
            self.add(call!(socketpair), &[When::masked(1, 0xf, kind)], Then::Allow);
        }
        self.add(call!(socketpair), &[], Then::Refuse(What::Network, EPERM));
    }

    /// Landlock does not see files that have no place, so that they must be made without the right to execute.
    fn programs(&mut self, policy: &Policy) {
        if policy.limits.memory.is_some() {
            self.memory();
        }
        if !policy.files.execute.iter().any(|path| path.as_os_str() == "/") {
            self.add(call!(memfd_create), &[When::any_of(1, MFD_NOEXEC_SEAL)], Then::Allow);
            self.add(call!(memfd_create), &[], Then::Refuse(What::Execute, EPERM));
            self.add(call!(memfd_secret), &[], Then::Refuse(What::Execute, EPERM));
        }
    }

    /// Memory that belongs to a file without a name stays when nobody maps it, and what the supervisor measures is what is mapped.
    fn memory(&mut self) {
        self.add(call!(memfd_create), &[], Then::Refuse(What::Privilege, EPERM));
        for shared in [libc::MAP_SHARED, libc::MAP_SHARED_VALIDATE] {
            let (mask, is) = (KIND_OF_MAP | libc::MAP_ANONYMOUS as u32, (shared | libc::MAP_ANONYMOUS) as u32);
            self.add(call!(mmap), &[When::masked(3, mask, is)], Then::Refuse(What::Privilege, EPERM));
        }
    }

    fn privileges(&mut self) {
        self.refuse(
            What::Inspect,
            &[
                call!(ptrace),
                call!(process_vm_readv),
                call!(process_vm_writev),
                call!(pidfd_getfd),
                call!(process_madvise),
                call!(process_mrelease),
                call!(kcmp),
                call!(perf_event_open),
                call!(migrate_pages),
            ],
        );
        self.add(call!(move_pages), &[When::is(0, 0)], Then::Allow);
        self.add(call!(move_pages), &[], Then::Refuse(What::Inspect, EPERM));
        self.refuse(
            What::Privilege,
            &[
                call!(bpf),
                call!(mount),
                call!(umount2),
                call!(mount_setattr),
                call!(open_tree),
                (OPEN_TREE_ATTR, "open_tree_attr"),
                call!(move_mount),
                call!(fsopen),
                call!(fsconfig),
                call!(fsmount),
                call!(fspick),
                call!(pivot_root),
                call!(chroot),
                call!(unshare),
                call!(setns),
                call!(keyctl),
                call!(add_key),
                call!(request_key),
                call!(userfaultfd),
                call!(open_by_handle_at),
                call!(name_to_handle_at),
                call!(init_module),
                call!(finit_module),
                call!(delete_module),
                call!(kexec_load),
                call!(kexec_file_load),
                call!(reboot),
                call!(swapon),
                call!(swapoff),
                call!(acct),
                call!(quotactl),
                call!(syslog),
                call!(settimeofday),
                call!(clock_settime),
                call!(clock_adjtime),
                call!(adjtimex),
                call!(sethostname),
                call!(setdomainname),
                call!(vhangup),
                call!(fanotify_init),
            ],
        );
        // Asking which personality one has is harmless.
        self.add(call!(personality), &[When::not(0, u32::MAX)], Then::Refuse(What::Privilege, EPERM));
        // A ring would do what is refused here without a call.
        for call in [call!(io_uring_setup), call!(io_uring_enter), call!(io_uring_register)] {
            self.add(call, &[], Then::Refuse(What::Privilege, libc::ENOSYS));
        }
        // Memory, semaphores and queues of the system have no path, so that Landlock does not see whose they are.
        self.refuse(
            What::Inspect,
            &[
                call!(shmget),
                call!(shmat),
                call!(shmctl),
                call!(semget),
                call!(semctl),
                call!(semop),
                call!(semtimedop),
                call!(msgget),
                call!(msgsnd),
                call!(msgrcv),
                call!(msgctl),
                call!(mq_open),
                call!(mq_unlink),
            ],
        );
        // Typing into a terminal.
        self.add(call!(ioctl), &[When::is(1, TIOCSTI)], Then::Refuse(What::Privilege, EPERM));
        self.add(call!(ioctl), &[When::is(1, TIOCLINUX)], Then::Refuse(What::Privilege, EPERM));
        #[cfg(target_arch = "x86_64")]
        self.refuse(
            What::Privilege,
            &[call!(iopl), call!(ioperm), call!(modify_ldt), call!(lookup_dcookie), call!(uselib), call!(ustat), call!(sysfs)],
        );
    }

    fn forks(&mut self, wall: bool) {
        if wall {
            self.add(call!(clone), &[When::any_of(0, NAMESPACES)], Then::Refuse(What::Privilege, EPERM));
        }
        self.add(call!(clone), &[], Then::Ask(Ask::Fork, 0));
        // Its flags lie in memory, which may change while somebody looks; every library goes on with `clone`.
        self.add(call!(clone3), &[], Then::Mute(libc::ENOSYS));
        #[cfg(target_arch = "x86_64")]
        {
            self.add(call!(fork), &[], Then::Ask(Ask::Fork, 0));
            self.add(call!(vfork), &[], Then::Ask(Ask::Fork, 0));
        }
    }
}
