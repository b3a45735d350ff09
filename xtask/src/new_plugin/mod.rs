//! `new-plugin`: a crate that builds, is listed and answers, and the three lines that make it a feature of the app.
//!
//! Everything is computed before anything is written, so that a refusal leaves nothing behind.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail, ensure};
use bespoke_manifest::{check_id, closest};

use crate::{
    app_manifest::insert,
    codegen,
    workspace::{APP, Workspace, folder_of},
};

/// What a new plugin can contribute.
pub(crate) const KINDS: &[&str] =
    &["tool", "provider", "channel", "hook", "command", "stt", "tts", "vad", "embedder", "http", "accelerator"];

/// Where what is to be written goes, and its text.
type File = (PathBuf, String);

/// Writes the crate and its lines, or says what it would write.
pub(crate) fn run(workspace: &Workspace, kind: &str, id: &str, dry_run: bool) -> Result<()> {
    let files = plan(workspace, kind, id)?;
    for (path, text) in &files {
        let shown = path.strip_prefix(&workspace.root).unwrap_or(path).display();
        let verb = if path.exists() { "change" } else { "write" };
        if dry_run {
            println!("would {verb} {shown}");
        } else {
            codegen::put(path, text)?;
            eprintln!("{verb} {shown}");
        }
    }
    if dry_run {
        println!("would regenerate crates/bespoke/src/catalog.rs and docs/features.md");
        return Ok(());
    }
    codegen::write(workspace, &workspace.plugins()?)?;
    eprintln!("next: cargo test -p bespoke-{}, then cargo run --features {id} -- plugin list", folder_of(kind, id));
    Ok(())
}

fn plan(workspace: &Workspace, kind: &str, id: &str) -> Result<Vec<File>> {
    let template = template(kind)?;
    check_id(id).map_err(|e| anyhow!("{id}: {e}"))?;
    let named = folder_of(kind, id);
    let (folder, package) = (format!("crates/{named}"), format!("bespoke-{named}"));
    ensure!(!workspace.path(&folder).exists(), "{folder} exists already; choose another name");
    let plugins = workspace.plugins()?;
    if let Some(other) = plugins.iter().find(|p| p.manifest.id == id) {
        bail!("crates/{} has the id `{id}` already; choose another name", other.folder);
    }
    let name = contribution(kind, id);
    for other in &plugins {
        if other.manifest.provides.iter().any(|p| p.kind.name() == kind && p.name.as_deref() == Some(name.as_str())) {
            bail!("crates/{} provides the {kind} `{name}` already; choose another name", other.folder);
        }
    }
    let fill = |text: &str| {
        text.replace("__ID__", id)
            .replace("__NAME__", &name)
            .replace("__KIND__", kind)
            .replace("__PACKAGE__", &package)
            .replace("__TYPE__", &type_name(id))
            .replace("__DESCRIPTION__", template.description)
    };
    let code = codegen::rustfmt(workspace, &fill(template.code))?;
    let app = workspace.app()?;
    let lines = workspace.read("crates/bespoke/src/plugins.rs")?;
    let root = workspace.read("Cargo.toml")?;
    let dependency = format!("{package} = {{ path = \"{folder}\" }}");
    let new = |file: &str, text: String| (workspace.path(&format!("{folder}/{file}")), text);
    Ok(vec![
        new("Cargo.toml", fill(include_str!("templates/Cargo.toml.txt"))),
        new("plugin.toml", fill(include_str!("templates/plugin.toml.txt"))),
        new("config.schema.json", fill(template.schema)),
        new("src/lib.rs", code),
        (workspace.path("Cargo.toml"), insert(&root, "# ---- plugins", &[], &dependency)?),
        (workspace.path(&format!("crates/{APP}/Cargo.toml")), app.with_plugin(id, &package, template.description)?),
        (workspace.path("crates/bespoke/src/plugins.rs"), with_use(&lines, id, &package)),
    ])
}

/// The lines of plugins.rs with one more, in the order of the crates.
fn with_use(text: &str, id: &str, package: &str) -> String {
    let name = package.replace('-', "_");
    let line = |name: &str| format!("use {name} as _;");
    let lines: Vec<&str> = text.lines().collect();
    let is_later = |l: &&str| l.starts_with("use ") && **l > *line(&name);
    // Each `use` has its `#[cfg]` on the line above.
    let at = lines.iter().position(is_later).map_or(lines.len(), |n| n.saturating_sub(1));
    let attribute = format!("#[cfg(feature = \"{id}\")]");
    let new = [attribute, line(&name)];
    let all: Vec<&str> = lines[..at].iter().copied().chain(new.iter().map(String::as_str)).chain(lines[at..].iter().copied()).collect();
    all.join("\n") + "\n"
}

/// `weather-report` as a type: `WeatherReport`.
fn type_name(id: &str) -> String {
    let parts = id.split(['-', '_']).filter(|p| !p.is_empty());
    parts.flat_map(|p| p[..1].to_ascii_uppercase().chars().chain(p[1..].chars()).collect::<Vec<_>>()).collect()
}

/// The name of the contribution: the id, as its kind may write it.
fn contribution(kind: &str, id: &str) -> String {
    match kind {
        "tool" => id.replace('-', "_"),
        "command" => id.replace('_', "-"),
        _ => id.to_owned(),
    }
}

struct Template {
    description: &'static str,
    code: &'static str,
    schema: &'static str,
}

macro_rules! templates {
    ($kind:expr, $($name:literal: $description:literal),+ $(,)?) => {
        match $kind {
            $($name => Some(Template {
                description: $description,
                code: include_str!(concat!("templates/", $name, ".rs")),
                schema: include_str!(concat!("templates/", $name, ".json")),
            }),)+
            _ => None,
        }
    };
}

fn template(kind: &str) -> Result<Template> {
    let found = templates!(kind,
        "tool": "Says again what it is told.",
        "provider": "Answers with what the user said.",
        "channel": "Greets once, and takes what it is told to send.",
        "hook": "Puts a mark before each message that is sent.",
        "command": "Writes its arguments.",
        "stt": "Hears the same in every recording.",
        "tts": "Speaks each letter as a tone.",
        "vad": "Takes what is loud for speech.",
        "embedder": "Counts the letters of a text.",
        "http": "Answers with what it is sent.",
        "accelerator": "Offers the processor as a device.",
    );
    found.ok_or_else(|| match closest(kind, KINDS.iter().copied()) {
        Some(near) => anyhow!("`{kind}` is no kind of contribution; did you mean `{near}`?"),
        None => anyhow!("`{kind}` is no kind of contribution; use one of {}", KINDS.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_use_line_stands_in_its_place() {
        let text = "//! Doc.\n\n#[cfg(feature = \"clock\")]\nuse bespoke_tool_clock as _;\n#[cfg(feature = \"energy\")]\nuse bespoke_vad_energy as _;\n";
        expect![[r#"
            //! Doc.

            #[cfg(feature = "clock")]
            use bespoke_tool_clock as _;
            #[cfg(feature = "echo")]
            use bespoke_tool_echo as _;
            #[cfg(feature = "energy")]
            use bespoke_vad_energy as _;
        "#]]
        .assert_eq(&with_use(text, "echo", "bespoke-tool-echo"));
        assert!(
            with_use(text, "zoo", "bespoke-vad-zoo")
                .ends_with("use bespoke_vad_energy as _;\n#[cfg(feature = \"zoo\")]\nuse bespoke_vad_zoo as _;\n")
        );
        assert!(with_use(text, "aaa", "bespoke-aaa").starts_with("//! Doc.\n\n#[cfg(feature = \"aaa\")]\nuse bespoke_aaa as _;\n#[cfg"));
    }

    #[test]
    fn names_become_types_and_contributions() {
        assert_eq!(type_name("weather"), "Weather");
        assert_eq!(type_name("weather-report_2"), "WeatherReport2");
        assert_eq!(
            (contribution("tool", "a-b"), contribution("command", "a_b"), contribution("vad", "a-b_c")),
            ("a_b".into(), "a-b".into(), "a-b_c".into())
        );
    }

    #[test]
    fn bad_and_taken_names_are_refused_before_anything_is_written() {
        let workspace = Workspace::here().unwrap();
        let refused = |kind: &str, id: &str| format!("{:#}", plan(&workspace, kind, id).unwrap_err());
        assert_eq!(refused("tol", "weather"), "`tol` is no kind of contribution; did you mean `tool`?");
        assert!(refused("tool", "Weather").contains("beginning with a letter"));
        assert!(refused("tool", "../x").contains("beginning with a letter"));
        assert!(refused("tool", "sandbox").contains("reserved"));
        assert_eq!(refused("tool", "clock"), "crates/tool-clock exists already; choose another name");
        assert_eq!(refused("vad", "clock"), "crates/tool-clock has the id `clock` already; choose another name");
        assert!(plan(&workspace, "tool", "local").is_err());
    }
}
