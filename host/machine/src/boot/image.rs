//! What sort of file it is, by its magic bytes.

use super::{BootError, Image};

/// Something that can be placed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    Elf,
    /// Linux `Image`. Linux, Documentation/arch/riscv/boot-image-header.rst.
    Linux {
        /// Offset from the start of RAM.
        text_offset: u64,
        /// Memory it takes with its `.bss`; 0: not said.
        image_size: u64,
    },
    /// Anything else is taken as code: U-Boot and many small guests have no header.
    Raw,
}

/// A file that people try and that cannot work.
struct Known {
    offset: usize,
    magic: &'static [u8],
    what: &'static str,
    advice: &'static str,
}

const UNPACK: &str = "unpack it first: the firmware starts a plain Image";

/// In this order: some formats carry others' magic inside.
const KNOWN: &[Known] = &[
    Known {
        offset: 0,
        magic: b"\x1f\x8b",
        what: "compressed with gzip",
        advice: "unpack it first: zcat vmlinuz > Image",
    },
    Known { offset: 0, magic: b"\x28\xb5\x2f\xfd", what: "compressed with zstd", advice: UNPACK },
    Known { offset: 0, magic: b"\xfd7zXZ\0", what: "compressed with xz", advice: UNPACK },
    Known { offset: 0, magic: b"BZh", what: "compressed with bzip2", advice: UNPACK },
    Known { offset: 0, magic: b"\x04\x22\x4d\x18", what: "compressed with lz4", advice: UNPACK },
    Known { offset: 0, magic: b"\x02\x21\x4c\x18", what: "compressed with lz4", advice: UNPACK },
    Known { offset: 0, magic: b"\x5d\0\0", what: "compressed with lzma", advice: UNPACK },
    Known {
        offset: 4,
        magic: b"zimg",
        what: "a kernel in an EFI wrapper (zboot)",
        advice: "take the plain Image of the same build; only an EFI firmware can unpack this one",
    },
    Known { offset: 56, magic: b"ARM\x64", what: "an arm64 kernel", advice: "take a riscv64 one" },
    Known { offset: 0x202, magic: b"HdrS", what: "an x86 kernel", advice: "take a riscv64 one" },
    Known {
        offset: 0,
        magic: b"\x27\x05\x19\x56",
        what: "a U-Boot uImage",
        advice: "take the image inside it",
    },
    Known {
        offset: 0,
        magic: b"\xd0\x0d\xfe\xed",
        what: "a device tree or FIT image",
        advice: "take the image inside it",
    },
    Known { offset: 0, magic: b"QFI\xfb", what: "a qcow2 disk", advice: "give it with --disk" },
    Known { offset: 0, magic: b"!<arch>\n", what: "an archive", advice: "unpack it first" },
    Known { offset: 0, magic: b"070701", what: "a cpio archive", advice: "give it with --initrd" },
    Known { offset: 0, magic: b"#!", what: "a script", advice: "give the image that it makes" },
];

/// `RSC\x05` at 56 is `magic2`; the older `magic` at 48 is deprecated.
const LINUX_MAGIC: &[u8] = b"RSC\x05";

pub(super) fn recognise(image: &Image<'_>) -> Result<Recognised, BootError> {
    let bytes = image.bytes;
    let refuse = |what, advice| Err(BootError::NotLoadable { name: image.name.to_owned(), what, advice });
    if bytes.is_empty() {
        return Err(BootError::Empty { name: image.name.to_owned() });
    }
    if bytes.starts_with(b"\x7fELF") {
        return Ok(Recognised::Elf);
    }
    let has = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if let Some(known) = KNOWN.iter().find(|known| has(known.offset, known.magic)) {
        return refuse(known.what, known.advice);
    }
    if has(56, LINUX_MAGIC) {
        return Ok(Recognised::Linux { text_offset: word(bytes, 8), image_size: word(bytes, 16) });
    }
    let text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if bytes.iter().take(256).all(text) {
        return refuse("a text file", "give an image of machine code");
    }
    Ok(Recognised::Raw)
}

/// A little-endian word of the header, which the magic behind it shows to be there.
fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes[at..at + 8].try_into().expect("a slice of eight bytes");
    u64::from_le_bytes(word)
}
