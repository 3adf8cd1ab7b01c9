/*
 * `metronome` in C: the device of tests/plugins/metronome, register by register and field by field, so that a run with
 * one of them has the same digests as a run with the other. Also what a device in C looks like.
 *
 *     cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I../../../plugin-api/c \
 *        -o libreprise_plugin_metronome.so metronome.c
 */
#include "reprise_state.h"

enum { PERIOD = 0x00, BEATS = 0x04, STATUS = 0x08, TARGET = 0x10, VOICE = 0x18, DICE = 0x1c, CLOCK = 0x20 };
enum { SCORE = 0x28 };

/* Ids are indices in the descriptor. */
enum { IN_MUTE = 0 };
enum { OUT_IRQ = 0, OUT_CLICK = 1 };
enum { TIMER_BEAT = 0 };
enum { BH_STORE = 0, BH_SAY = 1 };
enum { PORT_SOUND = 0 };

enum { EAR = 8, SCORES = 4, HURRY_US = 20, STATE_VERSION = 3 };

enum { CALM, HURRIED, MOODS };
static const char *const moods[MOODS] = {"Calm", "Hurried"};

static const char descriptor[] =
    "{\"kind\":\"metronome\",\"summary\":\"beats time, for tests of the plugin ABI\",\"version\":\"0.1.0\","
    "\"state_version\":3,"
    "\"regions\":[{\"name\":\"regs\",\"size\":64,\"access\":12}],"
    "\"inputs\":[{\"name\":\"mute\"}],\"outputs\":[{\"name\":\"irq\"},{\"name\":\"click\"}],"
    "\"timers\":[\"beat\"],\"bottom_halves\":[{\"name\":\"store\"},{\"name\":\"say\"}],"
    "\"ports\":[{\"name\":\"sound\",\"kind\":\"chr\"}],"
    "\"schema\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"limit\":{"
    "\"description\":\"It stops after so many beats.\",\"type\":\"integer\",\"default\":1000,"
    "\"minimum\":1,\"maximum\":4294967295}},\"required\":[]},"
    "\"state\":{\"fields\":["
    "{\"name\":\"period_us\",\"type\":{\"kind\":\"uint\",\"bits\":32}},"
    "{\"name\":\"beats\",\"type\":{\"kind\":\"uint\",\"bits\":32}},"
    "{\"name\":\"pending\",\"type\":{\"kind\":\"bool\"}},"
    "{\"name\":\"muted\",\"type\":{\"kind\":\"bool\"}},"
    "{\"name\":\"click\",\"type\":{\"kind\":\"bool\"}},"
    "{\"name\":\"target\",\"type\":{\"kind\":\"uint\",\"bits\":64}},"
    "{\"name\":\"heard\",\"type\":{\"kind\":\"bytes\"}},"
    "{\"name\":\"score\",\"type\":{\"kind\":\"seq\",\"len\":4,\"items\":[{\"kind\":\"uint\",\"bits\":16}]}},"
    "{\"name\":\"mood\",\"type\":{\"kind\":\"text\",\"variants\":[\"Calm\",\"Hurried\"]}},"
    "{\"name\":\"silence\",\"type\":{\"kind\":\"record\",\"fields\":["
    "{\"name\":\"beats\",\"type\":{\"kind\":\"uint\",\"bits\":64}},"
    "{\"name\":\"balance\",\"type\":{\"kind\":\"int\",\"bits\":32}}]}},"
    "{\"name\":\"refused\",\"type\":{\"kind\":\"uint\",\"bits\":8},\"since\":2,\"default\":\"0\"},"
    "{\"name\":\"last_at_ns\",\"type\":{\"kind\":\"seq\",\"max\":1,\"items\":[{\"kind\":\"uint\",\"bits\":64}]},"
    "\"since\":3,\"default\":\"None\"}]}}";

typedef struct Metronome {
  /* Configuration: not saved. */
  uint32_t limit;
  /* State. */
  uint32_t period_us, beats;
  int pending, muted, click;
  uint64_t target;
  uint8_t heard[EAR];
  size_t heard_len;
  uint16_t score[SCORES];
  size_t mood;
  uint64_t silent_beats;
  int32_t balance;
  uint8_t refused;
  int has_beaten;
  uint64_t last_at_ns;
} Metronome;

/* Computed from the state whenever that may have changed: levels, not edges. */
static void drive(const Metronome *m, RepriseCtx *cx) {
  cx->vtbl->set_pin(cx->host, OUT_IRQ, (uint32_t)m->pending);
  cx->vtbl->set_pin(cx->host, OUT_CLICK, (uint32_t)m->click);
}

static void listen(Metronome *m, RepriseCtx *cx) {
  while (m->heard_len < EAR && cx->vtbl->port_read(cx->host, PORT_SOUND, &m->heard[m->heard_len], 1) == 1)
    m->heard_len++;
}

static void arm(const Metronome *m, RepriseCtx *cx) {
  if (m->period_us) cx->vtbl->timer_arm(cx->host, TIMER_BEAT, cx->now_ns + (uint64_t)m->period_us * 1000);
  else cx->vtbl->timer_cancel(cx->host, TIMER_BEAT);
}

static RepriseIoRes done(uint64_t value) {
  RepriseIoRes res = {value, REPRISE_IO_OK};
  return res;
}

static RepriseIoRes fault(void) {
  RepriseIoRes res = {0, REPRISE_IO_FAULT};
  return res;
}

static uint64_t read_voice(Metronome *m, RepriseCtx *cx) {
  uint64_t byte = 0xffffffff;
  if (m->heard_len) {
    byte = m->heard[0];
    memmove(m->heard, m->heard + 1, --m->heard_len);
  }
  listen(m, cx);
  return byte;
}

static RepriseIoRes mmio_read(void *dev, RepriseCtx *cx, uint32_t region, uint64_t offset, uint32_t size) {
  Metronome *m = dev;
  uint8_t dice[4];
  (void)region;
  if (size == 8) {
    if (offset == TARGET) return done(m->target);
    if (offset == CLOCK) return done(cx->vtbl->host_clock_ns(cx->host) / 1000000000);
    return fault();
  }
  switch (offset) {
  case PERIOD: return done(m->period_us);
  case BEATS: return done(m->beats);
  case STATUS: return done((uint64_t)m->pending | (uint64_t)m->muted << 1);
  case VOICE: return done(read_voice(m, cx));
  case DICE:
    cx->vtbl->random(cx->host, dice, sizeof dice);
    return done(reprise_get_le(dice, sizeof dice));
  default: return fault();
  }
}

static RepriseIoRes mmio_write(void *dev, RepriseCtx *cx, uint32_t region, uint64_t offset, uint32_t size,
                               uint64_t value) {
  static const char nothing[] = "a score of nothing";
  Metronome *m = dev;
  uint8_t byte = (uint8_t)value;
  (void)region;
  if (size == 8) {
    if (offset != TARGET) return fault();
    m->target = value;
    return done(0);
  }
  switch (offset) {
  case PERIOD:
    m->period_us = (uint32_t)value;
    m->mood = m->period_us && m->period_us < HURRY_US ? HURRIED : CALM;
    arm(m, cx);
    break;
  case STATUS:
    if (value & 1) m->pending = 0;
    drive(m, cx);
    break;
  case VOICE: cx->vtbl->bh_oneshot(cx->host, BH_SAY, &byte, 1); break;
  case SCORE:
    if (value == 0) {
      m->refused++;
      cx->vtbl->log(cx->host, 1, (const uint8_t *)nothing, sizeof nothing - 1);
      break;
    }
    memmove(m->score, m->score + 1, sizeof m->score - sizeof m->score[0]);
    m->score[SCORES - 1] = (uint16_t)value;
    break;
  default: return fault();
  }
  return done(0);
}

static uint64_t on_timer(void *dev, RepriseCtx *cx, uint32_t timer) {
  Metronome *m = dev;
  (void)timer;
  m->beats++;
  m->has_beaten = 1;
  m->last_at_ns = cx->now_ns;
  if (m->muted) {
    m->silent_beats++;
  } else {
    m->balance = (int32_t)((uint32_t)m->balance - 1);
    m->pending = 1;
  }
  m->click = !m->click;
  drive(m, cx);
  cx->vtbl->bh_schedule(cx->host, BH_STORE);
  if (m->beats < m->limit) arm(m, cx);
  return REPRISE_IO_OK;
}

static uint64_t on_bh(void *dev, RepriseCtx *cx, uint32_t bh, const uint8_t *data, uint64_t len) {
  Metronome *m = dev;
  uint8_t beats[8] = {0};
  if (bh == BH_SAY && data) {
    cx->vtbl->port_write(cx->host, PORT_SOUND, data, len);
  } else if (m->target) {
    for (int i = 0; i < 4; i++) beats[i] = (uint8_t)(m->beats >> 8 * i);
    if (cx->vtbl->dma_write(cx->host, m->target, beats, sizeof beats) != REPRISE_DMA_OK) m->refused++;
  }
  return REPRISE_IO_OK;
}

static uint64_t on_pin(void *dev, RepriseCtx *cx, uint32_t pin, uint32_t level) {
  (void)cx;
  if (pin == IN_MUTE) ((Metronome *)dev)->muted = level != 0;
  return REPRISE_IO_OK;
}

static uint64_t on_port(void *dev, RepriseCtx *cx, uint32_t port, uint32_t event) {
  (void)port;
  if (event == REPRISE_PORT_READABLE) listen(dev, cx);
  return REPRISE_IO_OK;
}

static uint64_t on_blk(void *dev, RepriseCtx *cx, uint32_t port, uint64_t token, uint32_t status,
                       const uint8_t *data, uint64_t len) {
  (void)dev, (void)cx, (void)port, (void)token, (void)status, (void)data, (void)len;
  return REPRISE_IO_OK;
}

static uint64_t reset(void *dev, RepriseCtx *cx, uint32_t kind) {
  Metronome *m = dev;
  /* The level of an input is its wire's: only changes are told. */
  Metronome new = {.limit = m->limit, .muted = m->muted};
  (void)kind;
  *m = new;
  drive(m, cx);
  return REPRISE_IO_OK;
}

static uint64_t save(void *dev, void *sink, RepriseSink *put) {
  const Metronome *m = dev;
  RepriseWriter w;
  reprise_write_begin(&w, STATE_VERSION);
  reprise_write_uint(&w, "period_us", m->period_us, 4);
  reprise_write_uint(&w, "beats", m->beats, 4);
  reprise_write_bool(&w, "pending", m->pending);
  reprise_write_bool(&w, "muted", m->muted);
  reprise_write_bool(&w, "click", m->click);
  reprise_write_uint(&w, "target", m->target, 8);
  reprise_write_bytes(&w, "heard", m->heard, m->heard_len);
  reprise_write_open(&w, "score", REPRISE_KIND_SEQ);
  for (int i = 0; i < SCORES; i++) reprise_write_uint(&w, NULL, m->score[i], 2);
  reprise_write_close(&w);
  reprise_write_text(&w, "mood", moods[m->mood]);
  reprise_write_open(&w, "silence", REPRISE_KIND_RECORD);
  reprise_write_uint(&w, "beats", m->silent_beats, 8);
  reprise_write_int(&w, "balance", m->balance, 4);
  reprise_write_close(&w);
  reprise_write_uint(&w, "refused", m->refused, 1);
  reprise_write_open(&w, "last_at_ns", REPRISE_KIND_SEQ);
  if (m->has_beaten) reprise_write_uint(&w, NULL, m->last_at_ns, 8);
  reprise_write_close(&w);
  return reprise_write_end(&w, sink, put);
}

static uint64_t load(void *dev, const uint8_t *data, uint64_t len, void *sink, RepriseSink *put) {
  Metronome *m = dev, new = {.limit = m->limit};
  RepriseReader r, inner;
  reprise_read_begin(&r, data, len, STATE_VERSION);
  new.period_us = (uint32_t)reprise_read_uint(&r, "period_us", UINT32_MAX);
  new.beats = (uint32_t)reprise_read_uint(&r, "beats", UINT32_MAX);
  new.pending = reprise_read_bool(&r, "pending");
  new.muted = reprise_read_bool(&r, "muted");
  new.click = reprise_read_bool(&r, "click");
  new.target = reprise_read_uint(&r, "target", UINT64_MAX);
  new.heard_len = reprise_read_bytes(&r, "heard", new.heard, EAR);
  reprise_read_open(&r, "score", REPRISE_KIND_SEQ, &inner);
  for (int i = 0; i < SCORES; i++) new.score[i] = (uint16_t)reprise_read_uint(&inner, NULL, UINT16_MAX);
  reprise_read_close(&r, &inner);
  new.mood = reprise_read_choice(&r, "mood", moods, MOODS);
  reprise_read_open(&r, "silence", REPRISE_KIND_RECORD, &inner);
  new.silent_beats = reprise_read_uint(&inner, "beats", UINT64_MAX);
  new.balance = (int32_t)reprise_read_int(&inner, "balance", INT32_MIN, INT32_MAX);
  reprise_read_close(&r, &inner);
  if (r.version >= 2) new.refused = (uint8_t)reprise_read_uint(&r, "refused", UINT8_MAX);
  else reprise_read_skip(&r, "refused");
  if (r.version >= 3) {
    reprise_read_open(&r, "last_at_ns", REPRISE_KIND_SEQ, &inner);
    new.has_beaten = inner.count != 0;
    if (new.has_beaten) new.last_at_ns = reprise_read_uint(&inner, NULL, UINT64_MAX);
    reprise_read_close(&r, &inner);
  } else {
    reprise_read_skip(&r, "last_at_ns");
  }
  if (reprise_read_end(&r, sink, put)) return 1;
  *m = new;
  return 0;
}

static void drop(void *dev) { free(dev); }

static const RepriseDevVtbl table = {
    sizeof table, mmio_read, mmio_write, on_timer, on_bh, on_pin, on_port, on_blk, reset, save, load, drop, NULL,
};

static uint64_t say(void *sink, RepriseSink *put, const char *text, uint64_t status) {
  put(sink, (const uint8_t *)text, strlen(text));
  return status;
}

static const char *skip_space(const char *at) { return at + strspn(at, " \t\r\n"); }

/* What is wrong with an option, as JSON. `name` has no quotes in it, as it was between two. */
static uint64_t refuse(void *sink, RepriseSink *put, const char *name, size_t len, const char *message) {
  say(sink, put, "{\"path\":\"", 0);
  put(sink, (const uint8_t *)name, len);
  say(sink, put, "\",\"message\":\"", 0);
  say(sink, put, message, 0);
  return say(sink, put, "\"}", 1);
}

/* Options, of which there is one: `{"limit": N}`. 0, or 1 and what is wrong is told. */
static uint64_t parse(const char *json, uint32_t *limit, void *sink, RepriseSink *put) {
  const char *at = skip_space(json);
  *limit = 1000;
  if (*at++ != '{') return refuse(sink, put, "", 0, "not a table");
  for (at = skip_space(at); *at == '"'; at = skip_space(at)) {
    const char *name = at + 1;
    size_t len = strcspn(name, "\"\\");
    unsigned long long value = 0;
    char *end = NULL;
    if (name[len] != '"' || len != 5 || strncmp(name, "limit", len))
      return refuse(sink, put, name, len, "unknown option: there is only limit");
    at = skip_space(name + len + 1);
    if (*at == ':') at = skip_space(at + 1);
    if (*at >= '0' && *at <= '9') value = strtoull(at, &end, 10);
    if (value < 1 || value > UINT32_MAX || !strchr(" \t\r\n,}", *end))
      return refuse(sink, put, name, len, "not an integer from 1 to 4294967295");
    *limit = (uint32_t)value;
    at = skip_space(end);
    if (*at == ',') at++;
  }
  return *at == '}' ? 0 : refuse(sink, put, "", 0, "not a table");
}

static uint64_t describe(void *sink, RepriseSink *put) {
  say(sink, put, "[", 0);
  say(sink, put, descriptor, 0);
  return say(sink, put, "]", 0);
}

static uint64_t describe_with(const char *kind, const char *config_json, void *sink, RepriseSink *put) {
  uint32_t limit;
  if (strcmp(kind, "metronome")) return say(sink, put, "{\"message\":\"the plugin has only metronome\"}", 1);
  return parse(config_json, &limit, sink, put) ? 1 : say(sink, put, descriptor, 0);
}

static uint64_t create(const char *kind, const char *config_json, RepriseDevHandle *out, void *sink,
                       RepriseSink *put) {
  Metronome *m;
  uint32_t limit;
  if (strcmp(kind, "metronome")) return describe_with(kind, config_json, sink, put);
  if (parse(config_json, &limit, sink, put)) return 1;
  m = calloc(1, sizeof *m);
  if (!m) return say(sink, put, "{\"message\":\"no memory\"}", 1);
  m->limit = limit;
  out->dev = m;
  out->vtbl = &table;
  return say(sink, put, descriptor, 0);
}

const ReprisePlugin *reprise_plugin_entry(void) {
  static const ReprisePlugin plugin = {
      sizeof plugin, REPRISE_ABI_MAJOR, REPRISE_ABI_MINOR, "C header 1.2", describe, describe_with, create,
  };
  return &plugin;
}
