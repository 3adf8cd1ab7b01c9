// Page tables that change under the guest's feet: mappings, permissions, accessed and dirty bits, superpages split
// and joined. M-mode reaches the translated space by MPRV with MPP = S; code runs there in S-mode and comes back by
// ECALL.
#include "bare.h"

// Privileged spec 4.3.1 (PTE), 4.4 (Sv39), 3.1.6 (mstatus).
enum { V = 1, R = 2, W = 4, X = 8, U = 16, A = 64, D = 128 };
enum { LOAD_PAGE_FAULT = 13, STORE_PAGE_FAULT = 15, FETCH_PAGE_FAULT = 12, ECALL_FROM_S = 9 };
#define MPRV (1ull << 17)
#define SUM (1ull << 18)
#define MXR (1ull << 19)
#define MPP_S (1ull << 11)
#define MPP_M (3ull << 11)
#define PAGE 4096ull
#define VA 0x40000000ull // entry 1 of the root: not where we run

static u64 root[512] __attribute__((aligned(4096)));
static u64 middle[512] __attribute__((aligned(4096)));
static u64 leaf[512] __attribute__((aligned(4096)));
static u64 split[512] __attribute__((aligned(4096)));
static u8 frames[4][4096] __attribute__((aligned(4096)));
static volatile u64 fault_cause, fault_tval;
static u64 checks, failures;

// A faulting access of ours is skipped: those below are all 4 bytes long. A fault in S-mode or its ECALL ends `run`.
u64 on_trap(u64 cause, u64 epc, u64 tval) {
  extern u8 run_return[];
  fault_cause = cause, fault_tval = tval;
  if (cause == ECALL_FROM_S || cause == FETCH_PAGE_FAULT) {
    csr_set(mstatus, MPP_M);
    return (u64)run_return;
  }
  if (cause != LOAD_PAGE_FAULT && cause != STORE_PAGE_FAULT) die("trap", cause, epc, tval);
  return epc + 4;
}

static void sfence(void) { __asm__ volatile("sfence.vma" ::: "memory"); }

// mstatus is put back in assembly: the compiler must not touch memory while MPRV is on. A trap saves registers with
// MPRV off (the hart is then in M-mode with MPP = M), and comes back with it on: MRET to M leaves MPRV alone.
static u64 load(u64 va) {
  u64 v = 0, on = MPRV;
  fault_cause = 0;
  csr_clear(mstatus, MPP_M);
  csr_set(mstatus, MPP_S);
  __asm__ volatile("csrs mstatus, %2\n .option push\n .option norvc\n ld %0, 0(%1)\n .option pop\n csrc mstatus, %2"
                   : "+&r"(v) : "r"(va), "r"(on) : "memory");
  return v;
}

static void store(u64 va, u64 v) {
  u64 on = MPRV;
  fault_cause = 0;
  csr_clear(mstatus, MPP_M);
  csr_set(mstatus, MPP_S);
  __asm__ volatile("csrs mstatus, %2\n .option push\n .option norvc\n sd %0, 0(%1)\n .option pop\n csrc mstatus, %2"
                   ::"r"(v), "r"(va), "r"(on) : "memory");
}

// Runs code at `va` in S-mode until its ECALL; returns its a0.
static u64 run(u64 va) {
  register u64 a0 __asm__("a0") = 0;
  fault_cause = 0;
  csr_clear(mstatus, MPP_M);
  csr_set(mstatus, MPP_S);
  __asm__ volatile("csrw mepc, %1\n mret\n .globl run_return\n run_return:" : "+r"(a0) : "r"(va)
                   : "memory", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a1", "a2", "a3", "a4", "a5", "a6",
                     "a7", "ra");
  return a0;
}

static void check(const char *what, bool good, u64 a, u64 b) {
  checks++;
  if (good) return;
  failures++;
  print("@F %s: %x %x\n", what, a, b);
}

static u64 pte(const void *to, u64 bits) { return (u64)to >> 12 << 10 | bits | V; }
static void map(u64 index, u64 entry) {
  leaf[index] = entry;
  sfence();
}
static u64 *word(int frame) { return (u64 *)frames[frame]; }

static void remap(void) {
  for (u64 i = 0; i < 4000; i++) {
    int frame = i % 4;
    *word(frame) = i;
    map(0, pte(frames[frame], R | W | A | D));
    check("remap", load(VA) == i && !fault_cause, i, fault_cause);
    store(VA + 8, ~i);
    check("write through", word(frame)[1] == ~i, i, word(frame)[1]);
  }
}

static void permissions(void) {
  map(1, pte(frames[0], R | A | D));
  store(VA + PAGE, 1);
  check("read only", fault_cause == STORE_PAGE_FAULT && fault_tval == VA + PAGE, fault_cause, fault_tval);
  map(1, 0);
  load(VA + PAGE + 16);
  check("unmapped", fault_cause == LOAD_PAGE_FAULT && fault_tval == VA + PAGE + 16, fault_cause, fault_tval);
  map(1, pte(frames[0], W | A | D));
  load(VA + PAGE);
  check("reserved: W without R", fault_cause == LOAD_PAGE_FAULT, fault_cause, 0);
  map(1, pte(frames[0], R | W | U | A | D));
  load(VA + PAGE);
  check("user page without SUM", fault_cause == LOAD_PAGE_FAULT, fault_cause, 0);
  csr_set(mstatus, SUM);
  load(VA + PAGE);
  check("user page with SUM", fault_cause == 0, fault_cause, 0);
  csr_clear(mstatus, SUM);
  map(1, pte(frames[0], X | A | D));
  load(VA + PAGE);
  check("execute only", fault_cause == LOAD_PAGE_FAULT, fault_cause, 0);
  csr_set(mstatus, MXR);
  load(VA + PAGE);
  check("execute only with MXR", fault_cause == 0, fault_cause, 0);
  csr_clear(mstatus, MXR);
  load(1ull << 40);
  check("not canonical", fault_cause == LOAD_PAGE_FAULT && fault_tval == 1ull << 40, fault_cause, fault_tval);
}

// Hardware sets A and D (Svadu) or faults so that software does (Svade): both are right, anything else is not.
static void accessed_dirty(void) {
  map(2, pte(frames[1], R | W));
  load(VA + 2 * PAGE);
  if (fault_cause == LOAD_PAGE_FAULT) {
    check("Svade leaves A", !(leaf[2] & A), leaf[2], 0);
    map(2, leaf[2] | A);
    store(VA + 2 * PAGE, 1);
    check("Svade faults for D", fault_cause == STORE_PAGE_FAULT && !(leaf[2] & D), fault_cause, leaf[2]);
  } else {
    check("Svadu sets A only", (leaf[2] & (A | D)) == A, leaf[2], 0);
    store(VA + 2 * PAGE, 1);
    check("Svadu sets D", (leaf[2] & (A | D)) == (A | D) && !fault_cause, leaf[2], fault_cause);
  }
}

// 2 MiB page over our own RAM, split into 4 KiB pages of which one is elsewhere, and joined again.
static void superpages(void) {
  u64 va = VA + (2ull << 20);
  u64 base = (u64)frames & ~((2ull << 20) - 1);
  u64 offset = (u64)frames[2] - base;
  *word(2) = 0x2222, *word(3) = 0x3333;
  for (int i = 0; i < 200; i++) {
    middle[1] = pte((void *)base, R | W | A | D);
    sfence();
    check("superpage", load(va + offset) == 0x2222, fault_cause, 0);
    for (u64 page = 0; page < 512; page++) split[page] = pte((void *)(base + page * PAGE), R | W | A | D);
    split[offset / PAGE] = pte(frames[3], R | W | A | D);
    middle[1] = pte(split, 0);
    sfence();
    check("split", load(va + offset) == 0x3333, fault_cause, 0);
  }
  middle[1] = pte((void *)(base + PAGE), R | W | A | D);
  sfence();
  load(va);
  check("misaligned superpage", fault_cause == LOAD_PAGE_FAULT, fault_cause, 0);
  middle[1] = 0;
  sfence();
}

// Two frames of code taking turns at one virtual address.
static void execute(void) {
  for (int frame = 0; frame < 2; frame++) {
    u32 *code = (u32 *)frames[frame];
    code[0] = (u32)(100 + frame) << 20 | 10 << 7 | 0x13; // addi a0, zero, 100 + frame
    code[1] = 0x73;                                      // ecall
  }
  fence_i();
  for (int i = 0; i < 1000; i++) {
    map(3, pte(frames[i % 2], R | X | A | D));
    u64 got = run(VA + 3 * PAGE);
    check("execute", got == 100u + i % 2 && fault_cause == ECALL_FROM_S, got, fault_cause);
  }
  map(3, pte(frames[0], R | A | D));
  run(VA + 3 * PAGE);
  check("not executable", fault_cause == FETCH_PAGE_FAULT && fault_tval == VA + 3 * PAGE, fault_cause, fault_tval);
}

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  csr_write(pmpaddr0, ~0ull);
  csr_write(pmpcfg0, 0x1f); // all of memory, read write execute: S-mode has nothing without it
  root[VA >> 30] = pte(middle, 0);
  middle[0] = pte(leaf, 0);
  csr_write(satp, 8ull << 60 | (u64)root >> 12);
  sfence();
  remap();
  permissions();
  accessed_dirty();
  superpages();
  execute();
  print("@R paging checks=%u failures=%u %s\n", checks, failures, failures ? "FAILED" : "ok");
  return failures != 0;
}
