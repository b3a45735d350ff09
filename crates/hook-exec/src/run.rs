//! Runs the program of a hook: looks it up, feeds it the event, and ends it when nobody waits any more.

use std::{
    future::poll_fn,
    os::unix::net::UnixStream,
    pin::{Pin, pin},
    time::Duration,
};

use bespoke_configured_hooks::MOST_ANSWER;
use bespoke_plugin_api::{CallCx, Code, Error, HookEvent, Result, serde_json};
use bespoke_program::{End, Job, supervise};

use crate::{Asked, reply::Said};

/// Bytes of errors that are kept.
const MOST_ERRORS: usize = 8 << 10;

/// Runs it to its end. Dropping the future ends it, too.
pub(crate) async fn run(asked: &Asked, cx: &CallCx, event: &HookEvent, limit: Duration) -> Result<Said> {
    let name = &asked.entry.name;
    let stdin = serde_json::to_vec(event).map_err(|e| Error::internal(format!("the event is no JSON: {e}")))?;
    let (entry, own, lacks) = (asked.entry.clone(), asked.cx.data_dir().cloned(), asked.lacks.clone());
    let pair = UnixStream::pair().map_err(|e| Error::internal(format!("no pipe to tell of a cancellation: {e}")))?;
    // Closing this end tells the other; so does dropping it together with this future.
    let (mut wanted, caller) = (Some(pair.0), pair.1);
    let work = move || {
        // Each time: it may be there by now, or not any more.
        let found = entry.look_up(own.as_deref());
        lacks.note(&entry.name, found.as_ref().err().cloned());
        let found = found.map_err(|why| Error::new(Code::PLUGIN_EXCEPTION, why))?;
        let job = Job {
            program: found.program,
            args: found.args,
            stdin,
            folder: found.folder,
            environment: found.environment,
            timeout: limit,
            max_output: MOST_ANSWER,
        };
        let not_run = |e| Error::new(Code::PLUGIN_EXCEPTION, format!("`{}` could not be run: {e}", entry.name));
        supervise(&job, &caller).map_err(not_run)
    };
    let mut done = pin!(asked.cx.blocking(work));
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
    let outcome = ended.await??;
    match outcome.end {
        End::Cancelled => Err(Error::cancelled()),
        End::TimedOut => {
            let message = format!("`{name}` was killed: it took longer than {} ms", limit.as_millis());
            Err(Error::new(Code::EXECUTION_TIMEOUT, message))
        }
        End::Itself => Ok(Said { code: outcome.status.code(), stdout: outcome.stdout.whole(), stderr: outcome.stderr.text(MOST_ERRORS).0 }),
    }
}
