//! Looking whether everything is as it was written.

use super::{
    files,
    pack::{Pack, Source, Tail, Unpacker},
    store::Store,
    tree,
    trouble::{Damage, Trouble},
};
use crate::{failure::Failure, recording::Hash};
use std::collections::BTreeSet;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) snapshots: usize,
    pub(crate) objects: usize,
    /// Everything that is wrong, packs first.
    pub(crate) damage: Vec<Damage>,
}

impl Store {
    /// Read everything: each object of each pack, and what each snapshot needs, the files of its machine included.
    pub(crate) fn check(&self) -> Result<Checked, Failure> {
        let mut checked = Checked { objects: self.objects.len(), ..Checked::default() };
        for pack in self.objects.packs.values() {
            check_pack(pack, &mut checked.damage)?;
        }
        let mut blobs = BTreeSet::new();
        for name in files::snapshots(&self.path)? {
            checked.snapshots += 1;
            let file = files::snapshot_file(&self.path, &name)?;
            match self.try_root(&file) {
                Ok((facts, root)) => {
                    let reachable = tree::reachable(&mut self.objects.reading(&file), &root);
                    note(reachable, &mut checked.damage)?;
                    // Each is read once, whichever snapshot is the first to name it.
                    for hash in facts.blobs().filter(|hash| blobs.insert(*hash)) {
                        note(self.try_blob(&facts, &hash), &mut checked.damage)?;
                    }
                }
                Err(trouble) => note::<()>(Err(trouble), &mut checked.damage)?,
            }
        }
        Ok(checked)
    }
}

fn check_pack<S: Source>(pack: &Pack<S>, damage: &mut Vec<Damage>) -> Result<(), Trouble> {
    let mut unpack = Unpacker::new();
    for frame in (0_u32..).take(pack.frames().len()) {
        note(check_frame(pack, frame, &mut unpack), damage)?;
    }
    if let Tail::Damaged(tail) = pack.tail() {
        damage.push(tail.clone());
    }
    Ok(())
}

fn check_frame<S: Source>(pack: &Pack<S>, frame: u32, unpack: &mut Unpacker) -> Result<(), Trouble> {
    let entries = pack.directory(frame)?;
    pack.unpack(frame, unpack)?;
    for entry in entries {
        let object = &unpack.raw()[entry.start as usize..][..entry.length as usize];
        if Hash::of(object) != entry.hash {
            return Err(pack.damage(frame, format!("object {} has another hash", entry.hash)));
        }
    }
    Ok(())
}

/// Damage is what was looked for; anything else ends the check.
fn note<T>(looked: Result<T, Trouble>, damage: &mut Vec<Damage>) -> Result<(), Trouble> {
    match looked {
        Ok(_) => Ok(()),
        Err(Trouble::Damage(what) | Trouble::Missing(what)) => {
            damage.push(what);
            Ok(())
        }
        Err(trouble @ (Trouble::TooNew { .. } | Trouble::Io { .. })) => Err(trouble),
    }
}
