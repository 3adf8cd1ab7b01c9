use super::*;
use crate::failure::Exit;
use imago::{FormatCreateBuilder, Storage, StorageCreateOptions, file::File as ImagoFile, qcow2::Qcow2};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

const MIB: usize = 1 << 20;

/// A folder of this test alone, gone afterwards.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("reprise-disk-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn raw(&self, name: &str, content: &[u8]) -> PathBuf {
        fs::write(self.file(name), content).unwrap();
        self.file(name)
    }

    pub(super) fn qcow2(&self, name: &str, size: u64) -> PathBuf {
        let path = self.file(name);
        let file = ImagoFile::create_open(StorageCreateOptions::new().filename(&path)).unwrap();
        Qcow2::<ImagoFile>::create_builder(file).size(size).create().unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(super) fn open(path: &Path, options: &str) -> Result<HostDisk, Failure> {
    HostDisk::open(&DiskSpec::parse_disk(&format!("disk0={}{options}", path.display())).unwrap())
}

fn sector(disk: &mut HostDisk, index: u64) -> [u8; 512] {
    let mut bytes = [0xee; 512];
    disk.read(index * 512, &mut bytes).unwrap();
    bytes
}

#[test]
fn writes_are_dropped_unless_committed() {
    let scratch = Scratch::new("raw");
    let image = scratch.raw("a.img", &vec![0x11; MIB]);
    let mut disk = open(&image, "").unwrap();
    disk.write(512, &[0x22; 512]).unwrap();
    assert_eq!(sector(&mut disk, 1), [0x22; 512]);
    assert!(!disk.commit().unwrap());
    drop(disk);
    assert_eq!(fs::read(&image).unwrap(), vec![0x11; MIB]);

    let mut disk = open(&image, ",commit").unwrap();
    disk.write(512, &[0x22; 512]).unwrap();
    disk.discard(65536, 65536).unwrap();
    assert!(disk.commit().unwrap());
    drop(disk);
    let mut expected = vec![0x11; MIB];
    expected[512..1024].fill(0x22);
    expected[65536..131_072].fill(0);
    assert_eq!(fs::read(&image).unwrap(), expected);
    assert!(!commit::journal_path(&image).exists());
}

#[test]
fn qcow2_reads_writes_and_commits() {
    let scratch = Scratch::new("qcow2");
    let image = scratch.qcow2("a.qcow2", 8 * MIB as u64);
    let mut disk = open(&image, ",commit").unwrap();
    assert_eq!(disk.size_bytes(), 8 * MIB as u64);
    assert_eq!(sector(&mut disk, 9), [0; 512]);
    disk.write(3 * MIB as u64, &vec![0x33; MIB]).unwrap();
    disk.write_zeroes(3 * MIB as u64 + 65536, 65536).unwrap();
    assert!(disk.commit().unwrap());
    drop(disk);
    let mut disk = open(&image, ",ro").unwrap();
    let mut back = vec![0; 2 * MIB];
    disk.read(2 * MIB as u64 + MIB as u64 / 2, &mut back).unwrap();
    let expected: Vec<u8> =
        (0..2 * MIB)
            .map(|i| i + MIB / 2)
            .map(|i| {
                if (MIB..2 * MIB).contains(&i) && !(MIB + 65536..MIB + 131_072).contains(&i) {
                    0x33
                } else {
                    0
                }
            })
            .collect();
    assert!(back == expected);
}

#[test]
fn a_complete_journal_is_applied_and_a_torn_one_removed() {
    let scratch = Scratch::new("journal");
    let image = scratch.raw("a.img", &vec![0x11; MIB]);
    let journal = commit::journal_path(&image);
    // Apply to another file, so that the image stays as before the crash, and keep the journal.
    let mut disk = open(&image, "").unwrap();
    disk.write(0, &[0x44; 512]).unwrap();
    let inode = sys::Identity::of(&File::open(&image).unwrap()).unwrap().inode;
    let unwritable = commit::Target::Raw(File::open(&image).unwrap());
    commit::commit(&image, inode, &disk.0.borrow().overlay, &unwritable)
        .expect_err("the target is read-only");
    drop(disk);
    let whole = fs::read(&journal).unwrap();

    for cut in [0, 7, 24, 40, whole.len() - 1] {
        fs::write(&journal, &whole[..cut]).unwrap();
        let mut disk = open(&image, "").unwrap();
        assert_eq!(sector(&mut disk, 0), [0x11; 512], "torn at {cut}");
        assert!(!journal.exists());
    }
    fs::write(&journal, &whole).unwrap();
    let mut disk = open(&image, "").unwrap();
    assert_eq!(sector(&mut disk, 0), [0x44; 512]);
    assert!(!journal.exists());
    drop(disk);

    // The journal of another file with that name is not applied.
    fs::write(&journal, &whole).unwrap();
    fs::rename(&image, scratch.file("old.img")).unwrap();
    fs::write(&image, vec![0x55; MIB]).unwrap();
    let error = open(&image, "").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("belongs to another image"), "{error}");
}

#[test]
fn a_committing_run_is_alone() {
    let scratch = Scratch::new("lock");
    let image = scratch.raw("a.img", &vec![0; MIB]);
    let reader = open(&image, "").unwrap();
    let second = open(&image, ",ro").unwrap();
    assert!(open(&image, ",commit").map(|_| ()).unwrap_err().to_string().contains("in use"));
    drop((reader, second));
    let writer = open(&image, ",commit").unwrap();
    let error = open(&image, "").map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("in use"));
    assert_eq!(error.exit, Exit::Io);
    drop(writer);
    open(&image, "").unwrap();
}

#[test]
fn a_base_that_changes_is_noticed() {
    let scratch = Scratch::new("changed");
    let image = scratch.raw("a.img", &vec![0x11; MIB]);
    let mut disk = open(&image, "").unwrap();
    sector(&mut disk, 0);
    fs::write(&image, vec![0x12; MIB + 512]).unwrap();
    let error = disk.read(0, &mut [0; 512]).unwrap_err().to_string();
    assert!(error.contains("somebody changed the image"), "{error}");
}

#[test]
fn qcow2_with_random_damage_is_an_error_or_a_disk() {
    let scratch = Scratch::new("damage");
    let image = scratch.qcow2("a.qcow2", 4 * MIB as u64);
    let mut disk = open(&image, ",commit").unwrap();
    disk.write(0, &vec![0x77; 2 * MIB]).unwrap();
    disk.commit().unwrap();
    drop(disk);
    let good = fs::read(&image).unwrap();
    let mut state = 1u64;
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..4 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let cluster = (state >> 20) as usize % 5 * 65536;
            let at = cluster + (state >> 40) as usize % 128;
            if at < bad.len() {
                bad[at] = (state >> 56) as u8;
            }
        }
        fs::write(&image, &bad).unwrap();
        if let Ok(mut disk) = open(&image, "") {
            let size = usize::try_from(disk.size_bytes()).unwrap().min(4 * MIB);
            drop(disk.read(0, &mut vec![0; size]));
        }
    }
}
