//! Datagrams on their way out, gathered over a turn: what goes from one socket goes in few system calls.
//!
//! Equal datagrams to one peer go as a train that the kernel, or the network card, takes apart (UDP_SEGMENT); others go
//! by `sendmmsg`. Where the host has neither, or the path takes no trains, they go one by one.

use super::{datagram::DatagramSocket, stream::failure};
use crate::edges::{Failure, FlowId, Unsent};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendmsg},
};
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
};

/// What is gathered before it goes.
const MOST: usize = 512;
const MOST_BYTES: usize = 1 << 19;
/// Datagrams in a train, and its bytes: what every Linux takes that takes trains (UDP_MAX_SEGMENTS).
const TRAIN: usize = 64;
const TRAIN_BYTES: usize = 65_000;
/// Datagrams in one call.
const CALL: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Datagram {
    to: SocketAddr,
    at: usize,
    bytes: usize,
}

/// Of one flow, with one hop limit.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    from: Option<(FlowId, u8)>,
    bytes: Vec<u8>,
    datagrams: Vec<Datagram>,
}

impl Outbox {
    /// Whether what it holds must go before this can be put in.
    pub(super) fn is_full(&self, flow: FlowId, hops: u8, bytes: usize) -> bool {
        let full = self.datagrams.len() >= MOST || self.bytes.len() + bytes > MOST_BYTES;
        self.from.is_some_and(|from| from != (flow, hops) || full)
    }

    /// Whose datagrams it holds.
    pub(super) fn flow(&self) -> Option<FlowId> {
        self.from.map(|(flow, _)| flow)
    }

    pub(super) fn push(&mut self, flow: FlowId, to: SocketAddr, hops: u8, bytes: &[u8]) {
        self.from = Some((flow, hops));
        self.datagrams.push(Datagram { to, at: self.bytes.len(), bytes: bytes.len() });
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends everything, in order. Returns what could not be sent.
    pub(super) fn send(&mut self, socket: &mut DatagramSocket) -> Vec<Unsent> {
        let Some((_, hops)) = self.from.take() else { return Vec::new() };
        let mut sending = Sending { bytes: &self.bytes, hops, unsent: Vec::new() };
        match socket.set_hops(hops) {
            Ok(()) => sending.all(socket, &self.datagrams),
            Err(error) => {
                let why = failure(&error);
                self.datagrams.iter().for_each(|datagram| sending.fails(datagram, why));
            }
        }
        let unsent = sending.unsent;
        self.clear();
        unsent
    }

    pub(super) fn clear(&mut self) {
        self.from = None;
        self.bytes.clear();
        self.datagrams.clear();
    }
}

/// How many of the first ones make a train. Those that are longer than `longest` do not go by train.
fn train(datagrams: &[Datagram], longest: usize) -> usize {
    let Some(first) = datagrams.first().filter(|first| (1..=longest).contains(&first.bytes)) else {
        return 1;
    };
    let (mut count, mut bytes) = (1, first.bytes);
    for next in &datagrams[1..] {
        bytes += next.bytes;
        let fits = next.to == first.to && (1..=first.bytes).contains(&next.bytes) && bytes <= TRAIN_BYTES;
        if !fits || count == TRAIN {
            break;
        }
        count += 1;
        if next.bytes < first.bytes {
            break;
        }
    }
    count
}

struct Sending<'a> {
    bytes: &'a [u8],
    hops: u8,
    unsent: Vec<Unsent>,
}

impl Sending<'_> {
    fn of(&self, datagram: &Datagram) -> &[u8] {
        &self.bytes[datagram.at..datagram.at + datagram.bytes]
    }

    fn fails(&mut self, datagram: &Datagram, failure: Failure) {
        let payload = self.of(datagram).to_vec();
        self.unsent.push(Unsent { to: datagram.to, failure, payload });
    }

    fn all(&mut self, socket: &mut DatagramSocket, datagrams: &[Datagram]) {
        let mut rest = datagrams;
        while !rest.is_empty() {
            let count = train(rest, socket.longest_train);
            if count > 1 {
                self.train(socket, &rest[..count]);
                rest = &rest[count..];
                continue;
            }
            // All up to the next train.
            let singles = (1..rest.len()).find(|at| train(&rest[*at..], socket.longest_train) > 1);
            let (now, later) = rest.split_at(singles.unwrap_or(rest.len()));
            now.chunks(CALL).for_each(|call| self.singles(socket, call));
            rest = later;
        }
    }

    fn train(&mut self, socket: &mut DatagramSocket, train: &[Datagram]) {
        let (first, last) = (train[0], train[train.len() - 1]);
        let parts = [IoSlice::new(&self.bytes[first.at..last.at + last.bytes])];
        let (piece, to) = (first.bytes as u16, SockaddrStorage::from(first.to));
        let cut = [ControlMessage::UdpGsoSegments(&piece)];
        let sent = retried(|| sendmsg(socket.fd(), &parts, &cut, MsgFlags::MSG_DONTWAIT, Some(&to)));
        match sent {
            // A full socket loses them, as networks do.
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => {
                let failed = self.unsent.len();
                self.singles(socket, train);
                // They go, but not by train: they are longer than the path takes in one piece, or what it leads over
                // makes no checksums.
                if self.unsent.len() == failed {
                    let longest = if error == Errno::EIO { 0 } else { first.bytes - 1 };
                    socket.longest_train = socket.longest_train.min(longest);
                }
            }
        }
    }

    fn singles(&mut self, socket: &mut DatagramSocket, datagrams: &[Datagram]) {
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let sent = match rest.len() {
                1 => Ok(0),
                _ => retried(|| self.many(socket, rest)),
            };
            match sent {
                Ok(count) if count > 0 => rest = &rest[count..],
                Err(Errno::EAGAIN) => return,
                // The error is the first one's, or one that an earlier datagram has left: it is sent again, alone.
                Ok(_) | Err(_) => {
                    if let Err(failure) = socket.send(first.to, self.hops, self.of(first)) {
                        self.fails(first, failure);
                    }
                    rest = &rest[1..];
                }
            }
        }
    }

    /// Returns how many went.
    fn many(&self, socket: &DatagramSocket, datagrams: &[Datagram]) -> nix::Result<usize> {
        let parts: Vec<_> = datagrams.iter().map(|one| [IoSlice::new(self.of(one))]).collect();
        let to: Vec<_> = datagrams.iter().map(|one| Some(SockaddrStorage::from(one.to))).collect();
        let mut headers = MultiHeaders::preallocate(parts.len(), None);
        Ok(sendmmsg(socket.fd(), &mut headers, &parts, &to, [], MsgFlags::MSG_DONTWAIT)?.count())
    }
}

/// An interrupted call is made again.
pub(super) fn retried<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Whether the kernel cuts trains that it is given.
pub(super) fn is_known(socket: &impl std::os::fd::AsFd) -> io::Result<bool> {
    use nix::sys::socket::{getsockopt, sockopt::UdpGsoSegment};
    match getsockopt(socket, UdpGsoSegment) {
        Ok(_) => Ok(true),
        Err(Errno::ENOPROTOOPT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(lengths: &[(usize, u16)]) -> Vec<Datagram> {
        let one =
            |&(bytes, port): &(usize, u16)| Datagram { to: ([192, 0, 2, 1], port).into(), at: 0, bytes };
        lengths.iter().map(one).collect()
    }

    #[test]
    fn a_train_is_of_equal_datagrams_to_one_peer() {
        let any = usize::MAX;
        for (lengths, longest, count) in [
            (vec![(100, 1); 3], any, 3),
            (vec![(100, 1), (100, 1), (99, 1), (99, 1)], any, 3),
            (vec![(100, 1), (101, 1)], any, 1),
            (vec![(100, 1), (100, 2)], any, 1),
            (vec![(100, 1), (0, 1)], any, 1),
            (vec![(0, 1), (0, 1)], any, 1),
            (vec![(100, 1); 200], any, TRAIN),
            (vec![(9000, 1); 20], any, 7),
            (vec![(100, 1); 3], 99, 1),
            (vec![(100, 1); 3], 100, 3),
            (vec![(70_000, 1)], any, 1),
        ] {
            assert_eq!(train(&datagrams(&lengths), longest), count, "{lengths:?}");
        }
    }

    #[test]
    fn it_holds_what_goes_together() {
        let mut outbox = Outbox::default();
        let (one, other) =
            (FlowId::new(crate::edges::Kind::Udp, 0, 1), FlowId::new(crate::edges::Kind::Udp, 0, 2));
        assert!(!outbox.is_full(one, 64, 1 << 30), "alone, anything goes");
        outbox.push(one, ([192, 0, 2, 1], 1).into(), 64, b"x");
        assert!(!outbox.is_full(one, 64, 1000));
        assert!(
            outbox.is_full(other, 64, 1) && outbox.is_full(one, 63, 1) && outbox.is_full(one, 64, MOST_BYTES)
        );
        (1..MOST).for_each(|_| outbox.push(one, ([192, 0, 2, 1], 1).into(), 64, b"x"));
        assert!(outbox.is_full(one, 64, 1));
    }
}
