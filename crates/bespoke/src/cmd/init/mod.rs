//! `init`: a first configuration, with a few questions or none, written only if it is right, and tried with one question.
//!
//! **Invariant:** nothing is written before the last question is answered, and no secret ever.

mod document;
mod plan;
mod questions;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use bespoke_agent::Session;
use bespoke_host::{Config, ConfigError, ConfigFile, Host, Selection};
use serde_json::json;

use self::plan::{Here, Plan};
use crate::{
    cli::{Global, Init},
    cmd::interruptible,
    exit::{Exit, Failure, Result},
    logs,
    models::Consent,
    output::{Out, ask, can_ask},
    paths::Paths,
    secrets,
    sections::sections,
    setup::{Setup, missing_keys},
};

/// Short, and every model knows it.
const QUESTION: &str = "What is the capital of France?";

pub(crate) async fn run(global: &Global, args: Init) -> Result<()> {
    let out = Out::with(global.json, global.quiet);
    if !args.yes && !can_ask() {
        return Err(Failure::new(Exit::Usage, "nobody can be asked: this is no terminal").help("bespoke init --yes"));
    }
    let path = target(global, &args)?;
    let mut force = args.force;
    if path.exists() && !args.force && !args.dry_run {
        let taken = || Failure::new(Exit::Conflict, format!("{} is there already", path.display())).help(with_force());
        if args.yes {
            return Err(taken());
        }
        out.note(format!("{} is there already.", path.display()));
        force = ask("Replace it, and keep a copy?")?;
        if !force {
            return Err(taken());
        }
    }
    let host = Host::builder().plugins(bespoke_plugin_api::compiled_in()).build()?;
    let here = Here::of(&host);
    let mut plan = Plan::of(&args, &here)?;
    if !args.yes {
        questions::ask_for(&mut plan, &args, &here, out)?;
    }
    plan.complete(&here)?;
    let text = document::of(&plan, &here)?;
    let config = secrets::sources().into_iter().fold(Config::parse_beside(&path, &text)?, Config::with_source);
    logs::redact(config.redactor());
    check(config).await?;
    if args.dry_run {
        return out.text(&text);
    }
    let backup = write(&path, &text, force).map_err(|e| {
        let taken = e.kind() == io::ErrorKind::AlreadyExists && path.is_file();
        Failure::new(if taken { Exit::Conflict } else { Exit::Failed }, format!("{} cannot be written: {e}", path.display()))
            .help("bespoke init --config FILE, or export BESPOKE_HOME=/a/folder")
    })?;
    told(out, &path, backup.as_deref());
    try_it(global, &args, &plan, &path, backup.as_deref(), out).await
}

/// The file that is written: the one that is named, else the one of the home.
fn target(global: &Global, args: &Init) -> Result<PathBuf> {
    if args.here && global.config.is_some() {
        return Err(Failure::new(Exit::Usage, "--here and --config name two files").help("bespoke init --here"));
    }
    let path = match (args.here, Paths::asked(global.config.as_deref())) {
        (true, _) => PathBuf::from("bespoke.toml"),
        (false, Some(path)) => path,
        (false, None) => Paths::home()?.join("bespoke.toml"),
    };
    let path = std::path::absolute(path)?;
    if path.is_dir() {
        return Err(Failure::new(Exit::Usage, format!("{} is a folder", path.display())).help("bespoke init --config FILE"));
    }
    Ok(path)
}

/// What was typed, with the flag that is missing.
fn with_force() -> String {
    let mut words: Vec<String> = env::args().skip(1).map(|word| quoted(&word)).collect();
    words.insert(0, "bespoke".into());
    words.push("--force".into());
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "/._-+=@%,:~".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// As `config check` does, before the file is there.
async fn check(config: Config) -> Result<()> {
    let (_, faults) = sections(&config);
    let mut problems = faults.problems();
    let host = Host::builder().config(config).plugins(bespoke_plugin_api::compiled_in()).build()?;
    problems.extend(host.check_config().await.err().into_iter().flat_map(|e| e.problems));
    if !problems.is_empty() {
        return Err(ConfigError::from(problems).into());
    }
    match missing_keys(&host, "bespoke plugin list").into_iter().next() {
        None => Ok(()),
        Some((key, row)) => {
            let failure = Failure::new(Exit::NotFound, format!("{key}: {}: {}", row.id, row.reason.unwrap_or_default()));
            Err(failure.help(row.fix.unwrap_or_default()))
        }
    }
}

/// Writes it, while no other program does; the one before stays under another name, which is returned.
fn write(path: &Path, text: &str, force: bool) -> io::Result<Option<PathBuf>> {
    let file = ConfigFile::lock(path)?;
    let backup = match fs::symlink_metadata(path) {
        Ok(_) if !force => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "somebody else wrote it meanwhile")),
        // A link that leads nowhere has nothing to be kept, and is not replaced.
        Ok(_) => Some(file.keep("bak")?),
        Err(_) => None,
    };
    file.write(text)?;
    Ok(backup)
}

fn told(out: Out, path: &Path, backup: Option<&Path>) {
    out.note(format!("{} is written.", path.display()));
    if let Some(backup) = backup {
        out.note(format!("The one before is {}.", backup.display()));
    }
    let here = std::path::absolute("bespoke.toml").unwrap_or_default();
    if here != path && here.is_file() && env::var_os("BESPOKE_CONFIG").is_none() {
        out.note(format!("In this folder, {} goes before it.", here.display()));
    }
}

/// Fetches what is missing, asks one question, and says how to go on.
async fn try_it(global: &Global, args: &Init, plan: &Plan, path: &Path, backup: Option<&Path>, out: Out) -> Result<()> {
    let in_use = Paths::find(None).ok().and_then(|paths| paths.config).and_then(|path| std::path::absolute(path).ok());
    // Only a file that is not found by itself has to be named.
    let named = if in_use.as_deref() == Some(path) { String::new() } else { format!(" --config {}", quoted(&path.display().to_string())) };
    let global = Global { config: Some(path.to_owned()), ..global.clone() };
    let mut reached = String::new();
    let tried = match Setup::new(&global, Default::default()) {
        Ok(setup) => {
            let tried = prove(&setup, args, plan, out).await;
            reached = serving(&setup, &named);
            setup.host.shutdown().await;
            tried
        }
        Err(failure) => Err(failure),
    };
    let value = |answer: Option<&Answer>, error: Option<&str>| {
        json!({
            "path": path, "backup": backup, "provider": answer.map(|a| &a.provider).or(plan.provider.as_ref().map(|p| &p.name)),
            "model": answer.map(|a| &a.model), "tools": plan.tools, "voice": plan.voice, "question": QUESTION,
            "answer": answer.map(|a| &a.text), "error": error, "next": format!("bespoke chat{named}"),
        })
    };
    match tried {
        Ok(answer) if out.json => out.json(&value(answer.as_ref(), None), true),
        Ok(Some(answer)) => {
            out.line(answer.text.trim())?;
            out.note(format!("\n{} answers. Next:\n  bespoke chat{named}\n  bespoke doctor{named}{reached}", answer.provider));
            Ok(())
        }
        Ok(None) => {
            let fetch = plan.provider.as_ref().map(|provider| format!("bespoke plugin download-files {}{named}", provider.plugin));
            out.note(format!("It is not tried: a model file is missing. Next:\n  {}\n  bespoke chat{named}", fetch.unwrap_or_default()));
            Ok(())
        }
        Err(failure) if failure.exit == Exit::Interrupted => Err(failure),
        Err(failure) => {
            if out.json {
                out.json(&value(None, Some(&failure.message)), true)?;
            }
            let message = format!("the file is written, but the model does not answer: {}", failure.message);
            Err(Failure::failed(message).help(failure.help.unwrap_or_else(|| format!("bespoke doctor{named}"))))
        }
    }
}

/// How others reach the agent, where this binary has a way: it takes a token or an address, which no question here asks for.
fn serving(setup: &Setup, named: &str) -> String {
    let here = setup.host.rows().into_iter().filter(|row| !setup.host.is_stand_in(&row.id));
    let names = here.flat_map(|row| row.provides).filter_map(|name| name.strip_prefix("channel:").map(str::to_owned));
    let names: Vec<String> = names.filter(|name| name != "terminal" && name != "*").collect();
    if names.is_empty() {
        return String::new();
    }
    format!("\n\nOver {} others reach it; docs/channels.md says what that takes. Then:\n  bespoke serve{named}", names.join(" or "))
}

struct Answer {
    text: String,
    provider: String,
    model: String,
}

/// Asks the model; `None` when a model file is missing and was not to be fetched.
async fn prove(setup: &Setup, args: &Init, plan: &Plan, out: Out) -> Result<Option<Answer>> {
    setup.require(&["agent"])?;
    let provider = plan.provider.as_ref().map(|provider| provider.plugin.clone()).unwrap_or_default();
    if args.no_fetch {
        setup.host.start(Selection::Ids(std::slice::from_ref(&provider))).await;
        if setup.host.lacking_models().contains(&provider) {
            return Ok(None);
        }
    }
    let consent = Consent { yes: args.yes || args.no_fetch, from: args.from.clone(), offline: args.no_fetch, index_url: None };
    let needs = if plan.voice { setup.voice_needs() } else { setup.text_needs() };
    match setup.start(&needs, &consent).await {
        Err(failure) if setup.host.lacking_models().contains(&provider) => {
            return if failure.exit == Exit::Consent { Ok(None) } else { Err(failure) };
        }
        // What the voice lacks does not keep the chat from working.
        Err(failure) if failure.exit != Exit::Interrupted => out.note(format!("The voice does not work yet: {failure}")),
        result => result?,
    }
    out.note(format!("\n> {QUESTION}"));
    let agent = setup.agent()?;
    let mut session = Session::new("init");
    let cx = interruptible(&setup.host);
    let turn = agent.turn(&cx, &mut session, QUESTION, |event| out.told(&event)).await;
    agent.end(&cx, session).await;
    let turn = turn?;
    if turn.text.trim().is_empty() {
        return Err(Failure::failed(format!("{} answered nothing", turn.provider)));
    }
    Ok(Some(Answer { text: turn.text, provider: turn.provider, model: turn.model }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_under_the_first_name_that_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bespoke.toml");
        assert_eq!(write(&path, "one", false).unwrap(), None);
        assert_eq!(write(&path, "two", false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(write(&path, "two", true).unwrap(), Some(folder.path().join("bespoke.toml.bak")));
        assert_eq!(write(&path, "three", true).unwrap(), Some(folder.path().join("bespoke.toml.bak-2")));
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!([read("bespoke.toml"), read("bespoke.toml.bak"), read("bespoke.toml.bak-2")], ["three", "one", "two"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "these and the lock");
    }

    #[test]
    fn a_command_is_told_as_a_shell_takes_it() {
        assert_eq!(["--yes", "openai:a b", "it's", ""].map(quoted), ["--yes", "'openai:a b'", "'it'\\''s'", "''"]);
    }
}
