//! Runs a program for the model, and says what it did in words and in numbers.

use std::{
    future::poll_fn,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    pin::{Pin, pin},
    time::Duration,
};

use bespoke_plugin_api::{CallCx, Error, Result, ToolOutput, serde_json::json};
use bespoke_program::{End, Outcome, share, supervise};

use crate::{Job, Runner};

pub(crate) const IS_SUPPORTED: bool = true;

/// Runs it, and answers when it has ended. Dropping the future ends it, too.
pub(crate) async fn run(runner: &Runner, cx: &CallCx, job: Job) -> Result<ToolOutput> {
    let pair = UnixStream::pair().map_err(|e| Error::internal(format!("no pipe to tell of a cancellation: {e}")))?;
    // Closing this end tells the other; so does dropping it together with this future.
    let (mut wanted, caller) = (Some(pair.0), pair.1);
    let Job { name, job } = job;
    let (limit, max_output) = (job.timeout, job.max_output);
    let mut done = pin!(runner.cx.blocking(move || supervise(&job, &caller)));
    let (mut gone, mut stopped) = (cx.cancelled(), runner.stopped.cancelled());
    let ended = poll_fn(|task| {
        if wanted.is_some() {
            let is_gone = Pin::new(&mut gone).poll(task).is_ready();
            if Pin::new(&mut stopped).poll(task).is_ready() || is_gone {
                wanted = None;
            }
        }
        done.as_mut().poll(task)
    });
    match ended.await? {
        Ok(Outcome { end: End::Cancelled, .. }) => Err(Error::cancelled()),
        Ok(outcome) => Ok(answer(&name, outcome, limit, max_output)),
        Err(e) => Ok(ToolOutput::error(format!("{name} could not be run: {e}")).with_data(json!({ "refused": "not_started" }))),
    }
}

fn answer(name: &str, outcome: Outcome, limit: Duration, max_output: usize) -> ToolOutput {
    let Outcome { end, status, stdout, stderr } = outcome;
    let (code, signal) = (status.code(), status.signal());
    let timed_out = end == End::TimedOut;
    let (out, err) = (stdout.total(), stderr.total());
    let (for_out, for_err) = share(max_output, out, err);
    let ((stdout, out_cut), (stderr, err_cut)) = (stdout.text(for_out), stderr.text(for_err));
    let mut text = match (timed_out, code, signal) {
        (true, ..) => format!("{name} was killed: it took longer than {} ms (`plugins.shell.timeout_ms`)", limit.as_millis()),
        (false, Some(code), _) => format!("exit code {code}"),
        (false, None, Some(signal)) => format!("{name} was ended by signal {signal}"),
        (false, None, None) => format!("{name} ended"),
    };
    for (title, content) in [("output", &stdout), ("errors", &stderr)] {
        if !content.is_empty() {
            text.push_str(&format!("\n{title}:\n{}", content.trim_end_matches('\n')));
        }
    }
    let data = json!({
        "code": code, "signal": signal, "timed_out": timed_out, "truncated": out_cut || err_cut,
        "stdout": stdout, "stderr": stderr, "stdout_bytes": out, "stderr_bytes": err,
    });
    let output = if timed_out || code.is_none() { ToolOutput::error(text) } else { ToolOutput::text(text) };
    output.with_data(data)
}
