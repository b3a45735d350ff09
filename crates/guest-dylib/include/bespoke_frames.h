/*
 * Frames, for plugins in C: enough to take what the host says apart and to answer. Not a parser of JSON: bring one where you need it.
 *
 * A frame is a header of 16 bytes, low bytes first, a head of JSON, and a blob of raw bytes; either may be empty:
 *
 *   0     1      2         4    8          12         16
 *   kind  flags  reserved  id   head_len   blob_len   head ... blob ...
 *   u8    u8     u16 = 0   u32  u32        u32
 */
#ifndef BESPOKE_FRAMES_H
#define BESPOKE_FRAMES_H

#include <stdlib.h>
#include <string.h>

#include "bespoke_plugin.h"

/* The kinds that a plugin without streams and calls of its own meets; docs/protocol.md has the others, which it may pass over. */
enum {
    BESPOKE_HELLO = 1,
    BESPOKE_CALL = 2,
    BESPOKE_REPLY = 3,
    BESPOKE_LOG = 12,
    BESPOKE_PING = 14,
    BESPOKE_PONG = 15
};

typedef struct bespoke_frame {
    uint8_t kind;
    uint8_t flags;
    uint32_t id;
    const char *head; /* not ended by a zero */
    size_t head_len;
    const uint8_t *blob;
    size_t blob_len;
} bespoke_frame;

/* Bytes of the host that are no whole frame yet; begin with zeros, and free `bytes` at the end. */
typedef struct bespoke_inbox {
    uint8_t *bytes;
    size_t len, room, taken;
} bespoke_inbox;

static inline uint32_t bespoke_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void bespoke_put_u32(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)value, at[1] = (uint8_t)(value >> 8), at[2] = (uint8_t)(value >> 16), at[3] = (uint8_t)(value >> 24);
}

/* Takes the bytes of a step. 0 when there is no memory for them. Frames that were found before are gone then. */
static inline int bespoke_take(bespoke_inbox *inbox, const uint8_t *bytes, size_t len) {
    if (len == 0) return 1;
    if (inbox->taken > 0) {
        memmove(inbox->bytes, inbox->bytes + inbox->taken, inbox->len - inbox->taken);
        inbox->len -= inbox->taken, inbox->taken = 0;
    }
    if (inbox->len + len > inbox->room) {
        uint8_t *grown = realloc(inbox->bytes, inbox->len + len);
        if (grown == NULL) return 0;
        inbox->bytes = grown, inbox->room = inbox->len + len;
    }
    memcpy(inbox->bytes + inbox->len, bytes, len);
    inbox->len += len;
    return 1;
}

/* The next whole frame, which stays until bespoke_take is called again; 0 when there is none. */
static inline int bespoke_next(bespoke_inbox *inbox, bespoke_frame *frame) {
    size_t left = inbox->len - inbox->taken;
    if (left < 16) return 0;
    const uint8_t *at = inbox->bytes + inbox->taken;
    size_t head = bespoke_u32(at + 8), blob = bespoke_u32(at + 12);
    if (left - 16 < head || left - 16 - head < blob) return 0;
    frame->kind = at[0], frame->flags = at[1], frame->id = bespoke_u32(at + 4);
    frame->head = (const char *)at + 16, frame->head_len = head;
    frame->blob = at + 16 + head, frame->blob_len = blob;
    inbox->taken += 16 + head + blob;
    return 1;
}

/* Says a frame without a blob. */
static inline void bespoke_say(const bespoke_out_v1 *out, uint8_t kind, uint32_t id, const char *head) {
    uint8_t header[16] = {kind};
    size_t len = strlen(head);
    bespoke_put_u32(header + 4, id);
    bespoke_put_u32(header + 8, (uint32_t)len);
    out->frames(out->context, header, sizeof header);
    if (len > 0) out->frames(out->context, (const uint8_t *)head, len);
}

/* Why the function is going to return BESPOKE_FAILED. */
static inline int32_t bespoke_fail(const bespoke_out_v1 *out, const char *why) {
    out->failure(out->context, (const uint8_t *)why, strlen(why));
    return BESPOKE_FAILED;
}

/* Where `text` stands in a head; NULL when it does not. */
static inline const char *bespoke_find(const bespoke_frame *frame, const char *text) {
    size_t len = strlen(text);
    for (size_t n = 0; n + len <= frame->head_len; n++)
        if (memcmp(frame->head + n, text, len) == 0) return frame->head + n;
    return NULL;
}

/* Whether a CALL is of that method, such as "tool.call": the host writes the method first, and without spaces. */
static inline int bespoke_is(const bespoke_frame *frame, const char *method) {
    static const char before[] = "{\"method\":\"";
    size_t at = sizeof before - 1, len = strlen(method);
    return frame->head_len > at + len && memcmp(frame->head, before, at) == 0 && memcmp(frame->head + at, method, len) == 0 &&
           frame->head[at + len] == '"';
}

#endif
