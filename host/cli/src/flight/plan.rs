//! `--flight-recorder SIZE[,reach=N][,dir=DIR]`

use crate::{args, disk};
use std::path::PathBuf;

/// Less holds nothing worth a look: a few hundred pages.
const LEAST_BYTES: usize = 1 << 20;
/// How far back it goes at most, in instructions: minutes of work, and so of replay.
const REACH: u64 = 20_000_000_000;

/// What a flight recorder is to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What it may take of memory beside one copy of the guest's, in bytes.
    pub(super) memory_bytes: usize,
    /// Instructions, at most.
    pub(super) reach: u64,
    /// Where recordings go that nobody has named. Empty: where the process is.
    pub(super) folder: PathBuf,
}

impl Plan {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = disk::split(text).into_iter();
        let memory_bytes = args::size_bytes(&parts.next().unwrap_or_default())?;
        if memory_bytes < LEAST_BYTES {
            return Err("too little to hold anything: 1M at least, 64M holds seconds of a busy Linux".into());
        }
        let mut plan = Self { memory_bytes, reach: REACH, folder: PathBuf::new() };
        for part in parts {
            match part.split_once('=') {
                Some(("dir", folder)) if !folder.is_empty() => plan.folder = folder.into(),
                Some(("reach", number)) => match args::count(number)? {
                    0 | 1 => return Err("it cannot reach back less than 2 instructions".into()),
                    reach => plan.reach = reach,
                },
                _ => return Err(format!("no option \"{part}\"; write SIZE[,reach=N][,dir=DIR]")),
            }
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let plan = |text| Plan::parse(text).unwrap();
        let plain = Plan { memory_bytes: 64 << 20, reach: REACH, folder: PathBuf::new() };
        assert_eq!(plan("64M"), plain);
        assert_eq!(plan("64M,dir=a,,b,reach=5M"), Plan { reach: 5_000_000, folder: "a,b".into(), ..plain });
        for (wrong, why) in [
            ("", "write a size"),
            ("lots", "write a size"),
            ("1048575", "1M at least"),
            ("64M,dir=", "no option"),
            ("64M,reach=1", "less than 2"),
            ("64M,every=5", "no option \"every=5\""),
        ] {
            let told = Plan::parse(wrong).unwrap_err();
            assert!(told.contains(why), "{wrong}: {told}");
        }
    }
}
