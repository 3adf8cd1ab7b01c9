// Words of a guest whose console is another device than the board's UART. It has say(), for one character, before this.
#pragma once
#include "bare.h"

static void say_text(const char *text) {
  while (*text) say(*text++);
}

static void say_number(u64 v) {
  if (v >= 10) say_number(v / 10);
  say('0' + v % 10);
}

static void say_fact(const char *name, u64 value) {
  say_text(name);
  say(' ');
  say_number(value);
  say_text("\r\n");
}
