//! The table of calls as a program for the kernel. It decides nothing that the table does not.

use libc::sock_filter;

use super::rule::{Rule, Then};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: u32 = 0;

/// Numbers from here on are of the x32 interface.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
#[cfg(target_arch = "x86_64")]
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

// Places in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program. Where nobody can be asked, refusals are errors and questions are what the table says.
pub(super) fn program(rules: &[Rule], ask: bool) -> Vec<sock_filter> {
    let none = returns(libc::SECCOMP_RET_ERRNO, libc::ENOSYS);
    // A call of another interface has other numbers: it is not there.
    let mut program = vec![op(LOAD, 0, 0, ARCH), op(EQUAL, 1, 0, ARCHITECTURE), none, op(LOAD, 0, 0, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    program.extend([op(AT_LEAST, 0, 1, X32), none]);

    let mut done = Vec::new();
    for rule in rules {
        if done.contains(&rule.call) {
            continue;
        }
        done.push(rule.call);
        let body = decide(rules.iter().filter(|other| other.call == rule.call), ask);
        // No call has so many lines that a jump would not reach; a test counts.
        let skip = u8::try_from(body.len()).unwrap_or(u8::MAX);
        program.push(op(EQUAL, 0, skip, u32::try_from(rule.call).unwrap_or(u32::MAX)));
        program.extend(body);
    }
    program.push(returns(libc::SECCOMP_RET_ALLOW, 0));
    program
}

/// The lines of one call, in order. Ends in a return.
fn decide<'a>(rules: impl Iterator<Item = &'a Rule>, ask: bool) -> Vec<sock_filter> {
    let mut body = Vec::new();
    for rule in rules {
        let last = returned(rule.then, ask);
        // Each condition is three operations; one that does not fit goes behind the return of its line.
        let count = rule.when.len();
        for (index, when) in rule.when.iter().enumerate() {
            let out = u8::try_from((count - index - 1) * 3 + 1).unwrap_or(u8::MAX);
            let (yes, no) = if when.not { (out, 0) } else { (0, out) };
            body.push(op(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(when.argument) + if when.upper { UPPER_HALF } else { LOWER_HALF }));
            body.push(op(AND, 0, 0, when.mask));
            body.push(op(EQUAL, yes, no, when.equals));
        }
        body.push(last);
    }
    body.push(returns(libc::SECCOMP_RET_ALLOW, 0));
    body
}

const LOWER_HALF: u32 = if cfg!(target_endian = "little") { 0 } else { 4 };
const UPPER_HALF: u32 = 4 - LOWER_HALF;

fn returned(then: Then, ask: bool) -> sock_filter {
    match then {
        Then::Allow => returns(libc::SECCOMP_RET_ALLOW, 0),
        Then::Mute(error) => returns(libc::SECCOMP_RET_ERRNO, error),
        Then::Refuse(..) | Then::Ask(..) if ask => returns(libc::SECCOMP_RET_USER_NOTIF, 0),
        Then::Refuse(_, error) => returns(libc::SECCOMP_RET_ERRNO, error),
        Then::Ask(_, 0) => returns(libc::SECCOMP_RET_ALLOW, 0),
        Then::Ask(_, error) => returns(libc::SECCOMP_RET_ERRNO, error),
    }
}

fn returns(action: u32, error: i32) -> sock_filter {
    op(RETURN, 0, 0, action | (u32::try_from(error).unwrap_or(0) & libc::SECCOMP_RET_DATA))
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;
    use crate::{Policy, linux::calls};

    /// Runs the program as the kernel does.
    fn run(program: &[sock_filter], number: u32, arch: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut a) = (0, 0u32);
        loop {
            let op = program[at];
            at += 1;
            match op.code {
                LOAD => {
                    a = match op.k {
                        NUMBER => number,
                        ARCH => arch,
                        place => {
                            let value = arguments[((place - ARGUMENTS) / 8) as usize];
                            if (place - ARGUMENTS) % 8 == UPPER_HALF { (value >> 32) as u32 } else { value as u32 }
                        }
                    }
                }
                AND => a &= op.k,
                EQUAL => at += usize::from(if a == op.k { op.jt } else { op.jf }),
                #[cfg(target_arch = "x86_64")]
                AT_LEAST => at += usize::from(if a >= op.k { op.jt } else { op.jf }),
                RETURN => return op.k,
                code => panic!("{code}"),
            }
        }
    }

    #[test]
    fn the_program_says_what_the_table_says() {
        for policy in [Policy::closed(), Policy::closed().network(), Policy::open()] {
            let rules = calls::rules(&policy, false);
            for ask in [true, false] {
                let program = program(&rules, ask);
                assert!(program.len() < 4096, "{}", program.len());
                for number in 0..600u32 {
                    for arguments in [
                        [0; 6],
                        [1; 6],
                        [2, 1, 0, 0, 0, 0],
                        [2, 3, 0, 0, 0, 0],
                        [16, 3, 0, 0, 0, 0],
                        [u64::MAX; 6],
                        [0x1000_0000, 0x5412, 8, 0, 0, 0],
                        [0, 0, 1 << 32, 0, 0, 0],
                    ] {
                        let expected = rules
                            .iter()
                            .find(|rule| rule.fits(number.into(), &arguments))
                            .map_or(libc::SECCOMP_RET_ALLOW, |rule| returned(rule.then, ask).k);
                        assert_eq!(run(&program, number, ARCHITECTURE, arguments), expected, "call {number} {arguments:?} ask {ask}");
                    }
                }
                assert_eq!(run(&program, 1, 0x4000_0003, [0; 6]), returns(libc::SECCOMP_RET_ERRNO, libc::ENOSYS).k);
            }
        }
    }

    #[test]
    fn every_jump_reaches() {
        let rules = calls::rules(&Policy::closed().network(), true);
        for rule in &rules {
            assert!(decide(rules.iter().filter(|other| other.call == rule.call), true).len() < 255, "{}", rule.name);
        }
    }
}
