//! Reads a little memory of a process that waits for an answer. Unsafe, as the system call takes addresses.
#![allow(unsafe_code, reason = "process_vm_readv and prlimit are calls that take addresses")]

use libc::c_void;

const PAGE: u64 = 4096;

/// As many bytes as can be read from there on, up to the length of the buffer.
pub(super) fn read(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    let Ok(pid) = i32::try_from(pid) else { return 0 };
    // A page that is not there ends the reading only before itself when it is a piece of its own.
    let first = usize::try_from(PAGE - address % PAGE).unwrap_or(0).min(buffer.len());
    let piece = |from: usize, length: usize| libc::iovec { iov_base: address.wrapping_add(from as u64) as *mut c_void, iov_len: length };
    let remote = [piece(0, first), piece(first, buffer.len() - first)];
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let pieces = if first < buffer.len() { 2 } else { 1 };
    // SAFETY: `local` is the buffer, of which the kernel writes at most its length; `remote` are addresses of another process, which
    // the kernel checks. `pieces` is at most the length of `remote`.
    let count = unsafe { libc::process_vm_readv(pid, &raw const local, 1, remote.as_ptr(), pieces, 0) };
    usize::try_from(count).unwrap_or(0)
}

/// Text that ends in a zero, no longer than a path may be.
pub(super) fn text(pid: u32, address: u64) -> Option<Vec<u8>> {
    let mut buffer = [0; PAGE as usize];
    let count = read(pid, address, &mut buffer);
    let read = buffer.get(..count)?;
    let end = read.iter().position(|&byte| byte == 0)?;
    Some(read.get(..end)?.to_vec())
}

/// Numbers that stand one after the other.
pub(super) fn numbers<const N: usize>(pid: u32, address: u64) -> Option<[u64; N]> {
    let mut bytes = vec![0; N * 8];
    if read(pid, address, &mut bytes) != bytes.len() {
        return None;
    }
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_ne_bytes(bytes.try_into().ok()?);
    }
    Some(numbers)
}

/// The limit of a process that is in force, and the highest that it may set.
pub(super) fn limit(pid: u32, resource: u64) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let (pid, resource) = (i32::try_from(pid).ok()?, u32::try_from(resource).ok()?);
    // SAFETY: the kernel writes one structure; it is given no new value.
    let done = unsafe { libc::prlimit64(pid, resource as _, std::ptr::null(), &raw mut limit) };
    (done == 0).then_some((limit.rlim_cur, limit.rlim_max))
}
