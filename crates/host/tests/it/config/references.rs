//! What stands for a value: variables in it, files, stores of secrets; and what of it is never shown.

use super::*;

#[test]
fn references_are_filled_in_and_what_is_missing_is_told() {
    let config =
        parse("[plugins.a]\ntoken = 'Bearer ${TOKEN}!'\nlist = ['${TOKEN}', { x = '${EMPTY}' }]\nplain = '$${TOKEN} $5 $$$${x}'\n");
    assert_eq!(
        config.plugin("a").unwrap(),
        json!({ "token": "Bearer t0k3n-t0k3n!", "list": ["t0k3n-t0k3n", { "x": "" }], "plain": "${TOKEN} $5 $$${x}" })
    );
    assert_eq!(config.get("plugins.a.token"), Some(json!("Bearer ${TOKEN}!")), "as it is written");
    let mut said = String::new();
    for text in [
        "[plugins.a]\nkey = '${NOBODY}'\n",
        "[plugins.a]\nlist = [1,\n  { x = 'a ${NOBODY' }]\n",
        "[plugins.a]\nkey = '${}'\n",
        "[plugins.a]\nkey = '${TOKEN:-x}'\n",
    ] {
        said += &format!("{}\n", parse(text).plugin("a").unwrap_err());
    }
    expect![[r#"
        bespoke.toml:2:1: plugins.a.key: refers to ${NOBODY}, which is not set; export NOBODY=…
        bespoke.toml:3:5: plugins.a.list[1].x: has a `${` without a `}`; write `$${` for a literal `${`
        bespoke.toml:2:1: plugins.a.key: `${}` names no variable; write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`
        bespoke.toml:2:1: plugins.a.key: `${TOKEN:-x}` names no variable; write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`
    "#]].assert_eq(&said);
}

#[test]
fn a_secret_is_taken_out_of_the_message_that_refuses_it() {
    let error = parse("[agent]\nlimit = '${TOKEN}'\n").section::<Section>("agent").unwrap_err();
    expect![[r#"bespoke.toml:2:1: agent.limit: string "***" does not fit here: expected a whole number from 0 to 255"#]]
        .assert_eq(&error.to_string());
    let config = parse("[agent]\nsystem = '${TOKEN}'\n");
    assert_eq!(config.redactor().redact("it is t0k3n-t0k3n"), "it is ***");
    assert!(!format!("{config:?}").contains("t0k3n"));
}

/// A store that holds one secret.
struct Vault;

impl SecretSource for Vault {
    fn scheme(&self) -> &str {
        "keyring"
    }
    fn find(&self, name: &str) -> std::result::Result<Option<String>, String> {
        match name {
            "bespoke/token" => Ok(Some("v4ult-v4lue".into())),
            "bespoke/broken" => Err("it is locked".into()),
            _ => Ok(None),
        }
    }
    fn store_with(&self, name: &str) -> Option<String> {
        Some(format!("vault store {name}"))
    }
}

#[test]
fn secrets_come_from_files_and_stores() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("key", b"f1le-v4lue\n");
    write("two", b"line one\nline two\r\n");
    write("empty", b"\n");
    write("bytes", b"\xff\xfe");
    write("long", &[b'x'; 64 * 1024 + 1]);
    let path = folder.path().join("bespoke.toml");
    let read = |value: &str| {
        std::fs::write(&path, format!("[plugins.a]\nkey = '{value}'\n")).unwrap();
        let home = ("HOME".to_owned(), folder.path().display().to_string());
        Config::read(&path).unwrap().with_env([home]).with_source(std::sync::Arc::new(Vault))
    };
    for (written, value) in [
        ("${file:key}", "f1le-v4lue"),
        ("${file:~/key}", "f1le-v4lue"),
        (&format!("${{file:{}/key}}", folder.path().display()), "f1le-v4lue"),
        ("Bearer ${file:key} or ${keyring:bespoke/token}", "Bearer f1le-v4lue or v4ult-v4lue"),
        ("${file:two}", "line one\nline two"),
    ] {
        let config = read(written);
        assert_eq!(config.plugin("a").unwrap()["key"], value);
        assert_eq!(config.get("plugins.a.key"), Some(json!(written)));
        assert!(!config.redactor().redact(value).contains("v4lue"), "{written}");
    }
    let mut said = String::new();
    for value in [
        "${file:absent}",
        "${file:}",
        "${file:.}",
        "${file:empty}",
        "${file:bytes}",
        "${file:long}",
        "${keyring:bespoke/nobody}",
        "${keyring:bespoke/broken}",
        "${vault:x}",
    ] {
        said += &format!("{}\n", read(value).plugin("a").unwrap_err());
    }
    std::fs::write(&path, "[plugins.a]\nkey = '${keyring:a/b}'\n").unwrap();
    said += &format!("{}\n", Config::read(&path).unwrap().plugin("a").unwrap_err());
    expect![[r#"
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/absent, which is not there; write the secret into /home/absent
        /home/bespoke.toml:2:1: plugins.a.key: `${file:}` names no file; write ${file:/a/path} or ${file:~/a/path}
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/., which is no plain file; name the file that holds the secret
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/empty, which is empty; write the secret into /home/empty
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/bytes, which is no UTF-8; name a text file that holds the secret alone
        /home/bespoke.toml:2:1: plugins.a.key: refers to the file /home/long, which is longer than 64 KiB; name a file that holds the secret alone
        /home/bespoke.toml:2:1: plugins.a.key: refers to `bespoke/nobody`, which the keyring does not hold; vault store bespoke/nobody
        /home/bespoke.toml:2:1: plugins.a.key: the keyring cannot be asked for `bespoke/broken`: it is locked; write ${NAME} or ${file:/a/path} instead
        /home/bespoke.toml:2:1: plugins.a.key: `${vault:x}` names no variable; write ${NAME} with letters, digits and `_`, ${file:/a/path}, or `$${` for a literal `${`
        /home/bespoke.toml:2:1: plugins.a.key: `${keyring:a/b}`: this program reads no keyring; build with the feature keyring, or write ${NAME} or ${file:/a/path} instead
    "#]].assert_eq(&said.replace(&folder.path().display().to_string(), "/home"));
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "f1le-v4lue").unwrap();
    let config = parse(&format!("[plugins.a]\nkey = '${{file:{}}}'\n", key.display()));
    for (mode, told) in [(0o600, 0), (0o400, 0), (0o640, 1), (0o644, 1)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let warnings = config.open_secret_files();
        assert_eq!(warnings.len(), told, "{mode:o}");
        for warning in warnings {
            assert_eq!((warning.place.as_str(), warning.fix.unwrap()), ("bespoke.toml:2:1", format!("chmod 600 {}", key.display())));
        }
    }
}

#[test]
fn what_a_schema_calls_secret_is_learned_and_told_where_it_is_typed() {
    let schema = json!({
        "properties": {
            "token": { "type": "string", "x-secret": true },
            "password": { "type": "string", "format": "password" },
            "people": { "items": { "$ref": "#/$defs/Person" } },
            "plain": { "type": "string" },
        },
        "$defs": { "Person": { "properties": { "pin": { "type": "string", "x-secret": true } } } },
    });
    let text = "[plugins.a]\ntoken = 'literal-one'\npassword = '${TOKEN}'\nplain = 'no-secret'\npeople = [{ pin = 'literal-two' }]\n";
    let config = parse(text);
    config.learn_secrets("plugins.a", &schema);
    assert_eq!(config.redactor().redact("literal-one literal-two no-secret ${TOKEN} t0k3n-t0k3n"), "*** *** no-secret ${TOKEN} ***");
    let warnings: String = config.literal_secrets("plugins.a", &schema).iter().map(|w| format!("{w}\n")).collect();
    expect![[r#"
        bespoke.toml:2:1: plugins.a.token: a secret is typed into the configuration; move it out: bespoke config set-secret plugins.a.token < FILE
        bespoke.toml:5:13: plugins.a.people[0].pin: a secret is typed into the configuration; write it into a file that only you can read, and '${file:/that/file}' here
    "#]].assert_eq(&warnings);
}
