// Calls whose number is known, for those who count them: built with symbols and line numbers.
#include "bare.h"

#define TWIGS 3
#define BRANCHES 10

static volatile u64 leaves;

__attribute__((noinline)) void leaf(void) { leaves++; }

__attribute__((noinline)) void branch(void) {
  for (int i = 0; i < TWIGS; i++) leaf();
}

__attribute__((noinline)) void never(void) {
  leaves = 0;
}

u64 on_trap(u64 cause, u64 epc, u64 tval) {
  if (cause != CAUSE_MSI) die("trap", cause, epc, tval);
  msip(0, 0);
  leaf();
  return epc;
}

void secondary(u64 hart) { (void)hart; }

int main(u64 hart, const void *dtb) {
  (void)dtb;
  for (int i = 0; i < BRANCHES; i++) branch();
  if (leaves != TWIGS * BRANCHES) never();
  csr_set(mie, MIE_MSI);
  csr_set(mstatus, MSTATUS_MIE);
  msip(hart, 1);
  while (leaves == TWIGS * BRANCHES) {
  }
  print("@P leaves %u\n", leaves);
  return 0;
}
