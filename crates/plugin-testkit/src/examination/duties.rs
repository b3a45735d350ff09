//! What every plugin owes, whatever it contributes: it starts offline, refuses what it does not know, hands over what it keeps, lets go of
//! calls, and stops.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bespoke_plugin_api::{CallCx, CancelToken, Code, Contract, Contribution, Result as ApiResult, Spec, Tool, ToolOutput, ToolRequest};
use serde_json::Value;

use super::{
    Examination, Fault, LET_GO,
    report::{Kept, Report, Tried, read},
    samples, unknown_key,
};
use crate::{
    conformance::record::{caught, line},
    executor::block_on_for,
    host::Clock,
    rules::{cancelled_when_waiting, health_is_cheap, shutdown_is_idempotent},
    running::Running,
};

/// Who all of this is about.
const SUBJECT: &str = "plugin";

/// Calls that are made of one instance, one after the other, and the time that they get.
const MANY: usize = 100;
const MANY_WITHIN: Duration = Duration::from_secs(5);

/// Calls that are under way at once when a plugin is stopped.
const AT_ONCE: usize = 8;

/// The first instance, or nothing: what does not start is not examined further.
pub(super) fn starts(exam: &Examination, report: &mut Report<'_>) -> Option<Running> {
    let mut part = report.of(SUBJECT);
    part.check("has a configuration that its schema allows", || fits(exam));
    let mut first = None;
    part.check("starts offline", || {
        first = Some(exam.started(Clock::Jump)?);
        Ok(Kept::Yes)
    });
    let running = first?;
    part.check("contributes what its manifest declares", || {
        let specs: Vec<Spec> = running.contributions().iter().map(Contribution::spec).collect();
        (exam.declares)(&specs).map_err(|got| Fault::new("the same in both", got, read::PLUGINS)).map(|()| Kept::Yes)
    });
    Some(running)
}

fn fits(exam: &Examination) -> Tried {
    let config = exam.cases.config();
    if let Some(fault) = bespoke_schema::check(&exam.schema, &config).first() {
        return Err(Fault::new("a configuration that fits", fault.to_string(), read::CONFIG));
    }
    match (exam.fits)(&config) {
        Ok(()) if exam.schema.is_null() => Ok(Kept::Untried("it has no config.schema.json".into())),
        Ok(()) => Ok(Kept::Yes),
        Err(e) => Err(Fault::new("a configuration that fits", line(&e), read::CONFIG)),
    }
}

pub(super) fn all(exam: &Examination, contributions: &[Contribution], report: &mut Report<'_>) {
    let mut part = report.of(SUBJECT);
    part.check("refuses keys of its configuration that it does not know", || refuses(exam));
    part.check("says quickly how it does", || {
        let running = exam.started(Clock::Jump)?;
        health_is_cheap(&running).map_err(|got| Fault::new("health within 5 ms", got, read::CALLS)).map(|()| Kept::Yes)
    });
    part.check("takes its own configuration again", || reconfigures(exam));
    part.check("hands over what it keeps, and takes it back", || hands_over(exam));
    for tool in contributions.iter().filter_map(<dyn Tool>::of) {
        let name = &tool.0.name;
        part.check(&format!("lets go of a call of {name} that is cancelled"), || lets_go(exam, name));
        part.check(&format!("answers {MANY} calls of {name} within its limits"), || answers_many(exam, name));
        part.check(&format!("leaves no call of {name} without an answer when it stops"), || drains(exam, name));
    }
    part.check("stops, and stops again", || {
        let running = exam.started(Clock::Jump)?;
        shutdown_is_idempotent(&running).map_err(|got| Fault::new("two shutdowns that end", got, read::START)).map(|()| Kept::Yes)
    });
}

/// Whether an instance is there; it says so by answering what every instance answers.
pub(super) fn lives(running: &Running) -> Tried {
    match block_on_for(LET_GO, caught(running.instance.life.capture_state())) {
        None => Err(Fault::new("an instance that answers", "it does not answer any more", read::CALLS)),
        Some(Err(e)) if e.code() == Code::PLUGIN_CRASHED => {
            Err(Fault::new("an instance that outlives its calls", line(&e), read::CALLS).help(e.help()))
        }
        Some(_) => Ok(Kept::Yes),
    }
}

fn refuses(exam: &Examination) -> Tried {
    if exam.any_config {
        return Ok(Kept::Untried("it has no config.schema.json".into()));
    }
    let config = unknown_key(&exam.cases.config());
    let refused = |e: &bespoke_plugin_api::Error| e.code() == Code::INVALID_PARAMS;
    if !bespoke_schema::check(&exam.schema, &config).is_empty() {
        return Ok(Kept::Yes);
    }
    let expected = "INVALID_PARAMS for a key `no_such_key`";
    match (exam.fits)(&config) {
        Err(e) if refused(&e) => return Ok(Kept::Yes),
        Err(e) => return Err(Fault::new(expected, line(&e), read::CONFIG)),
        Ok(()) => {}
    }
    match exam.started_with(Clock::Jump, config) {
        // Whoever refuses it at its start has refused it.
        Err(fault) if fault.got.contains("no_such_key") => Ok(Kept::Yes),
        Err(fault) => Err(Fault { expected: expected.into(), ..fault }),
        Ok(_) => Err(Fault::new(
            expected,
            "it starts: a typing mistake passes for a default; add `deny_unknown_fields`, or \"additionalProperties\": false to its schema",
            read::CONFIG,
        )),
    }
}

fn reconfigures(exam: &Examination) -> Tried {
    let running = exam.started(Clock::Jump)?;
    match exam.within("a reconfiguration", running.instance.life.reconfigure(exam.cases.config()))? {
        Ok(_) => Ok(Kept::Yes),
        Err(e) => Err(Fault::new("`Applied` or `Restart`", line(&e), read::CONFIG)),
    }
}

fn hands_over(exam: &Examination) -> Tried {
    let (old, new) = (exam.started(Clock::Jump)?, exam.started(Clock::Jump)?);
    let state = match exam.within("capture_state", old.instance.life.capture_state())? {
        Ok(Some(state)) => state,
        Ok(None) => return Ok(Kept::Untried("it keeps nothing".into())),
        Err(e) => return Err(Fault::new("what it keeps, or nothing", line(&e), read::STATE)),
    };
    if let Err(e) = exam.within("restore_state", new.instance.life.restore_state(state.clone()))? {
        return Err(Fault::new("a new instance that takes it", line(&e), read::STATE));
    }
    match exam.within("capture_state", new.instance.life.capture_state())? {
        Ok(Some(again)) if again.version == state.version => Ok(Kept::Yes),
        Ok(other) => {
            let version = other.map(|state| state.version);
            Err(Fault::new(format!("what was handed over, in version {}", state.version), format!("{version:?}"), read::STATE))
        }
        Err(e) => Err(Fault::new("what was handed over", line(&e), read::STATE)),
    }
}

fn lets_go(exam: &Examination, name: &str) -> Tried {
    // By a clock that goes: a call that waits may look for its cancel only after that.
    let running = exam.started(Clock::Real)?;
    let (tool, args) = tool(exam, &running, name)?;
    let token = CancelToken::new();
    let cx = CallCx::new().with_cancel(token.clone());
    match cancelled_when_waiting(caught(tool.call(&cx, ToolRequest::new(args))), &token) {
        Some(_) => lives(&running),
        None => Err(Fault::new("a call that ends soon", format!("it goes on {} s later", LET_GO.as_secs()), read::CALLS)),
    }
}

fn answers_many(exam: &Examination, name: &str) -> Tried {
    let running = exam.started(Clock::Jump)?;
    let (tool, args) = tool(exam, &running, name)?;
    let begun = Instant::now();
    for n in 0..MANY {
        let called = exam.within("a call", tool.call(&CallCx::new(), ToolRequest::new(args.clone())))?;
        if let Err(e) = called
            && e.code() == Code::PLUGIN_CRASHED
        {
            return Err(Fault::new("an instance that outlives its calls", format!("after {n} calls: {}", line(&e)), read::CALLS));
        }
        if begun.elapsed() > MANY_WITHIN {
            return Ok(Kept::Untried(format!("{} calls took {} s", n + 1, MANY_WITHIN.as_secs())));
        }
    }
    lives(&running)
}

fn drains(exam: &Examination, name: &str) -> Tried {
    let running = exam.started(Clock::Jump)?;
    let (tool, args) = tool(exam, &running, name)?;
    let cx = CallCx::new();
    type Call<'c> = Pin<Box<dyn Future<Output = ApiResult<ToolOutput>> + Send + 'c>>;
    let begin = |_| -> Option<Call<'_>> { Some(Box::pin(tool.call(&cx, ToolRequest::new(args.clone())))) };
    let mut calls: Vec<Option<Call<'_>>> = (0..AT_ONCE).map(begin).collect();
    let mut shutdown = Some(running.instance.life.shutdown());
    let all = poll_fn(|cx| {
        for call in &mut calls {
            let done = call.as_mut().is_some_and(|call| {
                let mut polled = std::pin::pin!(caught(poll_fn(|cx| call.as_mut().poll(cx))));
                polled.as_mut().poll(cx).is_ready()
            });
            if done {
                *call = None;
            }
        }
        // All of them have begun by now.
        if shutdown.as_mut().is_some_and(|shutdown| shutdown.as_mut().poll(cx).is_ready()) {
            shutdown = None;
        }
        if calls.iter().all(Option::is_none) && shutdown.is_none() { Poll::Ready(()) } else { Poll::Pending }
    });
    match block_on_for(LET_GO, all) {
        Some(()) => Ok(Kept::Yes),
        None => Err(Fault::new("an answer or an error for each", format!("silence for {} s", LET_GO.as_secs()), read::START)),
    }
}

/// A tool of an instance, and arguments that fit it.
fn tool(exam: &Examination, running: &Running, name: &str) -> Result<(Arc<dyn Tool>, Value), Fault> {
    let all = running.contributions();
    let Some((spec, tool)) = all.iter().filter_map(<dyn Tool>::of).find(|(spec, _)| spec.name == name) else {
        return Err(Fault::new(format!("the tool {name}"), "it is not there in another instance", read::PLUGINS));
    };
    Ok((tool.clone(), exam.cases.args_of(name).unwrap_or_else(|| samples::fitting(&spec.input_schema))))
}
