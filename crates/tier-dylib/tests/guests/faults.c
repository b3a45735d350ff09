/* A library with one fault, which FAULT names; its test says what becomes of it. Its tool `faults` does it, unless it is done before. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bespoke_frames.h"

enum {
    NOTHING,
    /* of the descriptor */
    NO_SYMBOL, NO_DESCRIPTOR, CROOKED, WRONG_MAGIC, WRONG_MAJOR, NEWER_MINOR, TOO_SMALL, TOO_LARGE, SMALL_HOST, OTHER_ID, NO_STEP, BAD_TEXT,
    LONG_TEXT, OTHER_PROTOCOL, NO_CANARIES, UNBOUND,
    /* of open */
    OPEN_FAILS, OPEN_NOTHING, OPEN_BLOCKS,
    /* of the hello and the start */
    OTHER_HELLO, NO_HELLO, START_FAILS, START_HANGS, START_BLOCKS,
    /* of a call */
    CALL_HANGS, CALL_BLOCKS, HEALTH_BLOCKS, LIES, HALF, NEVER_READY, ALWAYS_MORE, BREAKS, FAILS, MEANS_NOTHING, SAYS_TOO_MUCH, WAKES, ASKS,
    /* the end of everything */
    ABORT, SEGV, OVERFLOW, EXIT,
    /* not of this one */
    CHILD_EXITS
};

#ifndef MARK
#define MARK "/nowhere/loaded"
#endif
#ifndef RELEASE
#define RELEASE "/"
#endif
#ifndef WORD
#define WORD "a word"
#endif

typedef struct guest {
    const bespoke_host_v1 *host;
    bespoke_inbox inbox;
    int more;
} guest;

/* Tells that code of this library runs. */
__attribute__((constructor)) static void loaded(void) {
    FILE *mark = fopen(MARK, "a");
    if (mark == NULL) return;
    fputs("loaded\n", mark);
    fclose(mark);
}

/* A process that ends by exit, or by its alarm should that get stuck. */
static void child_exits(void) {
    pid_t child = fork();
    if (child == 0) {
        alarm(10);
        exit(3);
    }
    if (child > 0) waitpid(child, NULL, 0);
}

/* Until its test lets it go. */
static void block(void) {
    while (access(RELEASE, F_OK) != 0) usleep(1000);
}

static void *wake_for_ever(void *host) {
    const bespoke_host_v1 *calls = host;
    uint8_t byte;
    for (;;) {
        calls->wake(calls->context);
        calls->now(calls->context);
        calls->random(calls->context, &byte, 1);
        usleep(200);
    }
    return NULL;
}

static volatile int deep;

static int overflow(int n) {
    volatile char room[4096];
    room[0] = (char)n;
    deep = n;
    return n < 0 ? 0 : overflow(n + 1) + room[0];
}

#ifdef IS_UNBOUND
extern int nobody_has_this(void);
#endif

static int32_t open_it(const bespoke_host_v1 *host, const bespoke_out_v1 *out, void **instance) {
    guest *self = calloc(1, sizeof *self);
    if (FAULT == OPEN_FAILS) return bespoke_fail(out, "no luck today");
    if (FAULT == OPEN_NOTHING) return BESPOKE_DONE;
    if (FAULT == OPEN_BLOCKS) block();
    self->host = host;
    *instance = self;
    if (FAULT == WAKES) {
        pthread_t thread;
        pthread_create(&thread, NULL, wake_for_ever, (void *)host);
        pthread_detach(thread);
    }
    return BESPOKE_DONE;
}

static int32_t act(guest *self, const bespoke_frame *call, const bespoke_out_v1 *out) {
    static char words[1 << 20];
    char reply[200];
    switch (FAULT) {
    case CALL_HANGS: return BESPOKE_DONE;
    case CALL_BLOCKS: block(); break;
    case LIES: bespoke_say(out, 200, 7, "a kind that nobody knows"); out->frames(out->context, (const uint8_t *)"no frames at all", 16); return BESPOKE_DONE;
    case HALF: out->frames(out->context, (const uint8_t *)"\2\0\0\0\1\0\0\0", 8); return BESPOKE_DONE;
    case NEVER_READY: return BESPOKE_MORE;
    case ALWAYS_MORE: self->more = 1; return BESPOKE_MORE;
    case BREAKS: return bespoke_fail(out, "all is lost"), BESPOKE_PANICKED;
    case FAILS: return bespoke_fail(out, "it cannot go on");
    case MEANS_NOTHING: return 77;
    case SAYS_TOO_MUCH:
        memset(words, 'x', sizeof words - 1);
        for (int n = 0; n < 600; n++) bespoke_say(out, 200, 7, words);
        return BESPOKE_DONE;
    case ABORT: abort();
    case SEGV: *(volatile int *)8 = 1; break;
    case OVERFLOW: overflow(0); break;
    case EXIT: exit(3);
    case CHILD_EXITS: child_exits(); break;
    default: break;
    }
    uint8_t byte;
    int asked = self->host->now(self->host->context) > 0 && self->host->random(self->host->context, &byte, 1) == 0;
    snprintf(reply, sizeof reply, "{\"ok\":{\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]}}", asked ? WORD : "the host does not answer");
    bespoke_say(out, BESPOKE_REPLY, call->id, reply);
    return BESPOKE_DONE;
}

static int32_t answer(guest *self, const bespoke_frame *frame, const bespoke_out_v1 *out) {
    if (frame->kind == BESPOKE_HELLO && FAULT != NO_HELLO)
        bespoke_say(out, BESPOKE_HELLO, 0,
                    FAULT == OTHER_HELLO ? "{\"protocol\":1,\"oldest\":1,\"plugin\":\"somebody\",\"version\":\"1.0.0\",\"specs\":[]}"
                                         : "{\"protocol\":1,\"oldest\":1,\"plugin\":\"faults\",\"version\":\"1.0.0\",\"specs\":[{\"kind\":\"tool\",\"spec\":{"
                                           "\"name\":\"faults\",\"description\":\"A fault.\",\"input_schema\":{\"type\":\"object\"}}}]}");
    if (frame->kind != BESPOKE_CALL) return BESPOKE_DONE;
    if (bespoke_is(frame, "tool.call")) return act(self, frame, out);
    if (bespoke_is(frame, "plugin.start")) {
        if (FAULT == START_FAILS) return bespoke_fail(out, "it does not start");
        if (FAULT == START_HANGS) return BESPOKE_DONE;
        if (FAULT == START_BLOCKS) block();
    }
    if (FAULT == HEALTH_BLOCKS && bespoke_is(frame, "plugin.vitals")) block();
    bespoke_say(out, BESPOKE_REPLY, frame->id, bespoke_is(frame, "plugin.shutdown") ? "{\"ok\":null}" : "{\"ok\":{\"health\":{\"status\":\"ok\"},\"facts\":{}}}");
    return BESPOKE_DONE;
}

static int32_t step_it(void *instance, const uint8_t *bytes, size_t len, const bespoke_out_v1 *out) {
    guest *self = instance;
    bespoke_frame frame;
    int32_t status = BESPOKE_DONE;
    if (!bespoke_take(&self->inbox, bytes, len)) return bespoke_fail(out, "no memory");
    while (status == BESPOKE_DONE && bespoke_next(&self->inbox, &frame)) status = answer(self, &frame, out);
    return self->more ? BESPOKE_MORE : status;
}

static int32_t close_it(void *instance, const bespoke_out_v1 *out) {
    guest *self = instance;
    (void)out;
    free(self->inbox.bytes);
    /* What wakes for ever still has the host's table, but nothing of this. */
    free(self);
    return BESPOKE_DONE;
}

static bespoke_plugin_v1_descriptor descriptor = {
    .magic = FAULT == WRONG_MAGIC ? 42 : BESPOKE_MAGIC,
    .major = FAULT == WRONG_MAJOR ? 9 : BESPOKE_MAJOR,
    .minor = FAULT == NEWER_MINOR ? 7 : BESPOKE_MINOR,
    .size = FAULT == TOO_SMALL ? 64 : FAULT == TOO_LARGE ? 1u << 30 : sizeof(bespoke_plugin_v1_descriptor),
    .host_size = FAULT == SMALL_HOST ? 8 : sizeof(bespoke_host_v1),
    .out_size = sizeof(bespoke_out_v1),
    .features = {FAULT == OTHER_PROTOCOL ? "panic=unwind protocol=9" : FAULT == NO_CANARIES ? NULL : "protocol=1 unknown=x", FAULT == OTHER_PROTOCOL ? 23 : FAULT == NO_CANARIES ? 0 : 20},
    .id = {FAULT == OTHER_ID ? "thermo" : FAULT == BAD_TEXT ? "\xff\xfe....": "faults", 6},
    .version = {"1.0.0", FAULT == LONG_TEXT ? (size_t)1 << 40 : 5},
    .open = open_it,
    .step = FAULT == NO_STEP ? NULL : step_it,
    .close = close_it,
};

#ifdef IS_NO_SYMBOL
const bespoke_plugin_v1_descriptor *another_symbol(void) {
#else
const bespoke_plugin_v1_descriptor *bespoke_plugin_v1(void) {
#endif
#ifdef IS_UNBOUND
    if (deep) nobody_has_this();
#endif
    if (FAULT == NO_DESCRIPTOR) return NULL;
    if (FAULT == CROOKED) return (const bespoke_plugin_v1_descriptor *)((const char *)&descriptor + 1);
    return &descriptor;
}
