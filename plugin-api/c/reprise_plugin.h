/*
 * reprise_plugin.h: a device for Reprise in C, or in whatever can call C.
 *
 * Made from the sources of reprise-abi, where this contract is kept and frozen; do not edit. Within major version 1 it
 * only grows: tables at their ends, each with its size in bytes in front, and constants by new ones. A plugin that was
 * built with an older header keeps loading, and an older host ignores what a newer plugin has behind its own tables.
 *
 * A plugin is a shared library `libreprise_plugin_NAME.so` with this function:
 *
 *     const ReprisePlugin *reprise_plugin_entry(void);
 *
 * Its table describes device kinds as JSON, and creates instances. Each instance comes with a table of functions that
 * the host calls, one at a time, on one thread, and never from within another one of the same device. During a call the
 * device may use the host's own table, `cx->vtbl`, with `cx->host` as first argument; neither outlives the call.
 *
 * A recorded run is replayed by computing it again. So a device is a function of its state and of what the host hands
 * it, and of nothing else: no clocks, threads, files, sockets, environment, uninitialised bytes or numbers made from
 * addresses. Everything that it remembers is in what `save` writes; see reprise_state.h, which writes and reads it.
 */
#ifndef REPRISE_PLUGIN_H
#define REPRISE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct RepriseIoRes RepriseIoRes;
typedef struct RepriseRamWindow RepriseRamWindow;
typedef struct RepriseBlkInfo RepriseBlkInfo;
typedef struct RepriseBlkReq RepriseBlkReq;
typedef struct RepriseCtx RepriseCtx;
typedef struct RepriseHostVtbl RepriseHostVtbl;
typedef struct RepriseDevVtbl RepriseDevVtbl;
typedef struct RepriseDevHandle RepriseDevHandle;
typedef struct ReprisePlugin ReprisePlugin;

/* ABI major version. A plugin with another major version is refused. */
#define REPRISE_ABI_MAJOR 1u

/* ABI minor version: grows when a table grows. Never a reason to refuse. */
#define REPRISE_ABI_MINOR 2u

/* Result of an MMIO access, returned in two registers. */
struct RepriseIoRes {
  /* The value read, zero-extended; 0 for a write. */
  uint64_t value;
  /* `REPRISE_IO_OK`, `REPRISE_IO_FAULT` or `REPRISE_STATUS_PANIC`. */
  uint64_t status;
};

/* The access had its architected effect. */
#define REPRISE_IO_OK 0ull

/* The device refuses the access: the guest takes an access fault. */
#define REPRISE_IO_FAULT 1ull

/* The device panicked; the shim has already told the host through `RepriseHostVtbl.fault`. */
#define REPRISE_STATUS_PANIC 2ull

/* `dma_*` and `blk_submit`: done. */
#define REPRISE_DMA_OK 0u

/* Some byte of the range is not guest RAM. */
#define REPRISE_DMA_BAD_ADDRESS 1u

/* `RepriseDevVtbl.on_port` event: bytes (or a frame) wait in the port's queue. */
#define REPRISE_PORT_READABLE 0u

/* `RepriseDevVtbl.on_port` event: the outside end was connected. */
#define REPRISE_PORT_OPENED 1u

/* `RepriseDevVtbl.on_port` event: the outside end went away. */
#define REPRISE_PORT_CLOSED 2u

/* `RepriseDevVtbl.on_port` event: the outside sent a serial break. */
#define REPRISE_PORT_BREAK 3u

/* `RepriseDevVtbl.reset` kind: power-on. State is as after `create`. */
#define REPRISE_RESET_COLD 0u

/* `RepriseDevVtbl.reset` kind: the machine was reset while running. */
#define REPRISE_RESET_WARM 1u

/* `RepriseHostVtbl.control`: end the run; `value` is the guest's exit code. */
#define REPRISE_CONTROL_POWER_OFF 0u

/* `RepriseHostVtbl.control`: reset every device and hart at the next safe point. */
#define REPRISE_CONTROL_RESET 1u

/* `RepriseHostVtbl.control`: `value` is added (wrapping, in time-base ticks) to what the harts' `time` CSR reads. */
#define REPRISE_CONTROL_TIME_OFFSET 2u

/* Bit of a RAM window's page map: changed since the last snapshot or digest. */
#define REPRISE_PAGE_DIRTY 1u

/* Bit of a RAM window's page map: decoded or translated from, or walked as a page table. A writer must call
 * `RepriseHostVtbl.code_write` after writing there. */
#define REPRISE_PAGE_WATCHED 2u

/* A run of plain guest RAM. Valid for the callback in which it was obtained. */
struct RepriseRamWindow {
  /* Guest physical address of `base`. */
  uint64_t gpa;
  /* Length in bytes. */
  uint64_t len;
  /* Host address of the first byte. */
  uint8_t *base;
  /* One byte per 4 KiB page of the window (`REPRISE_PAGE_DIRTY`, `REPRISE_PAGE_WATCHED`); the first covers `gpa`'s
   * page. */
  uint8_t *pages;
};

/* `RepriseHostVtbl.net_offload`: a frame's checksum may be left to the device (NEEDS_CSUM), or known to be good
 * (DATA_VALID). */
#define REPRISE_NET_CSUM (1u << 0)

/* `RepriseHostVtbl.net_offload`: TCP segments of IPv4 may come as one frame. */
#define REPRISE_NET_TSO4 (1u << 1)

/* `RepriseHostVtbl.net_offload`: TCP segments of IPv6 may come as one frame. */
#define REPRISE_NET_TSO6 (1u << 2)

/* `RepriseHostVtbl.net_offload`: such a frame may carry ECN's CWR. */
#define REPRISE_NET_ECN (1u << 3)

/* `RepriseHostVtbl.net_offload`: UDP datagrams of IPv4 may come as one frame. */
#define REPRISE_NET_USO4 (1u << 4)

/* `RepriseHostVtbl.net_offload`: UDP datagrams of IPv6 may come as one frame. */
#define REPRISE_NET_USO6 (1u << 5)

/* What a block port is connected to. */
struct RepriseBlkInfo {
  /* Capacity in bytes, a multiple of 512. */
  uint64_t size_bytes;
  /* 1 if writes are refused. */
  uint32_t read_only;
  /* Preferred request alignment in bytes (512 or 4096). */
  uint32_t block_size;
  /* Up to 20 bytes, NUL padded: what virtio-blk GET_ID answers. */
  uint8_t serial[20];
};

/* `RepriseBlkReq.op`: read `len` bytes at `offset`; the data comes with the completion. */
#define REPRISE_BLK_READ 0u

/* `RepriseBlkReq.op`: write `len` bytes from `data` at `offset`. The host copies `data` before it returns. */
#define REPRISE_BLK_WRITE 1u

/* `RepriseBlkReq.op`: everything written before is durable once this completes. */
#define REPRISE_BLK_FLUSH 2u

/* `RepriseBlkReq.op`: the range's content is no longer needed. */
#define REPRISE_BLK_DISCARD 3u

/* `RepriseBlkReq.op`: the range reads as zeroes afterwards. */
#define REPRISE_BLK_WRITE_ZEROES 4u

/* `RepriseDevVtbl.on_blk` status: done. */
#define REPRISE_BLK_DONE 0u

/* `RepriseDevVtbl.on_blk` status: I/O error, out of range, or read-only. */
#define REPRISE_BLK_ERROR 1u

/* A block request. Completes at a virtual deadline that the board's disk timing fixes. */
struct RepriseBlkReq {
  /* `REPRISE_BLK_*`. */
  uint32_t op;
  /* `REPRISE_BLK_WRITE_ZEROES`: bit 0 = may unmap. */
  uint32_t flags;
  /* Chosen by the device, handed back on completion; unique among its requests in flight. */
  uint64_t token;
  /* Byte offset, a multiple of 512. */
  uint64_t offset;
  /* Length in bytes, a multiple of 512. */
  uint64_t len;
  /* `len` bytes for `REPRISE_BLK_WRITE`, else null. */
  const uint8_t *data;
};

/* One callback's context: lives on the host's stack while the callback runs. */
struct RepriseCtx {
  /* The host's, opaque. */
  void *host;
  /* What the device may ask of the host. */
  const RepriseHostVtbl *vtbl;
  /* Virtual time of this callback, in nanoseconds since power-on. */
  uint64_t now_ns;
};

/* Everything a device may ask of the host, and nothing more. Only offered while a callback runs. */
struct RepriseHostVtbl {
  /* Size of this table in bytes. */
  uint64_t size;
  /* Drive output pin `pin` (flattened index) to `level`. Takes effect after the causing instruction. */
  void (*set_pin)(void *host, uint32_t pin, uint32_t level);
  /* Arm timer `timer` at virtual time `deadline_ns`; re-arming moves it. In the past: fires at the next safe point. */
  void (*timer_arm)(void *host, uint32_t timer, uint64_t deadline_ns);
  /* Disarm. Disarming an idle timer is no error. */
  void (*timer_cancel)(void *host, uint32_t timer);
  /* Deadline of an armed timer, or `UINT64_MAX`. */
  uint64_t (*timer_deadline)(void *host, uint32_t timer);
  /* Queue a declared bottom half; one that is already queued stays where it is. */
  void (*bh_schedule)(void *host, uint32_t bh);
  /* Queue one invocation of a declared bottom half with its own payload. */
  void (*bh_oneshot)(void *host, uint32_t bh, const uint8_t *data, uint64_t len);
  /* Copy from guest RAM. `REPRISE_DMA_OK` or `REPRISE_DMA_BAD_ADDRESS`; nothing is copied on error. */
  uint32_t (*dma_read)(void *host, uint64_t gpa, uint8_t *data, uint64_t len);
  /* Copy to guest RAM, marking pages dirty and dropping code. Nothing is copied on error. */
  uint32_t (*dma_write)(void *host, uint64_t gpa, const uint8_t *data, uint64_t len);
  /* The RAM window that holds `gpa`: 1 and `out` filled, or 0 (not RAM, or windows are switched off by a checker). */
  uint32_t (*ram_window)(void *host, uint64_t gpa, RepriseRamWindow *out);
  /* Tell the host that a page with `REPRISE_PAGE_WATCHED` was written through a window. */
  void (*code_write)(void *host, uint64_t gpa, uint64_t len);
  /* Fill from the recorded random stream. */
  void (*random)(void *host, uint8_t *data, uint64_t len);
  /* The recorded host wall clock, nanoseconds since 1970-01-01 UTC. */
  uint64_t (*host_clock_ns)(void *host);
  /* Take up to `len` bytes (chr) or one frame (net; the rest of a longer frame is dropped) from a port's queue. A
   * frame is a 12-byte virtio-net header (virtio 1.2 §5.1.6) and the Ethernet frame, in both directions. */
  uint64_t (*port_read)(void *host, uint32_t port, uint8_t *data, uint64_t len);
  /* Give bytes (chr) or one frame (net) to the outside. Never fails: what nobody reads is dropped. */
  void (*port_write)(void *host, uint32_t port, const uint8_t *data, uint64_t len);
  /* Bytes (chr) or frames (net) that wait in a port's queue. */
  uint64_t (*port_pending)(void *host, uint32_t port);
  /* 1 and `out` filled if the block port has a disk, else 0. */
  uint32_t (*blk_info)(void *host, uint32_t port, RepriseBlkInfo *out);
  /* Submit a request. The outcome comes through `RepriseDevVtbl.on_blk`, also for a request that cannot succeed. */
  void (*blk_submit)(void *host, uint32_t port, const RepriseBlkReq *req);
  /* `REPRISE_CONTROL_*` with its value. */
  void (*control)(void *host, uint32_t kind, uint64_t value);
  /* A log line. Levels: 0 error, 1 warning (guest misbehaviour; rate-limited), 2 info, 3 debug. */
  void (*log)(void *host, uint32_t level, const uint8_t *text, uint64_t len);
  /* The shim caught a panic in this device: `text` is its message and place. The machine stops at once. */
  void (*fault)(void *host, const uint8_t *text, uint64_t len);
  /* An extension table by name, or null. For tables that this one does not know. */
  const void *(*query)(void *host, const uint8_t *name, uint64_t len);
  /* Since minor version 1. From now on the device takes frames with these offloads (`REPRISE_NET_*`) from a net
   * port, and without TSO and USO packets of at most `mtu` bytes behind the Ethernet header. The host holds it like
   * a pin's level: it is saved and restored, and starts as no offloads and 1500. */
  void (*net_offload)(void *host, uint32_t port, uint32_t bits, uint32_t mtu);
  /* Since minor version 2. A message of up to `REPRISE_MAX_MESSAGE` bytes, not empty, to the other end of a link:
   * from a controller to its target at address `at`, from a target, as the one at `at`, to its controller. It
   * arrives right after the instruction (or event) that caused this callback, behind all that were sent before it. */
  void (*link_send)(void *host, uint32_t link, uint32_t at, const uint8_t *data, uint64_t len);
};

/* Longest message of a link, in bytes. */
#define REPRISE_MAX_MESSAGE (64ull << 10)

/* Receives bytes during `RepriseDevVtbl.save` and error text during `RepriseDevVtbl.load`. */
typedef void RepriseSink(void *sink, const uint8_t *data, uint64_t len);

/* What the host may ask of a device. `dev` is the instance of `RepriseDevHandle`. No function may be null, even
 * where the device has nothing that it is for, but for `RepriseDevVtbl.on_message` of a device without links. */
struct RepriseDevVtbl {
  /* Size of this table in bytes. */
  uint64_t size;
  /* Read `size` bytes (1, 2, 4 or 8, as the region declares; naturally aligned) at `offset` of region `region`. */
  RepriseIoRes (*mmio_read)(void *dev, RepriseCtx *cx, uint32_t region, uint64_t offset, uint32_t size);
  /* Write likewise. `value` is zero-extended. */
  RepriseIoRes (*mmio_write)(void *dev, RepriseCtx *cx, uint32_t region, uint64_t offset, uint32_t size,
      uint64_t value);
  /* A declared timer reached its deadline (it is disarmed already). */
  uint64_t (*on_timer)(void *dev, RepriseCtx *cx, uint32_t timer);
  /* A bottom half runs; `data` is null for a queued one, the payload for a one-shot. */
  uint64_t (*on_bh)(void *dev, RepriseCtx *cx, uint32_t bh, const uint8_t *data, uint64_t len);
  /* Input pin `pin` (flattened index) changed to `level`. */
  uint64_t (*on_pin)(void *dev, RepriseCtx *cx, uint32_t pin, uint32_t level);
  /* Something happened on a port (`REPRISE_PORT_*`). */
  uint64_t (*on_port)(void *dev, RepriseCtx *cx, uint32_t port, uint32_t event);
  /* A block request completed; `data` holds what was read. */
  uint64_t (*on_blk)(void *dev, RepriseCtx *cx, uint32_t port, uint64_t token, uint32_t status, const uint8_t *data,
      uint64_t len);
  /* Return to the state after `create`, driving pins to match (`REPRISE_RESET_*`). The host first disarms the
   * device's timers and drops its bottom halves and block requests in flight. */
  uint64_t (*reset)(void *dev, RepriseCtx *cx, uint32_t kind);
  /* Write the state record (see reprise_state.h) to `sink`. 0, or `REPRISE_STATUS_PANIC` and the panic's text
   * instead. */
  uint64_t (*save)(void *dev, void *sink, RepriseSink *put);
  /* Replace the state by a record. 0, or 1 with the reason given to `put` (`REPRISE_STATUS_PANIC` if it panicked);
   * then the device must not be used again. */
  uint64_t (*load)(void *dev, const uint8_t *data, uint64_t len, void *sink, RepriseSink *put);
  /* Free the instance. */
  void (*drop)(void *dev);
  /* Since minor version 2. A message came over a link: to a controller from its target at address `at`, to a target
   * as the one at `at`. `data` is null when a controller's own message found nobody there. */
  uint64_t (*on_message)(void *dev, RepriseCtx *cx, uint32_t link, uint32_t at, const uint8_t *data, uint64_t len);
};

/* A device instance: its state and the table to drive it with. The host owns it and calls `drop` of the table once. */
struct RepriseDevHandle {
  /* The instance, passed back in every call. */
  void *dev;
  /* A `const RepriseDevVtbl *`, typeless here so that the layout check does not freeze the table's length. */
  const void *vtbl;
};

/* Returns the plugin's table, which lives as long as the process. */
typedef const ReprisePlugin *RepriseEntry(void);

/* Gives a JSON array of descriptors, one for each kind, as with default options, to `put`. 0, or 1 and the JSON of
 * an error, `{"path": "", "message": "…"}`, instead. */
typedef uint64_t RepriseDescribe(void *sink, RepriseSink *put);

/* Gives the descriptor of `kind` with these options (a JSON object) to `put`. 0, or 1 and an error, whose `path` is
 * the option's name. Options that the plugin does not know are errors. */
typedef uint64_t RepriseDescribeWith(const char *kind, const char *config_json, void *sink, RepriseSink *put);

/* Creates an instance of `kind` with these options: fills `out`, and gives the descriptor of this very instance to
 * `put`. 0, or 1 and an error, as for `RepriseDescribeWith`; `out` is then left alone. The instance is freed by
 * `RepriseDevVtbl.drop` of its table. */
typedef uint64_t RepriseCreate(const char *kind, const char *config_json, RepriseDevHandle *out, void *sink,
    RepriseSink *put);

/* What the entry returns. Strings are UTF-8 and end with a NUL; no pointer in it is null. */
struct ReprisePlugin {
  /* Size of this table in bytes. */
  uint64_t size;
  /* `REPRISE_ABI_MAJOR` that the plugin was built with. */
  uint32_t abi_major;
  /* `REPRISE_ABI_MINOR` that the plugin was built with. */
  uint32_t abi_minor;
  /* What it was built with, for messages: "C header 1.2". */
  const char *api_version;
  /* All kinds. */
  RepriseDescribe *describe;
  /* One kind with options. */
  RepriseDescribeWith *describe_with;
  /* A new device. */
  RepriseCreate *create;
};

/* `gpio/1`: a bank of up to 64 lines that change together, each of which either end may drive.
 *
 * The controller is who offers the lines (a GPIO controller, a port expander), a target is what hangs on them (a
 * keypad, a display with a parallel bus). A target's address is the number of the bank; its own lines begin with
 * line 0 of it. A single line with one driver is a pin, which boards wire one by one, and no link.
 *
 * Both ends say the same sort of message, `Lines`: all of what this end does to the bank from now on. It is said when
 * it changes, and once again after a reset if it is not `Lines.RELEASED`: at power-on, and at every reset, each end
 * takes the other to have let go of all lines. Saying the same again changes nothing. There are no answers: an end
 * knows the levels from its own lines and the last ones of the other, by `Lines.level`. A controller whose message
 * finds nobody at a bank has the lines to itself.
 *
 * The level of a line, strongest first: low if an end drives it low, so that open drains are wired together and a short
 * circuit is low; high if an end drives it high; high if an end pulls it up; low, because what floats has to be
 * something.
 *
 * A message is 16 bytes: two numbers of 64 bits, little-endian. Bit *n* of the first is 1 if this end drives line *n*.
 * Bit *n* of the second is the level that it drives it to, or, where it does not, 1 if it pulls it up. */

/* The name in descriptors. */
#define REPRISE_GPIO_PROTOCOL "gpio/1"

/* The most lines of a bank. */
#define REPRISE_GPIO_LINES 64u

/* `i2c/1`: one byte of an I²C bus at a time. NXP UM10204, §3.1.
 *
 * The address byte is not sent as data: it selects the target, by its 7 bits. A target answers each `Ask` but
 * `Ask.Stop` with one `Answer`; where nobody is at an address, nobody pulls the acknowledge bit low. */

/* The name in descriptors. */
#define REPRISE_I2C_PROTOCOL "i2c/1"

/* 7-bit addresses. */
#define REPRISE_I2C_ADDRESSES 128u

/* First of two bytes from the controller: START; then 1 to read, 0 to write. */
#define REPRISE_I2C_ASK_START 0u

/* The same: a byte for the target, which follows. */
#define REPRISE_I2C_ASK_WRITE 1u

/* The same: a byte of the target is wanted; then 0. */
#define REPRISE_I2C_ASK_READ 2u

/* The same: STOP; then 0. It has no answer. */
#define REPRISE_I2C_ASK_STOP 3u

/* First of two bytes from the target: acknowledged; then 0. */
#define REPRISE_I2C_ANSWER_ACK 0u

/* The same: not acknowledged; then 0. */
#define REPRISE_I2C_ANSWER_NACK 1u

/* The same: the byte that was wanted, which follows. */
#define REPRISE_I2C_ANSWER_DATA 2u

/* `spi/1`: one byte each way at a time. A target's address is the number of its chip select.
 *
 * A target answers each `Ask.Exchange` with the byte that it shifted out meanwhile, in a message of one byte; it
 * answers nothing else. Where nobody is, the line floats: controllers read 0xff.
 *
 * Chip selects are lines with levels, and what a guest's driver calls active is its own business: most targets are
 * selected by a low one, so a low line is what is told as `Ask.Select`, and a target that wants a high one takes it
 * the other way round. After a reset all lines are high. Only targets whose line is low are exchanged with, so those
 * see no clocks while somebody else is spoken to; the clock's mode is not told. */

/* The name in descriptors. */
#define REPRISE_SPI_PROTOCOL "spi/1"

/* First of two bytes from the controller: the chip select; then 1 if it went low, 0 if it is high again. */
#define REPRISE_SPI_ASK_SELECT 0u

/* The same: eight clocks with the byte that follows. The answer is the byte that came back, alone. */
#define REPRISE_SPI_ASK_EXCHANGE 1u

/* `stream/1`: bytes both ways, each way with credit, as between a UART and the modem or GPS receiver behind it.
 *
 * The controller is the end that the guest drives (the UART), the target what is connected to it; from there on both
 * are the same. A target's address is the number of the line. Credit is how many characters the other end has room
 * for: an end sends no more than it was given, so nothing is lost and nobody asks. At power-on, and at every reset,
 * both ends have none, and each gives what it has room for in its `reset` or later; what was given adds up. An end
 * that is spoken to beyond its credit drops what it has no room for, as a receiver overruns.
 *
 * A controller whose message finds nobody on a line has nobody to send to: what it sends is gone, at its own pace.
 *
 * How fast characters pass is the sender's own timer, or nobody's: a link takes no time. Modem control lines (RTS, CTS,
 * DTR, DCD) are pins. */

/* The name in descriptors. */
#define REPRISE_STREAM_PROTOCOL "stream/1"

/* First byte of characters, at least one, which follow. Each takes one of the credit. */
#define REPRISE_STREAM_DATA 0u

/* First byte of credit: there is room for so many characters more, in 32 bits, little-endian. */
#define REPRISE_STREAM_CREDIT 1u

/* First byte of a damaged character; then what was received of it, and 0 for wrong parity, 1 for a missing stop bit.
 * Takes one of the credit. */
#define REPRISE_STREAM_FAULTY 2u

/* All of a break: the line is held low for longer than a character. */
#define REPRISE_STREAM_BREAK 3u

/* First byte of a format; then bits per second in 32 bits, little-endian, data bits (5 to 8), parity (0 none, 1 odd,
 * 2 even, 3 mark, 4 space), and half bits of stop (2 to 4). */
#define REPRISE_STREAM_FORMAT 4u

#if defined(__cplusplus) && __cplusplus >= 201103L
#define REPRISE_SIZE_(type, size) static_assert(sizeof(type) == size, #type)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define REPRISE_SIZE_(type, size) _Static_assert(sizeof(type) == size, #type)
#endif
#ifdef REPRISE_SIZE_
REPRISE_SIZE_(RepriseIoRes, 16);
REPRISE_SIZE_(RepriseRamWindow, 32);
REPRISE_SIZE_(RepriseBlkInfo, 40);
REPRISE_SIZE_(RepriseBlkReq, 40);
REPRISE_SIZE_(RepriseCtx, 24);
REPRISE_SIZE_(RepriseHostVtbl, 192);
REPRISE_SIZE_(RepriseDevVtbl, 104);
REPRISE_SIZE_(RepriseDevHandle, 16);
REPRISE_SIZE_(ReprisePlugin, 48);
#undef REPRISE_SIZE_
#endif

/* What a plugin defines. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const ReprisePlugin *reprise_plugin_entry(void);

#ifdef __cplusplus
}
#endif

#endif
