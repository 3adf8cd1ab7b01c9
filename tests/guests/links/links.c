// Speaks through a UART and the modem behind it, which is the console, and looks for a key of the keypad on a bank of
// lines (tests/plugins/links). It waits for one typed line, so that a recording has input.
#include "bare.h"

#define BANK 0x10050000ull
#define UART 0x10060000ull
enum { DIRECTION = 0x00, OUT = 0x08, PULL = 0x10, IN = 0x18 };
enum { DATA = 0x0, STATUS = 0x4, BREAK = 0x8 };
enum { READY = 1, ROOM = 2, SENT = 4, WRONG = 0x38 };
enum { COLUMNS = 0x0f, ROWS = 0xf0 };

static u32 wrong;

static u32 status(void) {
  u32 now = read32(UART + STATUS);
  wrong |= now & WRONG;
  return now;
}

static void say(char c) {
  while (!(status() & ROOM)) {}
  write32(UART + DATA, (u8)c);
}

#include "say.h"

u64 on_trap(u64 cause, u64 epc, u64 tval) {
  (void)epc, (void)tval;
  say_fact("@F trap", cause);
  finish(1);
}

// What was typed, said again when it is whole.
static void echo(void) {
  static char line[256];
  u64 count = 0;
  for (;;) {
    while (!(status() & READY)) {}
    char c = read32(UART + DATA);
    if (c == '\n' || c == '\r') break;
    if (count < sizeof line - 1) line[count++] = c;
  }
  say_text("@typed ");
  say_text(line);
  say_text("\r\n");
}

// Until one is pressed.
static u64 key(void) {
  write64(BANK + PULL, ROWS);
  write64(BANK + DIRECTION, COLUMNS);
  for (;;) {
    for (u64 column = 0; column < 4; column++) {
      write64(BANK + OUT, COLUMNS & ~(1ull << column));
      u64 low = ~read64(BANK + IN) & ROWS;
      for (u64 row = 0; row < 4; row++)
        if (low & 0x10 << row) return 4 * row + column;
    }
  }
}

int main(u64 hart, const void *dtb) {
  (void)hart, (void)dtb;
  say_text("@type a line\r\n");
  echo();
  say_fact("@before", ~read64(BANK + IN) & COLUMNS);
  u64 pressed = key();
  say_fact("@key", pressed);
  // Against a key that pulls its row to its column.
  write64(BANK + OUT, ROWS);
  write64(BANK + DIRECTION, COLUMNS | ROWS);
  say_fact("@short", read64(BANK + IN));
  write64(BANK + OUT, COLUMNS | ROWS);
  say_fact("@let go", read64(BANK + IN));
  while (!(status() & SENT)) {}
  write32(UART + BREAK, 1);
  say_fact("@wrong", wrong);
  say_text("@R links ok\r\n");
  // The modem has the last characters still to send.
  for (u64 until = mtime() + 10000; mtime() < until;) {}
  finish(0);
}
