//! Where control sockets lie, and how one is made that nobody else can use.

use crate::failure::{Failure, reason};
use rustix::{
    fs::{Mode, fchmod},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
    process::{Pid, geteuid, test_kill_process},
};
use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// What `--control` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing, or `auto`: a socket in the runtime folder, if that can be had.
    Usual,
    /// `none`
    None,
    At(PathBuf),
}

impl Wish {
    pub(super) fn of(option: Option<&str>) -> Self {
        match option {
            None | Some("auto") => Self::Usual,
            Some("none") => Self::None,
            Some(path) => Self::At(path.into()),
        }
    }

    pub(super) fn is_explicit(&self) -> bool {
        matches!(self, Self::At(_))
    }

    /// The listening socket, if one is wanted.
    pub(super) fn bind(&self) -> Result<Option<Bound>, Failure> {
        match self {
            Self::Usual => {
                let folder = folder();
                make(&folder)?;
                Bound::new(&socket_of(&folder, std::process::id())).map(Some)
            }
            Self::None => Ok(None),
            Self::At(path) => Bound::new(path).map(Some),
        }
    }
}

/// The runtime folder of this user.
pub(super) fn folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("REPRISE_RUNTIME_DIR")
        .or_else(|| set("XDG_RUNTIME_DIR").map(|folder| folder.join("reprise")))
        .unwrap_or_else(|| PathBuf::from(format!("/tmp/reprise-{}", geteuid().as_raw())))
}

/// The socket of a process.
pub(super) fn socket_of(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("{pid}.sock"))
}

/// The sockets in the runtime folder, with the processes that made them. None if there is no such folder.
pub(super) fn sockets() -> Result<Vec<(u32, PathBuf)>, Failure> {
    let folder = folder();
    match fs::symlink_metadata(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        _ => check(&folder)?,
    }
    let entries = fs::read_dir(&folder).map_err(|error| refused(&folder, &error))?;
    let pid = |path: PathBuf| {
        let pid = path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok()?;
        Some((pid, path))
    };
    let mut found: Vec<_> = entries.filter_map(|entry| pid(entry.ok()?.path())).collect();
    found.sort();
    Ok(found)
}

fn refused(folder: &Path, error: &io::Error) -> Failure {
    Failure::io("the folder for control sockets cannot be had", error)
        .at(folder.display())
        .help("name another with REPRISE_RUNTIME_DIR, or a socket with --control PATH")
}

fn make(folder: &Path) -> Result<(), Failure> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => (),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
        Err(error) => return Err(refused(folder, &error)),
    }
    check(folder)
}

/// Only its owner may do anything in it, and the owner is us: then nobody can put something else in our way.
fn check(folder: &Path) -> Result<(), Failure> {
    let data = fs::symlink_metadata(folder).map_err(|error| refused(folder, &error))?;
    let us = geteuid().as_raw();
    let why = if data.is_symlink() {
        "it is a symbolic link".to_owned()
    } else if !data.is_dir() {
        "it is no folder".to_owned()
    } else if data.uid() != us {
        format!("it belongs to user {}, and we are user {us}", data.uid())
    } else if data.mode() & 0o077 != 0 {
        format!("others may use it: its mode is {:04o}, and not 0700", data.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(refused(folder, &io::Error::other(why)))
}

/// A socket that listens. Dropping it takes its name away.
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what else is there later is not ours.
    identity: (u64, u64),
}

impl Bound {
    fn new(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::io("cannot listen on the control socket", &error).at(path.display());
        let address = SocketAddrUnix::new(path).map_err(|error| {
            let failure = failed(error.into());
            failure.help("the path of a socket has about a hundred bytes; it needs an existing folder")
        })?;
        make_room(path)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .and_then(|socket| {
                // Before it has a name: there is no moment in which others could connect.
                fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
                bind(&socket, &address)?;
                listen(&socket, BACKLOG)?;
                Ok(socket)
            })
            .map_err(|errno| failed(errno.into()))?;
        let data = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self {
            listener: UnixListener::from(socket),
            path: path.to_owned(),
            identity: (data.dev(), data.ino()),
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = |data: fs::Metadata| (data.dev(), data.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Somebody else may have removed it by now.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Take away the socket of a process that has ended; whatever else is there stays.
fn make_room(path: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Failure::usage(format!("cannot listen there: {why}")).at(format!("--control {}", path.display()))
    };
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(data) if !data.file_type().is_socket() => Err(refuse("something is there, and it is no socket")),
        Ok(_) => match is_stale(path) {
            true => fs::remove_file(path).map_err(|error| refuse(&reason(&error))),
            false => Err(refuse("another process listens on that socket")
                .help("to talk to it: reprise monitor SOCKET; or choose another path")),
        },
    }
}

/// Take away the socket of a process that has died. One that is just being made listens a moment after it has its name.
pub(super) fn sweep(pid: u32, path: &Path) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
        // Whoever removed it first did what we want.
        drop(fs::remove_file(path));
    }
}

/// Whether nobody listens any more, or not yet.
pub(super) fn is_stale(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
