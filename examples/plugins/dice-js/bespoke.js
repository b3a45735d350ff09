// A plugin with tools, over the frames of Bespoke's wire. Copy it beside your plugin: it needs nothing but the world of plugins.
//
// A tool is a function, or a generator when it waits: `yield cx.sleep(100)` goes on when the host has answered, and other calls are served
// meanwhile. A lone `yield` in a long computation lets others have a go, and a call that was cancelled ends there.
//
// Not here: streams of other contracts (stt, tts, vad), and HTTP, whose answer comes in pieces. The table of all frames is in
// docs/protocol.md.

import host from "bespoke:plugin/host@1.0.0";

const HELLO = 1, CALL = 2, REPLY = 3, CANCEL = 4, PROGRESS = 5, OPEN = 7, HOST_CALL = 10, HOST_REPLY = 11, PING = 14, PONG = 15, END = 35;
const HEADER = 16;
/** On CANCEL: nobody waits for a reply. */
const ABANDONED = 1;

export const INVALID_PARAMS = -32602, METHOD_NOT_FOUND = -32601, PLUGIN_EXCEPTION = -32061, CANCELLED = -32800;

/** What a call ends with: a code, and words for its caller. */
export class PluginError extends Error {
    constructor(code, message) {
        super(message);
        this.code = code;
    }
}

/** The answer of a tool: text for a model, and the same as data. */
export function answer(text, data) {
    return { content: [{ type: "text", text }], ...(data === undefined ? {} : { data }) };
}

/** An answer that tells the model what it did wrong, so that it can mend it. */
export function mistake(text) {
    return { ...answer(text), is_error: true };
}

/** Random bytes fit for keys. Not Math.random: its seed would be that of the build, the same in each instance. */
export function random(length) {
    return Uint8Array.from(host.random(length));
}

/**
 * The interface `guest` of a plugin:
 *   id, version     as in plugin.toml
 *   tools           by name: { description, input_schema, call(cx, args) }
 *   start(config)   once, with its table of bespoke.toml
 *   capture()       { version, bytes } for the instance that follows, or null
 *   restore(state)  what the instance before has captured
 */
export function plugin({ id, version, tools = {}, start = () => {}, capture = () => null, restore }) {
    const calls = new Map(), waits = new Map();
    let out = [], ready = [], nextWait = 1;

    const say = (kind, id, head, blob) => out.push(frame(kind, id, head, blob));
    const refuse = (kind, id, error) => {
        const known = error instanceof PluginError;
        const err = { code: known ? error.code : PLUGIN_EXCEPTION, message: known ? error.message : `raised ${error}` };
        say(kind, id, kind === END ? err : { err });
    };

    function hello() {
        const specs = Object.entries(tools).map(([name, { description, input_schema }]) => ({
            kind: "tool",
            spec: { name, description, input_schema },
        }));
        say(HELLO, 0, { protocol: 1, oldest: 1, plugin: id, version, specs });
    }

    /** The methods of the plugin itself; they do not wait. The second value is the blob. */
    const methods = {
        "plugin.start": ({ config }) => (start(config), [vitals]),
        "plugin.vitals": () => [vitals],
        "plugin.reconfigure": () => ["restart"],
        "plugin.shutdown": () => [null],
        "plugin.capture_state": () => {
            const state = capture();
            return state ? [{ version: state.version, bytes: [] }, state.bytes] : [null];
        },
        "plugin.restore_state": ({ version, bytes }, blob) => {
            if (!restore) throw new PluginError(METHOD_NOT_FOUND, "this plugin keeps nothing");
            restore({ version, bytes: blob.length > 0 ? blob : Uint8Array.from(bytes) });
            return [null];
        },
    };
    const vitals = { health: { status: "ok" }, facts: {} };

    function begin(call, { method, name, args, cx = {} }, blob) {
        try {
            if (method !== "tool.call") {
                if (!Object.hasOwn(methods, method)) throw new PluginError(METHOD_NOT_FOUND, `no such method: ${method}`);
                const [ok, bulk] = methods[method](args, blob);
                return say(REPLY, call, { ok }, bulk);
            }
            if (!Object.hasOwn(tools, name)) throw new PluginError(METHOD_NOT_FOUND, `no such tool: ${name}`);
            const made = tools[name].call(context(call, cx), args.args ?? {});
            if (typeof made?.next !== "function") return say(REPLY, call, { ok: made });
            calls.set(call, made);
            proceed(call, "next");
        } catch (error) {
            refuse(REPLY, call, error);
        }
    }

    /** Goes on with a call until it waits again, or is over. */
    function proceed(call, how, value) {
        const generator = calls.get(call);
        if (!generator) return;
        try {
            const { done, value: wants } = generator[how](value);
            if (done) {
                calls.delete(call);
                return say(REPLY, call, { ok: wants });
            }
            if (wants === undefined) return ready.push(call);
            waits.set(nextWait, { call, bulk: wants.bulk });
            say(HOST_CALL, nextWait, { method: wants.method, args: wants.args }, wants.blob);
            nextWait += 1;
        } catch (error) {
            calls.delete(call);
            refuse(REPLY, call, error);
        }
    }

    function answered(id, { ok, err }, blob) {
        const wait = waits.get(id);
        waits.delete(id);
        if (!wait) return;
        if (err) return proceed(wait.call, "throw", new PluginError(err.code, err.message));
        proceed(wait.call, "next", wait.bulk && ok ? (blob.length > 0 ? blob.slice() : Uint8Array.from(ok)) : ok);
    }

    function cancel(call, flags) {
        for (const [id, wait] of waits) if (wait.call === call) waits.delete(id);
        if ((flags & ABANDONED) === 0) return proceed(call, "throw", new PluginError(CANCELLED, "cancelled by the caller"));
        const generator = calls.get(call);
        calls.delete(call);
        try {
            generator?.return();
        } catch (error) {
            host.log("warn", `raised ${error} when its call was given up`);
        }
    }

    /** What a tool has of its call and of the host. What the host answers is waited for with `yield`. */
    function context(call, { session = null }) {
        return {
            session,
            progress: (value) => say(PROGRESS, call, value),
            log: (level, line) => host.log(level, line),
            /** Microseconds since 1970. */
            now: () => Number(host.now()),
            sleep: (ms) => ({ method: "host.sleep", args: { us: Math.round(ms * 1000) } }),
            secret: (name) => ({ method: "host.secret", args: name }),
            emit: (topic, payload) => ({ method: "host.emit", args: { topic, payload } }),
            load: (key) => ({ method: "host.load", args: key, bulk: true }),
            store: (key, value) => ({ method: "host.store", args: { key, value: value && [] }, blob: value }),
            call: (target, args) => ({ method: "host.call", args: { call, target, args } }),
        };
    }

    function take({ kind, flags, id, head, blob }) {
        switch (kind) {
            case HELLO: return hello();
            case CALL: return begin(id, json(head), blob);
            case CANCEL: return cancel(id, flags);
            case HOST_REPLY: return answered(id, json(head), blob);
            case OPEN: return refuse(END, id, new PluginError(METHOD_NOT_FOUND, "this plugin has no streams"));
            case PING: return say(PONG, id);
            // A newer host may say more than this understands.
        }
    }

    return {
        start() {},
        step(inbound) {
            const yielded = ready;
            ready = [];
            for (const each of frames(inbound)) take(each);
            for (const call of yielded) proceed(call, "next");
            const said = out;
            out = [];
            return { frames: joined(said), more: ready.length > 0 };
        },
    };
}

/** The frames of a step: the host gives whole ones. What is none ends the instance, in these words. */
function* frames(bytes) {
    const inbound = bytes instanceof Uint8Array ? bytes : Uint8Array.from(bytes);
    const view = new DataView(inbound.buffer, inbound.byteOffset, inbound.byteLength);
    for (let at = 0; at < inbound.length; ) {
        if (at + HEADER > inbound.length) throw "a frame without a whole header";
        const head = at + HEADER, blob = head + view.getUint32(at + 8, true), end = blob + view.getUint32(at + 12, true);
        if (end > inbound.length) throw "a frame that is cut off";
        const [kind, flags, id] = [inbound[at], inbound[at + 1], view.getUint32(at + 4, true)];
        yield { kind, flags, id, head: inbound.subarray(head, blob), blob: inbound.subarray(blob, end) };
        at = end;
    }
}

function frame(kind, id, head, blob = new Uint8Array()) {
    const text = head === undefined ? new Uint8Array() : utf8(JSON.stringify(head));
    const bytes = new Uint8Array(HEADER + text.length + blob.length), view = new DataView(bytes.buffer);
    bytes[0] = kind;
    view.setUint32(4, id, true);
    view.setUint32(8, text.length, true);
    view.setUint32(12, blob.length, true);
    bytes.set(text, HEADER);
    bytes.set(blob, HEADER + text.length);
    return bytes;
}

function joined(parts) {
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
        bytes.set(part, at);
        at += part.length;
    }
    return bytes;
}

function json(head) {
    return JSON.parse(fromUtf8(head));
}

/** Text as UTF-8: QuickJS has no TextEncoder. */
export function utf8(text) {
    const binary = unescape(encodeURIComponent(text.toWellFormed()));
    return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}

export function fromUtf8(bytes) {
    let binary = "";
    // In pieces: a call has only so many arguments.
    for (let at = 0; at < bytes.length; at += 4096) binary += String.fromCharCode(...bytes.subarray(at, at + 4096));
    return decodeURIComponent(escape(binary));
}
