//! Runs the program of a hook: feeds it the event, and ends it when nobody waits any more.

use std::{
    future::poll_fn,
    os::unix::net::UnixStream,
    pin::{Pin, pin},
};

use bespoke_plugin_api::{CallCx, Code, Error, HookEvent, Result, serde_json};
use bespoke_program::{End, Job, supervise};

use crate::{
    Asked,
    reply::{MOST_OUTPUT, Said},
};

/// Bytes of errors that are kept.
const MOST_ERRORS: usize = 8 << 10;

/// Runs it to its end. Dropping the future ends it, too.
pub(crate) async fn run(asked: &Asked, cx: &CallCx, event: &HookEvent) -> Result<Said> {
    let stdin = serde_json::to_vec(event).map_err(|e| Error::internal(format!("the event is no JSON: {e}")))?;
    let command = &asked.command;
    // Whoever asks stops waiting at the deadline: the program ends then, too.
    let timeout = cx.deadline().map_or(command.timeout, |deadline| asked.cx.now().until(deadline).min(command.timeout));
    let job = Job {
        program: command.program.clone(),
        args: command.args.clone(),
        stdin,
        folder: command.folder.clone(),
        environment: command.environment.clone(),
        timeout,
        max_output: MOST_OUTPUT,
    };
    let pair = UnixStream::pair().map_err(|e| Error::internal(format!("no pipe to tell of a cancellation: {e}")))?;
    // Closing this end tells the other; so does dropping it together with this future.
    let (mut wanted, caller) = (Some(pair.0), pair.1);
    let mut done = pin!(asked.cx.blocking(move || supervise(&job, &caller)));
    let (mut gone, mut stopped) = (cx.cancelled(), asked.stopped.cancelled());
    let ended = poll_fn(|task| {
        if wanted.is_some() {
            let is_gone = Pin::new(&mut gone).poll(task).is_ready();
            if Pin::new(&mut stopped).poll(task).is_ready() || is_gone {
                wanted = None;
            }
        }
        done.as_mut().poll(task)
    });
    let name = &asked.name;
    match ended.await? {
        Ok(outcome) => match outcome.end {
            End::Cancelled => Err(Error::cancelled()),
            End::TimedOut => {
                let message = format!("`{name}` was killed: it took longer than {} ms", timeout.as_millis());
                Err(Error::new(Code::EXECUTION_TIMEOUT, message))
            }
            End::Itself => {
                Ok(Said { code: outcome.status.code(), stdout: outcome.stdout.whole(), stderr: outcome.stderr.text(MOST_ERRORS).0 })
            }
        },
        Err(e) => Err(Error::new(Code::PLUGIN_EXCEPTION, format!("`{name}` could not be run: {e}"))),
    }
}
