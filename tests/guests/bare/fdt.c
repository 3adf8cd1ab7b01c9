// The flattened device tree, Devicetree Specification v0.4 chapter 5.
#include "bare.h"

enum { BEGIN_NODE = 1, END_NODE = 2, PROP = 3, NOP = 4, END = 9, DEPTH = 16 };

u32 be32(const u8 *at) { return (u32)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static u64 cells(const u8 *at, u32 n) {
  u64 v = 0;
  while (n--) v = v << 32 | be32(at), at += 4;
  return v;
}

static bool same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

bool node_is(const struct node *node, const char *compatible) {
  for (const char *at = node->compatible; at && at < node->compatible_end; at++) {
    if (same(at, compatible)) return true;
    while (*at) at++;
  }
  return false;
}

static void property(struct node *node, const char *name, const u8 *value, u32 bytes, u32 address_cells,
                     u32 size_cells) {
  if (same(name, "compatible")) {
    node->compatible = (const char *)value;
    node->compatible_end = (const char *)value + bytes;
  } else if (same(name, "reg") && bytes >= 4 * (address_cells + size_cells)) {
    node->reg = cells(value, address_cells);
    node->size = cells(value + 4 * address_cells, size_cells);
  } else if (same(name, "interrupts")) {
    node->irq = be32(value);
  } else if (same(name, "riscv,ndev")) {
    node->ndev = be32(value);
  } else if (same(name, "ngpios")) {
    node->ngpios = be32(value);
  } else if (same(name, "timebase-frequency")) {
    node->timebase = be32(value);
  } else if (same(name, "device_type")) {
    node->cpu = same((const char *)value, "cpu");
    node->memory = same((const char *)value, "memory");
  } else if (same(name, "interrupts-extended")) {
    node->interrupts_extended = value;
    node->interrupts_extended_bytes = bytes;
  }
}

void fdt_walk(const void *dtb, void (*visit)(const struct node *, void *), void *arg) {
  const u8 *header = dtb;
  if (be32(header) != 0xd00dfeed) die("no device tree at", (u64)dtb, be32(header), 0);
  const u8 *at = header + be32(header + 8);
  const char *strings = (const char *)header + be32(header + 12);
  // What a node says about its children's `reg`, by depth.
  u32 address_cells[DEPTH] = {2}, size_cells[DEPTH] = {1};
  int depth = 0;
  struct node node = {0};
  bool open = false;
  for (;;) {
    u32 token = be32(at);
    at += 4;
    if (token != PROP && token != NOP && open) {
      visit(&node, arg);
      open = false;
    }
    if (token == BEGIN_NODE) {
      node = (struct node){.name = (const char *)at};
      open = true;
      if (++depth == DEPTH) die("device tree too deep", 0, 0, 0);
      address_cells[depth] = 2, size_cells[depth] = 1;
      u64 length = 0;
      while (at[length++]) {
      }
      at += (length + 3) & ~3ull;
    } else if (token == END_NODE) {
      depth--;
    } else if (token == PROP) {
      u32 bytes = be32(at);
      const char *name = strings + be32(at + 4);
      const u8 *value = at + 8;
      at = value + ((bytes + 3) & ~3u);
      if (same(name, "#address-cells")) address_cells[depth] = be32(value);
      else if (same(name, "#size-cells")) size_cells[depth] = be32(value);
      else property(&node, name, value, bytes, address_cells[depth - 1], size_cells[depth - 1]);
    } else if (token == END) {
      return;
    } else if (token != NOP) {
      die("device tree token", token, 0, 0);
    }
  }
}

static void count_hart(const struct node *node, void *harts) {
  if (node->cpu) ++*(u64 *)harts;
}

u64 fdt_harts(const void *dtb) {
  u64 harts = 0;
  fdt_walk(dtb, count_hart, &harts);
  return harts;
}
