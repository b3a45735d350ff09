//! Files from URLs: what servers do wrong, and what is left behind.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespoke_fetch::{Attempt, Class, Error, Failure, Limits, Phase, Pin, Source};

use crate::{
    server::{Send, Server, correct, head, wait_for, whole},
    workbench::{Workbench, content, ensure, pin, watched, write},
};

fn attempts(error: &Error) -> &[Attempt] {
    match error {
        Error::Network { attempts, .. } | Error::Verification { attempts, .. } => attempts,
        other => panic!("no attempts in {other}"),
    }
}

/// Where an earlier run left what it had of the file.
fn part_of(bench: &Workbench, pin: &Pin) -> PathBuf {
    bench.root().join(format!(".partial/sub/model.bin.{}.part", &pin.sha256.to_string()[..16]))
}

#[test]
fn a_good_file_is_placed_and_not_fetched_again() {
    let (bench, server) = (Workbench::new(), Server::start(|r| correct(r, &content())));
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    let mut phases = Vec::new();
    let path = watched(&bench.fetcher(), &pin, &mut |p| phases.push((p.phase, p.done, p.total))).unwrap();
    assert_eq!(path, bench.target());
    assert_eq!(fs::read(&path).unwrap(), content());
    assert_eq!(phases.first(), Some(&(Phase::Downloading, 0, Some(pin.size))));
    assert_eq!(phases.last(), Some(&(Phase::Done, pin.size, Some(pin.size))));
    assert_eq!(bench.files(), ["sub/model.bin"], "nothing else is left");

    ensure(&bench.fetcher(), &pin).unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].accept_encoding.as_deref(), Some("identity"));
}

#[test]
fn other_bytes_of_the_right_length_are_refused_and_not_kept() {
    let bench = Workbench::new();
    let repaired = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&repaired);
    let server = Server::start(move |r| {
        let mut bytes = content();
        bytes[1000] ^= u8::from(!flag.load(Ordering::Relaxed));
        correct(r, &bytes)
    });
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    let error = ensure(&bench.fetcher(), &pin).unwrap_err();
    assert_eq!(error.class(), Class::Verification);
    assert!(matches!(attempts(&error)[0].failure, Failure::Digest { pinned, .. } if pinned == pin.sha256));
    assert!(bench.files().is_empty(), "{:?}", bench.files());
    // Defect of an installer we learnt from: a cached bad file failed the check for ever.
    repaired.store(true, Ordering::Relaxed);
    ensure(&bench.fetcher(), &pin).unwrap();
}

#[test]
fn an_error_page_is_never_stored_and_does_not_cost_the_part() {
    for (status, class) in [(404, Class::Network), (500, Class::Network), (200, Class::Verification)] {
        let bench = Workbench::new();
        let server = Server::start(move |_| vec![head(status, &[("Content-Length", "9")]), Send::Bytes(b"not here!".to_vec())]);
        let pin = pin(&content(), vec![Source::url(server.url("m"))]);
        let error = ensure(&bench.fetcher(), &pin).unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        assert!(bench.files().is_empty());
        write(&part_of(&bench, &pin), &content()[..1000]);
        ensure(&bench.fetcher(), &pin).unwrap_err();
        assert_eq!(fs::read(bench.part().unwrap()).unwrap(), content()[..1000]);
        let tries = if status == 500 { 1 + Limits::default().retries as usize } else { 1 };
        assert_eq!(server.seen().len(), 2 * tries, "{status}");
        let text = error.to_string();
        let told = if status == 200 { "has 9 bytes, pinned are 300000".to_owned() } else { format!("HTTP status {status}") };
        assert!(text.contains(&told) && text.contains("--from DIR"), "{text}");
    }
}

#[test]
fn never_more_than_the_pinned_size_is_written() {
    let (bench, most) = (Workbench::new(), Arc::new(AtomicUsize::new(0)));
    let endless = Server::start(|_| {
        let mut sends = vec![head(200, &[])];
        sends.extend((0..40).map(|_| Send::Bytes(vec![7; 100_000])));
        sends
    });
    let pin = pin(&content(), vec![Source::url(endless.url("m"))]);
    let seen = Arc::clone(&most);
    let error = watched(&bench.fetcher(), &pin, &mut |p| {
        seen.fetch_max(p.done as usize, Ordering::Relaxed);
    });
    assert!(matches!(attempts(&error.unwrap_err())[0].failure, Failure::Size { .. }));
    assert!(most.load(Ordering::Relaxed) <= 300_000);
    assert!(bench.files().is_empty());
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let bench = Workbench::new();
    let server = Server::start(|r| match r.path.as_str() {
        "m" => vec![head(302, &[("Location", "/there"), ("Content-Length", "0")])],
        "there" => correct(r, &content()),
        _ => vec![head(302, &[("Location", "/loop"), ("Content-Length", "0")])],
    });
    let error = ensure(&bench.fetcher(), &pin(&content(), vec![Source::url(server.url("loop"))])).unwrap_err();
    assert_eq!(error.class(), Class::Network);
    assert!(server.seen().len() < 20);
    ensure(&bench.fetcher(), &pin(&content(), vec![Source::url(server.url("m"))])).unwrap();
}

#[test]
fn a_slow_drip_and_a_stall_end_at_their_limits() {
    let bench = Workbench::new();
    let released = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&released);
    let server = Server::start(move |r| match r.path.as_str() {
        "drip" => vec![head(200, &[("Content-Length", "300000")]), Send::Drip(content()[..2000].to_vec(), Duration::from_millis(5))],
        _ => vec![head(200, &[("Content-Length", "300000")]), Send::Until(Arc::clone(&flag))],
    });
    let mut fetcher = bench.fetcher();
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(20));
    for (path, limits) in [
        ("drip", Limits { total: short, stall: long, ..fetcher.limits.clone() }),
        ("stall", Limits { total: long, stall: short, ..fetcher.limits.clone() }),
    ] {
        fetcher.limits = limits;
        let since = Instant::now();
        let error = ensure(&fetcher, &pin(&content(), vec![Source::url(server.url(path))])).unwrap_err();
        assert_eq!(attempts(&error)[0].failure, Failure::TimedOut(short), "{path}");
        assert!(since.elapsed() < Duration::from_secs(5), "{path}");
    }
    released.store(true, Ordering::Relaxed);
}

#[test]
fn a_server_in_trouble_is_asked_again_and_one_that_refuses_is_not() {
    let refused = |status: u16| move |_: usize| vec![head(status, &[("Content-Length", "0")])];
    let (retries, told) = (Limits::default().retries as usize, "the connection broke off");
    type Trouble = Box<dyn Fn(usize) -> Vec<Send> + std::marker::Send + Sync>;
    let troubles: Vec<(Trouble, usize, usize, &str)> = vec![
        // How it answers, how often before it is well, how often it is asked, what is told.
        (Box::new(refused(500)), 1, 2, ""),
        (Box::new(refused(503)), retries, retries + 1, ""),
        (Box::new(refused(502)), usize::MAX, retries + 1, "HTTP status 502"),
        (Box::new(|_| vec![head(429, &[("Retry-After", "0"), ("Content-Length", "0")])]), 2, 3, ""),
        (Box::new(|_| vec![]), 2, 3, ""),
        (Box::new(|_| vec![]), usize::MAX, retries + 1, told),
        (Box::new(|_| vec![Send::Text("SSH-2.0-OpenSSH_9.2\r\n".to_owned())]), usize::MAX, retries + 1, told),
        (Box::new(refused(404)), 1, 1, "HTTP status 404"),
        (Box::new(refused(401)), 1, 1, "~/.netrc"),
        (Box::new(refused(403)), 1, 1, "HTTP status 403: the server refuses"),
    ];
    for (trouble, bouts, asked, told) in troubles {
        let (bench, count) = (Workbench::new(), AtomicUsize::new(0));
        let server = Server::start(move |r| match count.fetch_add(1, Ordering::Relaxed) {
            at if at < bouts => trouble(at),
            _ => correct(r, &content()),
        });
        let result = ensure(&bench.fetcher(), &pin(&content(), vec![Source::url(server.url("m"))]));
        assert_eq!(server.seen().len(), asked, "{told} {bouts}");
        match result {
            Ok(path) => assert!(told.is_empty() && fs::read(path).unwrap() == content()),
            Err(error) => {
                let text = error.to_string();
                assert!(!told.is_empty() && text.contains(told), "{told}: {text}");
                assert!(bench.files().is_empty());
            }
        }
    }
}

#[test]
fn a_cancel_is_noticed_in_the_pause_before_the_next_try() {
    let bench = Workbench::new();
    let server = Server::start(|_| vec![head(503, &[("Retry-After", "25"), ("Content-Length", "0")])]);
    let (cancel, since) = (AtomicBool::new(false), Instant::now());
    let pins = [pin(&content(), vec![Source::url(server.url("m"))])];
    let mut report = |_: bespoke_fetch::Progress<'_>| cancel.store(!server.seen().is_empty(), Ordering::Relaxed);
    let error = bench.fetcher().ensure("sub", &pins, &mut report, &cancel).unwrap_err();
    assert_eq!(error.class(), Class::Cancelled);
    assert!(since.elapsed() < Duration::from_secs(10));
}

#[test]
fn cancelling_is_noticed_while_nothing_arrives() {
    let bench = Workbench::new();
    let (released, cancel) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let flag = Arc::clone(&released);
    let server = Server::start(move |_| {
        vec![head(200, &[("Content-Length", "300000")]), Send::Bytes(content()[..5000].to_vec()), Send::Until(Arc::clone(&flag))]
    });
    let pins = [pin(&content(), vec![Source::url(server.url("m"))])];
    let since = Instant::now();
    let mut report = |p: bespoke_fetch::Progress<'_>| cancel.store(p.done == 5000, Ordering::Relaxed);
    let error = bench.fetcher().ensure("sub", &pins, &mut report, &cancel).unwrap_err();
    assert_eq!(error.class(), Class::Cancelled);
    assert!(since.elapsed() < Duration::from_secs(3), "before the stall limit of 5 s");
    assert_eq!(fs::read(bench.part().unwrap()).unwrap(), content()[..5000], "what came is kept");
    released.store(true, Ordering::Relaxed);
}

#[test]
fn a_short_body_is_kept_and_the_next_run_goes_on_after_it() {
    let bench = Workbench::new();
    let whole_again = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&whole_again);
    let server = Server::start(move |r| match flag.load(Ordering::Relaxed) {
        true => correct(r, &content()),
        // Announces everything, delivers 1000 bytes, then nothing at all.
        false if r.from.is_none() => {
            vec![head(200, &[("Content-Length", "300000")]), Send::Bytes(content()[..1000].to_vec())]
        }
        false => vec![],
    });
    let pin = pin(&content(), vec![Source::url(server.url("m"))]);
    let error = ensure(&bench.fetcher(), &pin).unwrap_err();
    assert_eq!(error.class(), Class::Network, "{error}");
    assert!(!bench.target().exists());
    assert_eq!(fs::metadata(bench.part().unwrap()).unwrap().len(), 1000);

    whole_again.store(true, Ordering::Relaxed);
    let before = server.seen().len();
    ensure(&bench.fetcher(), &pin).unwrap();
    assert_eq!(server.seen()[before..].iter().map(|r| r.from).collect::<Vec<_>>(), [Some(1000)]);
    assert_eq!(bench.files(), ["sub/model.bin"]);
}

#[test]
fn a_connection_that_breaks_off_is_taken_up_within_the_run() {
    let bench = Workbench::new();
    // Each connection delivers 100 kB of what it announces.
    let server = Server::start(|r| {
        let mut sends = correct(r, &content());
        if let Some(Send::Bytes(bytes)) = sends.last_mut() {
            bytes.truncate(100_000);
        }
        sends
    });
    ensure(&bench.fetcher(), &pin(&content(), vec![Source::url(server.url("m"))])).unwrap();
    let froms: Vec<_> = server.seen().iter().map(|r| r.from).collect();
    assert_eq!(froms, [None, Some(100_000), Some(200_000)]);
}

#[test]
fn a_body_without_length_that_ends_early_is_not_taken_for_whole() {
    let bench = Workbench::new();
    let server = Server::start(|_| vec![head(200, &[]), Send::Bytes(content()[..299_999].to_vec())]);
    let error = ensure(&bench.fetcher(), &pin(&content(), vec![Source::url(server.url("m"))])).unwrap_err();
    assert!(matches!(attempts(&error)[0].failure, Failure::Short { got: 299_999, size: 300_000 }), "{error}");
    assert!(!bench.target().exists());
}

/// A part as an earlier run left it; each server treats the wish to go on after it in its own way.
#[test]
fn whatever_a_server_makes_of_a_range_the_file_comes_out_right() {
    type Answer = fn(&crate::server::Request) -> Vec<Send>;
    let servers: [(&str, Answer); 4] = [
        ("honours it", |r| correct(r, &content())),
        ("ignores it", |_| whole(&content())),
        ("answers 416", |r| if r.from.is_some() { vec![head(416, &[("Content-Length", "0")])] } else { whole(&content()) }),
        ("sends another range", |r| match r.from {
            Some(_) => {
                vec![head(206, &[("Content-Range", "bytes 0-9/300000"), ("Content-Length", "10")]), Send::Bytes(content()[..10].to_vec())]
            }
            None => whole(&content()),
        }),
    ];
    let wrong = |len: usize| vec![9; len];
    for (name, answer) in servers {
        for (part, what) in [
            (content()[..120_000].to_vec(), "a good part"),
            (wrong(120_000), "a corrupt part"),
            (wrong(300_000), "a corrupt part of full length"),
            (wrong(400_000), "a part that is too long"),
            (content(), "a complete part"),
        ] {
            let (bench, server) = (Workbench::new(), Server::start(answer));
            let pin = pin(&content(), vec![Source::url(server.url("m"))]);
            write(&part_of(&bench, &pin), &part);
            ensure(&bench.fetcher(), &pin).unwrap_or_else(|e| panic!("a server that {name}, {what}: {e}"));
            assert_eq!(fs::read(bench.target()).unwrap(), content(), "a server that {name}, {what}");
            assert_eq!(bench.files(), ["sub/model.bin"]);
            match (name, what) {
                ("honours it", "a good part") => assert_eq!(server.seen()[0].from, Some(120_000)),
                (_, "a complete part") => assert!(server.seen().is_empty()),
                _ => {}
            }
        }
    }
}

#[test]
fn sources_are_tried_in_order_and_every_failure_is_told() {
    let bench = Workbench::new();
    // A port that was free a moment ago refuses.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(|r| match r.path.as_str() {
        "good" => correct(r, &content()),
        _ => vec![head(404, &[("Content-Length", "0")])],
    });
    let secret = server.url("gone?token=tt0").replace("http://", "http://me:hunter2@");
    let dead = vec![Source::url(format!("http://127.0.0.1:{port}/dead")), Source::url(secret)];
    let since = Instant::now();
    let error = ensure(&bench.fetcher(), &pin(&content(), dead.clone())).unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(5));
    let text = error.to_string();
    assert_eq!(attempts(&error).len(), 2);
    assert!(text.contains("/dead: ") && text.contains("/gone: HTTP status 404"), "{text}");
    assert!(text.contains("BESPOKE_MODEL_PATH") && text.contains("sub/model.bin"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("tt0"), "{text}");

    let with_good = dead.into_iter().chain([Source::url(server.url("good"))]).collect();
    ensure(&bench.fetcher(), &pin(&content(), with_good)).unwrap();
    wait_for("the log", || server.seen().last().is_some_and(|r| r.path == "good"));
}
