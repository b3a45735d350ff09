//! A panic of a plugin as a line of its log. Where the line goes is each driver's.

use std::panic::PanicHookInfo;

/// What there is instead of what the standard library lacks in a component, by the words with which it panics or fails. The first that
/// fits counts.
const INSTEAD: &[(&str, &str)] = &[
    ("time not implemented on this platform", "a component has no clock of its own: use cx.now()"),
    ("can't sleep", "a component cannot sleep by itself: use cx.sleep().await"),
    ("failed to spawn thread", "a component has no threads: use cx.spawn() or cx.blocking()"),
    (
        "operation not supported on this platform",
        "a component has no files, sockets, threads and programs of its own: use cx.host().store(), cx.http, cx.spawn()",
    ),
];

/// The words for a panic: where, why, and in a component what to use instead.
pub fn panicked(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("without a message").replace('\n', " ");
    let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    let help = if cfg!(target_family = "wasm") { instead(&what) } else { None };
    help.map_or_else(|| format!("panicked{place}: {what}"), |help| format!("panicked{place}: {what} ({help})"))
}

/// What helps against a failure that says this, in a component.
pub(crate) fn instead(said: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(words, _)| said.contains(words)).map(|(_, help)| *help)
}
