// A guest that does nothing but wait: timer wake-ups by interrupt, and WFI that wakes with interrupts disabled.
#include "bare.h"

enum { WAKEUPS = 500, TICKS = 10000 }; // 1 ms at the board's 10 MHz

static volatile u64 interrupts;
static u64 deadline, latest;

u64 on_trap(u64 cause, u64 epc, u64 tval) {
  if (cause != CAUSE_MTI) die("trap", cause, epc, tval);
  u64 late = mtime() - deadline;
  if (late > latest) latest = late;
  interrupts = interrupts + 1;
  deadline += TICKS;
  mtimecmp(0, deadline);
  return epc;
}

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  u64 start = mtime();
  deadline = start + TICKS;
  mtimecmp(0, deadline);
  csr_write(mie, MIE_MTI);
  csr_set(mstatus, MSTATUS_MIE);
  while (interrupts < WAKEUPS) wfi();
  csr_clear(mstatus, MSTATUS_MIE);

  // Pending and enabled is enough to wake; globally disabled is enough not to trap.
  u64 before = interrupts;
  mtimecmp(0, mtime() + TICKS);
  while (!(csr_read(mip) & MIE_MTI)) wfi();
  u64 elapsed = mtime() - start;
  bool good = interrupts == before && elapsed >= (u64)TICKS * WAKEUPS;
  const char *verdict = good ? "ok" : "FAILED";
  print("@R wfi interrupts=%u elapsed_ms=%u latest_ticks=%u %s\n", interrupts, elapsed / TICKS, latest, verdict);
  return !good;
}
