//! A look at a qcow2 header before the library sees it: bounds that keep a hostile image from making it allocate or
//! open what it should not, and reasons in words for what we do not support. QEMU's `docs/interop/qcow2.rst`.

/// First bytes of every qcow2 file.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// What [`check`] wants to see of a file.
pub(super) const HEADER_LEN: usize = 112;
/// Bounds on tables that are held in memory; QEMU has the same ones.
const MAX_L1_BYTES: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// The first version 3 header is this long.
const V3_LEN: u32 = 104;
const DIRTY: u64 = 1;
const CORRUPT: u64 = 2;
const EXTERNAL_DATA: u64 = 4;
const COMPRESSION_TYPE: u64 = 8;
const EXTENDED_L2: u64 = 16;

/// What the caller has to know of an image that passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// It names a file that holds what it does not.
    pub(super) has_backing: bool,
    /// It has internal snapshots.
    pub(super) has_snapshots: bool,
    /// It was not closed cleanly.
    pub(super) dirty: bool,
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }
}

/// Check the first [`HEADER_LEN`] bytes (or fewer, of a shorter file) of an image of `file_len` bytes.
pub(super) fn check(head: &[u8], file_len: u64) -> Result<Facts, String> {
    if head.len() < 72 {
        return Err("the qcow2 header is cut off".into());
    }
    let h = Fields(head);
    let version = h.u32(4);
    if !(2..=3).contains(&version) {
        return Err(format!("qcow2 version {version}; versions 2 and 3 are supported"));
    }
    if version == 3 && head.len() < V3_LEN as usize {
        return Err("the qcow2 header is cut off".into());
    }
    let cluster_bits = h.u32(20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(format!("clusters of 2^{cluster_bits} bytes; 2^9 to 2^21 are possible"));
    }
    if h.u32(32) != 0 {
        return Err("the image is encrypted".into());
    }
    let incompatible = if version == 3 { h.u64(72) } else { 0 };
    check_features(incompatible)?;
    check_tables(&h, cluster_bits, file_len)?;
    if version == 3 && !(V3_LEN..=1 << cluster_bits).contains(&h.u32(100)) {
        return Err(format!("a header of {} bytes", h.u32(100)));
    }
    Ok(Facts { has_backing: h.u64(8) != 0, has_snapshots: h.u32(60) != 0, dirty: incompatible & DIRTY != 0 })
}

fn check_features(incompatible: u64) -> Result<(), String> {
    let refused = [
        (CORRUPT, "the image is marked as corrupt"),
        (EXTERNAL_DATA, "the image keeps its data in another file"),
        (COMPRESSION_TYPE, "the image is compressed with something other than zlib"),
        (EXTENDED_L2, "the image has extended L2 entries"),
    ];
    if let Some((_, why)) = refused.iter().find(|(bit, _)| incompatible & bit != 0) {
        return Err((*why).to_owned());
    }
    match incompatible & !DIRTY {
        0 => Ok(()),
        unknown => Err(format!("the image needs features that we do not know ({unknown:#x})")),
    }
}

fn check_tables(h: &Fields<'_>, cluster_bits: u32, file_len: u64) -> Result<(), String> {
    let cluster = 1u64 << cluster_bits;
    let size = h.u64(24);
    if size > 1 << 56 {
        return Err(format!("a disk of {size} bytes"));
    }
    // One L2 table holds cluster / 8 entries, each of one cluster.
    let l1_entries = size.div_ceil(cluster * (cluster / 8));
    let l1_bytes = u64::from(h.u32(36)) * 8;
    if l1_bytes < l1_entries * 8 || l1_bytes > MAX_L1_BYTES {
        return Err(format!("an L1 table of {l1_bytes} bytes for a disk of {size} bytes"));
    }
    let refcount_bytes = u64::from(h.u32(56)) * cluster;
    if refcount_bytes == 0 || refcount_bytes > MAX_REFCOUNT_TABLE_BYTES {
        return Err(format!("a refcount table of {refcount_bytes} bytes"));
    }
    for (what, offset, len) in [("L1", h.u64(40), l1_bytes), ("refcount", h.u64(48), refcount_bytes)] {
        // A table may end inside the file's last cluster.
        let end = offset.checked_add(len).map(|end| end <= file_len.next_multiple_of(cluster));
        if !offset.is_multiple_of(cluster) || (offset == 0 && len > 0) || end != Some(true) {
            return Err(format!("the {what} table at {offset:#x} lies outside the file or is misaligned"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl FnOnce(&mut Vec<u8>)) -> Result<Facts, String> {
        let mut h = vec![0; HEADER_LEN];
        h[..4].copy_from_slice(&MAGIC);
        let mut put32 = |at: usize, value: u32| h[at..at + 4].copy_from_slice(&value.to_be_bytes());
        put32(4, 3);
        put32(20, 16);
        put32(28, 1 << 20);
        put32(36, 1);
        put32(44, 0x30000);
        put32(52, 0x10000);
        put32(56, 1);
        put32(96, 4);
        put32(100, 112);
        change(&mut h);
        check(&h, 0x40000)
    }

    #[test]
    fn a_plain_image_passes() {
        let facts = Facts { has_backing: false, has_snapshots: false, dirty: false };
        assert_eq!(header(|_| ()), Ok(facts));
        assert!(header(|h| h[15] = 1).unwrap().has_backing);
    }

    #[test]
    fn hostile_headers_are_refused_in_words() {
        type Damage = fn(&mut Vec<u8>);
        let cases: [(&str, Damage); 10] = [
            ("cut off", |h| h.truncate(80)),
            ("version 9", |h| h[7] = 9),
            ("2^40", |h| h[23] = 40),
            ("encrypted", |h| h[35] = 1),
            ("corrupt", |h| h[79] = 2),
            ("another file", |h| h[79] = 4),
            ("do not know", |h| h[72] = 0x80),
            ("L1 table of", |h| h[36] = 0xff),
            ("refcount table of", |h| h[56] = 0xff),
            ("outside the file", |h| h[40] = 0x70),
        ];
        for (expected, change) in cases {
            let error = header(change).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
