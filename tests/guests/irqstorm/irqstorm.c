// Interrupts as fast as they can be taken, from every source a hart has, with exceptions in between. The UART's
// transmitter-empty interrupt comes again as soon as it is acknowledged; so do a timer in the past and our own msip.
#include "bare.h"

enum { STORM = 3000 };
#define NEVER (1ull << 50)
static volatile u64 external, timer, software, ecalls;

static u64 plic_claim(void) { return read32(PLIC_BASE + 0x200004); }

static void on_external(void) {
  u64 source = plic_claim();
  if (source == 0) return; // somebody lowered the line meanwhile
  if (source != UART_IRQ) die("claimed source", source, 0, 0);
  u8 reason = read8(UART_BASE + 2) & 0xf; // IIR: 2 = transmitter empty; reading it acknowledges
  if (reason == 2) external = external + 1;
  if (external < STORM) write8(UART_BASE, 0); // the FIFO empties again: the next interrupt
  else write8(UART_BASE + 1, 0);
  write32(PLIC_BASE + 0x200004, source);
}

u64 on_trap(u64 cause, u64 epc, u64 tval) {
  if (cause == CAUSE_MEI) {
    on_external();
  } else if (cause == CAUSE_MTI) {
    timer = timer + 1;
    mtimecmp(0, timer < STORM ? mtime() + 2 : NEVER);
  } else if (cause == CAUSE_MSI) {
    software = software + 1;
    if (software == STORM) msip(0, 0);
  } else if (cause == 11) { // environment call from M-mode
    ecalls = ecalls + 1;
    return epc + 4;
  } else {
    die("trap", cause, epc, tval);
  }
  return epc;
}

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  write32(PLIC_BASE + 4 * UART_IRQ, 1);
  write32(PLIC_BASE + 0x2000, 1u << UART_IRQ);
  write32(PLIC_BASE + 0x200000, 0);
  csr_write(mie, MIE_MEI | MIE_MTI | MIE_MSI);
  write8(UART_BASE + 4, 0x10); // MCR: loopback, the characters go nowhere
  write8(UART_BASE + 1, 2);    // IER: transmitter empty
  msip(0, 1);
  mtimecmp(0, 0);
  csr_set(mstatus, MSTATUS_MIE);
  while (external < STORM || timer < STORM || software < STORM) __asm__ volatile("ecall");
  csr_clear(mstatus, MSTATUS_MIE);
  write8(UART_BASE + 4, 0);
  bool none_left = csr_read(mip) == 0;
  bool good = external == STORM && timer == STORM && software == STORM && ecalls && none_left;
  const char *some = ecalls ? "some" : "none";
  const char *verdict = good ? "ok" : "FAILED";
  print("@R irqstorm external=%u timer=%u software=%u ecalls=%s %s\n", external, timer, software, some, verdict);
  return !good;
}
