// A tour of the board: read the device tree, try every device in it, power off. The exit code counts failed checks.
#include "demo.h"

struct board board;
void (*on_source)(u32 source);
static u64 failures, checks;
static volatile u64 ticks, software, claimed;
static u64 tick_every;
static volatile u64 harts_awake;

void line(const char *name, u64 address) {
  print("  %s", name);
  u64 width = 0;
  while (name[width]) width++;
  for (; width < 16; width++) print(" ");
  if (address) print("%x  ", address);
}

void check(const char *what, bool good) {
  checks++;
  if (good) return;
  failures++;
  print("[%s FAILED] ", what);
}

// ------------------------------------------------------------------ the device tree

// The PLIC context of hart 0's M-mode: the first pair <cpu 11> of interrupts-extended (11 is MEI).
static u32 machine_context(const struct node *node) {
  for (u32 i = 0; i + 8 <= node->interrupts_extended_bytes; i += 8)
    if (be32(node->interrupts_extended + i + 4) == 11) return i / 8;
  return 0;
}

static void found(const struct node *node, void *arg) {
  (void)arg;
  if (node->cpu) board.harts++;
  if (node->timebase) board.timebase = node->timebase;
  if (node->memory) board.ram = node->reg, board.ram_bytes = node->size;
  if (node_is(node, "ns16550a")) board.uart = node->reg, board.uart_irq = node->irq;
  if (node_is(node, "sifive,clint0") || node_is(node, "riscv,clint0")) board.clint = node->reg;
  if (node_is(node, "google,goldfish-rtc")) board.rtc = node->reg;
  if (node_is(node, "reprise,gpio")) board.gpio = node->reg, board.gpio_irq = node->irq, board.gpios = node->ngpios;
  if (node_is(node, "sifive,plic-1.0.0") || node_is(node, "riscv,plic0")) {
    board.plic = node->reg, board.sources = node->ndev, board.context = machine_context(node);
  }
  if (node_is(node, "virtio,mmio") && board.virtios < 32) {
    board.virtio[board.virtios] = node->reg;
    board.virtio_irq[board.virtios++] = node->irq;
  }
}

// ------------------------------------------------------------------ traps

u64 now(void) { return read64(board.clint + 0xbff8); }

u64 on_trap(u64 cause, u64 epc, u64 tval) {
  if (cause == CAUSE_MTI) {
    ticks = ticks + 1;
    write64(board.clint + 0x4000, read64(board.clint + 0x4000) + tick_every);
  } else if (cause == CAUSE_MSI) {
    software = software + 1;
    write32(board.clint, 0);
  } else if (cause == CAUSE_MEI) {
    u64 claim = board.plic + 0x200004 + 0x1000ull * board.context;
    u32 source = read32(claim);
    if (source) {
      if (on_source) on_source(source);
      claimed |= 1ull << (source % 64);
      write32(claim, source);
    }
  } else {
    die("trap", cause, epc, tval);
  }
  return epc;
}

void plic_enable(u32 source, bool on) {
  u64 enable = board.plic + 0x2000 + 0x80ull * board.context + source / 32 * 4;
  u32 bit = 1u << source % 32;
  write32(board.plic + 4ull * source, on);
  write32(enable, on ? read32(enable) | bit : read32(enable) & ~bit);
  claimed &= ~(1ull << source % 64);
}

bool plic_wait(u32 source) {
  u64 deadline = now() + board.timebase / 10;
  csr_set(mie, MIE_MEI);
  csr_set(mstatus, MSTATUS_MIE);
  while (!(claimed >> source % 64 & 1) && now() < deadline) {
  }
  csr_clear(mstatus, MSTATUS_MIE);
  csr_clear(mie, MIE_MEI);
  return claimed >> source % 64 & 1;
}

// ------------------------------------------------------------------ the tour

// Registers of the 16550 by name (DLAB = 0).
enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, MCR = 4, LSR = 5, SCR = 7 };

static void uart_acknowledge(u32 source) {
  if (source != board.uart_irq) return;
  read8(board.uart + IIR_FCR);
  write8(board.uart + IER, 0);
}

static void uart_tour(void) {
  static const char text[] = "reprise";
  char back[sizeof text] = {0};
  line("ns16550a", board.uart);
  write8(board.uart + SCR, 0x5a);
  check("scratch register", read8(board.uart + SCR) == 0x5a);
  while (!(read8(board.uart + LSR) & 0x40)) { // TEMT: the console's own text has left
  }
  write8(board.uart + IIR_FCR, 7); // FIFOs on and empty
  write8(board.uart + MCR, 0x10);
  u64 deadline = now() + board.timebase / 10;
  for (u32 i = 0; i < sizeof text - 1; i++) {
    write8(board.uart + RBR_THR, text[i]);
    while (!(read8(board.uart + LSR) & 1) && now() < deadline) {
    }
    back[i] = read8(board.uart + RBR_THR);
  }
  write8(board.uart + MCR, 0x0b); // DTR, RTS, OUT2
  check("loopback", memcmp(text, back, sizeof text) == 0);
  print("loopback says \"%s\"", back);
  on_source = uart_acknowledge;
  plic_enable(board.uart_irq, true);
  write8(board.uart + IER, 2);
  bool interrupted = plic_wait(board.uart_irq);
  write8(board.uart + IER, 0);
  plic_enable(board.uart_irq, false);
  check("transmitter interrupt", interrupted);
  print(", interrupt %u taken\n", (u64)board.uart_irq);
}

static void plic_tour(void) {
  line("plic", board.plic);
  u64 threshold = board.plic + 0x200000 + 0x1000ull * board.context;
  write32(threshold, 7);
  check("threshold", read32(threshold) == 7);
  write32(threshold, 0);
  check("claim with nothing pending", read32(threshold + 4) == 0);
  print("%u sources, context %u is ours\n", (u64)board.sources, (u64)board.context);
}

static void clint_tour(void) {
  enum { TICKS = 10 };
  line("clint", board.clint);
  tick_every = board.timebase / 1000;
  u64 start = now();
  write64(board.clint + 0x4000, start + tick_every);
  csr_set(mie, MIE_MTI | MIE_MSI);
  csr_set(mstatus, MSTATUS_MIE);
  while (ticks < TICKS) wfi();
  csr_clear(mie, MIE_MTI);
  u64 elapsed = now() - start;
  write32(board.clint, 1);
  while (!software && now() - start < board.timebase) {
  }
  csr_clear(mstatus, MSTATUS_MIE);
  csr_clear(mie, MIE_MSI);
  check("ticks", elapsed >= TICKS * tick_every);
  check("software interrupt", software == 1);
  print("%u timer interrupts in %u us, %u software interrupt\n", ticks, elapsed * 1000000 / board.timebase, software);
}

void secondary(u64 hart) {
  write32(board.clint + 4 * hart, 0);
  __atomic_fetch_add(&harts_awake, 1, __ATOMIC_RELEASE);
}

static void harts_tour(void) {
  line("harts", 0);
  for (u64 hart = 1; hart < board.harts && hart < 8; hart++) write32(board.clint + 4 * hart, 1);
  u64 expected = board.harts < 8 ? board.harts - 1 : 7;
  u64 deadline = now() + board.timebase;
  while (harts_awake < expected && now() < deadline) {
  }
  check("inter-processor interrupts", harts_awake == expected);
  print("%u", (u64)board.harts);
  if (expected) print(", %u answered an inter-processor interrupt", harts_awake);
  print("\n");
}

// Civil date of a day number: Howard Hinnant's days_from_civil, inverted.
static void print_date(u64 seconds) {
  u64 z = seconds / 86400 + 719468, era = z / 146097, doe = z % 146097;
  u64 yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  u64 doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
  u64 day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
  u64 time = seconds % 86400;
  u64 part[] = {month, day, time / 3600, time / 60 % 60, time % 60};
  print("%u", yoe + era * 400 + (month <= 2));
  for (int i = 0; i < 5; i++) print("%c%u%u", "-- ::"[i], part[i] / 10, part[i] % 10);
}

static void rtc_tour(void) {
  line("goldfish-rtc", board.rtc);
  u64 low = read32(board.rtc); // reading the low half latches the high one
  u64 ns = (u64)read32(board.rtc + 4) << 32 | low;
  check("time stands still or runs", ns != 0);
  print_date(ns / 1000000000);
  print(" UTC\n");
}

// Registers of plugins/gpio.
enum { GPIO_IN = 0x0, GPIO_OUT = 0x4, GPIO_OE = 0x8, GPIO_RISE = 0xc, GPIO_PENDING = 0x14 };

static void gpio_acknowledge(u32 source) {
  if (source == board.gpio_irq) write32(board.gpio + GPIO_PENDING, ~0u);
}

// Raises every output and sees which inputs the board has wired to them; those must interrupt.
static void gpio_tour(void) {
  line("gpio", board.gpio);
  u32 all = ~0u >> (32 - board.gpios);
  u32 before = read32(board.gpio + GPIO_IN);
  write32(board.gpio + GPIO_OUT, all);
  check("output register", read32(board.gpio + GPIO_OUT) == all);
  write32(board.gpio + GPIO_PENDING, ~0u);
  write32(board.gpio + GPIO_RISE, all);
  on_source = gpio_acknowledge;
  if (board.gpio_irq) plic_enable(board.gpio_irq, true);
  write32(board.gpio + GPIO_OE, all);
  u32 wired = read32(board.gpio + GPIO_IN) & ~before;
  u32 seen = read32(board.gpio + GPIO_PENDING);
  if (wired && board.gpio_irq) check("edge interrupt", plic_wait(board.gpio_irq));
  else check("edges without an interrupt wire", seen == wired);
  if (board.gpio_irq) plic_enable(board.gpio_irq, false);
  write32(board.gpio + GPIO_RISE, 0);
  write32(board.gpio + GPIO_OE, 0);
  print("%u pins, outputs wired back to inputs: %x\n", (u64)board.gpios, (u64)wired);
}

int main(u64 hart, const void *dtb) {
  (void)hart;
  fdt_walk(dtb, found, NULL);
  if (board.uart) uart_base = board.uart;
  print("\nReprise demo: what this guest finds on its board, device tree at %x, %u bytes\n", (u64)dtb,
        (u64)be32((const u8 *)dtb + 4));
  line("memory", board.ram);
  print("%u MiB\n", board.ram_bytes >> 20);
  harts_tour();
  plic_tour();
  uart_tour();
  clint_tour();
  if (board.rtc) rtc_tour();
  if (board.gpio) gpio_tour();
  virtio_tour();
  print("  %u checks, %u failed; powering off\n", checks, failures);
  return failures;
}
