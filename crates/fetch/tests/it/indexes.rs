//! Package indexes on the loopback: both formats, links of every kind, and what indexes do wrong.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_fetch::{Class, Error, Fetcher, Index, Limits, Package, Phase, Progress, Sha256, Source, Wheel};

use crate::{
    folders,
    server::{Request, Send, Server, correct, head, wait_for, whole},
    wheels::{FILE, alone, good, listing, pinned, unpack},
    workbench::{Workbench, content, digest, ensure, pin, write},
};

const PAGE: &str = "root/simple/some-model/";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/vnd.pypi.simple.v1+json";

pub(crate) fn page(content_type: &str, text: &str) -> Vec<Send> {
    let length = text.len().to_string();
    vec![head(200, &[("Content-Type", content_type), ("Content-Length", &length)]), Send::Bytes(text.as_bytes().to_vec())]
}

/// A page with a relative link to `packages/<file>`, two folders up.
pub(crate) fn html(files: &[&str]) -> Vec<Send> {
    let links: String = files.iter().map(|file| format!("<a href=\"../../packages/{file}\">{file}</a><br/>\n")).collect();
    page(HTML, &format!("<!DOCTYPE html><html><body>{links}</body></html>"))
}

/// An index with one wheel, correct in all.
pub(crate) fn right(request: &Request) -> Vec<Send> {
    match request.path.as_str() {
        PAGE => html(&["some_model-0.9-py3-none-any.whl", FILE]),
        path if path.ends_with(FILE) => correct(request, &good()),
        _ => vec![head(404, &[("Content-Length", "0")])],
    }
}

pub(crate) fn with_index(bench: &Workbench, server: &Server) -> Fetcher {
    let mut fetcher = alone(bench);
    fetcher.index = Some(Index::new(&server.url("root/simple")).unwrap());
    fetcher
}

fn paths(server: &Server) -> Vec<String> {
    server.seen().into_iter().map(|request| request.path).collect()
}

#[test]
fn both_formats_and_every_kind_of_link_lead_to_the_wheel() {
    type Answer = fn(&Request) -> Vec<Send>;
    let packages = format!("root/packages/{FILE}");
    let cases: [(Answer, &[&str]); 5] = [
        (right, &[PAGE, &packages]),
        (
            |r| match r.path.as_str() {
                PAGE => page(JSON, &format!(r#"{{"files": [{{"filename": "{FILE}", "url": "../../packages/{FILE}", "hashes": {{}}}}]}}"#)),
                _ => right(r),
            },
            &[PAGE, &packages],
        ),
        // The links are relative to where the page is in the end.
        (
            |r| match r.path.as_str() {
                PAGE => vec![head(301, &[("Location", "/elsewhere/some-model/"), ("Content-Length", "0")])],
                "elsewhere/some-model/" => page(HTML, &format!("<a href={FILE}#sha256=0>x</a>")),
                _ => right(r),
            },
            &[PAGE, "elsewhere/some-model/", "elsewhere/some-model/some_model-1.0-py3-none-any.whl"],
        ),
        // An address that says nothing about the file, and a redirect behind it.
        (
            |r| match r.path.as_str() {
                PAGE => page(HTML, &format!("<a href='/get?file=7&amp;x=%2F'>{FILE}</a>")),
                "get?file=7&x=%2F" => vec![head(307, &[("Location", FILE), ("Content-Length", "0")])],
                _ => right(r),
            },
            &[PAGE, "get?file=7&x=%2F", FILE],
        ),
        // In pieces, without a length.
        (
            |r| match r.path.as_str() {
                PAGE => vec![
                    head(200, &[("Content-Type", HTML), ("Transfer-Encoding", "chunked")]),
                    Send::Text("b\r\n<a href=\"/p\r\n".to_owned()),
                    Send::Text(format!("{:x}\r\n/{FILE}\">\r\n0\r\n\r\n", FILE.len() + 3)),
                ],
                _ => right(r),
            },
            &[PAGE, "p/some_model-1.0-py3-none-any.whl"],
        ),
    ];
    for (answer, asked) in cases {
        let (bench, server) = (Workbench::new(), Server::start(answer));
        let into = bench.beside("into");
        let unpacked = unpack(&with_index(&bench, &server), &pinned(&good()), &into).unwrap();
        assert_eq!(unpacked[0].sha256, digest(&content()));
        assert_eq!(fs::read(into.join("lib/lib.so")).unwrap(), content());
        assert_eq!(paths(&server), asked, "nothing but the project's page and the file");
        assert!(server.seen()[0].accept.as_ref().is_some_and(|accept| accept.starts_with(JSON)));
        assert!(bench.files().is_empty(), "the wheel is not kept: {:?}", bench.files());
    }
}

#[test]
fn a_model_comes_out_of_the_index_and_pip_is_not_asked() {
    let bench = Workbench::new();
    let bytes = folders::wheel(&[("one", &content()), ("two", b"2")]);
    let served = bytes.clone();
    let server = Server::start(move |r| match r.path.as_str() {
        PAGE => html(&["some_model-1.0.tar.gz", "some_model-2.0-py3-none-any.whl", "Some_Model-1.0-py3-none-any.whl"]),
        path if path.ends_with("Some_Model-1.0-py3-none-any.whl") => correct(r, &served),
        _ => vec![head(404, &[("Content-Length", "0")])],
    });
    for pinned in [None, Some(digest(&bytes)), Some(digest(b"another"))] {
        let source = |member: &str| {
            let mut package = Package::new("some.model==1.0", [member]);
            package.archive_sha256 = pinned;
            vec![Source::Pip(package)]
        };
        let mut second = pin(b"2", source("two"));
        second.file = "two.bin".to_owned();
        let (fetcher, before) = (with_index(&bench, &server), server.seen().len());
        let pins = [pin(&content(), source("one")), second];
        let plan = fetcher.plan("sub", &pins[..1]).unwrap();
        let result = fetcher.ensure("sub", &pins, &mut |_| {}, &AtomicBool::new(false));
        assert_eq!(server.seen().len() - before, 2, "one page and one file for both");
        if pinned == Some(digest(b"another")) {
            let error = result.unwrap_err();
            assert_eq!(error.class(), Class::Verification);
            assert!(error.to_string().contains("some.model==1.0 from the index http://127.0.0.1:"), "{error}");
            assert!(bench.files().is_empty());
        } else {
            assert!(plan.missing[0].sources[0].starts_with("some.model==1.0 from the index"), "{plan:?}");
            result.unwrap();
            assert_eq!(bench.files(), ["sub/model.bin", "sub/two.bin"]);
            fs::remove_dir_all(bench.root()).unwrap();
        }
    }
}

#[test]
fn what_the_page_says_of_a_digest_is_never_believed() {
    let lie = format!("{}", digest(b"something else"));
    let truth = format!("{}", pinned(&good()).sha256);
    let other = || {
        let mut other = good();
        other[100] ^= 1;
        other
    };
    for (says, bytes, right) in [(&lie, good(), true), (&truth, other(), false), (&truth, good(), true)] {
        let repaired = Arc::new(AtomicBool::new(right));
        let (flag, says) = (Arc::clone(&repaired), says.clone());
        let server = Server::start(move |r| match r.path.as_str() {
            PAGE => page(HTML, &format!("<a href='/{FILE}#sha256={says}'>{FILE}</a>")),
            _ if flag.load(Ordering::Relaxed) => correct(r, &good()),
            _ => correct(r, &bytes),
        });
        let bench = Workbench::new();
        let fetcher = with_index(&bench, &server);
        if !right {
            let error = unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap_err();
            assert_eq!(error.class(), Class::Verification);
            assert!(error.to_string().contains("has sha256"), "{error}");
            assert!(listing(&bench.beside("into")).is_empty() && bench.files().is_empty());
            // Defect of an installer we learnt from: a corrupt cached file failed the check for ever.
            repaired.store(true, Ordering::Relaxed);
        }
        unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap();
    }
}

/// What goes wrong at the page or at the file, what is told, and whether the server is asked again.
#[test]
fn whatever_an_index_does_wrong_is_told_and_leaves_nothing() {
    type Answer = fn(&Request) -> Vec<Send>;
    let tries = 1 + Limits::default().retries as usize;
    let not_found: Answer = |_| vec![head(404, &[("Content-Length", "9")]), Send::Text("not here!".to_owned())];
    let unauthorised: Answer = |_| vec![head(401, &[("WWW-Authenticate", "Basic"), ("Content-Length", "0")])];
    let forbidden: Answer = |_| vec![head(403, &[("Content-Length", "0")])];
    let broken: Answer = |_| vec![head(500, &[("Content-Length", "0")])];
    let around: Answer = |r| vec![head(302, &[("Location", &format!("/{}", r.path)), ("Content-Length", "0")])];
    let away: Answer = |_| vec![head(302, &[("Location", "file:///etc/passwd"), ("Content-Length", "0")])];
    let nothing: Answer = |_| vec![];
    let error_page: Answer = |_| page(HTML, "<html>Sorry!</html>");
    let compressed: Answer = |_| vec![head(200, &[("Content-Encoding", "zstd"), ("Content-Length", "4")]), Send::Text("zstd".to_owned())];
    let short: Answer = |r| {
        let mut sends = correct(r, &good());
        if let Some(Send::Bytes(bytes)) = sends.last_mut() {
            bytes.truncate(10);
        }
        sends
    };
    let pages: [(Answer, &str, usize); 12] = [
        (not_found, "the index has no project Some.Model (HTTP status 404)", 1),
        (unauthorised, "~/.netrc", 1),
        (forbidden, "HTTP status 403", 1),
        (broken, "HTTP status 500", tries),
        (around, "more than 10 redirects", 11),
        (away, "redirects to no http address", 1),
        (nothing, "the connection broke off", tries),
        (error_page, "lists 0 files of Some.Model, but no some_model-1.0-py3-none-any.whl", 1),
        (compressed, "compressed form", 1),
        (|_| html(&["some_model-1.1-py3-none-any.whl"]), "lists 1 files", 1),
        (|_| page(JSON, "{}"), "no index page", 1),
        (|_| page(JSON, r#"{"meta": {"api-version": "2.0"}, "files": []}"#), "has version 2.0", 1),
    ];
    let files: [(Answer, &str, usize); 8] = [
        (not_found, "HTTP status 404", 1),
        (unauthorised, "user part", 1),
        (broken, "HTTP status 500", tries),
        (around, "more than 10 redirects", 11),
        (nothing, "the connection broke off", tries),
        // Defect of an installer we learnt from: the status was not looked at, and an error page became the archive.
        (error_page, "has 19 bytes, pinned are", 1),
        (|r| whole(&good()[..r.path.len()]), "bytes, pinned are", 1),
        (short, "ended after ", 0),
    ];
    let cases = pages.map(|case| (true, case)).into_iter().chain(files.map(|case| (false, case)));
    for (at_page, (answer, told, asked)) in cases {
        let (bench, count) = (Workbench::new(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&count);
        let server = Server::start(move |r| {
            if (r.path == PAGE) == at_page {
                counted.fetch_add(1, Ordering::Relaxed);
                answer(r)
            } else {
                right(r)
            }
        });
        let error = unpack(&with_index(&bench, &server), &pinned(&good()), &bench.beside("into")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(told) && text.contains("from the index"), "{told}: {text}");
        let class = if text.contains("pinned are") { Class::Verification } else { Class::Network };
        assert_eq!(error.class(), class, "{told}: {text}");
        if asked > 0 {
            assert_eq!(count.load(Ordering::Relaxed), asked, "{told}");
        }
        assert!(listing(&bench.beside("into")).is_empty(), "{told}");
        let left = bench.files();
        let part = told.starts_with("ended after");
        assert!(left.len() == usize::from(part) && left.iter().all(|file| file.starts_with(".partial/.wheels/")), "{told}: {left:?}");
        // Nothing of it lasts.
        let well = Server::start(right);
        unpack(&with_index(&bench, &well), &pinned(&good()), &bench.beside("into")).unwrap();
        assert!(bench.files().is_empty(), "{told}");
    }
}

#[test]
fn trouble_that_passes_is_waited_for() {
    for (page_troubles, file_troubles) in [(1, 0), (0, 1), (2, 3)] {
        let (bench, pages, files) = (Workbench::new(), AtomicUsize::new(0), AtomicUsize::new(0));
        let server = Server::start(move |r| {
            let (count, troubles) = if r.path == PAGE { (&pages, page_troubles) } else { (&files, file_troubles) };
            match count.fetch_add(1, Ordering::Relaxed) {
                at if at >= troubles => right(r),
                at if at % 2 == 0 => vec![head(500, &[("Content-Length", "0")])],
                _ => vec![],
            }
        });
        unpack(&with_index(&bench, &server), &pinned(&good()), &bench.beside("into")).unwrap();
        assert_eq!(server.seen().len(), 2 + page_troubles + file_troubles);
    }
}

#[test]
fn a_slow_index_ends_at_its_limits() {
    let released = Arc::new(AtomicBool::new(false));
    for slow_page in [true, false] {
        for drip in [true, false] {
            let (bench, flag) = (Workbench::new(), Arc::clone(&released));
            let server = Server::start(move |r| match (r.path == PAGE) == slow_page {
                true if drip => vec![head(200, &[]), Send::Drip(vec![b' '; 2000], Duration::from_millis(5))],
                true => vec![Send::Until(Arc::clone(&flag))],
                false => right(r),
            });
            let (short, long) = (Duration::from_millis(300), Duration::from_secs(20));
            let mut fetcher = with_index(&bench, &server);
            let (total, stall) = if drip { (short, long) } else { (long, short) };
            fetcher.limits = Limits { total, stall, ..fetcher.limits };
            let since = Instant::now();
            let error = unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap_err();
            assert!(error.to_string().contains("gave up after 300ms"), "{error}");
            assert!(since.elapsed() < Duration::from_secs(8));
            assert!(listing(&bench.beside("into")).is_empty());
        }
    }
    released.store(true, Ordering::Relaxed);
}

#[test]
fn an_interrupted_wheel_is_resumed_by_the_next_run() {
    let bench = Workbench::new();
    let (released, cancel) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let flag = Arc::clone(&released);
    let server = Server::start(move |r| match r.path.as_str() {
        PAGE => right(r),
        _ if r.from.is_some() => correct(r, &good()),
        _ => vec![
            head(200, &[("Content-Length", &good().len().to_string())]),
            Send::Bytes(good()[..100_000].to_vec()),
            Send::Until(Arc::clone(&flag)),
        ],
    });
    let fetcher = with_index(&bench, &server);
    let mut report = |p: Progress<'_>| cancel.store(p.phase == Phase::Downloading && p.done == 100_000, Ordering::Relaxed);
    let error = fetcher.unpack(&pinned(&good()), &bench.beside("into"), &mut report, &cancel).unwrap_err();
    assert_eq!(error.class(), Class::Cancelled);
    let name = format!(".partial/.wheels/{FILE}.{}.part", &pinned(&good()).sha256.to_string()[..16]);
    assert_eq!(bench.files(), std::slice::from_ref(&name));
    released.store(true, Ordering::Relaxed);

    let before = server.seen().len();
    unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap();
    let froms: Vec<_> = server.seen()[before..].iter().map(|r| r.from).collect();
    assert_eq!(froms, [None, Some(100_000)], "the page, then the rest of the file");
    assert!(bench.files().is_empty());

    // What is left of a wheel that comes out of a folder in the end is of no more use.
    write(&bench.root().join(name), b"a part");
    write(&bench.beside("from").join(FILE), &good());
    unpack(&fetcher.with_from(bench.beside("from")), &pinned(&good()), &bench.beside("into")).unwrap();
    assert!(bench.files().is_empty());
}

#[test]
fn of_what_is_forgotten_only_its_own_part_goes() {
    let bench = Workbench::new();
    let fetcher = alone(&bench);
    let (wheel, other) = (pinned(&good()), Sha256([7; 32]));
    let part = |digest: Sha256| format!(".partial/.wheels/{FILE}.{}.part", &digest.to_string()[..16]);
    for digest in [wheel.sha256, other] {
        write(&bench.root().join(part(digest)), b"a part");
    }
    write(&bench.root().join(".partial/model.bin.part"), b"a part");
    fetcher.forget("no wheel", wheel.sha256);
    fetcher.forget("../../.partial/.wheels/x.whl", wheel.sha256);
    assert_eq!(bench.files().len(), 3);
    fetcher.forget(FILE, wheel.sha256);
    fetcher.forget(FILE, wheel.sha256);
    let mut left = [part(other), ".partial/model.bin.part".to_owned()];
    left.sort();
    assert_eq!(bench.files(), left);

    // Another process is at it.
    let lock = bench.root().join(format!(".locks/.wheels/{FILE}.{}.lock", &other.to_string()[..16]));
    write(&lock, b"");
    let held = fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    fetcher.forget(FILE, other);
    assert_eq!(bench.files(), left);
}

#[test]
fn two_that_want_the_same_wheel_do_not_write_into_one_part() {
    let bench = Workbench::new();
    let released = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&released);
    let server = Server::start(move |r| match r.path.as_str() {
        PAGE => right(r),
        _ => vec![
            head(200, &[("Content-Length", &good().len().to_string())]),
            Send::Bytes(good()[..100_000].to_vec()),
            Send::Until(Arc::clone(&flag)),
            Send::Bytes(good()[100_000..].to_vec()),
        ],
    });
    let fetch = |name: &str| {
        let into = bench.beside(name);
        let mut report = |p: Progress<'_>| {
            released.fetch_or(p.phase == Phase::Waiting, Ordering::Relaxed);
        };
        with_index(&bench, &server).unpack(&pinned(&good()), &into, &mut report, &AtomicBool::new(false)).map(|_| into)
    };
    let done = std::thread::scope(|scope| ["a", "b"].map(|name| scope.spawn(move || fetch(name))).map(|t| t.join().unwrap().unwrap()));
    for into in done {
        assert_eq!(fs::read(into.join("lib/lib.so")).unwrap(), content());
    }
    assert!(released.load(Ordering::Relaxed), "the two did meet");
    assert!(bench.files().is_empty());
}

#[test]
fn what_a_user_gave_goes_before_the_index() {
    let bench = Workbench::new();
    let server = Server::start(right);
    let folder = bench.beside("from");
    fs::write(folder.join(FILE), good()).unwrap();
    let fetcher = with_index(&bench, &server).with_from(&folder);
    unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap();
    assert!(server.seen().is_empty());
    // A wrong one is passed over, and told only if nothing else does.
    fs::write(folder.join(FILE), b"wrong").unwrap();
    unpack(&fetcher, &pinned(&good()), &bench.beside("into")).unwrap();
    assert_eq!(server.seen().len(), 2);
    let mut other: Wheel = pinned(&good());
    other.sha256 = digest(b"another");
    let error = unpack(&fetcher, &other, &bench.beside("into")).unwrap_err();
    assert!(matches!(&error, Error::Verification { attempts, .. } if attempts.len() == 2), "{error}");
}

#[test]
fn a_page_that_never_ends_is_cut_off() {
    // Under the name of an archive without a pinned size, which has the smaller bound.
    let bench = Workbench::new();
    let server = Server::start(|r| match r.path.as_str() {
        PAGE => right(r),
        _ => std::iter::once(head(200, &[])).chain((0..40).map(|_| Send::Bytes(vec![7; 100_000]))).collect(),
    });
    let mut fetcher = with_index(&bench, &server);
    fetcher.limits.archive_bytes = 1_000_000;
    let error = ensure(&fetcher, &pin(&content(), vec![Source::pip("some-model==1.0", "one")])).unwrap_err();
    assert!(error.to_string().contains("larger than 1000000 bytes"), "{error}");
    assert!(bench.files().is_empty());
    wait_for("the log", || server.seen().len() == 2);
}
