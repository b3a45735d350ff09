// A PJRT plugin that computes nothing, broken in one place if a macro says where. Arguments are looked at as words.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef MAJOR
#define MAJOR 0
#endif
#ifndef COUNT
#define COUNT 118
#endif
#ifndef VERSION_SIZE
#define VERSION_SIZE 24
#endif
#ifndef DEVICES
#define DEVICES 1
#endif
#ifndef ELEMENT
#define ELEMENT 11
#endif
#ifndef OUTPUTS
#define OUTPUTS 1
#endif

typedef uintptr_t word;

// What is alive: errors, clients, programs, buffers, events.
int fake_live[5];
enum { ERROR, CLIENT, PROGRAM, BUFFER, EVENT };

static void *make(int kind) { fake_live[kind]++; return malloc(1); }
static void *drop(int kind, word object) {
  if (object == 0 || fake_live[kind] == 0) abort();
  // A client goes last.
  if (kind == CLIENT && fake_live[CLIENT] == 1 && fake_live[PROGRAM] + fake_live[BUFFER] > 0) abort();
  fake_live[kind]--;
  free((void *)object);
  return NULL;
}

static const char *complaint = "something is not as it should be";

static void error_destroy(word *a) { drop(ERROR, a[2]); }
static void error_message(word *a) {
#ifdef SILENT
  (void)a;
#else
  a[3] = (word)complaint;
  a[4] = strlen(complaint);
#endif
}
static void *error_code(word *a) {
#ifdef NO_CODE
  return make(ERROR);
#else
  *(int *)&a[3] = 9;
  return NULL;
#endif
}
static void *fails(word *a) { (void)a; return make(ERROR); }
static void *initialize(word *a) {
#ifdef BAD_START
  static int starts;
  if (starts++ == 0) return make(ERROR);
#endif
  // Larger than asked for, and zero all through.
  if (a[0] < 16 || a[0] % 8) abort();
  for (word n = 1; n < a[0] / 8; n++)
    if (a[n]) abort();
  return NULL;
}
struct named { word size, extensions; const char *name; word name_size; uint32_t kind, zero; word value; word value_size; word later; };
static void *attributes(word *a) {
  static const int64_t version[] = {1, 2, 3};
  static struct named told[] = {
    {64, 0, "words", 5, 0, 0, 0, 5, 1}, {64, 0, "count", 5, 1, 0, (word)-7, 1, 2}, {64, 0, "version", 7, 2, 0, 0, 3, 3},
    {64, 0, "share", 5, 3, 0, 0x3f000000, 1, 4}, {64, 0, "strange", 7, 99, 0, 0, 1, 5}, {64, 0, "yes", 3, 4, 0, 1, 1, 6},
  };
  told[0].value = (word) "hello";
  told[2].value = (word)version;
  a[2] = (word)told;
  a[3] = sizeof told / sizeof *told;
  return NULL;
}
static void *event_destroy(word *a) { return drop(EVENT, a[2]); }
static void *event_await(word *a) {
  (void)a;
#ifdef BAD_EVENTS
  return make(ERROR);
#else
  return NULL;
#endif
}
static int options;
static void *client_create(word *a) { options += a[3]; a[8] = (word)make(CLIENT); return NULL; }
static void *client_destroy(word *a) { return drop(CLIENT, a[2]); }
static void *platform(word *a) { a[3] = (word) "f\xffke"; a[4] = 4; return NULL; }
static void *devices(word *a) {
  static word of = 77, list[] = {(word)&of, (word)&of};
  a[3] = (word)list;
  a[4] = DEVICES;
  return NULL;
}
static void *compile(word *a) {
  word *program = (word *)a[3];
  if (program[0] < 48 || program[5] != 4 || memcmp((char *)program[4], "mlir", 4)) abort();
  if (program[3] == 3 && !memcmp((char *)program[2], "bad", 3)) return make(ERROR);
  a[6] = (word)make(PROGRAM);
  return NULL;
}
static void *nothing(word *a) { (void)a; return NULL; }
static void *same(word *a) { a[3] = a[2]; return NULL; }
static void *outputs(word *a) { a[3] = 1; return NULL; }
static void *types(word *a) { static const uint32_t list[] = {ELEMENT}; a[3] = (word)list; a[4] = OUTPUTS; return NULL; }
static void *shapes(word *a) {
  static const int64_t dims[] = {2};
  static const word ranks[] = {1};
  a[3] = OUTPUTS; a[4] = (word)dims; a[5] = (word)ranks;
  return NULL;
}
// An HLO module whose one parameter is a tensor<2xf32>.
static void *optimized(word *a) {
  static const char module[] = {0x22, 6, 0x0a, 4, 0x10, 11, 0x18, 2};
  word *program = (word *)a[3];
#ifdef NO_INPUTS
  program[4] = (word) "none";
#else
  program[4] = (word) "hlo";
#endif
  program[5] = strlen((char *)program[4]);
  program[3] = sizeof module;
  if (program[2]) memcpy((void *)program[2], module, sizeof module);
  return NULL;
}
static void *execute(word *a) {
  void ***results = (void ***)a[7];
#ifndef NO_RESULT
  results[0][0] = make(BUFFER);
#endif
  *(void **)a[8] = make(EVENT);
  return NULL;
}
static void *from_host(word *a) { a[13] = (word)make(EVENT); a[14] = (word)make(BUFFER); return NULL; }
static void *buffer_destroy(word *a) { return drop(BUFFER, a[2]); }
static void *program_destroy(word *a) { return drop(PROGRAM, a[2]); }
static void *element(word *a) { *(uint32_t *)&a[3] = ELEMENT; return NULL; }
static void *dimensions(word *a) {
#ifdef NEGATIVE
  static const int64_t list[] = {-2};
#else
  static const int64_t list[] = {2};
#endif
  a[3] = (word)list; a[4] = 1;
  return NULL;
}
static void *to_host(word *a) {
  float values[] = {1.5f, -2.0f};
  if (a[5] != sizeof values) abort();
  memcpy((void *)a[4], values, sizeof values);
  a[6] = (word)make(EVENT);
  return NULL;
}

static struct { word size, extensions, version_size, version_extensions; int32_t major, minor; void *functions[118]; } table;

#ifndef NO_ENTRY
void *GetPjrtApi(void) {
#ifdef NO_TABLE
  return NULL;
#endif
  table.size = 40 + 8 * COUNT;
  table.version_size = VERSION_SIZE;
  table.major = MAJOR;
  table.minor = 81;
  void **f = table.functions;
  for (int n = 0; n < 118; n++) f[n] = fails;
  f[0] = error_destroy; f[1] = error_message; f[2] = error_code; f[3] = initialize; f[4] = attributes;
  f[5] = event_destroy; f[8] = event_await;
  f[10] = client_create; f[11] = client_destroy; f[12] = platform; f[14] = platform; f[16] = devices;
  f[20] = compile; f[22] = from_host; f[23] = element; f[26] = NULL; f[28] = NULL; f[29] = same;
  f[40] = nothing; f[44] = outputs; f[48] = optimized; f[50] = program_destroy; f[51] = same; f[52] = devices; f[55] = execute;
  f[58] = buffer_destroy; f[59] = element; f[60] = dimensions; f[65] = NULL; f[70] = to_host; f[90] = types; f[91] = shapes;
#ifdef ABSENT
  f[ABSENT] = NULL;
#endif
  return &table;
}
#endif
