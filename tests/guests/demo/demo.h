// Parts of the demo: what each device's tour needs from the others.
#pragma once
#include "bare.h"

// What the device tree said. Zero addresses are devices that aren't there.
struct board {
  u64 ram, ram_bytes, uart, plic, clint, rtc, gpio;
  u64 virtio[32];
  u32 virtio_irq[32], virtios;
  u32 uart_irq, gpio_irq, gpios, sources, context, timebase, harts;
};
extern struct board board;

// One line of the report: name, address, then whatever the caller prints. A check that fails is counted and shown.
void line(const char *name, u64 address);
void check(const char *what, bool good);

// Interrupts: enable a source, then wait until the handler has claimed it. False after a tenth of a second.
void plic_enable(u32 source, bool on);
bool plic_wait(u32 source);
u64 now(void);             // ticks of the timebase
extern void (*on_source)(u32 source); // called while the source is claimed

void virtio_tour(void);
