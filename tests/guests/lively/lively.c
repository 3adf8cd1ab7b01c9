// A guest with a bit of everything that a recording must hold: it works, reads the wall clock, echoes what is typed and
// sleeps. It ends after its rounds, or at once when `q` is typed. What it prints at the end depends on all of it.
#include "bare.h"

enum { ROUNDS = 4000, WORK = 100000, NAP_TICKS = 20000 }; // a nap is 2 ms at the board's 10 MHz
#define RTC_BASE 0x101000ull

u64 on_trap(u64 cause, u64 epc, u64 tval) { die("trap", cause, epc, tval); }

static u64 mix(u64 hash, u64 value) { return (hash ^ value) * 0x100000001b3; }

static u64 wall_clock(void) {
  u64 low = read32(RTC_BASE); // goldfish: reading the low half latches the high one
  return low | (u64)read32(RTC_BASE + 4) << 32;
}

static void nap(void) {
  csr_write(mie, MIE_MTI); // pending and enabled is enough to wake
  mtimecmp(0, mtime() + NAP_TICKS);
  while (!(csr_read(mip) & MIE_MTI)) wfi();
  csr_write(mie, 0);
}

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  u64 clocks = 0, typed = 0, characters = 0, round = 0;
  print("@lively ready\n");
  for (bool quit = false; round < ROUNDS && !quit; round++) {
    for (u64 n = 0; n < WORK; n++) __asm__ volatile("" ::: "memory");
    clocks = mix(clocks, wall_clock());
    while (read8(UART_BASE + 5) & 1) { // LSR.DR
      u8 c = read8(UART_BASE);
      print("%c", (u64)c);
      typed = mix(typed, c);
      characters++;
      quit |= c == 'q';
    }
    if (round % 16 == 15) nap();
  }
  print("@R lively rounds=%u clocks=%x typed=%x of %u ok\n", round, clocks, typed, characters);
  return 0;
}
