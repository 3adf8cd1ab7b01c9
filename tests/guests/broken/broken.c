// Reads the register of the device `broken` (tests/broken) again and again and folds what it reads into memory, with a
// print now and then. With a device that keeps the rules the sum is 0.
#include "bare.h"

enum { ROUNDS = 20, READS = 500, WORK = 1000 };
#define BROKEN_BASE 0x10050000ull
#define RTC_BASE 0x101000ull

// Each on a page of its own, so that a report can tell them apart.
static volatile u64 sum __attribute__((aligned(4096)));
static volatile u64 dma __attribute__((aligned(4096)));

__attribute__((noinline)) static u64 read_broken(void) { return read64(BROKEN_BASE); }

u64 on_trap(u64 cause, u64 epc, u64 tval) { die("trap", cause, epc, tval); }

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  write64(BROKEN_BASE + 8, (u64)&dma);
  for (u64 round = 0; round < ROUNDS; round++) {
    read32(RTC_BASE); // one event of the log each round, whatever the device does
    for (u64 i = 0; i < READS; i++) {
      sum = sum * 3 + read_broken();
      for (u64 n = 0; n < WORK; n++) __asm__ volatile("" ::: "memory");
    }
    print("@broken round %u\n", round);
  }
  print("@R broken %s\n", sum == 0 ? "ok" : "other values");
  return 0;
}
