/*
 * The C interface of a Bespoke plugin as a dynamic library, version 1.0.
 *
 * A library exports one function, bespoke_plugin_v1, which gives a descriptor that lives as long as the program. The host checks the
 * descriptor before it calls any function that it names. It opens an instance for each start of the plugin, steps it, and closes it.
 * What the host and the instance say to each other are frames (bespoke_frames.h); what stands in them, docs/protocol.md says.
 *
 * Frozen: the first 16 bytes of the descriptor never change, and nothing is ever moved, resized or removed. A later minor version appends,
 * and each struct says in `size` how long the one who made it knows it to be: look at it before you read what was appended.
 *
 * Threads: an instance is opened, stepped and closed by one thread at a time, and by a different one each time. Instances of one
 * library are independent and run at the same time; keep state in the instance, not in statics: the library is never unloaded, so
 * statics outlive a restart.
 *
 * Rust checks that these structs are its own: crates/tier-dylib/tests/it/header.rs.
 */
#ifndef BESPOKE_PLUGIN_H
#define BESPOKE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "BESPOKE\1", low byte first. */
#define BESPOKE_MAGIC UINT64_C(0x01454b4f50534542)
#define BESPOKE_MAJOR 1
#define BESPOKE_MINOR 0

/* What a function returns. */
#define BESPOKE_DONE 0      /* it waits for the host, or to be stepped after a wake */
#define BESPOKE_MORE 1      /* of a step: it has more to do at once */
#define BESPOKE_PANICKED -1 /* it broke in the midst of something; the instance is dead and will only be closed */
#define BESPOKE_FAILED -2   /* it cannot go on, and has said why; as above */

/* UTF-8 that belongs to the library and lives as long as it does. */
typedef struct bespoke_text {
    const char *ptr;
    size_t len;
} bespoke_text;

/* A text that is written out. */
#define BESPOKE_TEXT(literal) { literal, sizeof(literal) - 1 }

/* What the host gives an instance. It lives as long as the program; its functions may be called at any time, from any thread, also
 * after the instance is closed: then they harm nobody. */
typedef struct bespoke_host_v1 {
    uint32_t size;
    uint32_t reserved;
    void *context;                                             /* the first argument of each */
    void (*wake)(void *context);                               /* has the instance stepped soon; never steps it itself */
    uint64_t (*now)(void *context);                            /* the host's clock: microseconds since 1970, UTC */
    int32_t (*random)(void *context, uint8_t *bytes, size_t len); /* random bytes fit for keys; 0 when they are there */
} bespoke_host_v1;

/* Where a function leaves what it says. It lives until that function returns, and is for the thread that runs it. Bytes are copied. */
typedef struct bespoke_out_v1 {
    uint32_t size;
    uint32_t reserved;
    void *context;                                                  /* the first argument of each */
    void (*frames)(void *context, const uint8_t *bytes, size_t len);  /* appends frames, cut anywhere; a step ends with a whole one */
    void (*failure)(void *context, const uint8_t *text, size_t len);  /* why the function is going to return less than 0 */
} bespoke_out_v1;

typedef struct bespoke_plugin_v1_descriptor {
    uint64_t magic;         /* BESPOKE_MAGIC */
    uint16_t major;         /* BESPOKE_MAJOR: another one is refused */
    uint16_t minor;         /* BESPOKE_MINOR */
    uint32_t size;          /* sizeof of this struct */
    uint32_t host_size;     /* sizeof(bespoke_host_v1) */
    uint32_t out_size;      /* sizeof(bespoke_out_v1) */
    bespoke_text toolchain; /* what built it, for people; may be empty */
    bespoke_text features;  /* what must be the same at both sides, "name=value" between spaces: protocol=1; may be empty */
    bespoke_text id;        /* as in plugin.toml */
    bespoke_text version;   /* as in plugin.toml */
    bespoke_text manifest;  /* plugin.toml itself; may be empty */

    /* Makes an instance and says so in *instance, which must not be NULL then. */
    int32_t (*open)(const bespoke_host_v1 *host, const bespoke_out_v1 *out, void **instance);
    /* Takes len bytes of frames, cut anywhere, often none; works until there is nothing left to do; says what it has to say. */
    int32_t (*step)(void *instance, const uint8_t *bytes, size_t len, const bespoke_out_v1 *out);
    /* Ends an instance, also one that is dead. */
    int32_t (*close)(void *instance, const bespoke_out_v1 *out);
} bespoke_plugin_v1_descriptor;

/* The one symbol. It is called before anything is checked, so it only gives a pointer. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const bespoke_plugin_v1_descriptor *bespoke_plugin_v1(void);

#ifdef __cplusplus
}
#endif
#endif
