// Every hart adds to shared counters, by AMO and under an LR/SC lock, and passes a token round a ring of IPIs.
#include "bare.h"

enum { ADDS = 20000, LOCKED_ADDS = 2000, ROUNDS = 100 };

static u64 harts;
static u64 atomic_sum, lock, locked_sum;
static volatile u64 finished, token_visits, ring_open;

static void lock_lr_sc(void) {
  u64 old, failed;
  do {
    __asm__ volatile("lr.d.aq %0, (%2)\n bnez %0, 1f\n li %1, 1\n sc.d.rl %0, %1, (%2)\n j 2f\n 1: li %0, 1\n 2:"
                     : "=&r"(failed), "=&r"(old)
                     : "r"(&lock)
                     : "memory");
  } while (failed);
}

static void unlock(void) { __asm__ volatile("amoswap.d.rl zero, zero, (%0)" ::"r"(&lock) : "memory"); }

static void count(void) {
  for (u64 i = 0; i < ADDS; i++) __atomic_fetch_add(&atomic_sum, i, __ATOMIC_RELAXED);
  for (int i = 0; i < LOCKED_ADDS; i++) {
    lock_lr_sc();
    *(volatile u64 *)&locked_sum = locked_sum + 1; // not atomic: the lock is what makes it right
    unlock();
  }
  __atomic_fetch_add(&finished, 1, __ATOMIC_RELEASE);
}

// Waits for its msip, hands the token to the next hart; hart 0 starts and stops it.
static void ring(u64 hart) {
  for (int round = 0; round < ROUNDS; round++) {
    if (hart == 0) msip(1 % harts, 1);
    while (!(csr_read(mip) & MIE_MSI)) wfi();
    msip(hart, 0);
    token_visits = token_visits + 1;
    if (hart != 0) msip((hart + 1) % harts, 1);
  }
}

u64 on_trap(u64 cause, u64 epc, u64 tval) { die("trap", cause, epc, tval); }

void secondary(u64 hart) {
  msip(hart, 0);
  count();
  while (!ring_open) {
  }
  csr_write(mie, MIE_MSI);
  ring(hart);
}

int main(u64 hart, const void *dtb) {
  harts = fdt_harts(dtb);
  for (u64 other = 1; other < harts; other++) msip(other, 1);
  count();
  while (finished != harts) {
  }
  ring_open = 1;
  csr_write(mie, MIE_MSI);
  ring(hart);
  u64 expected = harts * ((u64)ADDS * (ADDS - 1) / 2);
  bool good = atomic_sum == expected && locked_sum == harts * LOCKED_ADDS && token_visits == harts * ROUNDS;
  const char *verdict = good ? "ok" : "FAILED";
  print("@R smp harts=%u amo=%u locked=%u ring=%u %s\n", harts, atomic_sum, locked_sum, token_visits, verdict);
  return !good;
}
