//! The verbs, one module each: from what was typed to what is printed.

mod chat;
pub(crate) mod commands;
mod config;
mod demo;
pub(crate) mod doctor;
#[cfg(feature = "serve")]
mod events;
#[cfg(not(feature = "serve"))]
#[path = "events_disabled.rs"]
mod events;
#[cfg(feature = "process")]
mod host;
#[cfg(not(feature = "process"))]
#[path = "host_disabled.rs"]
mod host;
mod init;
pub(crate) mod licenses;
mod models;
#[cfg(feature = "serve")]
mod outbox;
#[cfg(not(feature = "serve"))]
#[path = "outbox_disabled.rs"]
mod outbox;
mod plugin;
#[cfg(feature = "xla")]
mod runtime;
#[cfg(not(feature = "xla"))]
#[path = "runtime_disabled.rs"]
mod runtime;
#[cfg(feature = "serve")]
pub(crate) mod serve;
#[cfg(not(feature = "serve"))]
#[path = "serve_disabled.rs"]
mod serve;
#[cfg(feature = "state")]
mod sessions;
#[cfg(not(feature = "state"))]
#[path = "sessions_disabled.rs"]
mod sessions;
mod shown_logs;
mod speech;
#[cfg(feature = "serve")]
mod status;
#[cfg(not(feature = "serve"))]
#[path = "status_disabled.rs"]
mod status;
pub(crate) mod usage;
mod vad;

use std::{
    io::{IsTerminal, Read},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bespoke_agent::TurnEvent;
use bespoke_host::{Host, RedactedPieces, Refused};
use bespoke_plugin_api::{CallCx, CancelToken, Inbound};
use bespoke_screen::{Page, columns};
use serde_json::json;

use crate::{
    cli::{Ask, Cli, ConfigVerb, Outbox, Plugin, Verb},
    conversation::{Conversation, Exchange},
    exit::{Exit, Failure, Result},
    logs,
    models::Consent,
    output::Out,
    setup::Setup,
};

pub(crate) use runtime::before_threads;

pub(crate) async fn run(cli: Cli) -> Result<()> {
    let global = &cli.global;
    // These work on the set-up itself, so they come before it.
    match cli.verb {
        Verb::Config(verb) if verb.changes() => return config::change(global, verb).await,
        Verb::Doctor(args) => return doctor::run(global, &args).await,
        Verb::Init(args) => return init::run(global, args).await,
        // Terms are told whatever is wrong with the set-up.
        Verb::Licenses(args) => return licenses::run(Out::with(global.json, global.quiet), &args),
        Verb::Host(args) => return host::run(global, args).await,
        Verb::Serve(args) => return serve::run(global, args).await,
        // What is wrong with the configuration is no reason not to look at what runs, nor at what was logged.
        Verb::Status => return status::status(global).await,
        Verb::Reload => return status::reload(global).await,
        Verb::Logs(args) => return shown_logs::run(global, &args).await,
        Verb::Events(verb) => return events::run(global, verb).await,
        Verb::Outbox { verb } => return outbox::run(global, verb.unwrap_or(Outbox::List)).await,
        // It needs a compiler and no plugin.
        Verb::Plugin(Plugin::Build(building)) => return plugin::build::run(Out::with(global.json, global.quiet), building).await,
        _ => {}
    }
    let setup = Setup::new(global, overrides(&cli.verb))?;
    // A check tells all of it in its own way.
    if !matches!(cli.verb, Verb::Config(ConfigVerb::Check)) {
        setup.require(sections_of(&cli.verb))?;
    }
    let result = match cli.verb {
        Verb::Demo(args) => demo::run(&setup, args).await,
        Verb::Say(args) => speech::say(&setup, args).await,
        Verb::Ask(args) => ask(&setup, args).await,
        Verb::Chat(args) => chat::run(&setup, args).await,
        Verb::Vad(args) => vad::run(&setup, args).await,
        Verb::Transcribe(args) => speech::transcribe(&setup, args).await,
        Verb::Speak(args) => speech::speak(&setup, args).await,
        Verb::Plugin(verb) => plugin::run(&setup, global, verb).await,
        Verb::Sessions(verb) => sessions::run(&setup, verb),
        Verb::Models { verb } => models::run(&setup, verb).await,
        Verb::Runtime(verb) => runtime::run(&setup, verb).await,
        Verb::Config(verb) => config::run(&setup, verb).await,
        Verb::Usage => usage::run(&setup).await,
        Verb::Command(words) => commands::run(&setup, words).await,
        Verb::Init(_)
        | Verb::Doctor(_)
        | Verb::Host(_)
        | Verb::Serve(_)
        | Verb::Status
        | Verb::Reload
        | Verb::Logs(_)
        | Verb::Events(_)
        | Verb::Outbox { .. }
        | Verb::Licenses(_)
        | Verb::Completions { .. } => Err(Failure::failed("this verb is done before the set-up")),
    };
    // However it ended: plugins are stopped in order.
    setup.host.shutdown().await;
    result
}

/// The sections that a verb works with; one that is wrong stops it. Those that look at the set-up go on, to say what is wrong.
fn sections_of(verb: &Verb) -> &'static [&'static str] {
    match verb {
        Verb::Ask(_) | Verb::Chat(_) => &["agent"],
        Verb::Demo(_) | Verb::Say(_) => &["agent", "voice"],
        Verb::Vad(_) | Verb::Transcribe(_) | Verb::Speak(_) => &["voice"],
        Verb::Plugin(_)
        | Verb::Sessions(_)
        | Verb::Models { .. }
        | Verb::Licenses(_)
        | Verb::Runtime(_)
        | Verb::Config(_)
        | Verb::Init(_)
        | Verb::Doctor(_)
        | Verb::Host(_)
        | Verb::Serve(_)
        | Verb::Status
        | Verb::Reload
        | Verb::Logs(_)
        | Verb::Events(_)
        | Verb::Outbox { .. }
        | Verb::Usage
        | Verb::Command(_)
        | Verb::Completions { .. } => &[],
    }
}

/// Settings that a verb makes for itself.
fn overrides(verb: &Verb) -> Vec<(&'static str, String)> {
    match verb {
        Verb::Vad(args) => vad::overrides(args.engine),
        Verb::Ask(args) => args.answering.overrides(),
        Verb::Chat(args) => args.answering.overrides(),
        // It shows the shortest way from speech to speech.
        Verb::Demo(_) => vec![("agent.tools", "[]".into())],
        _ => Vec::new(),
    }
}

pub(crate) fn completions(shell: clap_complete::Shell, mut command: clap::Command, name: &str) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    Out::new(false).text(&String::from_utf8_lossy(&text))
}

async fn ask(setup: &Setup, args: Ask) -> Result<()> {
    let question = with_pipe(args.text.clone())?;
    setup.start(&setup.text_needs(), &Consent::from(&args.fetching)).await?;
    let out = setup.out;
    let mut conversation = Conversation::open(setup, &args.kept, "ask")?;
    let cx = interruptible(&setup.host);
    let mut page = Printed::new(out);
    let exchange = conversation.exchange(&cx, Inbound::new("ask", "ask", "1", question), |event| match event {
        TurnEvent::Text(text) if !out.json && page.wrote.is_ok() => {
            page.add(&text);
            if page.wrote.is_err() {
                cx.cancel_token().cancel();
            }
        }
        event => {
            if matches!(event, TurnEvent::ProviderFailed { shown: true, .. }) && !out.json {
                page.end_line();
            }
            out.told(&event);
        }
    });
    let exchange = exchange.await;
    let id = conversation.id().map(str::to_owned);
    conversation.end().await;
    let Exchange { turn, withheld } = exchange?;
    if turn.is_err() && page.begun {
        // An answer that broke off ends its line too.
        page.end_line();
    }
    std::mem::replace(&mut page.wrote, Ok(()))?;
    let turn = turn?;
    if let Some(Refused { plugin, reason, .. }) = withheld {
        return Err(Failure::new(Exit::Consent, format!("the answer is withheld by {plugin}: {reason}")));
    }
    if out.json {
        let ms = |d: std::time::Duration| d.as_secs_f64() * 1e3;
        let failures: Vec<_> = turn.failures.iter().map(|(provider, reason)| json!({ "provider": provider, "reason": reason })).collect();
        let value = json!({
            "text": turn.text, "provider": turn.provider, "model": turn.model, "finish": turn.finish, "usage": turn.usage,
            "tool_calls": turn.tool_calls, "failures": failures, "session": id,
            "first_token_ms": turn.first_token.map(ms), "total_ms": ms(turn.total),
        });
        return out.json(&value, true);
    }
    page.end_line();
    page.wrote
}

/// An answer on stdout as it is written: broken between words on a terminal, as it is in a pipe.
struct Printed {
    out: Out,
    page: Option<Page>,
    /// A secret may lie across two pieces.
    clean: RedactedPieces,
    begun: bool,
    wrote: Result<()>,
}

impl Printed {
    fn new(out: Out) -> Self {
        Printed { out, page: columns().map(|_| Page::default()), clean: logs::pieces(), begun: false, wrote: Ok(()) }
    }

    fn add(&mut self, text: &str) {
        self.begun = true;
        let text = &*self.clean.push(text);
        let broken = self.page.as_mut().map(|page| page.add(text, columns().unwrap_or(80)));
        if self.wrote.is_ok() {
            self.wrote = self.out.text(broken.as_deref().unwrap_or(text));
        }
    }

    fn end_line(&mut self) {
        self.add("\n");
        // What was held back as the beginning of a secret was none.
        let rest = std::mem::replace(&mut self.clean, logs::pieces()).finish();
        if self.wrote.is_ok() && !rest.is_empty() {
            self.wrote = self.out.text(&rest);
        }
    }
}

/// Most bytes that are read from a pipe as one message.
const LONGEST_PIPE: u64 = 1 << 20;

fn too_long() -> Failure {
    Failure::new(Exit::Usage, "stdin: longer than 1 MiB; no model reads that much")
}

/// What was typed and what was piped in, the pipe last.
fn with_pipe(typed: Option<String>) -> Result<String> {
    let mut text = typed.unwrap_or_default();
    let stdin = std::io::stdin();
    if text.is_empty() && stdin.is_terminal() {
        return Err(Failure::new(Exit::Usage, "there is no text: type it, or pipe it in"));
    }
    // A pipe beside a typed text is part of it only if there is one: a daemon's stdin may be open and silent for ever.
    if !stdin.is_terminal() && (text.is_empty() || piped()) {
        let mut piped = String::new();
        stdin.lock().take(LONGEST_PIPE + 1).read_to_string(&mut piped).map_err(|e| Failure::failed(format!("stdin: {e}")))?;
        if piped.len() as u64 > LONGEST_PIPE {
            return Err(too_long());
        }
        if !piped.trim().is_empty() {
            text = if text.is_empty() { piped } else { format!("{text}\n\n{piped}") };
        }
    }
    if text.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, "the text is empty"));
    }
    Ok(text.trim().to_owned())
}

/// Whether stdin is a file or a pipe that somebody writes to, and not a device or a socket.
#[cfg(unix)]
fn piped() -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = std::fs::metadata("/dev/stdin").map(|m| m.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_file())
}

#[cfg(not(unix))]
fn piped() -> bool {
    true
}

/// What is told of a program that ends at the second signal may take so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A context that Ctrl-C cancels. A second Ctrl-C ends the program, as soon as it is told that what was under way is over.
pub(crate) fn interruptible(host: &Host) -> CallCx {
    let host = host.clone();
    let token = CancelToken::new();
    let cx = CallCx::new().with_cancel(token.clone());
    let mut first = Box::pin(tokio::signal::ctrl_c());
    // The first poll sets the handler up. Without it, Ctrl-C would end the program until the task below has its turn.
    let early = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    tokio::spawn(async move {
        let first = match early {
            Poll::Ready(result) => result,
            Poll::Pending => first.await,
        };
        if first.is_ok() {
            token.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            force_end(&host).await;
        }
    });
    cx
}

/// Somebody has no patience left: ends the program, as soon as it is told that what was under way is over.
async fn force_end(host: &Host) -> ! {
    host.cut_off(LAST_WORDS).await;
    std::process::exit(Exit::Interrupted.code().into())
}
