// Resets itself once, waits for somebody to press the reset button or to type `q`, and ends. RAM that no image covers
// keeps its content over a reset, so that the guest knows how often it began.
#include "bare.h"

#define COUNT 0x80e00000ull
#define MAGIC 0x5245534554ull

u64 on_trap(u64 cause, u64 epc, u64 tval) { die("trap", cause, epc, tval); }

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  u64 boots = read64(COUNT) == MAGIC ? read64(COUNT + 8) + 1 : 1;
  write64(COUNT, MAGIC);
  write64(COUNT + 8, boots);
  print("@reset boot %u\n", boots);
  if (boots == 1) {
    // The UART's line is high at the reset: the PLIC has to look at it again, behind the reset of everybody.
    write8(UART_BASE + 1, 2); // IER.ETBEI: the transmitter is empty
    write32(FINISHER_BASE, 0x7777);
    for (;;) wfi();
  }
  if (boots == 2) {
    print("@reset waits\n");
    while (!(read8(UART_BASE + 5) & 1) || read8(UART_BASE) != 'q') {
    }
  }
  print("@R reset boots=%u ok\n", boots);
  return 0;
}
