// Virtio 1.2 over MMIO (section 4.2), one split queue at a time, by interrupt.
#include "demo.h"

// Registers, section 4.2.2.
enum {
  MAGIC = 0x0,
  VERSION = 0x4,
  DEVICE_ID = 0x8,
  DEVICE_FEATURES = 0x10,
  DEVICE_FEATURES_SEL = 0x14,
  DRIVER_FEATURES = 0x20,
  DRIVER_FEATURES_SEL = 0x24,
  QUEUE_SEL = 0x30,
  QUEUE_NUM_MAX = 0x34,
  QUEUE_NUM = 0x38,
  QUEUE_READY = 0x44,
  QUEUE_NOTIFY = 0x50,
  INTERRUPT_STATUS = 0x60,
  INTERRUPT_ACK = 0x64,
  STATUS = 0x70,
  QUEUE_DESC = 0x80,
  QUEUE_DRIVER = 0x90,
  QUEUE_DEVICE = 0xa0,
  CONFIG = 0x100,
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { NEXT = 1, WRITE = 2 }; // descriptor flags
enum { NETWORK = 1, BLOCK = 2, CONSOLE = 3, ENTROPY = 4 };

enum { QUEUE = 8 };
static struct { u64 addr; u32 len; u16 flags, next; } desc[QUEUE] __attribute__((aligned(16)));
static struct { u16 flags, idx, ring[QUEUE]; } avail __attribute__((aligned(4)));
static volatile struct { u16 flags, idx; struct { u32 id, len; } ring[QUEUE]; } used __attribute__((aligned(4)));

static u64 base;
static u32 irq;

static void acknowledge(u32 source) {
  if (source == irq) write32(base + INTERRUPT_ACK, read32(base + INTERRUPT_STATUS));
}

static void write_address(u64 reg, const volatile void *at) {
  write32(base + reg, (u64)at);
  write32(base + reg + 4, (u64)at >> 32);
}

// Section 3.1.1: negotiates VIRTIO_F_VERSION_1 and nothing else, and starts queue `index`.
static bool start(u32 index) {
  memset(&avail, 0, sizeof avail);
  memset((void *)&used, 0, sizeof used);
  write32(base + STATUS, 0);
  write32(base + STATUS, ACKNOWLEDGE | DRIVER);
  write32(base + DEVICE_FEATURES_SEL, 1);
  if (!(read32(base + DEVICE_FEATURES) & 1)) return false;
  write32(base + DRIVER_FEATURES_SEL, 0);
  write32(base + DRIVER_FEATURES, 0);
  write32(base + DRIVER_FEATURES_SEL, 1);
  write32(base + DRIVER_FEATURES, 1);
  write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  if (!(read32(base + STATUS) & FEATURES_OK)) return false;
  write32(base + QUEUE_SEL, index);
  if (read32(base + QUEUE_NUM_MAX) < QUEUE) return false;
  write32(base + QUEUE_NUM, QUEUE);
  write_address(QUEUE_DESC, desc);
  write_address(QUEUE_DRIVER, &avail);
  write_address(QUEUE_DEVICE, &used);
  write32(base + QUEUE_READY, 1);
  write32(base + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  on_source = acknowledge;
  return true;
}

// Offers the chain that starts at descriptor 0 and waits for the interrupt that says it is used; its written length.
static bool submit(u32 index, u32 *length) {
  plic_enable(irq, true);
  u16 expected = used.idx + 1;
  avail.ring[avail.idx % QUEUE] = 0;
  fence();
  *(volatile u16 *)&avail.idx = avail.idx + 1;
  fence();
  write32(base + QUEUE_NOTIFY, index);
  bool interrupted = plic_wait(irq);
  plic_enable(irq, false);
  if (used.idx != expected) return false;
  if (length) *length = used.ring[(used.idx - 1) % QUEUE].len;
  return interrupted;
}

// Section 5.2.6: header, data, status.
static bool block(u32 type, u64 sector, void *data, u32 bytes) {
  static struct { u32 type, reserved; u64 sector; } header;
  static volatile u8 status;
  header.type = type, header.sector = sector, status = 0xff;
  u16 data_flags = NEXT | (type == 0 ? WRITE : 0);
  desc[0].addr = (u64)&header, desc[0].len = sizeof header, desc[0].flags = NEXT, desc[0].next = 1;
  desc[1].addr = (u64)data, desc[1].len = bytes, desc[1].flags = data_flags, desc[1].next = 2;
  desc[2].addr = (u64)&status, desc[2].len = 1, desc[2].flags = WRITE;
  return submit(0, NULL) && status == 0;
}

// Writes the last sectors, reads them back, and leaves them as they were.
static void block_tour(void) {
  enum { SECTORS = 8, BYTES = SECTORS * 512 };
  static u8 before[BYTES], pattern[BYTES], after[BYTES];
  line("virtio-blk", base);
  u64 capacity = read32(base + CONFIG) | (u64)read32(base + CONFIG + 4) << 32;
  bool started = start(0);
  check("start", started);
  if (!started || capacity < SECTORS) {
    print(capacity ? "too small to try\n" : "no medium\n");
    return;
  }
  for (int i = 0; i < BYTES; i++) pattern[i] = i * 7 + (i >> 8);
  u64 first = capacity - SECTORS;
  bool good = block(0, first, before, BYTES) && block(1, first, pattern, BYTES) && block(0, first, after, BYTES);
  check("read, write, read", good);
  check("what was written is read", memcmp(pattern, after, BYTES) == 0);
  check("restore", block(1, first, before, BYTES));
  check("past the end is refused", !block(0, capacity, after, BYTES));
  print("%u sectors, %u of them written and read back\n", capacity, (u64)SECTORS);
}

static void entropy_tour(void) {
  static u8 random[32];
  u32 length = 0;
  line("virtio-rng", base);
  if (start(0)) {
    desc[0].addr = (u64)random, desc[0].len = sizeof random, desc[0].flags = WRITE;
    check("request", submit(0, &length) && length > 0 && length <= sizeof random);
  } else {
    check("start", false);
  }
  u32 ones = 0;
  for (u32 bit = 0; bit < 8 * length; bit++) ones += random[bit / 8] >> bit % 8 & 1;
  // Far from half would be one chance in a billion.
  check("bits", ones > 3 * length / 2 && ones < 13 * length / 2);
  print("%u bytes, %u of %u bits set, first", (u64)length, (u64)ones, 8ull * length);
  for (u32 i = 0; i < length && i < 4; i++) print(" %x", (u64)random[i]);
  print("\n");
}

static void console_tour(void) {
  static const char text[] = "hello through virtio-console\r\n";
  line("virtio-console", base);
  if (start(1)) { // port 0's transmit queue; section 5.3.2
    desc[0].addr = (u64)text, desc[0].len = sizeof text - 1, desc[0].flags = 0;
    check("transmit", submit(1, NULL));
  } else {
    check("start", false);
  }
  print("%u bytes sent to port 0\n", (u64)sizeof text - 1);
}

void virtio_tour(void) {
  u32 empty = 0;
  for (u32 slot = 0; slot < board.virtios; slot++) {
    base = board.virtio[slot], irq = board.virtio_irq[slot];
    if (read32(base + MAGIC) != 0x74726976 || read32(base + VERSION) != 2) {
      line("virtio-mmio", base);
      check("magic and version 2", false);
      print("\n");
      continue;
    }
    switch (read32(base + DEVICE_ID)) {
    case 0: empty++; break;
    case BLOCK: block_tour(); break;
    case ENTROPY: entropy_tour(); break;
    case CONSOLE: console_tour(); break;
    default:
      line("virtio-mmio", base);
      print("device %u\n", (u64)read32(base + DEVICE_ID));
    }
    write32(base + STATUS, 0);
  }
  if (empty) {
    line("virtio-mmio", 0);
    print("%u empty slots\n", (u64)empty);
  }
}
