//! The monitor on the terminal that the guest's console has otherwise. Output of both appears as it comes; the keys are
//! for one of them.

use super::link::Link;
use crate::control::monitor::{BANNER, Editor, PROMPT, Typed, execute};
use std::{collections::VecDeque, mem, sync::Arc};

/// Keys that wait while a command is carried out.
const KEYS: usize = 4096;

/// The monitor of the terminal.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// The keys are for us.
    open: bool,
    editor: Editor,
    keys: VecDeque<u8>,
    /// A command is being carried out.
    busy: bool,
    introduced: bool,
}

impl Monitor {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Ctrl-A c: in, or back to the console. Returns what is shown. Commands that wait are carried out also behind it.
    pub(super) fn toggle(&mut self) -> String {
        self.open = !self.open;
        if !self.open {
            return "\n".to_owned();
        }
        if !self.busy {
            self.editor = Editor::default();
        }
        let banner = if mem::replace(&mut self.introduced, true) { "" } else { BANNER };
        format!("\n{banner}{PROMPT}")
    }

    /// Keys that somebody typed; what they show goes to `shown`. Returns those that were typed behind leaving.
    pub(super) fn feed(&mut self, keys: &[u8], link: &Arc<Link>, shown: &mut VecDeque<u8>) -> Vec<u8> {
        self.keys.extend(keys.iter().take(KEYS.saturating_sub(self.keys.len())));
        while !self.busy && !self.keys.is_empty() {
            let (taken, typed) = self.editor.feed(self.keys.make_contiguous());
            self.keys.drain(..taken);
            match typed {
                Typed::Echo(echo) => shown.extend(echo),
                Typed::Line(line) => {
                    shown.push_back(b'\n');
                    self.busy = true;
                    let back = Arc::clone(link);
                    execute(link.hub(), &line, Box::new(move |text| back.answered(text)));
                }
                Typed::Leave if self.open => {
                    shown.extend(self.toggle().bytes());
                    return mem::take(&mut self.keys).into();
                }
                Typed::Leave => (),
            }
        }
        Vec::new()
    }

    /// What a command came to. Returns keys as [`Monitor::feed`] does.
    pub(super) fn answered(&mut self, text: &str, link: &Arc<Link>, shown: &mut VecDeque<u8>) -> Vec<u8> {
        self.busy = false;
        shown.extend(text.bytes());
        if self.open {
            shown.extend(PROMPT.bytes());
        }
        self.feed(&[], link, shown)
    }
}
