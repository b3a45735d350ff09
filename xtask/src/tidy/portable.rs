//! What plugins that ship as components do without, by their text: the compiler for wasm is on few machines, and tells most of it only when
//! they run. Their dependencies are looked at where they are built. Authors elsewhere have the same as lints, in
//! `examples/plugins/chimes/clippy.toml`.

use std::fs;

use anyhow::Result;
use bespoke_manifest::Tier;

use crate::{
    tidy::texts::rust_files,
    workspace::{Plugin, Workspace},
};

/// What may not stand there, and what stands there instead.
const BANNED: &[(&str, &str)] = &[
    ("Instant::now", "the time is the host's: cx.now()"),
    ("SystemTime::now", "the time is the host's: cx.now()"),
    ("thread::", "work is the host's: cx.blocking() or cx.spawn(), time cx.sleep()"),
    ("fs::", "a plugin stores through its context: cx.host().store()"),
    ("env::var", "settings come from the configuration, secrets from cx.secret()"),
    ("process::", "a component starts no programs"),
    ("TcpStream", "requests go through cx.http"),
    ("TcpListener", "endpoints are contributions of kind http"),
    ("UdpSocket", "requests go through cx.http"),
];

pub(super) fn check(workspace: &Workspace, plugins: &[Plugin]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for plugin in plugins.iter().filter(|plugin| plugin.manifest.tiers.contains(&Tier::Wasm)) {
        let folder = workspace.path(&format!("crates/{}/src", plugin.folder));
        for file in rust_files(&folder)? {
            let name = file.strip_prefix(&workspace.root).unwrap_or(&file).display().to_string();
            problems.extend(banned(&fs::read_to_string(&file)?).map(|(n, what, instead)| {
                format!("{name}:{n}: `{what}` is nothing that a component has, and its plugin.toml says wasm: {instead}")
            }));
        }
    }
    Ok(problems)
}

/// Lines outside comments and tests, which stand at the end of a file.
fn banned(text: &str) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let code = text.lines().take_while(|line| *line != "#[cfg(test)]").enumerate();
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(n, line)| {
        BANNED.iter().filter(move |(what, _)| stands(line, what)).map(move |(what, instead)| (n + 1, *what, *instead))
    })
}

/// As a name of its own, and not as the end of another.
fn stands(line: &str, what: &str) -> bool {
    line.match_indices(what).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_component_does_not_have_is_found_and_nothing_else() {
        let text = "use std::{net::IpAddr, time::Duration};\n// fs::read\nlet now = cx.now();\nlet x = offs::y;\nlet a = std::fs::read(p);\n\
                    let t = Instant::now();\n#[cfg(test)]\nmod tests { use std::thread::spawn; }\n";
        let found: Vec<_> = banned(text).map(|(n, what, _)| (n, what)).collect();
        assert_eq!(found, [(5, "fs::"), (6, "Instant::now")]);
    }
}
