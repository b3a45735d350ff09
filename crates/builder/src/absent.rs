//! What of the standard library a plugin's own code uses that a component does not have: it compiles for wasm32, and fails only when it
//! runs. A look at its source, module by module, that says where; what a macro writes and what other crates do, it does not see, so it
//! refuses nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module or type, what of it (anything where nothing is named), what becomes of that in a component, and what there is instead.
const ABSENT: &[(&str, &[&str], &str)] = &[
    ("Instant", &["now"], "panics in a component, which has no clock: use cx.now()"),
    ("SystemTime", &["now"], "panics in a component, which has no clock: use cx.now()"),
    ("thread", &["sleep"], "panics in a component: use cx.sleep().await"),
    ("thread", &["spawn", "scope", "Builder"], "fails in a component, which has no threads: use cx.spawn() or cx.blocking()"),
    ("fs", &[], "fails in a component, which has no files: use cx.host().store() and load()"),
    ("File", &["open", "create", "options"], "fails in a component, which has no files: use cx.host().store() and load()"),
    ("TcpStream", &["connect"], "fails in a component, which has no sockets: use cx.http"),
    ("TcpListener", &["bind"], "fails in a component, which has no sockets: use a contribution of kind http"),
    ("UdpSocket", &["bind"], "fails in a component, which has no sockets: use cx.http"),
    ("Command", &["new"], "fails in a component, which starts no programs"),
    ("env", &["var", "var_os", "vars"], "finds nothing in a component: use the configuration, and cx.secret()"),
];
/// Modules that are looked at.
const MOST_FILES: usize = 1000;
/// Places that are told.
const TOLD: usize = 10;

/// A line for each place in the library that begins with the file `root`.
pub(crate) fn warnings(root: &Path) -> Vec<String> {
    let mut look = Look::default();
    look.file(root, root.parent().unwrap_or(root));
    let more = look.found.len().saturating_sub(TOLD);
    let mut lines: Vec<String> = look.found.into_iter().take(TOLD).map(|found| format!("warning: {found}")).collect();
    if more > 0 {
        lines.push(format!("warning: and {more} more of that kind"));
    }
    lines
}

#[derive(Default)]
struct Look {
    found: Vec<String>,
    files: BTreeSet<PathBuf>,
}

/// A file, as its tokens are looked at.
struct Here<'h> {
    file: &'h Path,
    /// What it has of the standard library by name.
    of_std: BTreeSet<String>,
}

impl Look {
    /// A module in a file, whose own modules are below `folder`. What cannot be read, the compiler tells.
    fn file(&mut self, file: &Path, folder: &Path) {
        if self.files.len() == MOST_FILES || !self.files.insert(file.to_owned()) {
            return;
        }
        let Some(tokens) = fs::read_to_string(file).ok().and_then(|text| text.parse::<TokenStream>().ok()) else { return };
        let mut of_std = BTreeSet::from(["std".to_owned()]);
        imports(tokens.clone(), &mut of_std);
        self.tokens(tokens, &Here { file, of_std }, folder);
    }

    fn tokens(&mut self, tokens: TokenStream, here: &Here<'_>, folder: &Path) {
        let mut tokens = tokens.into_iter().peekable();
        // What is compiled only sometimes is its author's affair: tests, and code for other targets.
        let mut skips = false;
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        while let Some(token) = tokens.next() {
            if skips {
                skips = !ends_item(&token);
                continue;
            }
            match token {
                TokenTree::Ident(ident) if ident == "mod" => {
                    let Some(TokenTree::Ident(name)) = tokens.next() else { continue };
                    let below = folder.join(name.to_string());
                    match tokens.next() {
                        Some(TokenTree::Group(body)) => self.tokens(body.stream(), here, &below),
                        _ => {
                            let file = [below.with_extension("rs"), below.join("mod.rs")].into_iter().find(|file| file.is_file());
                            if let Some(file) = file {
                                self.file(&file, &below);
                            }
                        }
                    }
                }
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        path.clear();
                    }
                    colons = 0;
                    path.push(ident.to_string());
                    self.path(&path, ident.span().start().line, here);
                }
                TokenTree::Punct(punct) => {
                    colons = if punct.as_char() == ':' { colons + 1 } else { 0 };
                    if colons == 0 {
                        path.clear();
                    }
                    if punct.as_char() == '#' {
                        let is_inner = tokens.next_if(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == '!')).is_some();
                        let is_cfg = matches!(tokens.next(), Some(TokenTree::Group(attribute)) if is_cfg(attribute.stream()));
                        if is_cfg && is_inner {
                            return;
                        }
                        skips = is_cfg;
                    }
                }
                TokenTree::Group(group) => {
                    colons = 0;
                    path.clear();
                    self.tokens(group.stream(), here, folder);
                }
                TokenTree::Literal(_) => colons = 0,
            }
        }
    }

    /// A path, up to its last segment.
    fn path(&mut self, path: &[String], line: usize, here: &Here<'_>) {
        let [.., owner, name] = path else { return };
        if !path.first().is_some_and(|first| here.of_std.contains(first)) {
            return;
        }
        let is_function = name.starts_with(char::is_lowercase);
        let absent = ABSENT.iter().find(|(of, what, _)| of == owner && if what.is_empty() { is_function } else { what.contains(&&**name) });
        if let Some((_, _, why)) = absent {
            self.found.push(format!("{}:{line}: `{owner}::{name}` {why}", here.file.display()));
        }
    }
}

/// The names that `use std::…;` brings, at any depth.
fn imports(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => imports(group.stream(), names),
            TokenTree::Ident(ident) if ident == "use" => {
                let tree: TokenStream =
                    tokens.by_ref().take_while(|token| !ends_item(token) || matches!(token, TokenTree::Group(_))).collect();
                let mut used = Vec::new();
                idents(tree, &mut used);
                if used.first().is_some_and(|first| first == "std") {
                    names.extend(used);
                }
            }
            _ => {}
        }
    }
}

fn idents(tokens: TokenStream, all: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => all.push(ident.to_string()),
            TokenTree::Group(group) => idents(group.stream(), all),
            _ => {}
        }
    }
}

/// Whether an attribute says when something is compiled.
fn is_cfg(attribute: TokenStream) -> bool {
    matches!(attribute.into_iter().next(), Some(TokenTree::Ident(name)) if name == "cfg" || name == "test")
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_a_component_lacks_is_found_where_it_is_used_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "lib.rs",
            r#"
            //! `Instant::now()` in words.
            use std::{fs, thread, time::{Duration, Instant}};
            mod below;
            #[cfg(test)]
            mod tests;
            mod inline { mod deeper; fn f() { super::g(thread::spawn(|| {})) } }
            fn f() -> Instant { let _ = "Instant::now()"; Instant::now() }
            async fn g<'a>(x: &'a str) { vec![fs::read(x)]; std::thread::sleep(Duration::ZERO) }
            #[cfg(not(target_family = "wasm"))]
            fn h() { Instant::now(); }
            #[test]
            fn i() { Instant::now(); }
            fn j() -> u64 { let t = SystemTime::UNIX_EPOCH; std::time::SystemTime::now().elapsed(); std::env::var("X") }
            "#,
        );
        write("below.rs", "use crate::own::Instant;\nfn f() { Instant::now(); tokio::fs::read(1); own::thread::spawn(2); }\n");
        write("inline/deeper.rs", "use std::fs::File;\nfn f() { File::open(\"x\"); }\n");
        write("tests.rs", "fn f() { std::time::Instant::now(); }\n");
        write("unused.rs", "fn f() { std::time::Instant::now(); }\n");
        let told = warnings(&dir.path().join("lib.rs")).join("\n").replace(&format!("{}/", dir.path().display()), "");
        expect![[r#"
            warning: inline/deeper.rs:2: `File::open` fails in a component, which has no files: use cx.host().store() and load()
            warning: lib.rs:7: `thread::spawn` fails in a component, which has no threads: use cx.spawn() or cx.blocking()
            warning: lib.rs:8: `Instant::now` panics in a component, which has no clock: use cx.now()
            warning: lib.rs:9: `fs::read` fails in a component, which has no files: use cx.host().store() and load()
            warning: lib.rs:9: `thread::sleep` panics in a component: use cx.sleep().await
            warning: lib.rs:14: `SystemTime::now` panics in a component, which has no clock: use cx.now()
            warning: lib.rs:14: `env::var` finds nothing in a component: use the configuration, and cx.secret()"#]]
        .assert_eq(&told);
        // Modules in a circle, and many places.
        write("lib.rs", &format!("mod lib;\nuse std::fs;\nfn f() {{ {} }}", "fs::read(1);\n".repeat(12)));
        write("lib/lib.rs", "mod lib;");
        let told = warnings(&dir.path().join("lib.rs"));
        assert_eq!((told.len(), told.last().map(|last| &**last)), (11, Some("warning: and 2 more of that kind")));
        assert!(warnings(&dir.path().join("gone.rs")).is_empty());
    }
}
