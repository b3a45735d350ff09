//! A panic of a plugin as a line of its log. Where the line goes is each driver's.

use std::panic::PanicHookInfo;

/// What there is instead of what the standard library lacks in a component, by the words with which it panics. The first that fits counts.
const INSTEAD: &[(&str, &str)] = &[
    ("time not implemented on this platform", "a component has no clock of its own: use cx.now()"),
    ("can't sleep", "a component cannot sleep by itself: use cx.sleep().await"),
    ("failed to spawn thread", "a component has no threads: use cx.spawn() or cx.blocking()"),
    (UNSUPPORTED, NO_SYSTEM),
];

/// With these words, an `io::Error` of the standard library says that a component lacks something.
const UNSUPPORTED: &str = "operation not supported on this platform";
const NO_SYSTEM: &str = "a component has no files, sockets, threads and programs of its own: use cx.host().store(), cx.http, cx.spawn()";

/// The words for a panic: where, why, and in a component what to use instead.
pub fn panicked(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("without a message").replace('\n', " ");
    let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    let help = if cfg!(target_family = "wasm") { instead(&what) } else { None };
    help.map_or_else(|| format!("panicked{place}: {what}"), |help| format!("panicked{place}: {what} ({help})"))
}

/// What helps against an error that says this, in a component. The words of an error are the plugin's own, which may speak of sleep and
/// threads as it likes: only those of an `io::Error` are sure to be the standard library's.
#[cfg(any(target_family = "wasm", test))]
pub(crate) fn against(said: &str) -> Option<&'static str> {
    said.contains(UNSUPPORTED).then_some(NO_SYSTEM)
}

/// What helps against a panic that says this, in a component.
fn instead(said: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(words, _)| said.contains(words)).map(|(_, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_standard_librarys_own_words_in_an_error_are_helped() {
        for said in ["I can't sleep", "failed to spawn thread of talk", "time not implemented on this platform"] {
            assert!(against(said).is_none(), "{said}");
            assert!(instead(said).is_some(), "{said}");
        }
        let said = format!("places.json: {UNSUPPORTED}");
        assert_eq!((against(&said), instead(&said)), (Some(NO_SYSTEM), Some(NO_SYSTEM)));
    }
}
