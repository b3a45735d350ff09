//! From the command line to an exit code.

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};

use crate::{
    cli::{Cli, Verb},
    cmd::{
        self,
        commands::{self, Look},
    },
    exit::{Exit, Failure, Result},
    logs,
    output::{Out, closed},
};

/// Who the program is; see [`app_info!`](crate::app_info).
#[derive(Debug, Clone, Copy)]
pub struct AppInfo {
    /// Name of the binary.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The program: the plugins that were linked into it, behind one command line.
#[derive(Debug)]
pub struct App {
    info: AppInfo,
}

/// How long working threads may go on when the program ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Threads of the runtime, at least.
const FEWEST_THREADS: usize = 4;

impl App {
    /// The program of that name.
    pub fn new(info: AppInfo) -> Self {
        App { info }
    }

    /// Does what the command line says.
    pub fn run(self) -> ExitCode {
        // The host survives a panic of a plugin only where panics unwind.
        if cfg!(panic = "abort") {
            Out::new(false)
                .note("this program was built with panic = \"abort\", under which one bad plugin ends it; build with panic = \"unwind\"");
            return Exit::Failed.into();
        }
        decline_telemetry();
        one_heap();
        let mut args = std::env::args_os().skip(1);
        if let Some(verb) = args.next().as_deref().and_then(|first| bespoke_host::inner_verb(first.to_str()?)) {
            return (verb.run)(&args.collect::<Vec<_>>());
        }
        logs::redact_panics();
        match self.dispatch() {
            Ok(()) => Exit::Ok.into(),
            Err(failure) => {
                if !failure.message.is_empty() {
                    Out::new(false).note(format!("{}: {failure}", self.info.name));
                }
                failure.exit.into()
            }
        }
    }

    fn dispatch(&self) -> Result<()> {
        let command = Cli::command().name(self.info.name).bin_name(self.info.name).version(self.info.version);
        let cli = match command.clone().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
            Ok(cli) => cli,
            Err(error) => match self.beyond(&command, error)? {
                Some(cli) => cli,
                None => return Ok(()),
            },
        };
        if let Verb::Completions { shell } = cli.verb {
            return cmd::completions(shell, Look::at(&cli.global, None).beside(command), self.info.name);
        }
        cmd::before_threads(&cli.verb);
        // A plugin that blocks its thread is noticed and left behind by the others, so there have to be others.
        let threads = std::thread::available_parallelism().map_or(FEWEST_THREADS, |cores| cores.get().max(FEWEST_THREADS));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let result = runtime.block_on(cmd::run(cli));
        match &result {
            Ok(()) => runtime.shutdown_timeout(FAREWELL),
            // A thread may still wait for a line that nobody will type; the plugins had their time when the host stopped them.
            Err(_) => runtime.shutdown_background(),
        }
        result
    }

    /// What the program's own command line does not take: a command of a plugin; or there is something to show.
    fn beyond(&self, command: &clap::Command, error: clap::Error) -> Result<Option<Cli>> {
        let show = |error: &clap::Error| told(error).map(|()| None);
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let Some(global) = commands::asks_for_help_of_all(command) else { return show(&error) };
                show(&read_again(Look::at(&global, None).in_help_of(command.clone())).unwrap_or(error))
            }
            ErrorKind::InvalidSubcommand => {
                let Some((global, words)) = commands::read(command) else { return show(&error) };
                let name = words.first().and_then(|word| word.to_str()).unwrap_or_default();
                let look = Look::at(&global, Some(name));
                // Where nobody has this name, clap says so, and which name is close.
                let beside = look.beside(command.clone());
                match look.find(name)? {
                    Some(info) if commands::is_help(&words) => commands::help(self.info.name, &info).map(|()| None),
                    Some(_) => Ok(Some(Cli { global, verb: Verb::Command(words) })),
                    None => show(&read_again(beside).unwrap_or(error)),
                }
            }
            _ => show(&error),
        }
    }
}

/// Shows what clap has to say. It knows where its text goes; help and version are no failures.
fn told(error: &clap::Error) -> Result<()> {
    let shown = error.print();
    if error.use_stderr() { Err(Failure::new(Exit::Usage, "")) } else { shown.map_err(closed) }
}

/// What another command line says to the same words, if it does not take them.
fn read_again(command: clap::Command) -> Option<clap::Error> {
    command.try_get_matches().err()
}

/// glibc gives threads heaps of their own, up to eight per core, and what is freed in one is no use to another: a program that serves for
/// weeks grows by that: by 18.5 % over 100,000 answers with what glibc takes by itself, by 6.3 % with two, by 4.0 % with one
/// (`benches/benches/serve.rs`, which sets the same). What threads free they keep for themselves first, so one heap costs no speed there.
fn one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a call of the C library")]
    // SAFETY: it takes two integers, and no other thread exists yet.
    unsafe {
        // It fails only for values that it does not know, and then all is as it was.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// ONNX Runtime 1.29 and later report home unless this is set before the library is loaded, and plugins may load it. An empty value
/// is no decision. The only place that sets it: plugins in processes get it from `tier-process`, and `onnx` refuses to load without.
fn decline_telemetry() {
    const NAME: &str = "ORT_DISABLE_TELEMETRY";
    if std::env::var_os(NAME).is_none_or(|value| value.is_empty()) {
        #[allow(unsafe_code, reason = "the environment can only be set through an unsafe call")]
        // SAFETY: the first thing that the program does: no other thread exists that could read the environment.
        unsafe {
            std::env::set_var(NAME, "1");
        }
    }
}
