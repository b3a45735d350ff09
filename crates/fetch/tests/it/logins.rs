//! Who is told which user name and password, and that nobody else sees them.

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use bespoke_fetch::{Fetcher, Index, Source, Store};

use crate::{
    indexes::{html, page, right},
    server::{Request, Send, Server, correct, head},
    wheels::{FILE, alone, good, pinned, unpack},
    workbench::{Workbench, content, ensure, pin},
};

const INDEX: &str = "BESPOKE_FETCH_TEST_INDEX";
const FOLDER: &str = "BESPOKE_FETCH_TEST_FOLDER";
/// `me:p@ss-hunter2`, with the letter that a URL has to escape.
const LOGIN: &str = "me:p%40ss-hunter2";
const BASIC: &str = "Basic bWU6cEBzcy1odW50ZXIy";

/// Asks for the login first.
fn guarded(request: &Request) -> Vec<Send> {
    match request.authorization.as_deref() {
        Some(BASIC) => right(request),
        _ => vec![head(401, &[("WWW-Authenticate", "Basic realm=\"x\""), ("Content-Length", "0")])],
    }
}

fn with_login(bench: &Workbench, url: &str) -> Fetcher {
    let mut fetcher = alone(bench);
    fetcher.index = Some(Index::new(&url.replace("http://", &format!("http://{LOGIN}@"))).unwrap());
    fetcher
}

/// Fails if a secret stands in the text, in any of its spellings.
fn assert_secret(text: &str) {
    for secret in ["hunter2", "p%40ss", "bWU6cEBz", "me:"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn assert_no_file_has_it(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        assert_secret(path.to_str().unwrap());
        if path.is_dir() {
            assert_no_file_has_it(&path);
        } else {
            assert_secret(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn the_user_part_of_the_index_opens_the_page_and_the_files_beside_it() {
    let (bench, server) = (Workbench::new(), Server::start(guarded));
    let fetcher = with_login(&bench, &server.url("root/simple/"));
    let mut shown = format!("{fetcher:?} {fetcher:#?}");
    let mut report = |p: bespoke_fetch::Progress<'_>| shown.push_str(&format!("{p:?}"));
    let cancel = std::sync::atomic::AtomicBool::new(false);
    fetcher.unpack(&pinned(&good()), &bench.beside("into"), &mut report, &cancel).unwrap();
    assert!(server.seen().iter().all(|r| r.authorization.as_deref() == Some(BASIC)) && server.seen().len() == 2);
    assert!(shown.contains("Downloading"));
    assert_secret(&shown);
    assert_no_file_has_it(&bench.root());

    // A wrong one: told without showing it.
    let wrong = Server::start(|_| vec![head(401, &[("Content-Length", "0")])]);
    let fetcher = with_login(&bench, &wrong.url("root/simple/"));
    let error = unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap_err();
    assert!(error.to_string().contains("netrc") && error.to_string().contains("user part"), "{error}");
    let plan = fetcher.plan("sub", &[pin(&content(), vec![Source::pip("some-model==1.0", "m")])]).unwrap();
    assert_secret(&format!("{error} {error:?} {plan:?}"));
    assert_eq!(wrong.seen().len(), 1);

    // A port where nobody listens, and an address that is none.
    for url in ["http://127.0.0.1:9/simple", "http://no such host/"] {
        let Ok(index) = Index::new(&url.replace("http://", &format!("http://{LOGIN}@"))).map_err(|e| assert_secret(&format!("{e} {e:?}")))
        else {
            continue;
        };
        let mut fetcher = alone(&bench);
        fetcher.index = Some(index);
        let error = unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap_err();
        assert_secret(&format!("{error} {error:?}"));
    }
}

#[test]
fn a_redirect_to_another_host_or_port_does_not_take_the_login_along() {
    let other = std::sync::Arc::new(Server::start(|r| correct(r, &good())));
    let (by_port, by_name) = (other.url(FILE), other.url_by_name(FILE));
    for there in [by_port, by_name] {
        // Once the page links to the other host, once the file beside the index is redirected to it.
        for linked in [true, false] {
            let (bench, to) = (Workbench::new(), there.clone());
            let server = Server::start(move |r| match r.path.as_str() {
                path if path.ends_with('/') && linked => page("text/html", &format!("<a href='{to}'>{FILE}</a>")),
                path if path.ends_with('/') => html(&[FILE]),
                _ => vec![head(302, &[("Location", &to), ("Content-Length", "0")])],
            });
            let before = other.seen().len();
            unpack(&with_login(&bench, &server.url("root/simple/")), &pinned(&good()), &bench.beside("into")).unwrap();
            assert!(server.seen().iter().all(|r| r.authorization.as_deref() == Some(BASIC)));
            let there = &other.seen()[before..];
            assert!(there.len() == 1 && there[0].authorization.is_none(), "{there:?}");
        }
    }
}

#[test]
fn a_login_that_comes_back_by_a_redirect_is_sent_again_to_its_own_host_only() {
    let bench = Workbench::new();
    let other = Server::start(|r| {
        let back = format!("http://evil:evil@{}", r.path.strip_prefix("to/").unwrap());
        vec![head(302, &[("Location", &back), ("Content-Length", "0")])]
    });
    let away = other.url("to/");
    let server = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let own = std::sync::Arc::clone(&server);
    let index = Server::start(move |r| match r.path.as_str() {
        path if path.ends_with('/') => page("text/html", &format!("<a href='{away}{}/{FILE}'>{FILE}</a>", own.get().unwrap())),
        _ => guarded(r),
    });
    server.set(index.url("").trim_start_matches("http://").trim_end_matches('/').to_owned()).unwrap();
    unpack(&with_login(&bench, &index.url("root/simple/")), &pinned(&good()), &bench.beside("into")).unwrap();
    assert!(other.seen().iter().all(|r| r.authorization.is_none()));
    assert_eq!(index.seen().last().unwrap().authorization.as_deref(), Some(BASIC), "not what the redirect says");
}

#[test]
fn a_login_in_a_redirect_of_the_page_is_not_taken_for_the_files() {
    let (bench, own) = (Workbench::new(), std::sync::Arc::new(std::sync::OnceLock::<String>::new()));
    let to = std::sync::Arc::clone(&own);
    let server = Server::start(move |r| match r.path.as_str() {
        "root/simple/some-model/" => vec![head(302, &[("Location", to.get().unwrap()), ("Content-Length", "0")])],
        "moved/" => page("text/html", &format!("<a href='{FILE}'>{FILE}</a>")),
        _ => guarded(r),
    });
    own.set(server.url("moved/").replace("http://", "http://evil:evil@")).unwrap();
    unpack(&with_login(&bench, &server.url("root/simple/")), &pinned(&good()), &bench.beside("into")).unwrap();
    assert!(server.seen().iter().all(|r| r.authorization.as_deref() == Some(BASIC)) && server.seen().len() == 3);
}

#[test]
fn a_url_of_a_model_may_have_its_own_login() {
    let bench = Workbench::new();
    let server = Server::start(|r| match r.authorization.as_deref() {
        Some(BASIC) => correct(r, &content()),
        _ => vec![head(401, &[("Content-Length", "0")])],
    });
    let url = server.url("m").replace("http://", &format!("http://{LOGIN}@"));
    let pin = pin(&content(), vec![Source::url(url)]);
    assert_secret(&format!("{pin:?} {:#?}", bench.fetcher().plan("sub", std::slice::from_ref(&pin))));
    ensure(&bench.fetcher(), &pin).unwrap();
}

/// In the process that a test started of itself, with an environment of its own: unpack what that names.
fn as_child() -> bool {
    let (Ok(index), Some(folder)) = (env::var(INDEX), env::var_os(FOLDER)) else { return false };
    let folder = Path::new(&folder);
    let mut fetcher = Fetcher::new(Store::new(folder.join("root")));
    fetcher.limits.backoff = std::time::Duration::from_millis(5);
    fetcher.index = Some(Index::new(&index).unwrap());
    if let Err(error) = unpack(&fetcher, &pinned(&good()), &folder.join("into")) {
        panic!("{error} {error:?}");
    }
    true
}

fn child(test: &str, index: &str, folder: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
        command.env_remove(proxy);
    }
    command.args(["--exact", test]).env(INDEX, index).env(FOLDER, folder).envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn netrc_is_asked_for_hosts_without_a_login_of_their_own() {
    if as_child() {
        return;
    }
    let test = "logins::netrc_is_asked_for_hosts_without_a_login_of_their_own";
    let (server, bench) = (Server::start(guarded), Workbench::new());
    let (here, index) = (bench.beside("home"), server.url("root/simple/"));
    let mine = "machine 127.0.0.1 login me password p@ss-hunter2\n";
    let netrc = here.join("mine");
    fs::write(&netrc, mine).unwrap();
    let named = netrc.to_str().unwrap();
    let home = here.to_str().unwrap();
    fs::write(here.join(".netrc"), mine).unwrap();
    for variables in [[("NETRC", named), ("HOME", "/nowhere")], [("NETRC", ""), ("HOME", home)]] {
        let ran = child(test, &index, &bench.beside("a"), &variables);
        assert!(ran.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&ran.stdout));
    }
    // Of another host, of a file that is not there, of one that is not understood: a clear refusal, and no secret.
    for (at, text) in ["machine localhost login me password p@ss-hunter2", "login me password p@ss-hunter2"].iter().enumerate() {
        fs::write(&netrc, text).unwrap();
        let ran = child(test, &index, &bench.beside(&format!("b{at}")), &[("NETRC", named)]);
        let told = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(!ran.status.success() && told.contains("~/.netrc"), "{told}");
        assert_secret(&told.replace("me: ", ""));
    }
    // What the URL of the index says goes before netrc.
    fs::write(&netrc, "machine 127.0.0.1 login other password other").unwrap();
    let ran = child(test, &index.replace("http://", &format!("http://{LOGIN}@")), &bench.beside("c"), &[("NETRC", named)]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    assert_no_file_has_it(&bench.root());
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    if as_child() {
        return;
    }
    let test = "logins::a_proxy_of_the_environment_is_used";
    let (bench, proxy) = (Workbench::new(), Server::start(|_| vec![head(407, &[("Content-Length", "0")])]));
    let ran = child(test, "http://index.invalid/simple/", &bench.beside("a"), &[("http_proxy", &proxy.url(""))]);
    assert!(!ran.status.success());
    let seen = proxy.seen();
    assert!(seen.first().is_some_and(|r| r.path.contains("index.invalid")), "{seen:?}");
    // And not for those hosts that it is switched off for.
    let server = Server::start(right);
    let variables = [("http_proxy", proxy.url("")), ("no_proxy", "127.0.0.1".to_owned())];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let ran = child(test, &server.url("root/simple/"), &bench.beside("b"), &variables);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    assert_eq!(proxy.seen().len(), seen.len());
}
