//! The questions, each with a default. Nothing is written here.

use std::{env, path::Path};

use super::plan::{Here, Key, Plan, address, root};
use crate::{
    cli::Init,
    exit::{Exit, Failure, Result},
    output::{self, Out, wrapped},
};

/// How often a question is asked again.
const TRIES: usize = 5;

/// Asks for what was not typed on the command line.
pub(crate) fn ask_for(plan: &mut Plan, args: &Init, here: &Here<'_>, out: Out) -> Result<()> {
    say(out, "Enter takes what stands in brackets. Ctrl-C ends this; nothing is written until the last question is answered.");
    if args.provider.is_none() && here.providers.len() > 1 {
        say(out, "\nWho answers?");
        here.providers.iter().for_each(|name| {
            let id = here.host.provider_of(bespoke_plugin_api::Kind::Provider, name).unwrap_or_default();
            item(out, name, &here.description(&id));
        });
        let default = here.providers[0].clone();
        plan.provider = Some(ask(out, "Provider", &default, |answer| here.provider(answer))?);
    }
    server(plan, args, here, out)?;
    if args.tools.is_none() {
        tools(plan, args, here, out)?;
    }
    if args.system.is_none() {
        let default = bespoke_agent::AgentConfig::default().system;
        say(out, "\nWhat is the agent told before every conversation?");
        let system = ask(out, "Instructions", &default, |answer| Ok(answer.to_owned()))?;
        plan.system = Some(system).filter(|system| *system != default);
    }
    if here.voice.is_some() {
        say(out, "\nThis program can hear and speak, too.");
        plan.voice = output::ask("Set the voice up now?")?;
    }
    Ok(())
}

/// Where the provider's server is, which model of it answers, where its key comes from.
fn server(plan: &mut Plan, args: &Init, here: &Here<'_>, out: Out) -> Result<()> {
    let Some(provider) = &mut plan.provider else { return Ok(()) };
    let schema = here.schema(&provider.plugin);
    let Some(official) = schema["properties"]["base_url"]["default"].as_str() else { return Ok(()) };
    if args.base_url.is_none() {
        say(out, "\nWhere is the server? One on this machine is such as http://127.0.0.1:8080/v1.");
        let url = ask(out, "Address", official, address)?;
        provider.base_url = Some(url).filter(|url| url != official);
    }
    if provider.model.is_none() {
        let own = provider.base_url.is_some();
        say(out, if own { "\nWhich model? Without a name, the first that the server has." } else { "\nWhich model?" });
        let model = ask(out, "Model", if own { "" } else { "gpt-4o-mini" }, |answer| Ok(answer.to_owned()))?;
        provider.model = Some(model).filter(|model| !model.is_empty());
    }
    if let Some((secret, Key::Variable(variable))) = &provider.key {
        let keyring = cfg!(feature = "keyring");
        say(out, "\nWhich variable of the environment holds the key? The key itself is never written into the file.");
        if keyring {
            say(out, "Or type: keyring, for the keyring of this system.");
        }
        let (key, chosen) = ask(out, "Variable", variable, |answer| match answer {
            "keyring" if keyring => Ok((Key::Keyring, None)),
            name if is_variable(name) => Ok((Key::Variable(name.to_owned()), Some(name.to_owned()))),
            _ => Err(Failure::new(Exit::Usage, "that is no name of a variable; it has capitals, digits and _ only")),
        })?;
        match chosen {
            Some(name) if env::var_os(&name).is_none_or(|value| value.is_empty()) => {
                say(out, &format!("{name} is not set, so its line is written behind #. A server that wants no key does without."));
            }
            Some(_) => {}
            None => {
                let command = format!("bespoke config set-secret plugins.{}.secrets.{secret} --keyring < FILE", provider.plugin);
                say(out, "This puts the key there, and refers to it in the file:");
                out.note(format!("  {command}"));
            }
        }
        provider.key = Some((secret.clone(), key));
    }
    Ok(())
}

fn tools(plan: &mut Plan, args: &Init, here: &Here<'_>, out: Out) -> Result<()> {
    let offered: Vec<&String> = here.tools.iter().filter(|id| !here.runs_programs(id)).collect();
    if offered.is_empty() {
        return Ok(());
    }
    say(out, "\nWhich tools may the model use?");
    offered.iter().for_each(|id| item(out, id, &here.description(id)));
    let default = if plan.tools.is_empty() { "none".to_owned() } else { plan.tools.join(", ") };
    plan.tools = ask(out, "Tools", &default, |answer| {
        let names: Vec<String> =
            answer.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty() && *name != "none").map(str::to_owned).collect();
        let known = |name: &&String| offered.contains(name) || here.host.provider_of(bespoke_plugin_api::Kind::Tool, name).is_some();
        match names.iter().find(|name| !known(name)) {
            None => Ok(names),
            Some(name) => {
                let close = bespoke_manifest::closest(name, offered.iter().map(|id| id.as_str()));
                let close = close.map(|close| format!("; did you mean {close}?")).unwrap_or_default();
                Err(Failure::new(Exit::NotFound, format!("there is no tool {name}{close}")))
            }
        }
    })?;
    plan.tools.dedup();
    if plan.uses(here, "files") && args.files_root.is_none() {
        say(out, "\nWhich folder may it read? Without a name, an empty one of its own.");
        plan.files_root = ask(out, "Folder", "", |answer| match answer {
            "" => Ok(None),
            folder => root(Path::new(folder)).map(Some),
        })?;
    }
    if plan.uses(here, "fetch") {
        say(out, "\nWhich hosts may it fetch pages from? Such as: example.com, *.example.org");
        plan.hosts = ask(out, "Hosts", "none", |answer| {
            let hosts: Vec<String> =
                answer.split([',', ' ']).filter(|host| !host.is_empty() && *host != "none").map(str::to_owned).collect();
            match hosts.iter().find(|host| host.contains('/')) {
                Some(host) => Err(Failure::new(Exit::Usage, format!("{host} is an address; a host is such as example.com"))),
                None => Ok(hosts),
            }
        })?;
    }
    Ok(())
}

fn is_variable(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(fits)
}

/// Asks until the answer will do.
fn ask<T>(out: Out, question: &str, default: &str, read: impl Fn(&str) -> Result<T>) -> Result<T> {
    for _ in 0..TRIES {
        let answer = output::ask_for(question, default)?;
        let answer = answer.ok_or_else(|| Failure::new(Exit::Interrupted, "the input ended; nothing is written"))?;
        match read(&answer) {
            Ok(value) => return Ok(value),
            // What to type on the command line would not help here.
            Err(failure) => say(out, &failure.message),
        }
    }
    Err(Failure::new(Exit::Usage, "no answer would do; nothing is written").help("bespoke init --help"))
}

fn width(out: Out) -> usize {
    out.columns().unwrap_or(80).saturating_sub(1).clamp(20, 100)
}

fn say(out: Out, text: &str) {
    text.split('\n').flat_map(|line| wrapped(line, width(out))).for_each(|line| out.note(line.trim_end()));
}

/// A name, and beside it what it is.
fn item(out: Out, name: &str, what: &str) {
    let mut head = format!("  {name:<10} ");
    let indent = head.chars().count();
    for line in wrapped(what, width(out).saturating_sub(indent).max(20)) {
        out.note(format!("{}{}", std::mem::replace(&mut head, " ".repeat(indent)), line.trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::is_variable;

    #[test]
    fn a_key_is_not_taken_for_the_name_of_a_variable() {
        for name in ["OPENAI_API_KEY", "_A", "K9"] {
            assert!(is_variable(name), "{name}");
        }
        for name in ["", "9A", "sk-proj-Abc", "a key", "${X}", "lower_case"] {
            assert!(!is_variable(name), "{name}");
        }
    }
}
