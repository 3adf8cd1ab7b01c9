#include "bare.h"
#include <stdarg.h>

u64 uart_base = UART_BASE;

static void put_char(char c) {
  while (!(read8(uart_base + 5) & 0x20)) { // LSR.THRE
  }
  write8(uart_base, c);
}

static void put_number(u64 v, unsigned base) {
  char digits[24];
  int n = 0;
  do digits[n++] = "0123456789abcdef"[v % base];
  while (v /= base);
  while (n) put_char(digits[--n]);
}

void print(const char *format, ...) {
  va_list args;
  va_start(args, format);
  for (const char *at = format; *at; at++) {
    if (*at != '%') {
      if (*at == '\n') put_char('\r');
      put_char(*at);
      continue;
    }
    switch (*++at) {
    case 's':
      for (const char *s = va_arg(args, const char *); *s; s++) put_char(*s);
      break;
    case 'u': put_number(va_arg(args, u64), 10); break;
    case 'x':
      put_char('0');
      put_char('x');
      put_number(va_arg(args, u64), 16);
      break;
    case 'c': put_char(va_arg(args, int)); break;
    }
  }
  va_end(args);
}

_Noreturn void finish(int code) {
  while (!(read8(uart_base + 5) & 0x40)) { // LSR.TEMT: the last character has left
  }
  write32(FINISHER_BASE, code ? 0x3333 | (u32)code << 16 : 0x5555);
  for (;;) wfi();
}

_Noreturn void die(const char *what, u64 a, u64 b, u64 c) {
  print("@F %s %x %x %x\n", what, a, b, c);
  finish(1);
}

void *memcpy(void *to, const void *from, size_t bytes) {
  u8 *t = to;
  const u8 *f = from;
  while (bytes--) *t++ = *f++;
  return to;
}

void *memset(void *to, int byte, size_t bytes) {
  u8 *t = to;
  while (bytes--) *t++ = byte;
  return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
  const u8 *p = a, *q = b;
  for (; bytes--; p++, q++)
    if (*p != *q) return *p - *q;
  return 0;
}
