//! Stacks of calls, followed block by block, and instructions counted by stack.

use reprise_plugin_api::observe::{Block, BlockEnd, Mode, Trap, symbols::Symbols};
use std::collections::{BTreeMap, HashMap};

/// More frames than this are surely calls that never return: they begin anew.
const DEEPEST: usize = 1000;
/// Stacks that are told apart, but for `[more]`: some 200 MB with those. A guest could make them without end.
const MOST_STACKS: usize = 1 << 20;
/// Frames of all these together, which are as many names in the text.
const MOST_FRAMES: usize = 1 << 24;
/// Address spaces of user mode that a hart has stacks in.
const MOST_SPACES: usize = 1 << 10;

/// What a frame is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Name {
    /// A root: code of this mode.
    Mode(Mode),
    /// By its place among the symbols.
    Function(usize),
    /// Code that no symbol names.
    Unknown,
    /// A handler runs above it.
    Exception(u64),
    /// Likewise.
    Interrupt(u64),
    /// Whatever there was no room to tell apart.
    More,
}

/// A stack as it is counted: its innermost frame, and the stack below that.
#[derive(Clone, Copy)]
struct Node {
    parent: Option<usize>,
    name: Name,
    /// Frames below it.
    depth: usize,
    instructions: u64,
}

/// How a frame was come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It was not seen to be entered.
    Unseen,
    /// By a call that returns there.
    Call(u64),
    /// By a trap.
    Trap,
}

#[derive(Clone, Copy)]
struct Frame {
    node: usize,
    way: Way,
}

/// What the last block has said of the next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Nothing,
    /// It is a function's that returns there.
    Called(u64),
    /// It is where a call came from.
    Returned,
}

#[derive(Default)]
struct Hart {
    /// Of supervisor and machine mode: handlers, and what they call.
    privileged: Vec<Frame>,
    /// Of user mode, by address space: there they are still when a handler comes back.
    user: BTreeMap<u64, Vec<Frame>>,
    satp: u64,
    next: Next,
    /// A trap whose block, if it has one, has not been told yet.
    trap: Option<Trap>,
}

impl Hart {
    fn stack(&mut self, mode: Mode) -> &mut Vec<Frame> {
        match mode {
            Mode::User => {
                if self.user.len() >= MOST_SPACES && !self.user.contains_key(&self.satp) {
                    self.user.clear();
                }
                self.user.entry(self.satp).or_default()
            }
            Mode::Supervisor | Mode::Machine => &mut self.privileged,
        }
    }
}

/// Instructions by stack.
pub(crate) struct Profile {
    symbols: Symbols,
    nodes: Vec<Node>,
    children: HashMap<(Option<usize>, Name), usize>,
    /// More nodes there are not to be, but for `[more]` above each.
    most_stacks: usize,
    /// Likewise.
    most_frames: usize,
    /// Of all nodes.
    frames: usize,
    harts: Vec<Hart>,
    /// The last function that was found: blocks follow each other in it.
    last: Option<usize>,
}

impl Profile {
    pub(crate) fn new(harts: usize, symbols: Symbols) -> Self {
        let harts = (0..harts).map(|_| Hart::default()).collect();
        Self {
            symbols,
            nodes: Vec::new(),
            children: HashMap::new(),
            most_stacks: MOST_STACKS,
            most_frames: MOST_FRAMES,
            frames: 0,
            harts,
            last: None,
        }
    }

    /// What comes now does not follow from what came before.
    pub(crate) fn forget_stacks(&mut self) {
        self.harts.iter_mut().for_each(|hart| *hart = Hart::default());
    }

    /// A hart took a trap. The block that ends with it comes later.
    pub(crate) fn trap(&mut self, trap: &Trap) {
        // One that waits has no block: its own would have come first.
        if let Some(earlier) = self.harts[trap.hart].trap.replace(*trap) {
            self.enter_handler(&earlier);
        }
    }

    /// A hart has executed a block.
    pub(crate) fn block(&mut self, block: &Block) {
        let trap = self.harts[block.hart].trap.take();
        let (before, own) = if block.end == BlockEnd::Trap { (None, trap) } else { (trap, None) };
        before.iter().for_each(|trap| self.enter_handler(trap));
        self.harts[block.hart].satp = block.satp;
        let node = self.arrive(block.hart, block.mode, block.pc);
        self.nodes[node].instructions += block.instructions;
        let hart = &mut self.harts[block.hart];
        match block.end {
            BlockEnd::Call => hart.next = Next::Called(block.pc.wrapping_add(block.bytes)),
            BlockEnd::Return => hart.next = Next::Returned,
            BlockEnd::TrapReturn => {
                let handler = hart.privileged.iter().rposition(|frame| frame.way == Way::Trap);
                hart.privileged.truncate(handler.unwrap_or(0));
            }
            BlockEnd::Next | BlockEnd::Jump | BlockEnd::Trap => {}
        }
        own.iter().for_each(|trap| self.enter_handler(trap));
    }

    /// What a hart does from here on lies above what it did. A trap from user mode finds no stack of the kernel's.
    fn enter_handler(&mut self, trap: &Trap) {
        let name = if trap.is_interrupt { Name::Interrupt(trap.cause) } else { Name::Exception(trap.cause) };
        let below = match trap.from {
            Mode::User => {
                self.harts[trap.hart].privileged.clear();
                self.child(None, Name::Mode(trap.to))
            }
            Mode::Supervisor | Mode::Machine => self.arrive(trap.hart, trap.from, trap.epc),
        };
        let node = self.child(Some(below), name);
        self.harts[trap.hart].privileged.push(Frame { node, way: Way::Trap });
    }

    /// A hart is in the function at `pc`. Returns its stack.
    fn arrive(&mut self, hart: usize, mode: Mode, pc: u64) -> usize {
        let name = self.name(pc);
        let next = std::mem::take(&mut self.harts[hart].next);
        let stack = self.harts[hart].stack(mode);
        if stack.len() > DEEPEST {
            stack.clear();
        }
        // Calls are followed up to the handler that they are in.
        let handler = stack.iter().rposition(|frame| frame.way == Way::Trap).map_or(0, |at| at + 1);
        let mut way = Way::Unseen;
        match next {
            Next::Nothing => {}
            Next::Called(back) => way = Way::Call(back),
            Next::Returned => {
                let call = stack[handler..].iter().rposition(|frame| frame.way == Way::Call(pc));
                stack.truncate(handler + call.unwrap_or(0));
            }
        }
        let top = stack.last().copied();
        let frame = match top {
            // It goes on, or it jumped to another function, which returns to where this one would.
            Some(frame) if way == Way::Unseen && frame.way != Way::Trap => {
                stack.pop();
                let Node { parent, name: old, .. } = self.nodes[frame.node];
                let stays = old == name || old == Name::More;
                let node = if stays { frame.node } else { self.child(parent, name) };
                Frame { node, ..frame }
            }
            top => {
                let below = top.map_or_else(|| self.child(None, Name::Mode(mode)), |frame| frame.node);
                Frame { node: self.child(Some(below), name), way }
            }
        };
        self.harts[hart].stack(mode).push(frame);
        frame.node
    }

    /// The stack with this frame above `parent`, or where it is counted if there is no room for another.
    fn child(&mut self, parent: Option<usize>, name: Name) -> usize {
        if let Some(&node) = self.children.get(&(parent, name)) {
            return node;
        }
        let below = parent.map(|index| self.nodes[index]);
        let is_full = self.nodes.len() >= self.most_stacks || self.frames >= self.most_frames;
        let name = match (below, parent) {
            (Some(Node { name: Name::More, .. }), Some(index)) => return index,
            (Some(_), _) if is_full => Name::More,
            _ => name,
        };
        let depth = below.map_or(0, |below| below.depth + 1);
        let Self { nodes, frames, .. } = self;
        *self.children.entry((parent, name)).or_insert_with(|| {
            *frames += depth + 1;
            nodes.push(Node { parent, name, depth, instructions: 0 });
            nodes.len() - 1
        })
    }

    fn name(&mut self, pc: u64) -> Name {
        let functions = self.symbols.functions();
        let is_in = |index: usize| (functions[index].start..functions[index].end).contains(&pc);
        if !self.last.is_some_and(is_in) {
            self.last = self.symbols.find(pc);
        }
        self.last.map_or(Name::Unknown, Name::Function)
    }

    /// A line for each stack, in the order of their text.
    pub(crate) fn folded(&self) -> String {
        let mut lines = BTreeMap::<String, u64>::new();
        for node in self.nodes.iter().filter(|node| node.instructions > 0) {
            let mut names = vec![self.text(node.name)];
            let mut parent = node.parent;
            while let Some(index) = parent {
                names.push(self.text(self.nodes[index].name));
                parent = self.nodes[index].parent;
            }
            names.reverse();
            *lines.entry(names.join(";")).or_default() += node.instructions;
        }
        lines.iter().map(|(stack, instructions)| format!("{stack} {instructions}\n")).collect()
    }

    fn text(&self, name: Name) -> String {
        match name {
            Name::Mode(mode) => mode.letter().to_string(),
            Name::Function(index) => self.symbols.functions()[index].name.replace([';', ' ', '\n'], "_"),
            Name::Unknown => "[unknown]".to_owned(),
            Name::Exception(cause) => format!("[exception_{cause}]"),
            Name::Interrupt(cause) => format!("[interrupt_{cause}]"),
            Name::More => "[more]".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions of 0x100 bytes: main, f, g, handler.
    fn profile() -> Profile {
        let mut symbols = Symbols::default();
        let names = ["main", "f", "g", "handler"];
        let pairs: Vec<_> =
            names.iter().zip(1..).map(|(name, at)| (at * 0x100, (*name).to_owned())).collect();
        symbols.add_pairs(&pairs);
        Profile::new(1, symbols)
    }

    fn block(pc: u64, instructions: u64, mode: Mode, end: BlockEnd) -> Block {
        Block { hart: 0, pc, bytes: 4 * instructions, instructions, mode, satp: 7, end }
    }

    #[test]
    fn calls_nest_and_jumps_stay_at_their_depth() {
        let mut profile = profile();
        let mode = Mode::Machine;
        for (pc, instructions, end) in [
            (0x100, 2, BlockEnd::Call),
            (0x200, 3, BlockEnd::Jump),
            (0x300, 4, BlockEnd::Call),
            (0x200, 5, BlockEnd::Return),
            (0x310, 6, BlockEnd::Return),
            (0x108, 7, BlockEnd::Next),
            // To where nobody has called from.
            (0x110, 8, BlockEnd::Return),
            (0x200, 9, BlockEnd::Next),
        ] {
            profile.block(&block(pc, instructions, mode, end));
        }
        assert_eq!(profile.folded(), "M;f 9\nM;main 17\nM;main;f 3\nM;main;g 10\nM;main;g;f 5\n");
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_as_more() {
        let blocks = [
            (0x100, 1, BlockEnd::Call),
            (0x200, 2, BlockEnd::Call),
            // Of these there are two for which there is no room; the second goes on in another function.
            (0x300, 4, BlockEnd::Call),
            (0x200, 8, BlockEnd::Jump),
            (0x100, 16, BlockEnd::Return),
            (0x310, 32, BlockEnd::Return),
            (0x208, 64, BlockEnd::Return),
            (0x104, 128, BlockEnd::Next),
        ];
        let folded = |limit: fn(&mut Profile)| {
            let mut profile = profile();
            limit(&mut profile);
            for (pc, instructions, end) in blocks {
                let bytes = if end == BlockEnd::Call && pc == 0x300 { 0x10 } else { 4 * instructions };
                profile.block(&Block { bytes, ..block(pc, instructions, Mode::Machine, end) });
            }
            profile.folded()
        };
        let limited = "M;main 129\nM;main;f 66\nM;main;f;[more] 60\n";
        assert_eq!(folded(|profile| profile.most_stacks = 3), limited);
        assert_eq!(folded(|profile| profile.most_frames = 6), limited);
        let whole = "M;main 129\nM;main;f 66\nM;main;f;g 36\nM;main;f;g;f 8\nM;main;f;g;main 16\n";
        assert_eq!(folded(|_| ()), whole);
    }

    #[test]
    fn address_spaces_and_traps_take_no_more_room_than_there_is() {
        let mut profile = profile();
        let (user, kernel) = (Mode::User, Mode::Supervisor);
        for satp in 0..2 * MOST_SPACES as u64 {
            profile.block(&Block { satp, ..block(0x100, 1, user, BlockEnd::Next) });
            assert!(profile.harts[0].user.len() <= MOST_SPACES);
        }
        // A handler that cannot be fetched.
        let (cause, epc, tval) = (1, 0x400, 0x400);
        let trap =
            Trap { hart: 0, is_interrupt: false, cause, epc, tval, from: kernel, to: kernel, handler: 0x400 };
        for _ in 0..10 * DEEPEST {
            profile.trap(&trap);
            assert!(profile.harts[0].privileged.len() <= DEEPEST + 2);
        }
        assert!(profile.nodes.len() <= 4 * DEEPEST, "{}", profile.nodes.len());
    }

    #[test]
    fn handlers_lie_above_what_they_interrupt_but_for_user_mode() {
        let mut profile = profile();
        let trap = |is_interrupt, cause, epc, from, to| Trap {
            hart: 0,
            is_interrupt,
            cause,
            epc,
            tval: 0,
            from,
            to,
            handler: 0x400,
        };
        let (user, kernel) = (Mode::User, Mode::Supervisor);
        profile.block(&block(0x100, 1, user, BlockEnd::Call));
        // An ecall is told before the block that ends with it.
        profile.trap(&trap(false, 8, 0x200, user, kernel));
        profile.block(&block(0x200, 2, user, BlockEnd::Trap));
        profile.block(&block(0x400, 4, kernel, BlockEnd::Call));
        profile.trap(&trap(true, 5, 0x300, kernel, kernel));
        profile.block(&block(0x400, 8, kernel, BlockEnd::TrapReturn));
        profile.block(&block(0x300, 16, kernel, BlockEnd::Return));
        profile.block(&block(0x410, 32, kernel, BlockEnd::TrapReturn));
        profile.block(&block(0x204, 64, user, BlockEnd::Return));
        profile.block(&block(0x104, 128, user, BlockEnd::Next));
        let kernel = "S;[exception_8];handler";
        assert_eq!(
            profile.folded(),
            format!(
                "{kernel} 36\n{kernel};g 16\n{kernel};g;[interrupt_5];handler 8\nU;main 129\nU;main;f 66\n"
            )
        );
    }
}
