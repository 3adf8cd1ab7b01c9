//! Our own bare guests, each of which judges itself.

use crate::reprise::{Reprise, Scratch, guest, root};

#[test]
fn the_demo_finds_every_device_of_the_board() {
    let scratch = Scratch::new("demo-disk");
    let image = scratch.path("disk.img");
    std::fs::write(&image, vec![0xa5; 1 << 20]).unwrap();
    let ended = Reprise::bare("demo", "demo.elf").args(["--disk", &format!("disk0={image}")]).end().success();
    for device in
        ["plic", "ns16550a", "clint", "goldfish-rtc", "gpio", "virtio-blk", "virtio-rng", "virtio-console"]
    {
        assert!(ended.console.contains(device), "no {device} in:\n{}", ended.console);
    }
    ended.says("2048 sectors, 8 of them written and read back").says(" 0 failed; powering off");
    let unchanged = std::fs::read(&image).unwrap().iter().all(|byte| *byte == 0xa5);
    assert!(unchanged, "a write reached an image that was not asked to commit");
}

#[test]
fn the_embedded_demo_needs_nothing() {
    Reprise::new(["demo"]).end().success().says(" 0 failed; powering off");
}

#[test]
fn harts_share_memory_and_interrupt_each_other() {
    for harts in ["1", "2", "4"] {
        let expected = format!("@R smp harts={harts} ");
        let ended = Reprise::bare("smp", "smp.elf").args(["-smp", harts]).end().success().says(&expected);
        assert!(ended.line("@R smp").ends_with(" ok"));
    }
}

#[test]
fn an_idle_guest_wakes_on_time_and_costs_no_instructions() {
    let ended = Reprise::bare("wfi", "wfi.elf").end().success().says("@R wfi interrupts=500 elapsed_ms=501 ");
    let (icount, vtime_ns, _) = ended.position_and_digest();
    assert!(vtime_ns > 501_000_000, "{vtime_ns} ns");
    assert!(icount < 500_000, "{icount} instructions for 500 wake-ups");
}

#[test]
fn code_that_changes_is_run_as_changed() {
    Reprise::bare("smc", "smc.elf")
        .end()
        .success()
        .says("@R smc rewrite=2001000 cross_page=200000 ahead=62616 ok");
}

#[test]
fn a_storm_of_interrupts_loses_and_invents_none() {
    let ended = Reprise::bare("irqstorm", "irqstorm.elf").end();
    ended.success().says("@R irqstorm external=3000 timer=3000 software=3000 ecalls=some ok");
}

#[test]
fn page_tables_may_change_under_the_guest() {
    Reprise::bare("paging", "paging.elf").end().success().says("@R paging checks=9412 failures=0 ok");
}

#[test]
fn the_guests_exit_code_is_ours() {
    // The demo counts its failed checks; one hart that never answers is one.
    let scratch = Scratch::new("exit-code");
    let guest = scratch.path("fail.elf");
    std::fs::write(&guest, finisher_elf(0x2a)).unwrap();
    assert_eq!(Reprise::run("exit-code").args(["-bios", &guest]).end().code, Some(0x2a));
}

/// Five instructions that write `code << 16 | 0x3333` to the finisher and wait.
pub(crate) fn finisher_elf(code: u32) -> Vec<u8> {
    let value = code << 16 | 0x3333;
    let high = value.wrapping_add(0x800) & 0xffff_f000;
    let low = value.wrapping_sub(high) & 0xfff;
    let lui = |rd: u32, imm: u32| imm | rd << 7 | 0x37;
    elf(&[
        lui(5, 0x10_0000),                   // lui t0, 0x100: the finisher
        lui(6, high),                        // lui t1, %hi
        low << 20 | 6 << 15 | 6 << 7 | 0x1b, // addiw t1, t1, %lo
        6 << 20 | 5 << 15 | 2 << 12 | 0x23,  // sw t1, 0(t0)
        0x0000_006f,                         // j .
    ])
}

/// An ELF of these instructions, which begin where RAM does.
pub(crate) fn elf(text: &[u32]) -> Vec<u8> {
    let bytes = 4 * text.len() as u64;
    let mut elf = vec![0; 0x78];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x10, &[2, 0, 243, 0, 1, 0, 0, 0]); // executable, RISC-V, version 1
    put(0x18, &0x8000_0000_u64.to_le_bytes()); // entry
    put(0x20, &0x40_u64.to_le_bytes()); // program headers
    put(0x34, &[64, 0, 56, 0, 1, 0, 64, 0]); // sizes: this header, a program header, one of them
    put(0x40, &[1, 0, 0, 0, 5, 0, 0, 0]); // load, read and execute
    put(0x48, &0x78_u64.to_le_bytes()); // file offset
    put(0x50, &0x8000_0000_u64.to_le_bytes());
    put(0x58, &0x8000_0000_u64.to_le_bytes());
    put(0x60, &bytes.to_le_bytes());
    put(0x68, &bytes.to_le_bytes());
    put(0x70, &4_u64.to_le_bytes());
    elf.extend(text.iter().flat_map(|word| word.to_le_bytes()));
    elf
}

#[test]
fn every_board_of_ours_checks_and_runs() {
    let boards: Vec<String> = std::fs::read_dir(root().join("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .filter(|path| path.ends_with(".toml"))
        .collect();
    assert!(boards.len() >= 3, "{boards:?}");
    for board in &boards {
        Reprise::new(["machine", "check", board]).end().success();
        let ended = Reprise::run("boards").args([board, "-bios", &guest("demo.elf")]).end().success();
        ended.says(" 0 failed; powering off");
    }
}
