//! How an instance ended, and the error that everybody who waited for it gets.

use std::time::Duration;

use bespoke_plugin_api::{Code, Error};
use wasmtime::Trap;

use crate::limits::{Limits, Refused, Why};

/// What is known of an instance that has ended.
pub(crate) struct Ending<'e> {
    pub(crate) limits: &'e Limits,
    /// Why it was interrupted, if it was.
    pub(crate) why: Option<Why>,
    /// What it was refused in its last step.
    pub(crate) refused: Option<Refused>,
    /// The last that it said in that step.
    pub(crate) said: Option<&'e str>,
}

impl Ending<'_> {
    /// The error of an instance whose code trapped.
    pub(crate) fn error(&self, trap: &wasmtime::Error) -> Error {
        if let Some(why) = self.why {
            return self.interrupted(why);
        }
        match self.refused {
            Some(Refused::Memory) => {
                let mib = self.limits.memory >> 20;
                let message = format!("wanted more than the {mib} MiB of memory that it may have, and ended");
                return Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("raise memory_mb under [resources] in its manifest");
            }
            Some(Refused::Table) => {
                let message = format!("wanted a table of more than {} elements, and ended", self.limits.table);
                return Error::new(Code::RESOURCE_EXHAUSTED, message);
            }
            None => {}
        }
        let how = match trap.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => "aborted".to_owned(),
            Some(Trap::StackOverflow) => "was ended: its stack overflowed".to_owned(),
            Some(trap) => format!("was ended: {trap}"),
            None => format!("was ended: {}", shortened(&trap.root_cause().to_string())),
        };
        let said = self.said.map_or(String::new(), |line| format!("; it last said: {}", shortened(line)));
        Error::new(Code::PLUGIN_CRASHED, how + &said).retryable()
    }

    /// The error of an instance that was interrupted, or whose time is used up.
    pub(crate) fn interrupted(&self, why: Why) -> Error {
        match why {
            Why::Unwanted => {
                let message = format!("was ended: it computed on for {} after its calls were given up", seconds(self.limits.unwanted));
                Error::new(Code::PLUGIN_CRASHED, message).retryable()
            }
            Why::Step => {
                let message = format!("was ended: it computed for {} without an answer", seconds(self.limits.step));
                Error::new(Code::EXECUTION_TIMEOUT, message)
            }
            Why::WaitedUnwanted => {
                let message = format!("was ended: it waited on for {} after its calls were given up", seconds(self.limits.unwanted * 2));
                Error::new(Code::PLUGIN_CRASHED, message).retryable()
            }
            Why::Waited => {
                let message = format!("was ended: it waited for {} without an answer", seconds(self.limits.step * 2));
                Error::new(Code::EXECUTION_TIMEOUT, message)
            }
            Why::Cpu => {
                let time = self.limits.cpu.map_or(String::new(), |cpu| format!("the {} of ", seconds(cpu)));
                let message = format!("was ended: it has used {time}CPU time that it may have");
                Error::new(Code::RESOURCE_EXHAUSTED, message).with_help("raise cpu_seconds under [resources] in its manifest")
            }
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
