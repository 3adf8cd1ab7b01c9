//! Files beneath one folder of the host. The kernel sees to it that no path leads out (`openat2(2)`), and where it is
//! too old for that, each name is opened on its own and none may be a link.

use super::{Content, Files, OpenError};
use rustix::{
    fd::OwnedFd,
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::path::Path;

/// A folder, held open: renaming it or what is above it changes nothing.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    /// `openat2` is there and allowed.
    whole_paths: bool,
}

/// Opening a pipe or a terminal must not wait or take it over; they are refused afterwards.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const DOWN: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens the folder at `path`, which itself may be a link.
    ///
    /// # Errors
    /// As the host says it: there is none, it is none, it is not readable.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { folder, whole_paths: true })
    }

    fn descend(&mut self, path: &str) -> Result<OwnedFd, Errno> {
        if self.whole_paths {
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.folder, path, READ, Mode::empty(), beneath) {
                // Before Linux 5.6, and in sandboxes that do not know it.
                Err(Errno::NOSYS | Errno::PERM) => self.whole_paths = false,
                // A rename went on meanwhile; the kernel asks to try again (openat2(2)).
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        self.descend_by_names(path)
    }

    fn descend_by_names(&self, path: &str) -> Result<OwnedFd, Errno> {
        // The kernel would take the three as ways out.
        if path.split('/').any(|name| ["", ".", ".."].contains(&name)) {
            return Err(Errno::XDEV);
        }
        let Some((folders, file)) = path.rsplit_once('/') else {
            return rustix::fs::openat(&self.folder, path, READ | OFlags::NOFOLLOW, Mode::empty());
        };
        let mut at: Option<OwnedFd> = None;
        for name in folders.split('/') {
            at = Some(rustix::fs::openat(at.as_ref().unwrap_or(&self.folder), name, DOWN, Mode::empty())?);
        }
        let at = at.as_ref().unwrap_or(&self.folder);
        rustix::fs::openat(at, file, READ | OFlags::NOFOLLOW, Mode::empty())
    }
}

impl Files for Folder {
    fn open(&mut self, path: &str) -> Result<Box<dyn Content>, OpenError> {
        let file = self.descend(path).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => OpenError::NotFound,
            Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::XDEV | Errno::NXIO => OpenError::Denied,
            _ => OpenError::Failed,
        })?;
        let status = rustix::fs::fstat(&file).map_err(|_| OpenError::Failed)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(OpenError::Denied);
        }
        let size = u64::try_from(status.st_size).map_err(|_| OpenError::Failed)?;
        Ok(Box::new(PlainFile { file, size }))
    }
}

#[derive(Debug)]
struct PlainFile {
    file: OwnedFd,
    size: u64,
}

impl Content for PlainFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), OpenError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(&self.file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => return Err(OpenError::Failed),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(_) => return Err(OpenError::Failed),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder that goes away with its test.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A folder with a file in it and beside it, and every way out that is known.
    #[expect(clippy::disallowed_methods, reason = "a folder that no other test run has")]
    fn example(test: &str) -> Scratch {
        let name = format!("reprise-tftp-{test}-{}", std::process::id());
        let root = Scratch(std::env::temp_dir().join(name));
        let at = |name: &str| root.path().join(name);
        let write = |name: &str, bytes: &[u8]| {
            use std::io::Write;
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(at(name))
                .unwrap()
                .write_all(bytes)
                .unwrap();
        };
        std::fs::create_dir_all(at("served/sub/deep")).unwrap();
        write("secret", b"secret");
        write("served/a.img", b"kernel");
        write("served/sub/deep/b", b"bee");
        symlink("../secret", at("served/out")).unwrap();
        symlink("a.img", at("served/in")).unwrap();
        symlink("..", at("served/up")).unwrap();
        symlink("/", at("served/root")).unwrap();
        symlink("/proc/self/cwd", at("served/magic")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("served/pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        root
    }

    #[test]
    fn files_beneath_the_folder_and_no_others() {
        let root = example("beneath");
        for whole_paths in [true, false] {
            let mut folder = Folder::open(&root.path().join("served")).unwrap();
            folder.whole_paths = whole_paths;
            let mut read = |path: &str| {
                let mut content = folder.open(path)?;
                let mut bytes = vec![0; content.size() as usize];
                content.read_at(0, &mut bytes)?;
                Ok::<_, OpenError>(bytes)
            };
            assert_eq!(read("a.img").unwrap(), b"kernel");
            assert_eq!(read("sub/deep/b").unwrap(), b"bee");
            for path in ["none", "sub/none", "a.img/x", "none/x"] {
                assert_eq!(read(path), Err(OpenError::NotFound), "{path} {whole_paths}");
            }
            for path in [
                "out",
                "in",
                "up/secret",
                "root/etc/passwd",
                "magic/Cargo.toml",
                "pipe",
                "sub",
                "..",
                "../secret",
                "sub/../../secret",
            ] {
                let refused = read(path).unwrap_err();
                let expected = [OpenError::Denied, OpenError::NotFound];
                assert!(expected.contains(&refused), "{path} {whole_paths}: {refused}");
            }
            assert_eq!(folder.whole_paths, whole_paths, "this kernel has openat2");
        }
    }

    #[test]
    fn absolute_paths_lead_nowhere() {
        let root = example("absolute");
        let mut folder = Folder::open(&root.path().join("served")).unwrap();
        let secret = root.path().join("secret");
        assert!(folder.open(secret.to_str().unwrap()).is_err());
        assert!(folder.descend_by_names(secret.to_str().unwrap()).is_err());
    }

    #[test]
    fn a_folder_stays_the_same_when_it_is_renamed() {
        let root = example("renamed");
        let mut folder = Folder::open(&root.path().join("served")).unwrap();
        std::fs::rename(root.path().join("served"), root.path().join("moved")).unwrap();
        assert!(folder.open("a.img").is_ok());
    }

    #[test]
    fn a_file_that_became_shorter_is_a_failure() {
        let root = example("shorter");
        let mut folder = Folder::open(&root.path().join("served")).unwrap();
        let mut content = folder.open("a.img").unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(root.path().join("served/a.img"))
            .unwrap();
        assert_eq!(content.read_at(0, &mut [0; 6]), Err(OpenError::Failed));
    }

    #[test]
    fn what_is_no_folder_is_said() {
        let root = example("none");
        assert!(Folder::open(&root.path().join("secret")).is_err());
        assert!(Folder::open(&root.path().join("none")).is_err());
    }
}
