//! Blocks that end in a jump to their own start: a loop has its own busiest registers in host registers.
//!
//! They change places with others on the way in and back on every way out, so that everything outside of the loop's own
//! instructions finds registers where they usually are.

use super::super::asm::{Alu, Cc, Gpr, Width};
use super::super::layout::{Homes, PINNED, saved};
use super::Emitter;
use super::rotation::{reads, writes_integer};
use crate::isa::{Op, Reg};

/// What a register costs in a round if it lives in memory. A shift that is delayed costs nothing, most likely.
fn uses(ops: &[Op], delayed: u64) -> [u32; 33] {
    let mut uses = [0; 33];
    for op in ops.iter().filter(|op| delayed >> op.idx & 1 == 0) {
        let sources = [op.rs1, op.rs2].into_iter().filter(|&source| reads(op, source));
        let written = Some(op.rd).filter(|_| writes_integer(op));
        for reg in sources.chain(written) {
            uses[reg as usize] += 1;
        }
    }
    uses[Reg::X0 as usize] = 0;
    uses[Reg::Sink as usize] = 0;
    uses
}

/// Pinned registers that this loop hardly uses, and as many others that it uses more, by so much that the exchange is
/// worth it even if there are few rounds.
fn exchange(uses: &[u32; 33]) -> (Vec<Reg>, Vec<Reg>) {
    let is_pinned = |reg: Reg| Homes::USUAL.pinned(reg).is_some();
    let of = |reg: Reg| uses[reg as usize];
    let mut idle: Vec<Reg> = PINNED.map(|(reg, _)| reg).to_vec();
    idle.sort_by_key(|&reg| of(reg));
    let mut busy: Vec<Reg> = (1..32).map(Reg::of).filter(|&reg| !is_pinned(reg)).collect();
    busy.sort_by_key(|&reg| std::cmp::Reverse(of(reg)));
    idle.into_iter().zip(busy).take_while(|&(idle, busy)| of(busy) >= of(idle) + 3).unzip()
}

impl Emitter<'_> {
    /// Whether the block's last instruction leads to its start, if it jumps at all.
    fn is_loop(&self) -> bool {
        let last = &self.ops[self.ops.len() - 1];
        let branch = last.kind.row().is_some_and(|row| row.operands == "s,t,p");
        branch && self.place(last) + i64::from(last.imm) == self.at.offset as i64
    }

    /// Goes over to the loop's own homes, if it is better off with them. To be called at its start.
    pub(super) fn enter_loop(&mut self) {
        if !self.is_loop() {
            return;
        }
        let (idle, busy) = exchange(&uses(self.ops, self.halves));
        if busy.is_empty() {
            return;
        }
        self.homes.exchange(&idle, &busy);
        self.take_homes();
        self.again = Some(self.a.here());
    }

    /// Host registers that hold another guest register than usual: that one, and this.
    fn exchanged(&self) -> impl Iterator<Item = (Gpr, Reg, Reg)> + use<> {
        let homes = self.homes;
        let left = move |&(usual, host): &(Reg, Gpr)| homes.pinned(usual) != Some(host);
        PINNED.into_iter().filter(left).filter_map(move |(usual, host)| {
            let now = (1..32).map(Reg::of).find(|&reg| homes.pinned(reg) == Some(host))?;
            Some((host, usual, now))
        })
    }

    /// From where registers usually live to where they live here.
    pub(super) fn take_homes(&mut self) {
        for (host, usual, now) in self.exchanged() {
            self.a.store(Width::Q, saved(usual), host);
            self.a.mov(Width::Q, host, saved(now));
        }
    }

    /// And back.
    pub(super) fn leave_homes(&mut self) {
        for (host, usual, now) in self.exchanged() {
            self.a.store(Width::Q, saved(now), host);
            self.a.mov(Width::Q, host, saved(usual));
        }
    }

    /// The block's last instruction jumps to `again` if `cc`. Everything is in place.
    pub(super) fn close_loop(&mut self, cc: Cc, again: u32) {
        let out = self.a.branch_ahead(cc.negated());
        self.a.alu_imm(Alu::Sub, Width::Q, Gpr::R15, self.ops.len() as i32);
        self.a.branch(Cc::GreaterEqual, again);
        self.leave_homes();
        self.a.mov_imm(Gpr::Rax, self.native.into());
        self.a.jump(self.stubs.budget);
        self.a.bind(out);
        self.leave_homes();
    }
}
