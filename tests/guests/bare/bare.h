// What every guest of ours starts from: registers, a console, the end of the run, traps, the device tree.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define csr_read(csr) ({ u64 v_; __asm__ volatile("csrr %0, " #csr : "=r"(v_)); v_; })
#define csr_write(csr, v) __asm__ volatile("csrw " #csr ", %0" ::"rK"(v) : "memory")
#define csr_set(csr, v) __asm__ volatile("csrs " #csr ", %0" ::"rK"(v) : "memory")
#define csr_clear(csr, v) __asm__ volatile("csrc " #csr ", %0" ::"rK"(v) : "memory")
#define wfi() __asm__ volatile("wfi" ::: "memory")
#define fence() __asm__ volatile("fence" ::: "memory")
#define fence_i() __asm__ volatile("fence.i" ::: "memory")

// Privileged spec 3.1.6 and 3.1.9.
#define MSTATUS_MIE (1ull << 3)
#define MIE_MSI (1ull << 3)
#define MIE_MTI (1ull << 7)
#define MIE_MEI (1ull << 11)
#define CAUSE_INTERRUPT (1ull << 63)
#define CAUSE_MSI (CAUSE_INTERRUPT | 3)
#define CAUSE_MTI (CAUSE_INTERRUPT | 7)
#define CAUSE_MEI (CAUSE_INTERRUPT | 11)

// The `virt` board's map, for guests that don't read the device tree.
#define UART_BASE 0x10000000ull
#define UART_IRQ 10
#define CLINT_BASE 0x2000000ull
#define PLIC_BASE 0xc000000ull
#define FINISHER_BASE 0x100000ull

static inline u8 read8(u64 at) { return *(volatile u8 *)at; }
static inline u32 read32(u64 at) { return *(volatile u32 *)at; }
static inline u64 read64(u64 at) { return *(volatile u64 *)at; }
static inline void write8(u64 at, u8 v) { *(volatile u8 *)at = v; }
static inline void write32(u64 at, u32 v) { *(volatile u32 *)at = v; }
static inline void write64(u64 at, u64 v) { *(volatile u64 *)at = v; }

// SiFive CLINT: msip per hart, mtimecmp per hart, one mtime.
static inline void msip(u64 hart, u32 v) { write32(CLINT_BASE + 4 * hart, v); }
static inline u64 mtime(void) { return read64(CLINT_BASE + 0xbff8); }
static inline void mtimecmp(u64 hart, u64 v) { write64(CLINT_BASE + 0x4000 + 8 * hart, v); }

// Each guest has these.
int main(u64 hart, const void *dtb);
void secondary(u64 hart);
u64 on_trap(u64 cause, u64 epc, u64 tval);

extern u64 uart_base;
void print(const char *format, ...); // %s string, %u decimal, %x hexadecimal with 0x, %c character; numbers are u64
_Noreturn void finish(int code);     // ends the run; 0 is success
_Noreturn void die(const char *what, u64 a, u64 b, u64 c);

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

// One node of the device tree, as far as guests want to know it.
struct node {
  const char *name;       // with its unit address
  const char *compatible; // the first of the list; NULL if none
  u64 reg, size;
  u32 irq;    // first cell of `interrupts`; 0 if none
  u32 ndev;   // `riscv,ndev`
  u32 ngpios;
  u32 timebase;
  bool cpu;   // device_type = "cpu"
  bool memory;
  const u8 *interrupts_extended;
  u32 interrupts_extended_bytes;
  const char *compatible_end;
};
void fdt_walk(const void *dtb, void (*visit)(const struct node *, void *), void *arg);
bool node_is(const struct node *node, const char *compatible);
u32 be32(const u8 *at);
u64 fdt_harts(const void *dtb);
