//! What a plugin asks for, in words and as JSON, with what is granted by whom. It grants nothing, and shows no value of a secret.

use bespoke_host::{Config, Tier};
use bespoke_manifest::{Communication, HttpAccess, HttpHosts, Manifest, Permission, Permissions};
use serde_json::{Value, json};

/// What the host checks when a plugin asks it. One that is part of this program could open files and sockets without asking.
const CHECKED: &[Permission] = &[Permission::NetworkAccess, Permission::PluginCommunication, Permission::Secrets];

/// One line for each kind of permission that is asked for, and, of a plugin whose code is inside this program, one that says how far they
/// hold.
pub(super) fn lines(manifest: &Manifest, config: &Config, tier: Tier) -> Vec<String> {
    let all = Permission::ALL.iter().copied().map(|permission| (permission, items(manifest, config, permission)));
    let asked: Vec<(Permission, Vec<String>)> = all.filter(|(_, items)| !items.is_empty()).collect();
    let mut lines: Vec<String> = asked.iter().map(|(permission, items)| line(manifest, *permission, items)).collect();
    if asked.is_empty() {
        lines.push("asks for none".into());
    }
    if tier == Tier::Dylib {
        lines.push(format!("not enforceable in this tier: trusted code, by plugins.{}.allow_native", manifest.id));
    }
    if asked.is_empty() || !matches!(tier, Tier::Compiled | Tier::Dylib) {
        return lines;
    }
    let (checked, shown): (Vec<Permission>, Vec<Permission>) =
        asked.iter().map(|(permission, _)| *permission).partition(|permission| CHECKED.contains(permission));
    let names = |permissions: &[Permission]| permissions.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
    let mut holds = Vec::new();
    if !checked.is_empty() {
        holds.push(format!("checked where it asks the host: {}", names(&checked)));
    }
    if !shown.is_empty() {
        holds.push(format!("shown only: {}", names(&shown)));
    }
    lines.push(format!("{}; nothing else holds a plugin of the tier `{}`", holds.join("; "), tier.name()));
    lines
}

/// The same for programs.
pub(super) fn value(manifest: &Manifest, config: &Config) -> Value {
    let Permissions { network_access, secrets, .. } = &manifest.permissions;
    let id = manifest.id.as_str();
    let http = network_access.iter().map(|access| match &access.hosts {
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
    let calls = manifest.permissions.plugin_communication.iter().map(|one| match one {
        Communication::Calls { kind, name, .. } => json!({ "kind": kind.name(), "name": name }),
        Communication::Events(topics) => json!({ "events": topics }),
        _ => json!({}),
    });
    json!({
        "network_access": http.collect::<Vec<_>>(),
        "direct_network": manifest.permissions.direct_network,
        "read_files": manifest.permissions.read_files,
        "write_files": manifest.permissions.write_files,
        "system_access": manifest.permissions.system_access,
        "plugin_communication": calls.collect::<Vec<_>>(),
        "env": manifest.permissions.env,
        "secrets": secrets.collect::<Vec<_>>(),
        "optional": manifest.optional.iter().map(|p| p.name()).collect::<Vec<_>>(),
        "reasons": manifest.reasons.iter().map(|(p, reason)| (p.name().to_owned(), json!(reason))).collect::<serde_json::Map<_, _>>(),
        "checked_by_host": CHECKED.iter().map(|p| p.name()).collect::<Vec<_>>(),
    })
}

/// A permission with what it is of, whether it is optional, and what it is for.
fn line(manifest: &Manifest, permission: Permission, items: &[String]) -> String {
    let optional = if manifest.optional.contains(&permission) { " (optional)" } else { "" };
    let reason = manifest.reasons.get(&permission).map_or(String::new(), |reason| format!(" — {reason}"));
    format!("{permission}: {}{optional}{reason}", items.join("; "))
}

/// What is asked for of a kind, in words.
fn items(manifest: &Manifest, config: &Config, permission: Permission) -> Vec<String> {
    let (id, asked) = (manifest.id.as_str(), &manifest.permissions);
    match permission {
        Permission::NetworkAccess => {
            let direct = asked.direct_network.then(|| "sockets of its own, to any address".to_owned());
            asked.network_access.iter().map(|access| hosts(id, access)).chain(direct).collect()
        }
        Permission::SystemAccess => asked.system_access.iter().map(|name| any(name, "any program")).collect(),
        Permission::Secrets => asked.secrets.iter().map(|name| secret(id, name, config)).collect(),
        permission => asked.items(permission),
    }
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

    const HEAD: &str = "id = \"dice\"\nversion = \"1.0.0\"\nlicense = \"MIT\"\ndescription = \"x\"\nauthor = \"x\"\nprotocol = \"1\"\ntiers = [\"compiled\"]\n";

    fn shown(permissions: &str) -> (String, Value) {
        let text = format!("{HEAD}{permissions}");
        let manifest = Manifest::parse("plugin.toml", &text, None).unwrap();
        let config = Config::parse("bespoke.toml", "[plugins.dice.secrets]\nseed = \"42\"\n").unwrap();
        (lines(&manifest, &config, Tier::Compiled).join("\n"), value(&manifest, &config))
    }

    #[test]
    fn each_kind_has_its_line() {
        let (text, value) = shown(
            r#"[permissions]
network_access = ["api.example.com", "*", { host = "localhost:8080", private = true }, { config = "allow", default = ["a.test", "b.test"] }, { config = "base_url", private = true }, { direct = true }]
read_files = ["/usr/share/dice"]
write_files = ["~/dice"]
system_access = ["*"]
plugin_communication = ["tool:clock", "embedder", "event:*"]
env = ["LANG"]
secrets = ["seed", "no-such-token"]
optional = ["env"]
reasons.env = "speaks your language"
"#,
        );
        expect![[r#"
            network_access: api.example.com; any host; localhost:8080 (private too); hosts in plugins.dice.allow, default a.test, b.test; hosts in plugins.dice.base_url (private too); sockets of its own, to any address
            read_files: /usr/share/dice
            write_files: ~/dice
            system_access: any program
            plugin_communication: tool:clock; embedder; event:*
            env: LANG (optional) — speaks your language
            secrets: seed (plugins.dice.secrets.seed: set); no-such-token (DICE_NO_SUCH_TOKEN: not set)
            checked where it asks the host: network_access, plugin_communication, secrets; shown only: read_files, write_files, system_access, env; nothing else holds a plugin of the tier `compiled`"#]].assert_eq(&text);
        let asked = json!({
            "network_access": [
                { "host": "api.example.com", "private": false },
                { "host": "*", "private": false },
                { "host": "localhost:8080", "private": true },
                { "key": "plugins.dice.allow", "default": ["a.test", "b.test"], "private": false },
                { "key": "plugins.dice.base_url", "default": [], "private": true },
            ],
            "direct_network": true,
            "read_files": ["/usr/share/dice"],
            "write_files": ["~/dice"],
            "system_access": ["*"],
            "plugin_communication": [{ "kind": "tool", "name": "clock" }, { "kind": "embedder", "name": null }, { "events": "" }],
            "env": ["LANG"],
            "secrets": [
                { "name": "seed", "variable": "DICE_SEED", "set": true },
                { "name": "no-such-token", "variable": "DICE_NO_SUCH_TOKEN", "set": false },
            ],
            "optional": ["env"],
            "reasons": { "env": "speaks your language" },
            "checked_by_host": ["network_access", "plugin_communication", "secrets"],
        });
        assert_eq!(value, asked);
        assert!(!text.contains("42") && !value.to_string().contains("42"), "a secret is shown");
        assert_eq!(shown("").0, "asks for none");
        let outside = Manifest::parse("plugin.toml", &format!("{HEAD}[permissions]\nenv = [\"LANG\"]\n"), None).unwrap();
        assert_eq!(lines(&outside, &Config::empty(), Tier::Process), ["env: LANG"]);
    }
}
