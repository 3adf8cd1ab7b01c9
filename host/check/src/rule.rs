//! The rules, by number. `docs/plugins/rules.md` has a chapter for each; a test holds the two together.

use std::fmt;

/// A rule's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule(pub(crate) u16);

/// A rule in one line, and what to do about a breach.
#[derive(Debug)]
pub struct Text {
    /// Its number.
    pub rule: Rule,
    /// What must hold.
    pub title: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! rules {
    ($($name:ident = $number:literal, $title:literal, $fix:literal;)*) => {
        impl Rule {
            $(#[doc = $title] pub(crate) const $name: Self = Self($number);)*
        }

        /// All of them, in order.
        pub const RULES: &[Text] = &[$(Text { rule: Rule($number), title: $title, fix: $fix }),*];
    };
}

rules! {
    LOADS = 1, "a plugin loads and describes its devices",
        "is it a whole `cdylib` with `export_devices!`, or in C `reprise_plugin_entry`? then mend the descriptor that \
         `describe` returns: each region needs a size and access widths, names are not empty and not there twice";
    DESCRIBES = 2, "a descriptor follows from the options alone",
        "make `describe` a function of its argument: no counters, no environment";
    DEFAULTS = 3, "a device works with its default options",
        "do what the error says; if it is about an option: give a default that `create` accepts, or make it required";
    REFUSES = 4, "wrong options are refused, by name",
        "derive DeviceConfig, and give `create`'s ConfigError the path of the option that it is about";
    CREATES = 5, "any options give a device or an error, never a panic",
        "check options in `create` before you compute with them, or narrow them with `min`, `max` and `one_of`";
    IMPORTS = 6, "a plugin imports nothing that a device has no use for",
        "remove the code, or the dependency, that needs it: files, sockets, threads and programs are the host's";
    PANICS = 7, "no access by the guest makes a device panic",
        "give the guest's mistake its architected result; check numbers of the guest before you index, divide, \
         shift or allocate by them";
    SURVIVES = 8, "a device does not end the process",
        "look for `unsafe`, abort, exit, endless recursion and huge allocations";
    RETURNS = 9, "every callback returns soon",
        "bound every loop by something that the guest does not choose; work that takes long is done in pieces, by a \
         timer";
    DECLARED = 10, "a device uses only what its descriptor declares",
        "declare it in `describe`; ids are indices there";
    TIMER_STORM = 11, "a timer is not armed in the past over and over",
        "arm it later than now: a period of nothing has to become something";
    BH_STORM = 12, "a bottom half does not queue itself over and over",
        "what is to be done again later is a timer's work";
    TOKENS = 13, "block requests in flight have different tokens",
        "count tokens up in a saved field";
    OUTSIDE = 14, "the host is called only from inside a callback",
        "use the Ctx of the callback that runs, and keep nothing of it";
    FLOAT = 15, "a callback leaves the floating-point control register as it was",
        "restore rounding mode and exception masks before you return: the guest's arithmetic runs on them";
    CLOCK = 16, "a device reads no clock",
        "virtual time is `cx.now_ns()`; the wall clock, recorded, is `cx.host_clock_ns()`";
    RANDOMNESS = 17, "a device draws no random numbers of its own",
        "`cx.random()` draws from the recorded stream; HashMap and HashSet draw too: use BTreeMap, or Vec";
    THREADS = 18, "a device starts no threads and no processes",
        "one thread owns all devices: use timers and bottom halves";
    FILES = 19, "a device opens no files",
        "what it needs to know is an option; what it stores goes to a block port";
    SOCKETS = 20, "a device opens no sockets",
        "declare a port, and let the board connect it";
    ENVIRONMENT = 21, "a device does not look at the environment",
        "make it an option: environment, user, process number and host are not the same in a replay";
    PRINTS = 22, "a device prints nothing",
        "use `cx.log()`: the terminal belongs to the console";
    WAITS = 23, "a device does not sleep",
        "arm a timer: virtual time stands still while a callback runs";
    SIGNALS = 24, "a device leaves signals alone",
        "remove the handler: the process belongs to the host";
    CODE = 25, "a device loads no code",
        "link it in: what dlopen finds is not recorded";
    TSC = 26, "a device does not read the processor's counter",
        "remove `rdtsc`; virtual time is `cx.now_ns()`";
    TWICE = 27, "the same steps give the same effects",
        "look for addresses used as numbers, thread-locals, and memory that was never written";
    PROCESSES = 28, "the same steps give the same effects in another process",
        "look for addresses of functions and statics used as numbers or for order: they move in each process";
    INSTANCES = 29, "devices of one kind do not know of each other",
        "move what they share into the device: no statics, no thread-locals";
    STATICS = 30, "static memory does not change",
        "move it into the device, as a saved field: statics are in no snapshot";
    LOOKING = 31, "saving changes nothing",
        "`save` must not count, flush or tidy up: snapshots are taken at any time, and not in every run";
    WINDOWS = 32, "DMA through a window does the same as copies",
        "use one function for both; what does not fit a window must be copied to the same bytes";
    DIRTY = 33, "what is written through a window is marked dirty",
        "write with `Ram::write_slice`; by hand, set PAGE_DIRTY for each page touched";
    WATCHED = 34, "writes to watched pages are told to the host",
        "write with `Ram::write_slice`; by hand, call `code_write` where PAGE_WATCHED is set";
    RINGS = 35, "hostile virtqueues do no harm",
        "answer a chain that is too short or makes no sense with a Violation; `Chain::read` and `write` check";
    RECORD = 36, "a state record can be read",
        "give each field a name of its own; derive DeviceState";
    FIXPOINT = 37, "a record that was loaded is saved the same",
        "`after_load` and `rebuild` must not change what is saved";
    RELOAD = 38, "save, drop, create and load are invisible",
        "save the field that differs, or rebuild it after loading";
    ISOLATED = 39, "a record holds all that a new process needs",
        "save the thing itself, not its place in a table of this process";
    OVERWRITES = 40, "loading replaces everything",
        "clear what was there before: a record is also loaded into a device that was used";
    GARBAGE = 41, "a damaged record is refused, or taken, without a panic",
        "read fields with `?`; check lengths and numbers before you use them";
    IMPOSSIBLE = 42, "a record that was taken can be lived with",
        "check in `after_load` what your registers could not have held: an index out of range, say";
    VERSIONS = 43, "records of other versions are refused or taken, without a panic",
        "an older record may lack what came with `since`; a newer one is refused";
    COMPLETE = 44, "a record lacks nothing and has nothing more",
        "refuse missing and unknown fields: derive DeviceState, or use `field()?` and `only()`";
    RESETS = 45, "a reset device is as a new one",
        "set every field in `reset`; `let Self { a, b, .. } = self` without the dots finds those you \
         forget. What is to outlive it is declared: `desc.keeps(\"field\")`";
    RESET_PINS = 46, "a reset drives the pins as a new device does",
        "end `reset` with the function that computes the levels";
    RESET_TIMERS = 47, "a reset arms the timers that a new device arms",
        "the host disarms all timers before a reset: arm again what has to run, also for Reset::Warm";
    FAILED_CREATE = 48, "a device that could not be created leaves nothing behind",
        "make `create` a function of its argument";
    LEAKS = 49, "a device that is dropped gives its memory back",
        "look for `Box::leak`, `mem::forget`, and maps in statics that only grow";
}

impl Rule {
    /// The rule of this name, such as `R007`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        RULES.iter().map(|text| text.rule).find(|rule| rule.to_string() == name)
    }

    /// Its line of the table.
    #[must_use]
    pub fn text(self) -> &'static Text {
        RULES.iter().find(|text| text.rule == self).expect("every rule is in the table")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{:03}", self.0)
    }
}
