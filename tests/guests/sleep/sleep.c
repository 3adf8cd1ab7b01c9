// Sleeps for a day, and says each hour that it is still there.
#include "bare.h"

enum { HOURS = 24 };
#define HOUR_TICKS (3600ull * 10000000) // at the board's 10 MHz

u64 on_trap(u64 cause, u64 epc, u64 tval) { die("trap", cause, epc, tval); }

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  csr_write(mie, MIE_MTI); // pending and enabled is enough to wake
  u64 start = mtime();
  for (u64 hour = 1; hour <= HOURS; hour++) {
    mtimecmp(0, start + hour * HOUR_TICKS);
    while (!(csr_read(mip) & MIE_MTI)) wfi();
    print("@sleep hour %u\n", hour);
  }
  print("@R sleep hours=%u ok\n", (mtime() - start) / HOUR_TICKS);
  return 0;
}
