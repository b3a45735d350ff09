//! What a start and a question have in common in every tier outside the program: how long they may take, and what they are called when
//! they come to nothing. What is started, and how it is ended, is each tier's own.

use std::time::Duration;

use bespoke_host::Terms;
use bespoke_plugin_api::{Code, Error};

/// How long a start may take where nobody says, as in the host.
const START: Duration = Duration::from_secs(10);

/// How long a start may take: a little less than the host waits, so that it is the tier that ends it, and says why.
pub fn limit(terms: &Terms) -> Duration {
    let limit = terms.limits.start_timeout_ms.map_or(START, |ms| Duration::from_millis(ms.into()));
    limit - (limit / 10).min(Duration::from_millis(500))
}

/// The error of a plugin that `what` within `limit`: it did not start, or did not say hello. `said` is what it last said.
pub fn too_slow(what: &str, limit: Duration, said: Option<&str>) -> Error {
    let said = said.map_or(String::new(), |line| format!("; it last said: {line}"));
    let message = format!("{what} within {:.1} s, and was ended{said}", limit.as_secs_f64());
    Error::new(Code::INITIALIZE_FAILED, message)
        .with_help("raise start_timeout_ms under [resources] in its manifest, or plugins.start_timeout_ms")
}

/// The error of the plugin `id` that ended before it serves: it has not crashed, it does not start, which is `code`.
pub fn not_up(error: Error, code: Code, id: &str) -> Error {
    if error.code() != Code::PLUGIN_CRASHED {
        return error;
    }
    let mut told = Error::new(code, error.message());
    if let Some(help) = error.help() {
        told = told.with_help(help);
    }
    with_logs(error.data().cloned().map_or(told.clone(), |data| told.with_data(data)), id)
}

/// The same error; where nothing is known that helps, with what else the plugin `id` said.
pub fn with_logs(error: Error, id: &str) -> Error {
    if error.help().is_some() { error } else { error.with_help(format!("see what it logged: bespoke logs --plugin {id}")) }
}
