//! How a child's process ended, and the error that everybody who waited for it gets.

use bespoke_plugin_api::{
    Code, Error,
    serde_json::{Map, json},
};

use crate::log::LastLines;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// It was lost sight of, for this reason.
    Unknown(String),
}

/// How a plugin ended.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) exit: Exit,
    /// Why this side ended it, if it did; in words that follow "it".
    pub(crate) why: Option<String>,
    /// Whether it had said hello.
    pub(crate) greeted: bool,
}

impl Ending {
    /// The error of a plugin that ended although nobody asked it to.
    pub(crate) fn error(&self, last: &LastLines) -> Error {
        let mut data = Map::new();
        let how = match &self.exit {
            Exit::Code(code) => {
                data.insert("exit".into(), json!(code));
                format!("its process ended with exit code {code}")
            }
            Exit::Signal(signal) => {
                let name = signal_name(*signal);
                data.insert("signal".into(), json!(name));
                format!("its process was ended by {name}")
            }
            Exit::Unknown(why) => format!("its process is gone: {why}"),
        };
        let mut message = match &self.why {
            Some(why) => {
                data.insert("reason".into(), json!(why));
                format!("was ended: it {why}")
            }
            None => how,
        };
        if !self.greeted {
            message += " before it said hello";
        }
        let lines = last.all();
        if !lines.is_empty() {
            if let (None, Some(line)) = (&self.why, last.last()) {
                message += &format!("; it last said: {}", shortened(line.trim()));
            }
            data.insert("stderr".into(), json!(lines));
        }
        Error::new(Code::PLUGIN_CRASHED, message).retryable().with_data(data.into())
    }
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        // The numbers of these differ between systems.
        24 if cfg!(target_os = "linux") => "SIGXCPU",
        25 if cfg!(target_os = "linux") => "SIGXFSZ",
        31 if cfg!(target_os = "linux") => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_how_it_ended_and_what_it_last_said() {
        let last = LastLines::default();
        let told = |exit, why: Option<&str>, greeted| Ending { exit, why: why.map(Into::into), greeted }.error(&last).message().to_owned();
        assert_eq!(told(Exit::Code(3), None, true), "its process ended with exit code 3");
        assert_eq!(told(Exit::Signal(11), None, false), "its process was ended by SIGSEGV before it said hello");
        assert_eq!(told(Exit::Signal(9), Some("did not answer"), true), "was ended: it did not answer");
        last.keep("Traceback");
        last.keep("ValueError: no");
        last.keep("");
        let error = Ending { exit: Exit::Signal(64), why: None, greeted: true }.error(&last);
        assert_eq!(error.message(), "its process was ended by signal 64; it last said: ValueError: no");
        assert_eq!(error.data().unwrap()["stderr"], json!(["Traceback", "ValueError: no", ""]));
        assert!(error.is_retryable() && error.code() == Code::PLUGIN_CRASHED);
    }
}
