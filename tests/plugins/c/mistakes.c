/*
 * A plugin whose tables are not whole: one mistake for each value of MISTAKE. 0: none.
 */
#include "reprise_state.h"

#define DESC "{\"kind\":\"mistakes\",\"regions\":[{\"name\":\"regs\",\"size\":4,\"access\":4}]}"
#define LINK "{\"kind\":\"mistakes\",\"links\":[{\"name\":\"bus\",\"protocol\":\"i2c/1\",\"addresses\":1}]}"

static RepriseIoRes mmio_read(void *dev, RepriseCtx *cx, uint32_t region, uint64_t offset, uint32_t size) {
  RepriseIoRes res = {0, REPRISE_IO_OK};
  (void)dev, (void)cx, (void)region, (void)offset, (void)size;
  return res;
}

static RepriseIoRes mmio_write(void *dev, RepriseCtx *cx, uint32_t region, uint64_t offset, uint32_t size,
                               uint64_t value) {
  (void)value;
  return mmio_read(dev, cx, region, offset, size);
}

static uint64_t on_id(void *dev, RepriseCtx *cx, uint32_t id) {
  (void)dev, (void)cx, (void)id;
  return REPRISE_IO_OK;
}

static uint64_t on_id_and_value(void *dev, RepriseCtx *cx, uint32_t id, uint32_t value) {
  (void)value;
  return on_id(dev, cx, id);
}

static uint64_t on_bh(void *dev, RepriseCtx *cx, uint32_t bh, const uint8_t *data, uint64_t len) {
  (void)data, (void)len;
  return on_id(dev, cx, bh);
}

static uint64_t on_blk(void *dev, RepriseCtx *cx, uint32_t port, uint64_t token, uint32_t status,
                       const uint8_t *data, uint64_t len) {
  (void)token, (void)status, (void)data, (void)len;
  return on_id(dev, cx, port);
}

static uint64_t save(void *dev, void *sink, RepriseSink *put) {
  RepriseWriter w;
  (void)dev;
  reprise_write_begin(&w, 1);
  return reprise_write_end(&w, sink, put);
}

static uint64_t load(void *dev, const uint8_t *data, uint64_t len, void *sink, RepriseSink *put) {
  RepriseReader r;
  (void)dev;
  reprise_read_begin(&r, data, len, 1);
  return reprise_read_end(&r, sink, put);
}

static void drop(void *dev) { (void)dev; }

static const RepriseDevVtbl table = {
#if MISTAKE == 1
    40,
#else
    sizeof table,
#endif
    mmio_read,
    mmio_write,
#if MISTAKE == 2
    NULL,
#else
    on_id,
#endif
    on_bh, on_id_and_value, on_id_and_value, on_blk, on_id, save, load,
#if MISTAKE == 3
    NULL,
#else
    drop,
#endif
    NULL,
};

static uint64_t say(void *sink, RepriseSink *put, const char *text, uint64_t status) {
  put(sink, (const uint8_t *)text, strlen(text));
  return status;
}

static uint64_t describe(void *sink, RepriseSink *put) {
#if MISTAKE == 4
  return say(sink, put, "[" DESC, 0);
#elif MISTAKE == 5
  return say(sink, put, "\xff", 0);
#elif MISTAKE == 6
  return say(sink, put, "{\"message\":\"not today\"}", 1);
#else
  return say(sink, put, "[" DESC "]", 0);
#endif
}

static uint64_t describe_with(const char *kind, const char *config_json, void *sink, RepriseSink *put) {
  (void)kind, (void)config_json;
  return say(sink, put, DESC, 0);
}

static uint64_t create(const char *kind, const char *config_json, RepriseDevHandle *out, void *sink,
                       RepriseSink *put) {
  static char device;
  (void)kind, (void)config_json;
#if MISTAKE == 7
  (void)device;
#elif MISTAKE == 8
  out->dev = &device;
#else
  out->dev = &device;
  out->vtbl = &table;
#endif
#if MISTAKE == 9
  return say(sink, put, LINK, 0);
#elif MISTAKE == 10
  return say(sink, put, "{\"path\":\"limit\",\"message\":\"too many\"}", 1);
#elif MISTAKE == 11
  return say(sink, put, "no JSON at all", 1);
#else
  (void)out;
  return say(sink, put, DESC, 0);
#endif
}

const ReprisePlugin *reprise_plugin_entry(void) {
#if MISTAKE == 12
  return NULL;
#else
  static const ReprisePlugin plugin = {
#if MISTAKE == 13
      40,
#else
      sizeof plugin,
#endif
      REPRISE_ABI_MAJOR + (MISTAKE == 14), REPRISE_ABI_MINOR + 5 * (MISTAKE == 15),
      MISTAKE == 16 ? NULL : "C header 1.2", MISTAKE == 17 ? NULL : describe, MISTAKE == 18 ? NULL : describe_with,
      MISTAKE == 19 ? NULL : create,
  };
  return &plugin;
#endif
}
