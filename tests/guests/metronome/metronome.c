// Drives the device `metronome` (tests/plugins) through everything that it has, and prints over its port, which is the
// console. It waits for one typed line, so that a recording has input.
#include "bare.h"

#define BASE 0x10050000ull
enum { PERIOD = 0x00, BEATS = 0x04, STATUS = 0x08, TARGET = 0x10, VOICE = 0x18, DICE = 0x1c, CLOCK = 0x20 };
enum { SCORE = 0x28 };
enum { IRQ = 20 };

static volatile u64 target __attribute__((aligned(4096)));
static volatile u64 heard;

static void say(char c) { write32(BASE + VOICE, (u8)c); }

#include "say.h"

u64 on_trap(u64 cause, u64 epc, u64 tval) {
  (void)tval;
  if (cause != CAUSE_MEI) {
    say_fact("@F trap", cause);
    finish(1);
  }
  u32 irq = read32(PLIC_BASE + 0x200004);
  if (irq == IRQ) heard++;
  write32(BASE + STATUS, 1);
  write32(PLIC_BASE + 0x200004, irq);
  return epc;
}

static void open_plic(void) {
  write32(PLIC_BASE + 4 * IRQ, 1);
  write32(PLIC_BASE + 0x2000, 1u << IRQ);
  write32(PLIC_BASE + 0x200000, 0);
  csr_set(mie, MIE_MEI);
  csr_set(mstatus, MSTATUS_MIE);
}

// Beats until so many were heard; each second one is muted by the one before.
static void beat(u32 period_us, u64 until) {
  write32(BASE + PERIOD, period_us);
  while (heard < until) {
    csr_clear(mstatus, MSTATUS_MIE);
    if (heard < until) wfi();
    csr_set(mstatus, MSTATUS_MIE);
  }
  write32(BASE + PERIOD, 0);
}

static u64 typed(void) {
  u64 sum = 0;
  for (;;) {
    u32 byte = read32(BASE + VOICE);
    if (byte == 0xffffffff) continue;
    if (byte == '\n' || byte == '\r') return sum;
    sum = sum * 31 + byte;
  }
}

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  write64(BASE + TARGET, (u64)&target);
  open_plic();
  beat(100, 40);
  say_fact("@beats", read32(BASE + BEATS));
  say_fact("@stored", target);
  for (u32 i = 0; i < 6; i++) write32(BASE + SCORE, i * 1000);
  u64 dice = 0;
  for (u32 i = 0; i < 4; i++) dice = dice * 3 + read32(BASE + DICE);
  say_fact("@dice", dice);
  say_fact("@clock", read64(BASE + CLOCK) > 1600000000);
  say_text("@type a line\r\n");
  say_fact("@typed", typed());
  write64(BASE + TARGET, 0x10); // not RAM: refused, and counted
  beat(10, 60);
  say_fact("@beats", read32(BASE + BEATS));
  say_text("@R metronome ok\r\n");
  finish(0);
}
