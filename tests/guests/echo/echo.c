// Says back what is typed, until `q`. It reads the wall clock with each character and naps while there is none, so that
// a recording of it grows for as long as somebody types, and its run takes hardly any time to replay.
#include "bare.h"

enum { NAP_TICKS = 20000 }; // 2 ms at the board's 10 MHz
#define RTC_BASE 0x101000ull

u64 on_trap(u64 cause, u64 epc, u64 tval) { die("trap", cause, epc, tval); }

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  u64 sum = 0, count = 0;
  u8 c = 0;
  print("@echo ready\n");
  csr_write(mie, MIE_MTI); // pending and enabled is enough to wake
  while (c != 'q') {
    while (c != 'q' && (read8(UART_BASE + 5) & 1)) { // LSR.DR
      c = read8(UART_BASE);
      print("%c", (u64)c);
      u64 low = read32(RTC_BASE); // goldfish: reading the low half latches the high one
      sum = (sum ^ c ^ low ^ (u64)read32(RTC_BASE + 4) << 32) * 0x100000001b3;
      count++;
    }
    mtimecmp(0, mtime() + NAP_TICKS);
    while (!(csr_read(mip) & MIE_MTI)) wfi();
  }
  print("\n@R echo sum=%x of %u ok\n", sum, count);
  return 0;
}
