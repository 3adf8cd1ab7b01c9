//! What a plugin asks of the operating system: the slots in which it finds the functions of libc are pointed to
//! functions here that count the call and pass it on. Only the plugin's own calls come by.
#![expect(unsafe_code, reason = "patches the import slots of a loaded library")]

use super::load_bias;
use crate::{elf::Elf, rule::Rule};
use rustix::mm::{MprotectFlags, mprotect};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Functions that a device has no use for, by the rule that each breaks. What is not here, such as `malloc`, is fine.
const WATCHED: &[(Rule, &str)] = &[
    (
        Rule::CLOCK,
        "clock_gettime gettimeofday time clock times ftime timespec_get localtime localtime_r mktime strftime",
    ),
    (
        Rule::RANDOMNESS,
        "getrandom getentropy rand srand random srandom drand48 lrand48 mrand48 arc4random arc4random_buf \
         arc4random_uniform",
    ),
    (
        Rule::THREADS,
        "pthread_create thrd_create clone clone3 fork vfork execve execv execvp execvpe posix_spawn posix_spawnp \
         system popen waitpid",
    ),
    (
        Rule::FILES,
        "open open64 openat openat64 creat fopen fopen64 stat stat64 fstat fstat64 lstat lstat64 statx access \
         readlink realpath opendir mkdir unlink rename memfd_create shm_open read pread pread64 readv truncate",
    ),
    (
        Rule::SOCKETS,
        "socket socketpair connect bind listen accept accept4 send sendto sendmsg recv recvfrom recvmsg \
         getaddrinfo gethostbyname pipe pipe2 eventfd epoll_create1",
    ),
    (
        Rule::ENVIRONMENT,
        "getenv secure_getenv setenv putenv unsetenv getcwd chdir gethostname uname getpid getppid gettid getuid \
         geteuid getgid sysconf sysinfo getauxval sched_getaffinity get_nprocs getrusage getpwuid_r isatty setlocale",
    ),
    (
        Rule::PRINTS,
        "write writev printf vprintf puts putchar fputs fwrite fputc dprintf fprintf perror syslog __printf_chk \
         __fprintf_chk",
    ),
    (Rule::WAITS, "nanosleep clock_nanosleep usleep sleep poll ppoll select pause epoll_wait sched_yield"),
    (
        Rule::SIGNALS,
        "signal sigaction sigprocmask pthread_sigmask sigaltstack raise kill setitimer alarm timer_create",
    ),
    (Rule::CODE, "dlopen dlmopen dlsym"),
];

/// Rules whose functions no library of a device imports without meaning to.
const NEVER_IMPORTED: [Rule; 4] = [Rule::THREADS, Rule::SOCKETS, Rule::CODE, Rule::RANDOMNESS];
/// Calls that must not be passed on: they would return twice, or not at all.
const REFUSED: [&str; 10] = [
    "fork",
    "vfork",
    "clone",
    "clone3",
    "execve",
    "execv",
    "execvp",
    "execvpe",
    "posix_spawn",
    "posix_spawnp",
];
/// `syscall` is judged by its number.
const SYSCALL: &str = "syscall";
const MOST: usize = 160;

static REAL: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
static CALLS: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];

/// Arguments as they are in registers and on the stack: as many as any of the functions takes.
type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize) -> usize;

/// Count, and pass on.
unsafe extern "C" fn trap<const N: usize>(
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
    g: usize,
    h: usize,
) -> usize {
    let real = REAL[N].load(Relaxed);
    if !is_harmless(N, a) {
        CALLS[N].fetch_add(1, Relaxed);
    }
    if real == 0 {
        return usize::MAX;
    }
    // SAFETY: the address that the linker put into the slot, of a C function of at most eight words.
    let real = unsafe { core::mem::transmute::<usize, Function>(real) };
    // SAFETY: the plugin's own call, passed on; arguments that it did not pass are words of its stack.
    unsafe { real(a, b, c, d, e, f, g, h) }
}

/// Whether `syscall` is called for what the standard library needs: locks, and nothing else.
fn is_harmless(index: usize, number: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    const FUTEX: usize = 202;
    #[cfg(not(target_arch = "x86_64"))]
    const FUTEX: usize = 98;
    index == MOST - 1 && number == FUTEX
}

macro_rules! traps {
    ($($tens:literal)*) => {
        const TRAPS: [Function; MOST] = {
            let mut all: [Function; MOST] = [trap::<0>; MOST];
            $(
                all[$tens] = trap::<{ $tens }>;
                all[$tens + 1] = trap::<{ $tens + 1 }>;
                all[$tens + 2] = trap::<{ $tens + 2 }>;
                all[$tens + 3] = trap::<{ $tens + 3 }>;
                all[$tens + 4] = trap::<{ $tens + 4 }>;
                all[$tens + 5] = trap::<{ $tens + 5 }>;
                all[$tens + 6] = trap::<{ $tens + 6 }>;
                all[$tens + 7] = trap::<{ $tens + 7 }>;
                all[$tens + 8] = trap::<{ $tens + 8 }>;
                all[$tens + 9] = trap::<{ $tens + 9 }>;
            )*
            all
        };
    };
}

traps! { 0 10 20 30 40 50 60 70 80 90 100 110 120 130 140 150 }

/// Name, rule and number of each watched function; `syscall` is the last.
fn watched() -> Vec<(&'static str, Rule, usize)> {
    let names = WATCHED.iter().flat_map(|(rule, names)| names.split_whitespace().map(|name| (name, *rule)));
    let mut all: Vec<_> = names.enumerate().map(|(index, (name, rule))| (name, rule, index)).collect();
    assert!(all.len() < MOST, "a trap for each function");
    all.push((SYSCALL, Rule::ENVIRONMENT, MOST - 1));
    all
}

/// Watched functions that the plugin imports although nothing makes a device need them.
pub(crate) fn suspicious(elf: &Elf<'_>) -> Vec<(String, Rule)> {
    let watched = watched();
    let mut found: Vec<_> = elf
        .import_slots()
        .into_iter()
        .filter_map(|slot| {
            let (_, rule, _) = watched.iter().find(|(name, ..)| *name == slot.name)?;
            NEVER_IMPORTED.contains(rule).then_some((slot.name, *rule))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Watches from now on.
pub(crate) struct Imports {
    seen: Vec<u32>,
}

impl Imports {
    /// Point the slots of the loaded plugin to the functions here.
    pub(crate) fn watch(elf: &Elf<'_>, file_name: &str) -> Result<Self, String> {
        let bias = load_bias(file_name).ok_or("the plugin is not found in /proc/self/maps")?;
        let watched = watched();
        for slot in elf.import_slots() {
            if let Some((name, _, index)) = watched.iter().find(|(name, ..)| *name == slot.name) {
                let refused = REFUSED.contains(name);
                patch(bias + slot.vaddr, *index, refused).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        Ok(Self { seen: vec![0; MOST] })
    }

    /// Functions that were called since the last time.
    pub(crate) fn news(&mut self) -> Vec<(&'static str, Rule)> {
        let mut news = Vec::new();
        for (name, rule, index) in watched() {
            let calls = CALLS[index].load(Relaxed);
            if calls != self.seen[index] {
                self.seen[index] = calls;
                news.push((name, rule));
            }
        }
        news
    }
}

fn patch(address: u64, index: usize, refused: bool) -> rustix::io::Result<()> {
    const PAGE: usize = 4096;
    let slot = address as *mut usize;
    let page = (address as usize & !(PAGE - 1)) as *mut std::ffi::c_void;
    // A slot may lie across two pages only if it is not aligned, which the linker does not do.
    // SAFETY: the page belongs to a writable segment of the loaded plugin; after relocation it may be read-only.
    unsafe { mprotect(page, PAGE, MprotectFlags::READ | MprotectFlags::WRITE) }?;
    // SAFETY: a slot that the linker has filled; nobody calls through it now.
    unsafe {
        REAL[index].store(if refused { 0 } else { slot.read() }, Relaxed);
        slot.write(TRAPS[index] as usize);
    }
    Ok(())
}
