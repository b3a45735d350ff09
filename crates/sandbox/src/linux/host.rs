//! The supervisor's end of the socket: orders in, reports out. It never waits for the host, and holds little for it.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::spawn::{Order, Orders};
use crate::Report;

/// How many bytes of reports wait for a host that does not read.
const WAITING: usize = 64 << 10;
/// The longest orders: the system bounds an environment, too.
const LONGEST_ORDERS: u32 = 64 << 20;
/// The longest line of a later order.
const LONGEST_LINE: usize = 256;

pub(super) struct Host {
    socket: UnixStream,
    out: VecDeque<u8>,
    dropped: u64,
    line: Vec<u8>,
}

/// What the host wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To end it, with so many milliseconds of grace.
    Stop(u64),
    /// Nothing any more: it is gone.
    Gone,
}

impl Host {
    /// Reads the orders, and the command's standard input beside them.
    pub(super) fn greet(socket: OwnedFd) -> io::Result<(Host, Orders, OwnedFd)> {
        let mut socket = UnixStream::from(socket);
        let mut length = [0; 4];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&socket, &mut [io::IoSliceMut::new(&mut length)], &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let stdin = beside.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        socket.read_exact(length.get_mut(got..).unwrap_or_default())?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST_ORDERS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the orders are too long"));
        }
        let mut text = Vec::new();
        (&mut socket).take(u64::from(length)).read_to_end(&mut text)?;
        let orders = serde_json::from_slice(&text)?;
        let stdin = stdin.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no standard input"))?;
        socket.set_nonblocking(true)?;
        Ok((Host { socket, out: VecDeque::new(), dropped: 0, line: Vec::new() }, orders, stdin))
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether something waits to be written.
    pub(super) fn waits(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn tell(&mut self, report: &Report) {
        if self.dropped > 0 && self.out.len() < WAITING / 2 {
            let count = std::mem::take(&mut self.dropped);
            self.put(&Report::Dropped { count });
        }
        // How it ended is told in any case: there is one such report.
        let last = matches!(report, Report::Ended { .. } | Report::Failed { .. } | Report::Left { .. });
        if self.out.len() < WAITING || last {
            self.put(report);
        } else {
            self.dropped += 1;
        }
        self.flush();
    }

    fn put(&mut self, report: &Report) {
        if let Ok(line) = serde_json::to_vec(report) {
            self.out.extend(line);
            self.out.push_back(b'\n');
        }
    }

    pub(super) fn flush(&mut self) {
        while !self.out.is_empty() {
            let (front, _) = self.out.as_slices();
            match (&self.socket).write(front) {
                Ok(0) => return,
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody reads any more.
                Err(_) => self.out.clear(),
            }
        }
    }

    /// What the host has said since it was last asked; the last word counts.
    pub(super) fn wish(&mut self) -> Option<Wish> {
        let mut wish = None;
        let mut piece = [0; LONGEST_LINE];
        loop {
            match (&self.socket).read(&mut piece) {
                Ok(0) => return wish.or(Some(Wish::Gone)),
                Ok(count) => {
                    for &byte in piece.get(..count).unwrap_or_default() {
                        if byte != b'\n' {
                            self.line.truncate(LONGEST_LINE);
                            self.line.push(byte);
                        } else if let Ok(Order::Stop(grace)) = serde_json::from_slice(&std::mem::take(&mut self.line)) {
                            wish = Some(Wish::Stop(grace));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return wish,
                Err(_) => return Some(Wish::Gone),
            }
        }
    }
}
