//! File descriptors that may not be ours alone (standard input and output): never made non-blocking, since that would
//! change them for the shell too. Asked before each access whether it would block.

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::{Errno, read, write},
    termios::isatty,
};
use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// A write of this much does not block on a pipe that is ready. POSIX `PIPE_BUF` on Linux.
const PIECE: usize = 4096;

/// What a read brought.
pub(super) enum Read {
    Data(Vec<u8>),
    /// Nothing now.
    Later,
    /// Nothing ever again.
    End,
}

/// What a read into a buffer brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes, not none.
    Bytes(usize),
    /// Nothing now.
    Later,
    /// Nothing ever again.
    End,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All went out.
    All,
    /// The rest has to wait.
    Later,
}

/// Tell mio about a descriptor. Regular files cannot be polled and need not be.
pub(super) fn register(
    registry: &Registry,
    fd: &OwnedFd,
    token: Token,
    interest: Interest,
) -> io::Result<()> {
    match registry.register(&mut SourceFd(&fd.as_raw_fd()), token, interest) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => Ok(()),
        // Standard output and standard error may be one descriptor's copies, never the same one twice.
        result => result,
    }
}

/// A handle for writing. Of a terminal it is one of our own, non-blocking: a terminal that is ready still blocks a
/// write of more than it has room for, and a thread that sleeps there hears no signal and no Ctrl-A.
pub(super) fn output(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    if isatty(fd) {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Refused for a terminal of another user, after `su` say.
        if let Ok(own) = open(path, flags, Mode::empty()) {
            return Ok(own);
        }
    }
    fd.try_clone_to_owned()
}

fn is_ready(fd: &OwnedFd, wanted: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, wanted)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Errors and hang-ups count as ready: the access then says which.
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Read up to `room` bytes without blocking.
pub(super) fn read_some(fd: &OwnedFd, room: usize) -> Read {
    if room == 0 || !is_ready(fd, PollFlags::IN) {
        return Read::Later;
    }
    let mut bytes = vec![0; room.min(PIECE)];
    match read(fd, &mut bytes[..]) {
        Ok(0) => Read::End,
        Ok(len) => {
            bytes.truncate(len);
            Read::Data(bytes)
        }
        Err(Errno::AGAIN | Errno::INTR) => Read::Later,
        // EIO: the terminal is gone.
        Err(_) => Read::End,
    }
}

/// Read from a socket of our own, which never blocks.
pub(super) fn receive(fd: &OwnedFd, into: &mut [u8]) -> Received {
    match read(fd, into) {
        Ok(0) => Received::End,
        Ok(len) => Received::Bytes(len),
        Err(Errno::AGAIN | Errno::INTR) => Received::Later,
        Err(_) => Received::End,
    }
}

/// Write to a socket of our own, which never blocks.
pub(super) fn send(fd: &OwnedFd, output: &mut VecDeque<u8>) -> io::Result<Written> {
    while !output.is_empty() {
        match write(fd, output.as_slices().0) {
            Ok(len) => drop(output.drain(..len)),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Written::Later),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Written::All)
}

/// Write what goes without blocking.
pub(super) fn write_some(fd: &OwnedFd, output: &mut VecDeque<u8>) -> io::Result<Written> {
    while !output.is_empty() {
        if !is_ready(fd, PollFlags::OUT) {
            return Ok(Written::Later);
        }
        let (front, _) = output.as_slices();
        match write(fd, &front[..front.len().min(PIECE)]) {
            Ok(len) => drop(output.drain(..len)),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Written::Later),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Written::All)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    #[test]
    fn a_full_pipe_is_later_and_a_closed_one_an_error() {
        let (reader, writer) = pipe().unwrap();
        let mut output: VecDeque<u8> = vec![1; 200_000].into();
        assert_eq!(write_some(&writer, &mut output).unwrap(), Written::Later);
        assert!(!output.is_empty());
        let mut got = 0;
        while let Read::Data(data) = read_some(&reader, usize::MAX) {
            got += data.len();
        }
        assert_eq!(got + output.len(), 200_000);
        assert_eq!(write_some(&writer, &mut output).unwrap(), Written::Later);
        drop(reader);
        assert!(write_some(&writer, &mut output).is_err());
    }

    #[test]
    fn a_full_terminal_is_later_too() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use std::os::fd::AsFd;
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap();
        let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let own = output(terminal.as_fd()).unwrap();
        let mut bytes: VecDeque<u8> = vec![b'x'; 200_000].into();
        assert_eq!(write_some(&own, &mut bytes).unwrap(), Written::Later);
        assert!(
            !rustix::fs::fcntl_getfl(&terminal).unwrap().contains(OFlags::NONBLOCK),
            "the shell's is as it was"
        );
    }

    #[test]
    fn reads_end_with_the_writer() {
        let (reader, writer) = pipe().unwrap();
        assert!(matches!(read_some(&reader, 10), Read::Later));
        assert!(matches!(read_some(&reader, 0), Read::Later));
        drop(writer);
        assert!(matches!(read_some(&reader, 10), Read::End));
    }
}
