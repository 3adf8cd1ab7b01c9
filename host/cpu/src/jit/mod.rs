//! Translation of what runs often to x86-64 machine code: a template for each instruction, nothing between them.
//!
//! What is executed is the decoded blocks of [`crate::block`], one translation for each address they are seen at. The
//! map of host registers:
//!
//! | register | holds |
//! |---|---|
//! | rbp | the hart's integer registers, plus [`layout::BIAS`] |
//! | r15 | instructions that may yet be attempted; charged for a whole block at its entry |
//! | r14 | the [`DataBank`](crate::tlb::DataBank) of loads and stores |
//! | rdi rsi rbx r8 r9 r10, r11 r12, r13 | a0 to a5, s0 s1, sp |
//! | rax rcx rdx | nothing, between instructions |
//! | xmm2 to xmm9, xmm10 to xmm15 | fa0 to fa7, ft0 to ft5, while those are loaded: [`stubs::float`] |
//! | xmm0 xmm1 | nothing, between instructions |
//!
//! Everything that is not a few instructions long is a call of the interpreter's body for it ([`body`]), at an exact
//! instruction count; so is what a template finds not to be its case (a miss of the TLB, a device). A block that does
//! not fit what is left of the budget is interpreted. Nothing is polled: compiled code leaves at the end of the budget,
//! and after an instruction whose body says so.
#![expect(unsafe_code, reason = "the code that is made here is run here, and calls back")]

mod asm;
mod body;
mod emit;
mod layout;
mod memory;
mod stubs;

use crate::block::{Arena, HOT};
use crate::engine::EngineError;
use crate::hart::{Hart, Privilege};
use crate::ram::PAGE_SIZE;
use crate::run::{self, Pause};
use crate::shared::Cx;
use crate::tlb::Span;

use body::Frame;
use emit::{At, Draft, Emitter};
use memory::CodeMemory;
use stubs::{Exit, Stubs};

/// Bytes of code kept before everything is dropped and translated afresh. The crate's tests should see that happen.
const CODE_SIZE: u32 = if cfg!(test) { 96 << 10 } else { 64 << 20 };
/// More than one block can need.
const BLOCK_ROOM: usize = 64 << 10;
const NONE: u32 = u32::MAX;
/// Before the entry of a translation stands its number.
const NUMBER_BYTES: u32 = 4;
const PLACES: usize = 1 << 15;

/// A translation of a block. What runs as user is right at any address, for many processes run one program, each at
/// addresses of its own; what is privileged knows its address.
#[derive(Clone, Copy)]
struct Native {
    at: At,
    /// Guest physical address of the block.
    gpa: u64,
    /// The block was not dropped since.
    valid: bool,
    len: u8,
    entry: u32,
    /// The next one of the same block.
    next: u32,
}

impl Native {
    /// Its address, while the hart is in it.
    fn pc(&self, h: &Hart) -> u64 {
        self.at.page.unwrap_or(h.caches.code_page) + self.at.offset
    }
}

/// A jump in translated code to where nothing is translated yet, in the page of its own.
#[derive(Clone, Copy)]
struct Link {
    /// Where its displacement lies.
    site: u32,
    /// The translation it is in.
    native: u32,
    /// Where it leads, from the start of the page.
    offset: u64,
}

/// From where translated code was left for an address.
enum Came {
    Link(u32),
    /// A void translation.
    Tombstone(u32),
}

fn page(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

fn place(gpa: u64) -> usize {
    ((gpa >> 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize & (PLACES - 1)
}

/// The page that a translation for what the hart is at is for; none for user code.
fn known_page(h: &Hart) -> Option<u64> {
    (h.privilege != Privilege::User).then(|| page(h.pc))
}

/// The engine.
pub(crate) struct Jit {
    memory: CodeMemory,
    stubs: Stubs,
    /// Where translations begin: behind the stubs.
    floor: u32,
    draft: Draft,
    natives: Vec<Native>,
    /// First translation of the block that starts at each op.
    by_start: Vec<u32>,
    /// A translation by a hash of where its block lies: the last one that was looked for.
    by_place: Box<[u32; PLACES]>,
    links: Vec<Link>,
    /// From where the hart came to its pc, if translated code was left for that.
    came: Option<Came>,
    /// The arena's when it was last looked at.
    generation: u64,
}

impl Jit {
    pub(crate) fn new() -> Result<Jit, EngineError> {
        let mut memory = CodeMemory::new(CODE_SIZE).map_err(EngineError::Memory)?;
        let stubs = Stubs::new(&mut memory);
        let floor = memory.used();
        Ok(Jit {
            memory,
            stubs,
            floor,
            draft: Draft::new(),
            natives: Vec::new(),
            by_start: Vec::new(),
            by_place: Box::new([NONE; PLACES]),
            links: Vec::new(),
            came: None,
            generation: 0,
        })
    }

    /// As [`run::execute`].
    pub(crate) fn execute(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &mut Arena) -> Pause {
        h.caches.code_base = self.memory.base().expose_provenance() as u64;
        self.catch_up(h, cx, arena);
        self.came = None;
        loop {
            if cx.icount == cx.limit {
                return Pause::Limit;
            }
            let Some(entry) = self.entry(h, cx, arena) else {
                match run::execute::<true>(h, cx, arena) {
                    Pause::Hot(span) => self.translate(h, cx, arena, span),
                    pause => return pause,
                }
                continue;
            };
            if let Some(came) = self.came.take() {
                self.connect(came, h.pc, entry);
            }
            h.caches.code_page = page(h.pc);
            match self.enter(h, cx, arena, entry) {
                Exit::Left => return Pause::Check,
                Exit::Unknown => {}
                Exit::Dead(native) => {
                    h.pc = self.natives[native as usize].pc(h);
                    h.caches.forget_native(h.pc);
                    self.came = Some(Came::Tombstone(native));
                }
                Exit::Budget(native) => {
                    let native = self.natives[native as usize];
                    h.pc = native.pc(h);
                    cx.icount -= u64::from(native.len);
                    return run::execute::<false>(h, cx, arena);
                }
                Exit::Link(index) => {
                    let link = self.links[index as usize];
                    let page = self.natives[link.native as usize].at.page.unwrap_or(h.caches.code_page);
                    h.pc = page + link.offset;
                    self.came = Some(Came::Link(index));
                }
            }
        }
    }

    /// Applies what happened to decoded code since the last time.
    fn catch_up(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &Arena) {
        if self.generation != arena.generation() {
            self.generation = arena.generation();
            self.clear(h, cx);
        }
        for start in cx.shared.blocks.take_dead() {
            let mut at =
                self.by_start.get_mut(start as usize).map_or(NONE, |first| std::mem::replace(first, NONE));
            while at != NONE {
                let Native { entry, next, .. } = self.natives[at as usize];
                self.natives[at as usize].valid = false;
                self.memory.patch(entry, &self.stubs.tombstone(entry, at));
                at = next;
            }
        }
    }

    /// Drops all translations. None of them runs.
    fn clear(&mut self, h: &mut Hart, cx: &mut Cx<'_>) {
        self.memory.truncate(self.floor);
        self.natives.clear();
        self.by_start.clear();
        self.by_place.fill(NONE);
        self.links.clear();
        self.came = None;
        cx.forget_natives(h);
    }

    /// The translation for the hart's pc, if there is one.
    fn entry(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &Arena) -> Option<u32> {
        if let Some(code) = h.caches.native(h.pc) {
            return Some(code);
        }
        if let Some(offset) = h.caches.fetch(h.pc) {
            let gpa = cx.ram.base() + offset;
            if let Some(native) = self.natives.get(self.by_place[place(gpa)] as usize)
                && native.valid
                && native.gpa == gpa
                && native.at.page == known_page(h)
            {
                h.caches.install_native(h.pc, native.entry);
                return Some(native.entry);
            }
        }
        let span = h.caches.block(h.pc)?;
        let mut at = self.by_start.get(span.start as usize).copied().unwrap_or(NONE);
        while at != NONE {
            let native = self.natives[at as usize];
            if native.at.page == known_page(h) {
                self.by_place[place(native.gpa)] = at;
                h.caches.install_native(h.pc, native.entry);
                return Some(native.entry);
            }
            at = native.next;
        }
        // Hot at another address: translated at once.
        if arena.heat[span.start as usize] == HOT {
            self.translate(h, cx, arena, span);
            return h.caches.native(h.pc);
        }
        None
    }

    fn translate(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &Arena, span: Span) {
        if self.memory.room() < BLOCK_ROOM {
            self.clear(h, cx);
        }
        let gpa = arena.gpa(span.start).expect("only blocks in a page of their own become hot");
        let ops = &arena.ops[span.start as usize..][..span.len as usize];
        let index = self.natives.len() as u32;
        let at = At { page: known_page(h), offset: h.pc - page(h.pc) };
        self.draft.a.restart(self.memory.used());
        self.draft.a.align(16, NUMBER_BYTES);
        self.draft.a.number(index);
        let entry = self.draft.a.here();
        let first_link = self.links.len() as u32;
        Emitter::new(&mut self.draft, &self.stubs, index, first_link, at, span.start, ops).block();
        self.memory.append(self.draft.a.bytes());
        let links = self.draft.links.iter();
        self.links.extend(links.map(|&(site, offset)| Link { site, native: index, offset }));
        let start = span.start as usize;
        if self.by_start.len() <= start {
            self.by_start.resize(start + 1, NONE);
        }
        let next = std::mem::replace(&mut self.by_start[start], index);
        self.natives.push(Native { at, gpa, valid: true, len: span.len as u8, entry, next });
        self.by_place[place(gpa)] = index;
        h.caches.install_native(h.pc, entry);
    }

    /// The way is taken directly from now on, if both its ends are in one physical page, as they are in a virtual one.
    fn connect(&mut self, came: Came, pc: u64, entry: u32) {
        let to = self.natives[self.memory.number(entry - NUMBER_BYTES) as usize];
        let leads = |from: &Native, offset: u64| {
            from.at.page == to.at.page && page(from.gpa) == page(to.gpa) && offset == pc - page(pc)
        };
        match came {
            Came::Link(link) => {
                let Link { site, native, offset } = self.links[link as usize];
                let from = self.natives[native as usize];
                if leads(&from, offset) {
                    self.memory.patch(site, &asm::displacement(site, entry));
                }
            }
            Came::Tombstone(native) => {
                let dead = self.natives[native as usize];
                if leads(&dead, dead.at.offset) {
                    let mut way = asm::Asm::new(dead.entry);
                    way.jump(entry);
                    self.memory.patch(dead.entry, way.bytes());
                }
            }
        }
    }

    /// Runs translated code.
    fn enter(&mut self, h: &mut Hart, cx: &mut Cx<'_>, arena: &Arena, entry: u32) -> Exit {
        let left = i64::try_from(cx.limit - cx.icount).unwrap_or(i64::MAX);
        // A run without an end is one of 292 years: what is past it is taken up by the next.
        let limit = cx.icount + left as u64;
        let mut frame = Frame::new(h, cx, arena, &self.natives, limit);
        let exit = self.stubs.enter(&self.memory, &mut frame, entry, left);
        let left = frame.finish();
        if !matches!(exit, Exit::Left) {
            cx.icount = limit.wrapping_sub(left as u64);
        }
        exit
    }
}
