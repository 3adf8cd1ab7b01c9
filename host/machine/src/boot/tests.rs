use super::*;

const RAM: Range<u64> = 0x8000_0000..0x8800_0000;

fn image<'a>(name: &'a str, bytes: &'a [u8]) -> Option<Image<'a>> {
    Some(Image { name, bytes })
}

/// A raw image that is no text.
fn raw(len: usize) -> Vec<u8> {
    vec![0x13; len]
}

fn linux(len: usize, text_offset: u64, image_size: u64) -> Vec<u8> {
    let mut bytes = raw(len);
    bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
    bytes[48..60].copy_from_slice(b"RISCV\0\0\0RSC\x05");
    bytes
}

/// A segment: virtual and physical address, bytes, size in memory.
type Seg<'a> = (u64, u64, &'a [u8], u64);

fn elf(kind: u16, entry: u64, segments: &[Seg<'_>]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..18].copy_from_slice(&kind.to_le_bytes());
    file[18..20].copy_from_slice(&243_u16.to_le_bytes());
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
    let mut offset = 64 + 56 * segments.len() as u64;
    for (vaddr, paddr, bytes, memory) in segments {
        let words = [offset, *vaddr, *paddr, bytes.len() as u64, *memory, 4096];
        file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
        file.extend(words.into_iter().flat_map(u64::to_le_bytes));
        offset += bytes.len() as u64;
    }
    for (_, _, bytes, _) in segments {
        file.extend(*bytes);
    }
    file
}

/// Appends a string table, a symbol table and their headers. The symbols are of section 3, which is code.
fn with_symbols(mut file: Vec<u8>, code: Range<u64>, symbols: &[(&str, u64, u8)]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut table = vec![0; 24];
    for (name, value, kind) in symbols {
        table.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
        table.extend([*kind, 0, 3, 0]);
        table.extend(value.to_le_bytes());
        table.extend([0; 8]);
        strings.extend(name.bytes().chain([0]));
    }
    let mut header = |kind: u32, link: u32, bytes: &[u8]| {
        let mut header = vec![0; 64];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        file.extend(bytes);
        header
    };
    let mut text = vec![0; 64];
    text[8..16].copy_from_slice(&6_u64.to_le_bytes());
    text[16..24].copy_from_slice(&code.start.to_le_bytes());
    text[32..40].copy_from_slice(&(code.end - code.start).to_le_bytes());
    let headers = [vec![0; 64], header(3, 0, &strings), header(2, 1, &table), text].concat();
    let at = (file.len() as u64).to_le_bytes();
    file[40..48].copy_from_slice(&at);
    file[58..62].copy_from_slice(&[64, 0, 4, 0]);
    file.extend(headers);
    file
}

fn bare(bytes: &[u8]) -> Result<Placement, BootError> {
    plan(RAM, &Images { firmware: image("fw", bytes), ..Images::default() })?.place(vec![1; 100])
}

fn with_kernel(kernel: &[u8]) -> Result<Plan, BootError> {
    plan(RAM, &Images { firmware: image("fw", &raw(100)), kernel: image("kernel", kernel), initrd: None })
}

/// The bytes at an address.
fn at(placement: &Placement, gpa: u64) -> &[u8] {
    let found = placement.chunks.iter().find(|(start, _)| *start == gpa);
    &found.unwrap_or_else(|| panic!("nothing at {gpa:#x}")).1
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn firmware_kernel_and_initrd_have_their_usual_places() {
    let (fw, kernel, initrd) = (raw(0x4_0000), linux(0x1000, 0x20_0000, 0x50_0000), raw(0x2001));
    let images = Images {
        firmware: image("fw", &fw),
        kernel: image("Image", &kernel),
        initrd: image("initrd", &initrd),
    };
    let plan = plan(RAM, &images).unwrap();
    assert_eq!(plan.initrd(), Some(0x8420_0000..0x8420_2001), "half of RAM behind the kernel");
    let placement = plan.place(vec![7; 5000]).unwrap();
    assert_eq!((placement.entry, placement.dtb_gpa), (0x8000_0000, 0x87e0_0000));
    assert_eq!(at(&placement, 0x8000_0000), fw);
    assert_eq!(at(&placement, 0x8020_0000), kernel);
    assert_eq!(at(&placement, 0x8420_0000), initrd);
    assert_eq!(at(&placement, 0x87e0_0000), [7; 5000]);
    let info = words(at(&placement, placement.fw_dynamic_gpa.unwrap()));
    assert_eq!(info, [0x4942_534f, 2, 0x8020_0000, 1, 0, 0]);
}

#[test]
fn the_initrd_comes_closer_when_ram_is_short() {
    let initrd = raw(90 << 20);
    let kernel = linux(0x1000, 0x20_0000, 0x50_0000);
    let images =
        Images { firmware: image("fw", &[0x13]), kernel: image("k", &kernel), initrd: image("i", &initrd) };
    let plan = plan(RAM, &images).unwrap();
    assert_eq!(plan.initrd().unwrap().start, 0x8080_0000, "behind image_size, not behind the file");
    plan.place(vec![0; 100]).unwrap();
    let short = super::plan(0x8000_0000..0x8400_0000, &images).unwrap_err();
    assert_eq!(short, BootError::TooLarge { name: "i".into(), size: 90 << 20, room: 52 << 20 });
}

#[test]
fn the_device_tree_stays_below_three_gibibytes() {
    let fw = raw(10);
    let images = Images { firmware: image("fw", &fw), ..Images::default() };
    let big = plan(0x8000_0000..0x1_8000_0000, &images).unwrap().place(vec![0; 10]).unwrap();
    assert_eq!(big.dtb_gpa, 0xbfe0_0000);
    let high = plan(0x1_0000_0000..0x1_1000_0000, &images).unwrap().place(vec![0; 10]).unwrap();
    assert_eq!((high.entry, high.dtb_gpa), (0x1_0000_0000, 0x1_0fe0_0000));
    let tiny = plan(0x8000_0000..0x8010_0000, &images).unwrap().place(vec![0; 4096]).unwrap();
    assert_eq!(tiny.dtb_gpa, 0x800e_f000);
    let none = plan(0x8000_0000..0x8001_0000, &images).unwrap().place(vec![0; 4096]).unwrap_err();
    assert!(matches!(none, BootError::TooLarge { .. }));
}

#[test]
fn an_elf_runs_bare_at_its_entry_point() {
    let file = elf(
        2,
        0x8000_1004,
        &[(0x8000_1000, 0x8000_1000, &[1; 8], 0x18), (0x8000_0000, 0x8000_0000, &[2; 4], 4)],
    );
    let symbols = [
        ("_start", 0x8000_1004, 0x12),
        ("$x", 0x8000_1004, 0),
        (".L0", 1, 0),
        ("table", 0x8000_1006, 1),
        ("label", 0x8000_1008, 0),
        ("_etext", 0x8000_100c, 0x10),
        ("tohost", 0x8000_1010, 1),
        ("a.c", 0, 4),
    ];
    let placement = bare(&with_symbols(file, 0x8000_1000..0x8000_100c, &symbols)).unwrap();
    assert_eq!(placement.entry, 0x8000_1004);
    assert_eq!(at(&placement, 0x8000_1000), [1; 8]);
    assert_eq!(at(&placement, 0x8000_1008), [0; 16], ".bss is cleared");
    let named: Vec<_> = placement.symbols.iter().map(|it| (it.address, it.name.as_str())).collect();
    let expected = [(4, "_start"), (6, "table"), (8, "label"), (0xc, "_etext"), (0x10, "tohost")];
    assert_eq!(named, expected.map(|(offset, name)| (0x8000_1000 + offset, name)));
    let functions = placement.symbols.iter().filter(|it| it.is_function).map(|it| it.name.as_str());
    assert_eq!(functions.collect::<Vec<_>>(), ["_start", "label"], "no data, and not what ends the code");
}

#[test]
fn virtual_entry_points_become_physical_and_pie_firmware_moves_to_ram() {
    let high = 0xffff_ffff_8000_0000;
    let kernel = elf(2, high + 4, &[(high, 0x8020_0000, &[3; 8], 8)]);
    let plan = with_kernel(&kernel).unwrap();
    let placement = plan.place(vec![0; 8]).unwrap();
    assert_eq!(words(at(&placement, placement.fw_dynamic_gpa.unwrap()))[2], 0x8020_0004);
    let pie = with_symbols(
        elf(3, 0, &[(0, 0, &[4; 8], 8), (0x1000, 0x1000, &[5; 8], 0x100)]),
        0x1000..0x1008,
        &[("_fw", 0x1000, 2)],
    );
    let placement = bare(&pie).unwrap();
    assert_eq!(placement.entry, 0x8000_0000);
    assert_eq!(at(&placement, 0x8000_1000), [5; 8]);
    let moved = Symbol { address: 0x8000_1000, name: "_fw".to_owned(), is_function: true };
    assert_eq!(placement.symbols, [moved]);
}

#[test]
fn a_kernel_goes_above_large_firmware() {
    let fw = raw(5 << 20);
    let kernel = linux(64, 0x20_0000, 0);
    let images = Images { firmware: image("fw", &fw), kernel: image("k", &kernel), initrd: None };
    let placement = plan(RAM, &images).unwrap().place(vec![0; 8]).unwrap();
    assert_eq!(at(&placement, 0x8060_0000), kernel);
}

#[test]
fn what_is_missing_is_named() {
    let bytes = raw(4);
    let kernel = Images { kernel: image("Image", &bytes), ..Images::default() };
    let initrd = Images { firmware: image("fw", &bytes), initrd: image("i", &bytes), ..Images::default() };
    for (images, text) in [
        (Images::default(), "there is nothing to run"),
        (kernel, "kernel `Image` needs firmware to start it"),
        (initrd, "initrd `i` is given without a kernel"),
    ] {
        let error = plan(RAM, &images).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert!(error.advice().is_some());
    }
    assert_eq!(bare(&[]).unwrap_err().to_string(), "`fw` is empty");
    assert_eq!(with_kernel(&[]).unwrap_err().to_string(), "`kernel` is empty");
}

#[test]
fn files_that_cannot_be_booted_are_recognised() {
    let wrapped = [b"MZ\0\0zimg".as_slice(), &raw(100)].concat();
    let mut arm = raw(100);
    arm[56..60].copy_from_slice(b"ARM\x64");
    for (bytes, text) in [
        (b"\x1f\x8b\x08\0".to_vec(), "`kernel` is compressed with gzip"),
        (b"\x28\xb5\x2f\xfd".to_vec(), "`kernel` is compressed with zstd"),
        (b"\xfd7zXZ\0".to_vec(), "`kernel` is compressed with xz"),
        (wrapped, "`kernel` is a kernel in an EFI wrapper (zboot)"),
        (arm, "`kernel` is an arm64 kernel"),
        (b"#!/bin/sh\n".to_vec(), "`kernel` is a script"),
        (b"hello, world\n".to_vec(), "`kernel` is a text file"),
    ] {
        let error = with_kernel(&bytes).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert!(error.advice().is_some());
    }
    assert_eq!(bare(&linux(64, 0, 0)).unwrap_err().to_string(), "`fw` is a Linux kernel, not firmware");
}

#[test]
fn what_does_not_fit_says_so() {
    assert!(matches!(
        with_kernel(&linux(64, 0x20_0000, u64::MAX)),
        Err(BootError::TooLarge { size: u64::MAX, .. })
    ));
    assert!(matches!(with_kernel(&linux(64, u64::MAX, 0)), Err(BootError::TooLarge { .. })));
    let outside = bare(&elf(2, 0x1000, &[(0x1000, 0x1000, &[1; 4], 4)])).unwrap_err();
    assert_eq!(
        outside.to_string(),
        "`fw` has a segment at 0x1000 to 0x1003, outside RAM (0x80000000 to 0x87ffffff)"
    );
    let both = with_kernel(&elf(2, 0x8000_0000, &[(0x8000_0000, 0x8000_0000, &[1; 4], 4)])).unwrap_err();
    assert_eq!(
        both.to_string(),
        "`kernel` at 0x80000000 to 0x80000003 and `fw` at 0x80000000 to 0x80000063 overlap"
    );
    let all = bare(&elf(2, 0x8000_0000, &[(0x8000_0000, 0x8000_0000, &[1; 4], 128 << 20)])).unwrap_err();
    assert!(all.to_string().starts_with("`the device tree` at "), "{all}");
}

#[test]
fn wrong_elf_files_say_why() {
    let good = elf(2, 0x8000_0000, &[(0x8000_0000, 0x8000_0000, &[1; 4], 4)]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bare(&bytes).unwrap_err().to_string()
    };
    assert_eq!(changed(4, 1), "`fw`: it is a 32-bit ELF file, and the harts are RV64");
    assert_eq!(changed(5, 2), "`fw`: it is a big-endian ELF file");
    assert_eq!(changed(18, 62), "`fw`: it is an ELF file for x86-64, not for RISC-V");
    assert_eq!(changed(16, 1), "`fw`: it is an object file, not an executable");
    assert_eq!(changed(54, 32), "`fw`: its program headers have 32 bytes each instead of 56");
    assert_eq!(changed(56, 0), "`fw`: it has no segment to load");
    assert_eq!(changed(64, 2), "`fw`: it has no segment to load");
    assert_eq!(changed(56, 200), "`fw`: the file ends inside its program headers");
    assert_eq!(changed(24, 9), "`fw`: its entry point 0x80000009 is in no segment");
    assert_eq!(changed(64 + 32, 9), "`fw`: its segment 0 has more bytes in the file than in memory");
    assert_eq!(changed(64 + 15, 1), "`fw`: its segment 0 lies beyond the end of the file");
    assert_eq!(bare(&good[..63]).unwrap_err().to_string(), "`fw`: the file ends inside its header");
    let twice = elf(
        2,
        0x8000_0000,
        &[(0x8000_0000, 0x8000_0000, &[1; 4], 8), (0x8000_0004, 0x8000_0004, &[1; 4], 4)],
    );
    assert_eq!(bare(&twice).unwrap_err().to_string(), "`fw`: two of its segments overlap at 0x80000004");
    let wraps = elf(2, u64::MAX - 2, &[(u64::MAX - 2, u64::MAX - 2, &[1; 4], 4)]);
    assert_eq!(bare(&wraps).unwrap_err().to_string(), "`fw`: its segment 0 wraps around the address space");
}

#[test]
fn no_file_makes_it_panic() {
    let good = with_symbols(
        elf(2, 0x8000_0000, &[(0x8000_0000, 0x8000_0000, &[1; 4], 4)]),
        0x8000_0000..0x8000_0004,
        &[("main", 0x8000_0000, 2)],
    );
    for len in 0..good.len() {
        let _ = bare(&good[..len]);
    }
    for at in 0..good.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let _ = bare(&bytes);
            let _ = with_kernel(&bytes);
        }
    }
    let header = linux(64, 0, 0);
    for at in 0..24 {
        let mut bytes = header.clone();
        bytes[at] = 0xff;
        let _ = with_kernel(&bytes);
    }
}
