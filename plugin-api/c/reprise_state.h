/*
 * reprise_state.h: writes and reads state records, for devices in C.
 *
 * A record is named, typed fields, so that snapshots can be compared field by field without the plugin:
 *
 *     record := u32 state_version, u32 count, count x field
 *     field  := u16 name_len, name, value
 *     value  := u8 kind, u32 len, len bytes
 *
 * All integers are little-endian. Kind 0 is raw bytes, 1 an unsigned and 2 a signed integer of 1, 2, 4 or 8 bytes, 3 a
 * boolean, 4 UTF-8 text, 5 a sequence (u32 count, count x value), 6 a nested record (u32 count, count x field).
 *
 * To save, write everything in an order of your own and give it to the host at once:
 *
 *     RepriseWriter w;
 *     reprise_write_begin(&w, STATE_VERSION);
 *     reprise_write_uint(&w, "period_us", device->period_us, 4);
 *     return reprise_write_end(&w, sink, put);
 *
 * To load, read every field by its name. The first thing that is wrong is kept, and everything after it reads as zero;
 * a record may come from anywhere, so nothing of it is used before `reprise_read_end` has said that all was well:
 *
 *     RepriseReader r;
 *     reprise_read_begin(&r, data, len, STATE_VERSION);
 *     new.period_us = (uint32_t)reprise_read_uint(&r, "period_us", UINT32_MAX);
 *     if (reprise_read_end(&r, sink, put)) return 1;
 *     *device = new;
 *
 * Include it in one file of the plugin. It needs the C library for memory and strings, no more.
 */
#ifndef REPRISE_STATE_H
#define REPRISE_STATE_H

#include "reprise_plugin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define REPRISE_MAY_BE_UNUSED __attribute__((unused))
#else
#define REPRISE_MAY_BE_UNUSED
#endif

enum {
  REPRISE_KIND_BYTES,
  REPRISE_KIND_UINT,
  REPRISE_KIND_INT,
  REPRISE_KIND_BOOL,
  REPRISE_KIND_TEXT,
  REPRISE_KIND_SEQ,
  REPRISE_KIND_RECORD
};

/* ---------------------------------------------------------------------------------------------------- writing */

/* How deep sequences and records may nest. */
#define REPRISE_MAX_DEPTH 16

typedef struct RepriseWriter {
  uint8_t *bytes;
  size_t len, room;
  /* Where the counts and lengths of what is open are; the record itself is the first. */
  size_t count_at[REPRISE_MAX_DEPTH + 1], len_at[REPRISE_MAX_DEPTH + 1];
  int depth;
  /* Ran out of memory, or nested too deep: the record is of no use. */
  int failed;
} RepriseWriter;

static REPRISE_MAY_BE_UNUSED void reprise_put(RepriseWriter *w, const void *data, size_t len) {
  if (!w->failed && w->len + len > w->room) {
    size_t room = 2 * (w->len + len) + 256;
    uint8_t *bytes = (uint8_t *)realloc(w->bytes, room);
    w->failed = !bytes;
    if (bytes) w->bytes = bytes, w->room = room;
  }
  if (w->failed || !len) return;
  memcpy(w->bytes + w->len, data, len);
  w->len += len;
}

/* The lowest `width` bytes of `value`. */
static REPRISE_MAY_BE_UNUSED void reprise_put_le(RepriseWriter *w, uint64_t value, size_t width) {
  uint8_t le[8];
  for (size_t i = 0; i < 8; i++) le[i] = (uint8_t)(value >> 8 * i);
  reprise_put(w, le, width);
}

static REPRISE_MAY_BE_UNUSED void reprise_patch32(RepriseWriter *w, size_t at, size_t value) {
  if (w->failed) return;
  for (size_t i = 0; i < 4; i++) w->bytes[at + i] = (uint8_t)(value >> 8 * i);
}

static REPRISE_MAY_BE_UNUSED void reprise_write_begin(RepriseWriter *w, uint32_t state_version) {
  memset(w, 0, sizeof *w);
  reprise_put_le(w, state_version, 4);
  w->count_at[0] = w->len;
  reprise_put_le(w, 0, 4);
}

/* The head of the next field, or of the next element if `name` is NULL: inside a sequence. */
static REPRISE_MAY_BE_UNUSED void reprise_put_head(RepriseWriter *w, const char *name, uint8_t kind, size_t len) {
  if (w->failed) return;
  size_t at = w->count_at[w->depth], count = 0;
  for (size_t i = 0; i < 4; i++) count |= (size_t)w->bytes[at + i] << 8 * i;
  reprise_patch32(w, at, count + 1);
  if (name) {
    reprise_put_le(w, strlen(name), 2);
    reprise_put(w, name, strlen(name));
  }
  reprise_put(w, &kind, 1);
  reprise_put_le(w, len, 4);
}

static REPRISE_MAY_BE_UNUSED void reprise_write_bytes(RepriseWriter *w, const char *name, const void *data,
                                                      size_t len) {
  reprise_put_head(w, name, REPRISE_KIND_BYTES, len);
  reprise_put(w, data, len);
}

/* `width`: 1, 2, 4 or 8 bytes. */
static REPRISE_MAY_BE_UNUSED void reprise_write_uint(RepriseWriter *w, const char *name, uint64_t value,
                                                     size_t width) {
  reprise_put_head(w, name, REPRISE_KIND_UINT, width);
  reprise_put_le(w, value, width);
}

static REPRISE_MAY_BE_UNUSED void reprise_write_int(RepriseWriter *w, const char *name, int64_t value,
                                                    size_t width) {
  reprise_put_head(w, name, REPRISE_KIND_INT, width);
  reprise_put_le(w, (uint64_t)value, width);
}

static REPRISE_MAY_BE_UNUSED void reprise_write_bool(RepriseWriter *w, const char *name, int value) {
  reprise_put_head(w, name, REPRISE_KIND_BOOL, 1);
  reprise_put_le(w, value != 0, 1);
}

static REPRISE_MAY_BE_UNUSED void reprise_write_text(RepriseWriter *w, const char *name, const char *text) {
  reprise_put_head(w, name, REPRISE_KIND_TEXT, strlen(text));
  reprise_put(w, text, strlen(text));
}

/* A sequence (REPRISE_KIND_SEQ), whose elements are then written with NULL as name, or a nested record
 * (REPRISE_KIND_RECORD), until `reprise_write_close`. */
static REPRISE_MAY_BE_UNUSED void reprise_write_open(RepriseWriter *w, const char *name, uint8_t kind) {
  reprise_put_head(w, name, kind, 0);
  w->failed |= w->depth == REPRISE_MAX_DEPTH;
  if (w->failed) return;
  w->depth++;
  w->len_at[w->depth] = w->len - 4;
  w->count_at[w->depth] = w->len;
  reprise_put_le(w, 0, 4);
}

static REPRISE_MAY_BE_UNUSED void reprise_write_close(RepriseWriter *w) {
  if (w->failed) return;
  size_t at = w->len_at[w->depth];
  reprise_patch32(w, at, w->len - at - 4);
  w->depth--;
}

/* Gives the record to the host; what `RepriseDevVtbl.save` returns. */
static REPRISE_MAY_BE_UNUSED uint64_t reprise_write_end(RepriseWriter *w, void *sink, RepriseSink *put) {
  static const char text[] = "no memory for the state";
  int failed = w->failed || w->depth;
  if (failed) put(sink, (const uint8_t *)text, sizeof text - 1);
  else put(sink, w->bytes, w->len);
  free(w->bytes);
  return failed ? REPRISE_STATUS_PANIC : REPRISE_IO_OK;
}

/* ---------------------------------------------------------------------------------------------------- reading */

typedef struct RepriseReader {
  const uint8_t *at;  /* the first of its fields or elements */
  const uint8_t *end; /* behind the last */
  uint32_t count, taken, version;
  int depth;
  /* The first thing that is wrong; empty: nothing. An inner reader has its own, until it is closed. */
  char error[160];
} RepriseReader;

static REPRISE_MAY_BE_UNUSED void reprise_read_fail(RepriseReader *r, const char *format, ...) {
  va_list args;
  if (r->error[0]) return;
  va_start(args, format);
  vsnprintf(r->error, sizeof r->error, format, args);
  va_end(args);
}

static REPRISE_MAY_BE_UNUSED uint64_t reprise_get_le(const uint8_t *at, size_t width) {
  uint64_t value = 0;
  for (size_t i = 0; i < width; i++) value |= (uint64_t)at[i] << 8 * i;
  return value;
}

/* One field or element at `*at`: its name (of no length in a sequence), kind, and content. 0 if it is not whole. */
typedef struct RepriseValue {
  const uint8_t *name, *bytes;
  size_t name_len, len;
  uint8_t kind;
} RepriseValue;

static REPRISE_MAY_BE_UNUSED int reprise_next(const uint8_t **at, const uint8_t *end, int named, RepriseValue *v) {
  const uint8_t *p = *at;
  memset(v, 0, sizeof *v);
  if (named) {
    if (end - p < 2) return 0;
    v->name_len = (size_t)reprise_get_le(p, 2);
    p += 2;
    if ((size_t)(end - p) < v->name_len) return 0;
    v->name = p;
    p += v->name_len;
  }
  if (end - p < 5) return 0;
  v->kind = p[0];
  v->len = (size_t)reprise_get_le(p + 1, 4);
  p += 5;
  if ((size_t)(end - p) < v->len) return 0;
  v->bytes = p;
  *at = p + v->len;
  return 1;
}

/* Most fields of one record: each is compared with each, and a record may come from anywhere. */
#define REPRISE_MAX_FIELDS 4096

/* Looks at everything once, so that what follows only has to find it. */
static REPRISE_MAY_BE_UNUSED void reprise_read_check(RepriseReader *r, int named) {
  const uint8_t *at = r->at;
  RepriseValue v, other;
  if (named && r->count > REPRISE_MAX_FIELDS) {
    reprise_read_fail(r, "more fields than any device has");
    return;
  }
  for (uint32_t i = 0; i < r->count; i++) {
    const uint8_t *before = r->at;
    if (!reprise_next(&at, r->end, named, &v)) {
      reprise_read_fail(r, "the data ends in the middle of a value");
      return;
    }
    for (uint32_t j = 0; named && j < i; j++) {
      if (!reprise_next(&before, r->end, named, &other)) return;
      if (other.name_len == v.name_len && !memcmp(other.name, v.name, v.name_len)) {
        reprise_read_fail(r, "field `%.*s`: there twice", (int)(v.name_len < 64 ? v.name_len : 64),
                          (const char *)v.name);
        return;
      }
    }
  }
  if (at != r->end) reprise_read_fail(r, "bytes follow the end");
}

/* A record of `state_version` or an older one; `r->version` says which. */
static REPRISE_MAY_BE_UNUSED void reprise_read_begin(RepriseReader *r, const uint8_t *data, uint64_t len,
                                                     uint32_t state_version) {
  memset(r, 0, sizeof *r);
  if (len < 8) {
    reprise_read_fail(r, "the data ends in the middle of a value");
    return;
  }
  r->version = (uint32_t)reprise_get_le(data, 4);
  r->count = (uint32_t)reprise_get_le(data + 4, 4);
  r->at = data + 8;
  r->end = data + len;
  if (r->version > state_version)
    reprise_read_fail(r, "state version %u is newer than %u, the newest this device knows", (unsigned)r->version,
                      (unsigned)state_version);
  else reprise_read_check(r, 1);
}

/* The field, or the next element if `name` is NULL. */
static REPRISE_MAY_BE_UNUSED RepriseValue reprise_read_value(RepriseReader *r, const char *name, uint8_t kind) {
  RepriseValue v;
  const uint8_t *at = r->at;
  memset(&v, 0, sizeof v);
  if (r->error[0]) return v;
  if (!name) {
    if (r->taken == r->count) reprise_read_fail(r, "too few elements");
    else if (reprise_next(&r->at, r->end, 0, &v)) r->taken++;
  } else {
    uint32_t i = 0;
    for (; i < r->count && reprise_next(&at, r->end, 1, &v); i++)
      if (v.name_len == strlen(name) && !memcmp(v.name, name, v.name_len)) break;
    if (i == r->count) reprise_read_fail(r, "field `%s`: missing", name);
    r->taken++;
  }
  if (!r->error[0] && v.kind != kind)
    reprise_read_fail(r, "field `%s`: expected kind %u, found %u", name ? name : "[]", kind, v.kind);
  if (r->error[0]) memset(&v, 0, sizeof v);
  return v;
}

static REPRISE_MAY_BE_UNUSED int reprise_is_width(size_t len) {
  return len == 1 || len == 2 || len == 4 || len == 8;
}

/* Up to `max`. */
static REPRISE_MAY_BE_UNUSED uint64_t reprise_read_uint(RepriseReader *r, const char *name, uint64_t max) {
  RepriseValue v = reprise_read_value(r, name, REPRISE_KIND_UINT);
  uint64_t value;
  if (r->error[0]) return 0;
  value = reprise_is_width(v.len) ? reprise_get_le(v.bytes, v.len) : 0;
  if (!reprise_is_width(v.len) || value > max) reprise_read_fail(r, "field `%s`: out of range", name ? name : "[]");
  return r->error[0] ? 0 : value;
}

static REPRISE_MAY_BE_UNUSED int64_t reprise_read_int(RepriseReader *r, const char *name, int64_t min, int64_t max) {
  RepriseValue v = reprise_read_value(r, name, REPRISE_KIND_INT);
  uint64_t value;
  int64_t wide;
  if (r->error[0]) return 0;
  value = reprise_is_width(v.len) ? reprise_get_le(v.bytes, v.len) : 0;
  if (reprise_is_width(v.len) && v.len < 8 && value >> (8 * v.len - 1)) value |= ~(uint64_t)0 << 8 * v.len;
  memcpy(&wide, &value, sizeof wide);
  if (!reprise_is_width(v.len) || wide < min || wide > max)
    reprise_read_fail(r, "field `%s`: out of range", name ? name : "[]");
  return r->error[0] ? 0 : wide;
}

static REPRISE_MAY_BE_UNUSED int reprise_read_bool(RepriseReader *r, const char *name) {
  RepriseValue v = reprise_read_value(r, name, REPRISE_KIND_BOOL);
  if (!r->error[0] && (v.len != 1 || v.bytes[0] > 1))
    reprise_read_fail(r, "field `%s`: not a boolean", name ? name : "[]");
  return r->error[0] ? 0 : v.bytes[0];
}

/* Up to `room` bytes; how many there are. */
static REPRISE_MAY_BE_UNUSED size_t reprise_read_bytes(RepriseReader *r, const char *name, void *into, size_t room) {
  RepriseValue v = reprise_read_value(r, name, REPRISE_KIND_BYTES);
  if (!r->error[0] && v.len > room)
    reprise_read_fail(r, "field `%s`: %zu bytes, there is room for %zu", name ? name : "[]", v.len, room);
  if (r->error[0] || !v.len) return 0;
  memcpy(into, v.bytes, v.len);
  return v.len;
}

/* Which of `count` texts it is. */
static REPRISE_MAY_BE_UNUSED size_t reprise_read_choice(RepriseReader *r, const char *name, const char *const *texts,
                                                        size_t count) {
  RepriseValue v = reprise_read_value(r, name, REPRISE_KIND_TEXT);
  if (r->error[0]) return 0;
  for (size_t i = 0; i < count; i++)
    if (strlen(texts[i]) == v.len && !memcmp(texts[i], v.bytes, v.len)) return i;
  reprise_read_fail(r, "field `%s`: unknown variant", name ? name : "[]");
  return 0;
}

/* For a field that is younger than the record, which therefore lacks it: one that is there all the same is passed over,
 * as devices in Rust do. */
static REPRISE_MAY_BE_UNUSED void reprise_read_skip(RepriseReader *r, const char *name) {
  RepriseValue v;
  const uint8_t *at = r->at;
  if (r->error[0]) return;
  for (uint32_t i = 0; i < r->count && reprise_next(&at, r->end, 1, &v); i++)
    if (v.name_len == strlen(name) && !memcmp(v.name, name, v.name_len)) r->taken++;
}

/* Into `inner`, what is inside a sequence (elements are then read with NULL as name) or a nested record, until
 * `reprise_read_close`. */
static REPRISE_MAY_BE_UNUSED void reprise_read_open(RepriseReader *r, const char *name, uint8_t kind,
                                                    RepriseReader *inner) {
  RepriseValue v = reprise_read_value(r, name, kind);
  memset(inner, 0, sizeof *inner);
  memcpy(inner->error, r->error, sizeof inner->error);
  inner->version = r->version;
  inner->depth = r->depth + 1;
  if (!inner->error[0] && inner->depth > REPRISE_MAX_DEPTH) reprise_read_fail(inner, "nested too deep");
  if (!inner->error[0] && v.len < 4) reprise_read_fail(inner, "the data ends in the middle of a value");
  if (inner->error[0]) return;
  inner->count = (uint32_t)reprise_get_le(v.bytes, 4);
  inner->at = v.bytes + 4;
  inner->end = v.bytes + v.len;
  reprise_read_check(inner, kind == REPRISE_KIND_RECORD);
}

/* Every field and element must have been read: one that nobody asked for is one that this device does not know. */
static REPRISE_MAY_BE_UNUSED void reprise_read_close(RepriseReader *r, RepriseReader *inner) {
  if (inner->taken != inner->count) reprise_read_fail(inner, "unknown fields, or too many elements");
  if (inner->error[0] && !r->error[0]) memcpy(r->error, inner->error, sizeof r->error);
}

/* 0, or 1 and the reason given to `put`: what `RepriseDevVtbl.load` returns. */
static REPRISE_MAY_BE_UNUSED uint64_t reprise_read_end(RepriseReader *r, void *sink, RepriseSink *put) {
  if (r->taken != r->count) reprise_read_fail(r, "unknown fields");
  if (!r->error[0]) return 0;
  put(sink, (const uint8_t *)r->error, strlen(r->error));
  return 1;
}

#endif
