//! bespoke.toml and what stands above it: which file it is, what is wrong with it, variables, secrets.

use std::env;

use bespoke_host::{CONFIG_VERSION, ConfigError, Host, Origin};

use super::report::{Repair, Report, Verdict};
use crate::{paths::Paths, sections::known_sections, setup::Setup};

/// Variables that this program reads.
const VARIABLES: &[&str] = &[
    "BESPOKE_CONFIG",
    "BESPOKE_HOME",
    "BESPOKE_INDEX_URL",
    "BESPOKE_MODEL_PATH",
    "BESPOKE_PLUGIN_PATH",
    "BESPOKE_PYTHON",
    "BESPOKE_WASM_TOOLCHAIN",
];

/// Which file is in use.
pub(crate) fn found(report: &mut Report, paths: &Paths) {
    report.group("Configuration");
    let of_home = paths.home.join("bespoke.toml");
    match &paths.config {
        None => report.add(
            "configuration file",
            Verdict::Ok,
            format!("none at {}: everything has its defaults", of_home.display()),
            Some("bespoke init".into()),
        ),
        Some(path) => {
            let shown = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let over =
                if shown != of_home && of_home.is_file() { format!("; it goes before {}", of_home.display()) } else { String::new() };
            report.ok("configuration file", format!("{}{over}", shown.display()));
        }
    }
}

pub(crate) async fn check(report: &mut Report, setup: &Setup) {
    let config = &setup.config;
    let mut problems = setup.faults().problems();
    problems.extend(setup.host.check_config().await.err().into_iter().flat_map(|e| e.problems));
    let problems = ConfigError::from(problems);
    match problems.problems.len() {
        0 => report.ok("configuration", "every key is known, and every value is in its range"),
        _ => report.add("configuration", Verdict::Problem, problems.to_string(), Some("bespoke config edit".into())),
    }
    match config.get("config_version") {
        None if setup.paths.config.is_none() => report.skip("config_version", "there is no file"),
        None => report.add(
            "config_version",
            Verdict::Warning,
            "the file does not say for which version it was written",
            Some(format!("bespoke config set config_version {CONFIG_VERSION}")),
        ),
        Some(_) => report.ok("config_version", format!("{CONFIG_VERSION}")),
    }
    let overrides: Vec<String> = config.overrides().into_iter().map(|(key, name)| format!("{name} ({key})")).collect();
    match overrides.is_empty() {
        true => report.ok("overrides", "no variable of the environment stands above the file"),
        false => report.ok("overrides", format!("above the file stand {}", overrides.join(", "))),
    }
    variables(report, config.text());
    typed_secrets(report, setup);
    secrets(report, &setup.host, setup);
}

/// Variables of our name that nobody reads. Those that name a key are held against the schema with the file.
fn variables(report: &mut Report, text: &str) {
    let mut strange: Vec<String> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    strange.retain(|name| name.starts_with("BESPOKE_") && !name.contains("__") && !VARIABLES.contains(&name.as_str()));
    // What the file refers to is read.
    strange.retain(|name| !text.contains(&format!("${{{name}}}")));
    strange.sort();
    if strange.is_empty() {
        report.ok("variables", "every BESPOKE_ variable is one that is read");
    }
    for name in strange {
        let known: Vec<String> = VARIABLES.iter().map(|known| known.to_lowercase()).collect();
        let close = bespoke_manifest::closest(&name, known.iter().map(String::as_str));
        let close = close.map(|close| format!("; did you mean {}?", close.to_uppercase())).unwrap_or_default();
        report.add("variables", Verdict::Warning, format!("{name} does nothing{close}"), Some(format!("unset {name}")));
    }
}

fn typed_secrets(report: &mut Report, setup: &Setup) {
    let mut typed = setup.host.literal_secrets();
    for (section, schema) in known_sections() {
        typed.extend(setup.config.literal_secrets(section, &serde_json::from_str(schema).unwrap_or_default()));
    }
    if typed.is_empty() {
        report.ok("typed secrets", "none stands in the configuration itself");
    }
    for problem in typed {
        let fix = problem.fix.map(|fix| fix.strip_prefix("move it out: ").map_or(fix.clone(), str::to_owned));
        report.add("typed secrets", Verdict::Warning, format!("{}: {}: {}", problem.place, problem.key, problem.message), fix);
    }
    let open = setup.config.open_secret_files();
    if open.is_empty() {
        report.ok("secret files", "nobody else can read a file that the configuration refers to");
    }
    for problem in open {
        let message = format!("{}: {}: {}", problem.place, problem.key, problem.message);
        match problem.fix.as_deref().and_then(|fix| fix.strip_prefix("chmod 600 ")) {
            Some(path) => report.mend("secret files", Verdict::Warning, message, &Repair::Private(path.into(), 0o600)),
            None => report.add("secret files", Verdict::Warning, message, problem.fix),
        }
    }
}

/// Secrets that plugins ask for: whether they are set, never what they are.
fn secrets(report: &mut Report, host: &Host, setup: &Setup) {
    let mut asked = 0;
    for row in host.rows() {
        let Some(manifest) = host.manifest(&row.id).filter(|_| setup.config.is_enabled(&row.id)) else { continue };
        for name in &manifest.permissions.secrets {
            asked += 1;
            let what = format!("`{name}` of {}", row.id);
            let key = format!("plugins.{}.secrets.{name}", row.id);
            match setup.config.secret(&row.id, name) {
                Ok(_) => match setup.config.origin(&key) {
                    Origin::Default => report.ok("secrets", format!("{what} is set")),
                    origin => report.ok("secrets", format!("{what} is set ({origin})")),
                },
                // A server of one's own may want none.
                Err(error) if setup.config.get(&key).is_none() && setup.config.get(&format!("plugins.{}.base_url", row.id)).is_some() => {
                    report.skip("secrets", format!("{}: {}, which a server of your own may do without", row.id, error.message()));
                }
                Err(error) if setup.config.get(&key).is_none() && !names(setup, &row.id) => {
                    report.skip("secrets", format!("nothing names {}; {}", row.id, error.message()));
                }
                Err(error) => {
                    report.add("secrets", Verdict::Warning, format!("{}: {}", row.id, error.message()), error.help().map(str::to_owned))
                }
            }
        }
    }
    if asked == 0 {
        report.skip("secrets", "no plugin asks for one");
    }
}

/// Whether the configuration names something of a plugin.
fn names(setup: &Setup, id: &str) -> bool {
    let provided = setup.host.manifest(id).map(|m| m.provides.clone()).unwrap_or_default();
    let named = setup.agent.provider_names().into_iter().chain(setup.voice.stt.clone()).chain(setup.voice.tts.clone());
    setup.config.plugin_ids().iter().any(|named| named == id)
        || named.into_iter().any(|name| provided.iter().any(|p| p.name.as_ref() == Some(&name)))
}
