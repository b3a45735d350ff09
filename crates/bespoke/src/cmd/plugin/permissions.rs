//! What a plugin asks for, in words and as JSON, with what is granted by whom. It grants nothing, and shows no value of a secret.

use bespoke_host::Config;
use bespoke_manifest::{HttpAccess, HttpHosts, Manifest, Permissions};
use serde_json::{Value, json};

/// What the host checks when a plugin asks it. One that is part of this program could open files and sockets without asking.
const CHECKED: &[&str] = &["http", "secrets", "calls"];

/// One line for each kind of permission that is asked for, and one that says how far they hold.
pub(super) fn lines(manifest: &Manifest, config: &Config) -> Vec<String> {
    let Permissions { http, files, env, secrets, process, calls, .. } = &manifest.permissions;
    let id = manifest.id.as_str();
    let all: [(&str, Vec<String>); 6] = [
        ("http", http.iter().map(|access| hosts(id, access)).collect()),
        ("files", files.iter().map(|f| format!("{} ({})", f.path, f.access.name())).collect()),
        ("env", env.clone()),
        ("secrets", secrets.iter().map(|name| secret(id, name, config)).collect()),
        ("process", process.iter().map(|name| any(name, "any program")).collect()),
        ("calls", calls.iter().map(|c| format!("{}:{}", c.kind, c.name.as_deref().unwrap_or("*"))).collect()),
    ];
    let asked = all.iter().filter(|(_, items)| !items.is_empty());
    let mut lines: Vec<String> = asked.clone().map(|(kind, items)| format!("{kind}: {}", items.join("; "))).collect();
    let (checked, shown): (Vec<&str>, Vec<&str>) = asked.map(|(kind, _)| *kind).partition(|kind| CHECKED.contains(kind));
    let mut holds = Vec::new();
    if !checked.is_empty() {
        holds.push(format!("checked where it asks the host: {}", checked.join(", ")));
    }
    if !shown.is_empty() {
        holds.push(format!("shown only: {}", shown.join(", ")));
    }
    lines.push(match holds.is_empty() {
        true => "asks for none".into(),
        false => format!("{}; nothing else holds a plugin of the tier `compiled`", holds.join("; ")),
    });
    lines
}

/// The same for programs.
pub(super) fn value(manifest: &Manifest, config: &Config) -> Value {
    let Permissions { http, files, env, secrets, process, calls, .. } = &manifest.permissions;
    let id = manifest.id.as_str();
    let http = http.iter().map(|access| match &access.hosts {
        HttpHosts::Named(host) => json!({ "host": host, "private": access.private }),
        HttpHosts::Configured { key, default, .. } => {
            json!({ "key": format!("plugins.{id}.{key}"), "default": default, "private": access.private })
        }
        _ => json!({ "private": access.private }),
    });
    let secrets = secrets.iter().map(|name| {
        let set = config.secret(id, name).is_ok();
        json!({ "name": name, "variable": Config::secret_variable(id, name), "set": set })
    });
    json!({
        "http": http.collect::<Vec<_>>(),
        "files": files.iter().map(|f| json!({ "path": f.path, "access": f.access.name() })).collect::<Vec<_>>(),
        "env": env,
        "secrets": secrets.collect::<Vec<_>>(),
        "process": process,
        "calls": calls.iter().map(|c| json!({ "kind": c.kind.name(), "name": c.name })).collect::<Vec<_>>(),
        "checked_by_host": CHECKED,
    })
}

fn hosts(id: &str, access: &HttpAccess) -> String {
    let private = if access.private { " (private too)" } else { "" };
    match &access.hosts {
        HttpHosts::Named(host) => format!("{}{private}", any(host, "any host")),
        HttpHosts::Configured { key, default, .. } => {
            let default = if default.is_empty() { String::new() } else { format!(", default {}", default.join(", ")) };
            format!("hosts in plugins.{id}.{key}{private}{default}")
        }
        _ => "hosts of a sort that this program does not know".into(),
    }
}

/// Whether a secret is set and where it may be; where the configuration names it, that counts.
fn secret(id: &str, name: &str, config: &Config) -> String {
    let key = format!("plugins.{id}.secrets.{name}");
    let place = if config.get(&key).is_some() { key } else { Config::secret_variable(id, name) };
    format!("{name} ({place}: {})", if config.secret(id, name).is_ok() { "set" } else { "not set" })
}

fn any(text: &str, all: &str) -> String {
    if text == "*" { all.into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn shown(permissions: &str) -> (String, Value) {
        let text = format!(
            "id = \"dice\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"x\"\nauthor = \"x\"\nprotocol = \"1\"\n\
             tiers = [\"compiled\"]\n{permissions}"
        );
        let manifest = Manifest::parse("plugin.toml", &text, None).unwrap();
        let config = Config::parse("bespoke.toml", "[plugins.dice.secrets]\nseed = \"42\"\n").unwrap();
        (lines(&manifest, &config).join("\n"), value(&manifest, &config))
    }

    #[test]
    fn each_kind_has_its_line() {
        let (text, value) = shown(
            r#"[permissions]
http = ["api.example.com", "*", { host = "localhost:8080", private = true }, { config = "allow", default = ["a.test", "b.test"] }, { config = "base_url", private = true }]
files = [{ path = "~/dice", access = "write" }, { path = "/usr/share/dice", access = "read" }]
env = ["LANG"]
secrets = ["seed", "no-such-token"]
process = ["*"]
calls = ["tool:clock", "embedder"]
"#,
        );
        expect![[r#"
            http: api.example.com; any host; localhost:8080 (private too); hosts in plugins.dice.allow, default a.test, b.test; hosts in plugins.dice.base_url (private too)
            files: ~/dice (write); /usr/share/dice (read)
            env: LANG
            secrets: seed (plugins.dice.secrets.seed: set); no-such-token (DICE_NO_SUCH_TOKEN: not set)
            process: any program
            calls: tool:clock; embedder:*
            checked where it asks the host: http, secrets, calls; shown only: files, env, process; nothing else holds a plugin of the tier `compiled`"#]]
        .assert_eq(&text);
        let asked = json!({
            "http": [
                { "host": "api.example.com", "private": false },
                { "host": "*", "private": false },
                { "host": "localhost:8080", "private": true },
                { "key": "plugins.dice.allow", "default": ["a.test", "b.test"], "private": false },
                { "key": "plugins.dice.base_url", "default": [], "private": true },
            ],
            "files": [{ "path": "~/dice", "access": "write" }, { "path": "/usr/share/dice", "access": "read" }],
            "env": ["LANG"],
            "secrets": [
                { "name": "seed", "variable": "DICE_SEED", "set": true },
                { "name": "no-such-token", "variable": "DICE_NO_SUCH_TOKEN", "set": false },
            ],
            "process": ["*"],
            "calls": [{ "kind": "tool", "name": "clock" }, { "kind": "embedder", "name": null }],
            "checked_by_host": ["http", "secrets", "calls"],
        });
        assert_eq!(value, asked);
        assert!(!text.contains("42") && !value.to_string().contains("42"), "a secret is shown");
        assert_eq!(shown("").0, "asks for none");
    }
}
