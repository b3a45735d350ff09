// Throws dice, in JavaScript: it says how far it is, and remembers how often each number came.

import { PluginError, INVALID_PARAMS, answer, fromUtf8, mistake, plugin, random, utf8 } from "./bespoke.js";

const MOST = 100;

let pause = 0;
/** How often each number came. */
let tally = {};

const input_schema = {
    type: "object",
    properties: {
        sides: { type: "integer", minimum: 2, maximum: 256, description: "how many sides a die has; 6 when absent" },
        times: { type: "integer", minimum: 1, maximum: MOST, description: "how often it is thrown; once when absent" },
    },
    additionalProperties: false,
};

/** A number from 1 to `sides`, each as likely as the others. */
function thrown(sides) {
    const fair = 256 - (256 % sides);
    for (;;) {
        const [byte] = random(1);
        if (byte < fair) return (byte % sides) + 1;
    }
}

function* throwDice(cx, { sides = 6, times = 1, ...rest }) {
    const [unknown] = Object.keys(rest);
    if (unknown) throw new PluginError(INVALID_PARAMS, `${unknown}: there is no such argument`);
    for (const [name, value, least, most] of [["sides", sides, 2, 256], ["times", times, 1, MOST]]) {
        if (!Number.isInteger(value)) throw new PluginError(INVALID_PARAMS, `${name}: not a whole number`);
        if (value < least || value > most) return mistake(`${name} is ${least} to ${most}, not ${value}`);
    }
    const numbers = [];
    for (let n = 1; n <= times; n += 1) {
        if (n > 1 && pause > 0) yield cx.sleep(pause);
        const number = thrown(sides);
        numbers.push(number);
        tally[number] = (tally[number] ?? 0) + 1;
        cx.progress({ thrown: n, of: times, number });
    }
    return answer(numbers.join(", "), { numbers, tally });
}

export const guest = plugin({
    id: "dice-js",
    version: "1.0.0",
    tools: { dice_js: { description: "Throws dice.", input_schema, call: throwDice } },
    start(config) {
        pause = config.pause_ms ?? 100;
    },
    capture() {
        return { version: 1, bytes: utf8(JSON.stringify(tally)) };
    },
    restore({ version, bytes }) {
        if (version !== 1) throw new PluginError(INVALID_PARAMS, `a state of version ${version} is not known here`);
        tally = JSON.parse(fromUtf8(bytes));
    },
});
