/*
 * A tool in C: throws a die. Built without anything of Bespoke but two headers:
 *
 *   cc -std=c11 -O2 -shared -fPIC -I ../../../crates/guest-dylib/include -o plugin.so dice.c
 */
#include <stdio.h>

#include "bespoke_frames.h"

typedef struct dice {
    const bespoke_host_v1 *host;
    bespoke_inbox inbox;
} dice;

static int32_t open_dice(const bespoke_host_v1 *host, const bespoke_out_v1 *out, void **instance) {
    dice *self = calloc(1, sizeof *self);
    if (self == NULL) return bespoke_fail(out, "no memory");
    self->host = host;
    *instance = self;
    return BESPOKE_DONE;
}

/* What {"sides": N} says; 6 without it, 0 for what is no die. */
static unsigned long sides_of(const bespoke_frame *call) {
    const char *args = bespoke_find(call, "\"args\":");
    const char *at = bespoke_find(call, "\"sides\":");
    if (at == NULL || args == NULL || at < args) return 6;
    unsigned long sides = 0;
    for (at += strlen("\"sides\":"); at < call->head + call->head_len && *at >= '0' && *at <= '9' && sides <= 1000; at++)
        sides = sides * 10 + (unsigned long)(*at - '0');
    return sides <= 1000 ? sides : 0;
}

static void throw_one(dice *self, const bespoke_frame *call, const bespoke_out_v1 *out) {
    unsigned long sides = sides_of(call);
    uint32_t random;
    char reply[160];
    if (sides < 2) {
        bespoke_say(out, BESPOKE_REPLY, call->id, "{\"err\":{\"code\":-32602,\"message\":\"sides: a die has 2 to 1000\"}}");
        return;
    }
    if (self->host->random(self->host->context, (uint8_t *)&random, sizeof random) != 0) {
        bespoke_say(out, BESPOKE_REPLY, call->id, "{\"err\":{\"code\":-32603,\"message\":\"no random bytes\"}}");
        return;
    }
    snprintf(reply, sizeof reply, "{\"ok\":{\"content\":[{\"type\":\"text\",\"text\":\"%lu\"}]}}", random % sides + 1);
    bespoke_say(out, BESPOKE_REPLY, call->id, reply);
}

static void answer(dice *self, const bespoke_frame *frame, const bespoke_out_v1 *out) {
    switch (frame->kind) {
    case BESPOKE_HELLO:
        bespoke_say(out, BESPOKE_HELLO, 0,
                    "{\"protocol\":1,\"oldest\":1,\"plugin\":\"dice-c\",\"version\":\"1.0.0\",\"features\":[],\"specs\":[{\"kind\":\"tool\",\"spec\":{"
                    "\"name\":\"dice_c\",\"description\":\"Throws a die.\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"sides\":{"
                    "\"type\":\"integer\",\"minimum\":2,\"maximum\":1000,\"description\":\"how many sides it has; 6 when absent\"}},"
                    "\"additionalProperties\":false}}}]}");
        break;
    case BESPOKE_CALL:
        if (bespoke_is(frame, "tool.call"))
            throw_one(self, frame, out);
        else if (bespoke_is(frame, "plugin.start") || bespoke_is(frame, "plugin.vitals"))
            bespoke_say(out, BESPOKE_REPLY, frame->id, "{\"ok\":{\"health\":{\"status\":\"ok\"},\"facts\":{}}}");
        else if (bespoke_is(frame, "plugin.shutdown"))
            bespoke_say(out, BESPOKE_REPLY, frame->id, "{\"ok\":null}");
        else
            bespoke_say(out, BESPOKE_REPLY, frame->id, "{\"err\":{\"code\":-32601,\"message\":\"no such method\"}}");
        break;
    case BESPOKE_PING:
        bespoke_say(out, BESPOKE_PONG, frame->id, "");
        break;
    default: /* a newer host may say more than this understands */
        break;
    }
}

static int32_t step_dice(void *instance, const uint8_t *bytes, size_t len, const bespoke_out_v1 *out) {
    dice *self = instance;
    bespoke_frame frame;
    if (!bespoke_take(&self->inbox, bytes, len)) return bespoke_fail(out, "no memory");
    while (bespoke_next(&self->inbox, &frame)) answer(self, &frame, out);
    return BESPOKE_DONE;
}

static int32_t close_dice(void *instance, const bespoke_out_v1 *out) {
    dice *self = instance;
    (void)out;
    free(self->inbox.bytes);
    free(self);
    return BESPOKE_DONE;
}

const bespoke_plugin_v1_descriptor *bespoke_plugin_v1(void) {
    static const bespoke_plugin_v1_descriptor descriptor = {
        .magic = BESPOKE_MAGIC,
        .major = BESPOKE_MAJOR,
        .minor = BESPOKE_MINOR,
        .size = sizeof(bespoke_plugin_v1_descriptor),
        .host_size = sizeof(bespoke_host_v1),
        .out_size = sizeof(bespoke_out_v1),
        .toolchain = BESPOKE_TEXT("C"),
        .features = BESPOKE_TEXT("protocol=1"),
        .id = BESPOKE_TEXT("dice-c"),
        .version = BESPOKE_TEXT("1.0.0"),
        .open = open_dice,
        .step = step_dice,
        .close = close_dice,
    };
    return &descriptor;
}
