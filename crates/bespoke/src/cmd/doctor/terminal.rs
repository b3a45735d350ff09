//! The terminal: how wide it is, whether it shows colours, whether it shows more than ASCII.

use std::{
    env,
    io::{self, IsTerminal},
};

use super::report::{Report, Verdict};

/// A table needs so many columns.
const LEAST_COLUMNS: u16 = 40;

pub(crate) fn check(report: &mut Report) {
    report.group("Terminal");
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    match (io::stdout().is_terminal(), terminal_size::terminal_size()) {
        (false, _) => report.skip("width", "stdout is no terminal"),
        (true, Some((width, _))) if width.0 < LEAST_COLUMNS => {
            let message = format!("{} columns; tables want {LEAST_COLUMNS} at least", width.0);
            report.add("width", Verdict::Warning, message, Some("stty columns 80".into()));
        }
        (true, Some((width, height))) => report.ok("width", format!("{} columns, {} lines", width.0, height.0)),
        (true, None) => report.add("width", Verdict::Warning, "unknown, taken for 100 columns", Some("stty columns 80".into())),
    }
    match (set("NO_COLOR"), set("TERM")) {
        (Some(_), _) => report.ok("colours", "off: NO_COLOR is set"),
        (None, term) if term.as_deref() == Some("dumb") => {
            report.add("colours", Verdict::Warning, "TERM is dumb, but colours are sent", Some("export NO_COLOR=1".into()));
        }
        _ => report.ok("colours", "on a terminal"),
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| Some((name, set(name)?)));
    match locale {
        Some((_, value)) if value.to_ascii_lowercase().replace('-', "").contains("utf8") => report.ok("locale", value),
        _ if !io::stdout().is_terminal() => report.skip("locale", "stdout is no terminal"),
        Some((name, value)) => {
            let message = format!("{name} is {value}: what is not ASCII may not be shown");
            report.add("locale", Verdict::Warning, message, Some("export LC_ALL=C.UTF-8".into()));
        }
        None => {
            let message = "none is set: what is not ASCII may not be shown";
            report.add("locale", Verdict::Warning, message, Some("export LC_ALL=C.UTF-8".into()));
        }
    }
}
