//! Privileged statements, the handlers, the page tables and what a program starts with.

use super::super::assembler::{Code, Label, SFENCE_VMA, add, andi, srli, store, xor};
use super::{
    ALIAS, ALIAS_TABLES, Author, DATA_PAGE, DATA_PAGES, HANDLER_DATA_PAGE, HANDLER_PAGE, LARGE,
    MODE_ROW_BYTES, MODE_ROWS, PAGE, PORT_TABLES, RAM_SIZE, RAM_TABLES, ROOT_PAGE, SV48_PAGE, SV57_PAGE,
    USER_PORT, at_page, put_u64,
};
use crate::isa::ROWS;
use crate::tests::support::{
    BASE, ECALL, MRET, PORT, SRET, WFI, addi, csrrc, csrrs, csrrw, i, ld, lui, r, sd, slli,
};

const EBREAK: u32 = 0x0010_0073;
const MSTATUS: u32 = 0x300;
const MIE: u32 = 0x304;
const MEPC: u32 = 0x341;
const MCAUSE: u32 = 0x342;
const SSTATUS: u32 = 0x100;
const SIE: u32 = 0x104;
const SEPC: u32 = 0x141;
const SCAUSE: u32 = 0x142;
const SATP: u32 = 0x180;

const FS: u64 = 3 << 13;
const MPRV: u64 = 1 << 17;
const SUM: u64 = 1 << 18;
const MXR: u64 = 1 << 19;

/// V, R, W, X, A and D.
const LEAF: u64 = 0xcf;
const USER: u64 = 1 << 4;
const POINTER: u64 = 1;

/// Pages of RAM whose entries are put right again when a program begins anew.
const MENDED: u64 = 32;
/// Where the second handler lies in their page.
const SUPERVISOR_HANDLER: u64 = 0x800;

fn entry(gpa: u64, flags: u64) -> u64 {
    gpa >> 12 << 10 | flags
}

impl Author {
    /// What a program does first, each time: in M-mode it puts things right.
    pub(super) fn prologue(&mut self) {
        let (table, stack) = (self.roles.table, self.roles.stack);
        let at = self.scratch();
        let word = self.scratch_but(&[at]);
        let counter = self.roles.counters[0];
        // The leaf entries of RAM, from their copy.
        self.code.li(at, at_page(HANDLER_DATA_PAGE) + MODE_ROWS * MODE_ROW_BYTES);
        self.code.li(table, at_page(RAM_TABLES[1]));
        self.code.word(addi(counter, 0, MENDED as i32));
        let top = self.code.bound();
        self.code.words(&[ld(word, at, 0), sd(word, table, 0), addi(at, at, 8), addi(table, table, 8)]);
        self.code.word(addi(counter, counter, -1));
        self.code.branch(1, counter, 0, top);
        self.code.word(addi(table, table, -(8 * MENDED as i32)));
        let satp = self.dice.pick(&[(8, ROOT_PAGE), (8, ROOT_PAGE), (9, SV48_PAGE), (10, SV57_PAGE)]);
        self.code.li(word, satp.0 << 60 | at_page(satp.1) >> 12);
        // No protection but the last entry's, which allows everything.
        self.code.words(&[csrrw(0, SATP, word), csrrw(0, 0x3a0, 0)]);
        let status =
            FS | self.dice.pick(&[0, SUM]) | self.dice.pick(&[0, 0, MXR]) | self.dice.pick(&[0, 8, 0xa]);
        self.code.li(word, status);
        self.code.words(&[csrrs(0, MSTATUS, word), csrrw(0, MIE, word)]);
        // Each hart has its own stack.
        self.code.words(&[csrrs(word, 0xf14, 0), slli(word, word, 9)]);
        self.code.li(stack, at_page(DATA_PAGE + 3));
        self.code.word(add(stack, stack, word));
        for (index, pointer) in self.pointers().into_iter().enumerate() {
            let value = self.pointer_value(index, 0);
            self.code.li(pointer, value);
        }
    }

    /// The registers that the handler points elsewhere when the mode changes.
    fn pointers(&self) -> [u32; 5] {
        let [a, b, c] = self.roles.data;
        [a, b, c, self.roles.table, self.roles.port]
    }

    /// Where the pointer with this index points in the mode of this row.
    fn pointer_value(&mut self, index: usize, row: u64) -> u64 {
        let is_user = self.roles.modes[row as usize] == 0;
        let base = match (row, self.dice.below(6)) {
            (0, _) => BASE,
            (_, 0) => self.dice.pick(&[BASE, ALIAS, LARGE]),
            _ if is_user => ALIAS,
            _ => BASE,
        };
        match index {
            3 => base + RAM_TABLES[1] * PAGE,
            4 if is_user => USER_PORT,
            4 => PORT,
            _ => {
                let page = DATA_PAGE + self.dice.below(DATA_PAGES - 2);
                base + page * PAGE + self.dice.pick(&[0x800, 0x800, 0, 0xff8, 0x7fc, 0x403])
            }
        }
    }

    /// Asks the handler for the next mode.
    pub(super) fn change_mode(&mut self) {
        match self.dice.below(20) {
            // Returns to nowhere in particular: wherever the last trap came from.
            0 => self.code.word(self.dice.pick(&[MRET, SRET])),
            1 | 2 => self.code.word(EBREAK),
            _ => self.code.word(ECALL),
        }
    }

    pub(super) fn counter(&mut self) {
        let (rd, rs1) = (self.target(), self.source());
        let counters = [0xb00, 0xb02, 0xc00, 0xc00, 0xc01, 0xc01, 0xc02, 0xc02, 0xc03];
        let word = match self.dice.below(10) {
            0 => csrrw(rd, self.dice.pick(&[0xb00, 0xb02]), rs1),
            1 => i(0x73, 5, rd, self.dice.pick(&[0, 1, 4, 5]), 0x320),
            _ => csrrs(rd, self.dice.pick(&counters), 0),
        };
        self.code.word(word);
    }

    pub(super) fn control_register(&mut self) {
        match self.dice.below(10) {
            0 => self.status_bits(),
            1 => self.protect(),
            2 => self.trigger(),
            3 => self.delegate(),
            4 => self.sleep(),
            5 => self.timer(),
            6 | 7 => self.critical_section(),
            _ => {
                // Values without much effect, or with one on interrupts.
                let plain = [
                    0x340, 0x140, 0x141, 0x142, 0x143, 0x341, 0x342, 0x343, 0xf14, 0x301, 0x304, 0x344, 0x104,
                ];
                let csr = self.dice.pick(&plain);
                let (rd, rs1) = (self.target(), self.source());
                let (which, imm) = (self.dice.below(4), self.dice.below(32) as u32);
                self.code.word(match which {
                    0 => csrrw(rd, csr, rs1),
                    1 => csrrs(rd, csr, rs1),
                    2 => csrrc(rd, csr, rs1),
                    _ => i(0x73, self.dice.between(5, 7) as u32, rd, imm, csr as i32),
                });
            }
        }
    }

    /// Loads and stores with the rights of another mode, and bits that decide what they may.
    fn status_bits(&mut self) {
        let mask = self.scratch();
        let bits = self.dice.pick(&[
            MPRV,
            MPRV | MXR,
            SUM,
            MXR,
            FS,
            1 << 13,
            2,
            8,
            3 << 11,
            1 << 11,
            1 << 20,
            1 << 21,
        ]);
        let csr = self.dice.pick(&[MSTATUS, MSTATUS, 0x100]);
        self.code.li(mask, bits);
        let rd = self.target();
        self.code.word(if self.dice.one_in(2) { csrrs(rd, csr, mask) } else { csrrc(rd, csr, mask) });
        if bits & MPRV != 0 {
            self.memory();
            self.memory();
            self.code.li(mask, MPRV);
            self.code.word(csrrc(0, MSTATUS, mask));
        }
    }

    /// Physical memory protection of a few bytes or pages of data.
    fn protect(&mut self) {
        let (at, base) = (self.scratch(), self.data_pointer());
        self.code.words(&[srli(at, base, 2), csrrw(0, 0x3b0, at)]);
        let config = self.dice.pick(&[0, 0, 0x10, 0x11, 0x13, 0x18, 0x19, 0x1b, 0x0f]);
        self.code.words(&[addi(at, 0, 0xff), csrrc(0, 0x3a0, at), addi(at, 0, config), csrrs(0, 0x3a0, at)]);
    }

    fn trigger(&mut self) {
        let at = self.scratch();
        self.code.word(i(0x73, 5, 0, self.dice.below(3) as u32, 0x7a0));
        if self.dice.one_in(2) {
            let label = self.slots.last().copied().unwrap_or_else(|| self.code.bound());
            self.code.address(at, label);
        } else {
            let (base, offset) = (self.data_pointer(), self.offset());
            self.code.word(addi(at, base, offset));
        }
        self.code.word(csrrw(0, 0x7a2, at));
        // Type 6: in all modes, on execution, store or load, or nothing.
        let kinds = self.dice.pick(&[0, 0, 4, 2, 1, 3]);
        self.code.li(at, 6 << 60 | 1 << 6 | 1 << 4 | 1 << 3 | kinds);
        self.code.word(csrrw(0, 0x7a1, at));
    }

    fn delegate(&mut self) {
        let mask = self.scratch();
        let (csr, bits) = self.dice.pick(&[
            (0x302, 4),
            (0x302, 1 << 13),
            (0x302, 1 << 15),
            (0x302, 0xf4),
            (0x303, 0x222),
            (0x306, 7),
            (0x106, 7),
            (0x30a, 1 << 61),
            (0x30a, 0xf0),
            (0x10a, 0xf0),
        ]);
        self.code.li(mask, bits);
        self.code.word(if self.dice.one_in(2) { csrrs(0, csr, mask) } else { csrrc(0, csr, mask) });
    }

    /// Waits, often with something that is pending already.
    fn sleep(&mut self) {
        if !self.dice.one_in(8) {
            self.code.words(&[i(0x73, 6, 0, 2, 0x344), i(0x73, 6, 0, 2, MIE as i32)]);
        }
        self.code.word(self.dice.pick(&[WFI, WFI, 0x00d0_0073, 0x01d0_0073]));
    }

    /// Interrupts off and on again, perhaps with one that waits for it.
    fn critical_section(&mut self) {
        let saved = self.scratch();
        let (csr, bit) = self.dice.pick(&[(MSTATUS, 8), (MSTATUS, 2), (SSTATUS, 2)]);
        self.code.word(i(0x73, 7, saved, bit, csr as i32));
        if self.dice.one_in(3) {
            self.code.words(&[i(0x73, 6, 0, 2, MIE as i32), i(0x73, 6, 0, 2, 0x344)]);
        }
        self.memory();
        let by_mask = self.dice.one_in(2);
        self.code.word(andi(saved, saved, bit as i32));
        self.code.word(if by_mask { csrrs(0, csr, saved) } else { i(0x73, 6, saved, bit, csr as i32) });
    }

    fn timer(&mut self) {
        let at = self.scratch();
        let ahead = self.dice.pick(&[0, 1, 5, 40, 300]);
        self.code.words(&[csrrs(at, 0xc01, 0), addi(at, at, ahead), csrrw(0, 0x14d, at)]);
        self.code.words(&[addi(at, 0, 0x20), csrrs(0, MIE, at)]);
    }

    /// Flips bits of a leaf entry: rights, A, D, or which page it is.
    pub(super) fn edit_table(&mut self) {
        let (at, table) = (self.scratch(), self.roles.table);
        let mask = self.scratch_but(&[at]);
        let page = match self.dice.below(30) {
            0 => self.dice.below(4),
            _ => DATA_PAGE + self.dice.below(DATA_PAGES),
        };
        let bits = self.dice.pick(&[1, 2, 4, 6, 8, 0x10, 0x40, 0x80, 0xc0, 0x400, 0x400]);
        let offset = 8 * page as i32;
        self.code.words(&[ld(at, table, offset), addi(mask, 0, bits), xor(at, at, mask)]);
        self.code.word(store(0x23, if self.dice.one_in(4) { 2 } else { 3 }, at, table, offset));
        let base = self.data_pointer();
        match self.dice.below(4) {
            0 => self.code.word(SFENCE_VMA),
            1 => self.code.word(SFENCE_VMA | base << 15),
            _ => {}
        }
    }

    pub(super) fn fence(&mut self) {
        let rs1 = self.data_pointer();
        let words = [
            0x0000_100f,
            SFENCE_VMA,
            SFENCE_VMA | rs1 << 15,
            0x0ff0_000f,
            0x0100_000f,
            0x1600_0073,
            0x1800_0073,
            0x1810_0073,
        ];
        self.code.word(self.dice.pick(&words));
    }

    /// An instruction of the table with any registers, or bits that are perhaps none.
    pub(super) fn garbage(&mut self) {
        let filling = self.dice.bits() as u32;
        if self.dice.one_in(4) {
            return self.code.word(filling);
        }
        let row = self.dice.pick(&ROWS.iter().collect::<Vec<_>>());
        let word = row.encoding.bits | filling & !row.encoding.mask;
        let keeps_pointers = !row.operands.starts_with('d') || row.ends_block;
        let rd = self.scratch();
        self.code.word(if keeps_pointers { word } else { word & !0xf80 | rd << 7 });
    }

    /// Both handlers, each with the table that vectored interrupts need.
    pub(super) fn write_handlers(&mut self) -> Vec<u8> {
        let mut code = Code::default();
        self.handler(&mut code, [MCAUSE, MEPC, MIE], MRET);
        code.skip_to(SUPERVISOR_HANDLER as usize);
        self.handler(&mut code, [SCAUSE, SEPC, SIE], SRET);
        code.finish()
    }

    /// Skips what trapped; begins anew where code cannot be fetched; masks what interrupted.
    fn handler(&mut self, code: &mut Code, [cause, epc, enable]: [u32; 3], ret: u32) {
        let [a, b, _] = self.roles.handler;
        let (start, restart, interrupt) = (code.label(), code.label(), code.label());
        (0..16).for_each(|_| code.jal(0, start));
        code.bind(start);
        if ret == MRET {
            // What follows may load, and must do so with its own rights.
            code.words(&[lui(a, (MPRV >> 12) as u32), csrrc(0, MSTATUS, a)]);
        }
        code.word(csrrs(a, cause, 0));
        code.branch(4, a, 0, interrupt);
        for fetch in [0, 1, 12] {
            code.word(addi(b, 0, fetch));
            code.branch(0, a, b, restart);
        }
        if ret == MRET {
            self.next_mode(code);
        }
        code.words(&[csrrs(a, epc, 0), addi(a, a, 4), csrrw(0, epc, a)]);
        if self.dice.one_in(2) {
            // Floating point is on again.
            let status = if ret == MRET { MSTATUS } else { SSTATUS };
            code.words(&[lui(a, (FS >> 12) as u32), csrrs(0, status, a)]);
        }
        code.word(ret);
        code.bind(interrupt);
        code.words(&[andi(a, a, 63), addi(b, 0, 1), r(0x33, 1, 0, b, b, a), csrrc(0, enable, b), ret]);
        code.bind(restart);
        code.li(a, BASE);
        code.word(csrrw(0, epc, a));
        match ret == MRET {
            true => code.words(&[lui(a, 2), addi(a, a, -0x800), csrrs(0, MSTATUS, a)]),
            false => code.words(&[addi(a, 0, 0x100), csrrs(0, SSTATUS, a)]),
        }
        code.word(ret);
    }

    /// An ecall: goes on behind it, in the mode of the next row and with its pointers.
    fn next_mode(&mut self, code: &mut Code) {
        let ([a, b, c], turn) = (self.roles.handler, self.roles.turn);
        let other: Label = code.label();
        code.words(&[andi(b, a, !3), addi(c, 0, 8)]);
        code.branch(1, b, c, other);
        let within = |register: u32| {
            let shift = RAM_SIZE.leading_zeros() as i32 + 1;
            [slli(register, register, shift), srli(register, register, shift)]
        };
        code.words(&[addi(turn, turn, 1), csrrs(a, MEPC, 0), addi(a, a, 4)]);
        code.words(&within(a));
        code.li(c, at_page(HANDLER_DATA_PAGE));
        code.words(&[
            andi(b, turn, MODE_ROWS as i32 - 1),
            slli(b, b, MODE_ROW_BYTES.trailing_zeros() as i32),
        ]);
        code.words(&[add(c, c, b), ld(b, c, 0), add(a, a, b), csrrw(0, MEPC, a)]);
        let stack = self.roles.stack;
        code.words(&within(stack));
        code.words(&[add(stack, stack, b)]);
        code.words(&[lui(a, 2), addi(a, a, -0x800), csrrc(0, MSTATUS, a), ld(a, c, 8), csrrs(0, MSTATUS, a)]);
        for (index, pointer) in self.pointers().into_iter().enumerate() {
            code.word(ld(pointer, c, 16 + 8 * index as i32));
        }
        code.word(MRET);
        code.bind(other);
    }

    pub(super) fn fill_handler_data(&mut self, ram: &mut [u8]) {
        let start = HANDLER_DATA_PAGE * PAGE;
        for row in 0..MODE_ROWS {
            let at = start + row * MODE_ROW_BYTES;
            let mode = self.roles.modes[row as usize];
            put_u64(ram, at, if mode == 0 { ALIAS } else { BASE });
            put_u64(ram, at + 8, mode << 11);
            for index in 0..5 {
                let value = self.pointer_value(index, row);
                put_u64(ram, at + 16 + 8 * index as u64, value);
            }
        }
        // What the prologue mends with.
        for page in 0..MENDED {
            let at = (RAM_TABLES[1] * PAGE + page * 8) as usize;
            let word = u64::from_le_bytes(ram[at..at + 8].try_into().expect("eight bytes"));
            put_u64(ram, start + MODE_ROWS * MODE_ROW_BYTES + 8 * page, word);
        }
    }

    pub(super) fn fill_tables(&mut self, ram: &mut [u8]) {
        let mut link = |table: u64, index: u64, to: u64| {
            put_u64(ram, table * PAGE + index * 8, entry(at_page(to), POINTER));
        };
        link(SV57_PAGE, 0, SV48_PAGE);
        link(SV48_PAGE, 0, ROOT_PAGE);
        for (tables, address) in [(RAM_TABLES, BASE), (ALIAS_TABLES, ALIAS), (PORT_TABLES, PORT)] {
            link(ROOT_PAGE, address >> 30, tables[0]);
            link(tables[0], address >> 21 & 511, tables[1]);
        }
        put_u64(ram, RAM_TABLES[0] * PAGE + (LARGE >> 21 & 511) * 8, entry(BASE, LEAF));
        for (table, user) in [(RAM_TABLES[1], 0), (ALIAS_TABLES[1], USER)] {
            let mut data: Vec<u64> = (DATA_PAGE..DATA_PAGE + DATA_PAGES).collect();
            self.dice.shuffle(&mut data);
            for page in 0..RAM_SIZE / PAGE {
                // Pages of data are not in order, so that what goes over the end of one lands elsewhere.
                let is_data = (DATA_PAGE..DATA_PAGE + DATA_PAGES).contains(&page);
                let to = if is_data { data[(page - DATA_PAGE) as usize] } else { page };
                // Accessed and dirty bits have to be set by somebody, here and there; some pages are read-only or none.
                let missing = match self.dice.below(24) {
                    0..4 => self.dice.pick(&[0x40, 0x80, 0xc0]),
                    4 if is_data => self.dice.pick(&[1, 4, 8]),
                    _ => 0,
                };
                put_u64(ram, table * PAGE + page * 8, entry(at_page(to), LEAF & !missing | user));
            }
        }
        put_u64(ram, PORT_TABLES[1] * PAGE, entry(PORT, LEAF));
        put_u64(ram, PORT_TABLES[1] * PAGE + 8, entry(PORT, LEAF | USER));
    }

    /// The hart's state at the start, where it is not that of a reset.
    pub(super) fn initial_numbers(&mut self) -> Vec<(&'static str, u64)> {
        let dice = &mut self.dice;
        let vectored = dice.pick(&[0, 0, 1]);
        vec![
            ("pc", BASE),
            ("mtvec", at_page(HANDLER_PAGE) | vectored),
            ("stvec", (at_page(HANDLER_PAGE) + SUPERVISOR_HANDLER) | vectored),
            ("medeleg", dice.pick(&[0, 0, 0, 0xa0fc, 0xf0])),
            ("mideleg", dice.pick(&[0, 0x222])),
            ("mcounteren", dice.pick(&[7, 7, 0])),
            ("scounteren", dice.pick(&[7, 7, 0])),
            ("menvcfg", dice.pick(&[7 << 61 | 0xf0, 7 << 61, 1 << 63, 0])),
            ("fcsr", dice.below(32) | dice.pick(&[0, 0, 1, 2, 3, 4, 5]) << 5),
            ("minstret_offset", dice.value()),
        ]
    }
}
