# Entry of every hart: a0 = hart id, a1 = device tree. Hart 0 runs main; the others sleep until somebody writes their
# msip, then run secondary. Traps go to on_trap(cause, epc, tval), which returns where to continue.

#define HARTS 8
#define STACK_SHIFT 13

  .section .text.start, "ax"
  .globl _start
_start:
  csrw mie, zero
  la t0, trap_entry
  csrw mtvec, t0
  li t0, HARTS
  bgeu a0, t0, park
  la sp, _stacks
  addi t0, a0, 1
  slli t0, t0, STACK_SHIFT
  add sp, sp, t0
  bnez a0, wait_for_msip

  la t0, _bss
  la t1, _bss_end
1:
  bgeu t0, t1, 2f
  sd zero, 0(t0)
  addi t0, t0, 8
  j 1b
2:
  call main
  call finish           # main's result is the exit code

wait_for_msip:
  li t0, 8              # MSIE; mstatus.MIE is clear, so this wakes the hart but does not trap
  csrw mie, t0
1:
  wfi
  csrr t0, mip
  andi t0, t0, 8
  beqz t0, 1b
  csrw mie, zero
  call secondary
park:
  csrw mie, zero
  wfi
  j park

  .text
  .weak secondary
secondary:
  ret

  .balign 4
trap_entry:
  addi sp, sp, -16 * 8
  sd ra, 0(sp)
  sd t0, 8(sp)
  sd t1, 16(sp)
  sd t2, 24(sp)
  sd t3, 32(sp)
  sd t4, 40(sp)
  sd t5, 48(sp)
  sd t6, 56(sp)
  sd a0, 64(sp)
  sd a1, 72(sp)
  sd a2, 80(sp)
  sd a3, 88(sp)
  sd a4, 96(sp)
  sd a5, 104(sp)
  sd a6, 112(sp)
  sd a7, 120(sp)
  csrr a0, mcause
  csrr a1, mepc
  csrr a2, mtval
  call on_trap
  csrw mepc, a0
  ld ra, 0(sp)
  ld t0, 8(sp)
  ld t1, 16(sp)
  ld t2, 24(sp)
  ld t3, 32(sp)
  ld t4, 40(sp)
  ld t5, 48(sp)
  ld t6, 56(sp)
  ld a0, 64(sp)
  ld a1, 72(sp)
  ld a2, 80(sp)
  ld a3, 88(sp)
  ld a4, 96(sp)
  ld a5, 104(sp)
  ld a6, 112(sp)
  ld a7, 120(sp)
  addi sp, sp, 16 * 8
  mret
