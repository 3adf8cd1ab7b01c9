// Self-modifying code: written as data, rewritten many times, across a page, and ahead of the storing instruction.
#include "bare.h"

enum { ROUNDS = 2000 };
static u32 code[4096] __attribute__((aligned(4096)));

static u32 addi_a0(u32 imm) { return imm << 20 | 10 << 15 | 10 << 7 | 0x13; }
static const u32 RET = 0x8067;

static u64 call(const void *at, u64 arg) { return ((u64(*)(u64))at)(arg); }

// The same instruction rewritten and run, so often that any engine thinks it is hot.
static u64 rewrite(void) {
  u64 sum = 0;
  code[1] = RET;
  for (u32 i = 0; i < ROUNDS; i++) {
    code[0] = addi_a0(i % 2048);
    fence_i();
    sum += call(code, 1);
  }
  return sum;
}

// A block that crosses a page, of which only the far page changes; then an instruction whose halves are on two pages.
static u64 cross_page(void) {
  u64 sum = 0;
  u32 edge = 1024;
  code[edge - 1] = addi_a0(1);
  code[edge + 1] = RET;
  for (u32 i = 0; i < ROUNDS; i++) {
    code[edge] = addi_a0(i % 100);
    fence_i();
    sum += call(&code[edge - 1], 0);
  }
  u16 *half = (u16 *)&code[2048];
  half[-2] = 0x0001; // c.nop
  half[1] = RET & 0xffff, half[2] = RET >> 16;
  for (u32 i = 0; i < ROUNDS; i++) {
    u32 instruction = addi_a0(i % 100);
    half[-1] = instruction & 0xffff, half[0] = instruction >> 16;
    fence_i();
    sum += call(&half[-2], 0);
  }
  return sum;
}

// A function that stores over its own next instruction: sw a1, 8(a2); fence.i; addi a0, a0, 0 <- replaced; ret.
static u64 ahead(void) {
  u64 sum = 0;
  code[0] = 11 << 20 | 12 << 15 | 2 << 12 | 8 << 7 | 0x23;
  code[1] = 0x100f;
  code[3] = RET;
  for (u32 i = 0; i < ROUNDS; i++) {
    code[2] = addi_a0(0);
    fence_i();
    register u64 a0 __asm__("a0") = 0;
    register u64 a1 __asm__("a1") = addi_a0(i % 64);
    register u64 a2 __asm__("a2") = (u64)code;
    __asm__ volatile("jalr ra, 0(a2)" : "+r"(a0) : "r"(a1), "r"(a2) : "ra", "memory");
    sum += a0;
  }
  return sum;
}

u64 on_trap(u64 cause, u64 epc, u64 tval) { die("trap", cause, epc, tval); }

static u64 series(u64 modulus) { // sum over i < ROUNDS of i % modulus
  u64 sum = 0;
  for (u64 i = 0; i < ROUNDS; i++) sum += i % modulus;
  return sum;
}

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  u64 a = rewrite(), b = cross_page(), c = ahead();
  bool good = a == series(2048) + ROUNDS && b == 2 * series(100) + ROUNDS && c == series(64);
  print("@R smc rewrite=%u cross_page=%u ahead=%u %s\n", a, b, c, good ? "ok" : "FAILED");
  return !good;
}
