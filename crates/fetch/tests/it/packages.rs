//! pip and npm: stand-ins that misbehave, and the real ones with small packages.

use std::{fs, sync::atomic::AtomicBool};

use bespoke_fetch::{Fetcher, Package, Phase, Pin, Progress, Sha256, Source};

use crate::workbench::{Workbench, ensure};

#[cfg(unix)]
mod stand_ins {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
        time::{Duration, Instant},
    };

    use bespoke_fetch::{Class, Error, Failure, Fetcher, Package, Phase, Source};

    use crate::{
        folders::{tarball, wheel},
        server::wait_for,
        workbench::{Workbench, content, digest, ensure, pin, watched, write},
    };

    /// A shell script in place of pip and npm. It is told its folder as `$here`, finds `archive` there and has the
    /// destination in `$out`.
    fn with_tool(bench: &Workbench, archive: &[u8], script: &str) -> Fetcher {
        let here = bench.beside("tool");
        write(&here.join("archive"), archive);
        let tool = here.join("tool.sh");
        let find_out = "for a; do case $p in --dest|--pack-destination) out=$a;; esac; p=$a; done";
        let text =
            format!("#!/bin/sh\nhere='{}'\necho \"$@\" >> $here/calls\npwd >> $here/folders\n{find_out}\n{script}\n", here.display());
        // Written under another name and renamed: a script that is still open for writing cannot be started.
        write(&here.join("draft"), text.as_bytes());
        fs::set_permissions(here.join("draft"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(here.join("draft"), &tool).unwrap();
        let mut fetcher = bench.fetcher();
        fetcher.tools.pip = vec![vec!["/nowhere/pip".into()], vec![tool.clone().into()]];
        fetcher.tools.npm = vec![vec![tool.into()]];
        fetcher
    }

    fn calls(bench: &Workbench) -> Vec<String> {
        let text = fs::read_to_string(bench.beside("tool").join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    const DELIVER_WHEEL: &str = "cp $here/archive $out/model-1.0-py3-none-any.whl";

    #[test]
    fn nothing_is_built_or_run_and_an_archive_is_downloaded_once() {
        for npm in [false, true] {
            let bench = Workbench::new();
            let (archive, script, source) = match npm {
                false => (wheel(&[("one", &content()), ("two", b"2")]), DELIVER_WHEEL, Source::pip("model==1.0", "one")),
                true => {
                    let archive = tarball(&[("package/one", &content()), ("package/two", b"2")]);
                    (archive, "cp $here/archive $out/model-1.0.0.tgz", Source::npm("model@1.0.0", "package/one"))
                }
            };
            let fetcher = with_tool(&bench, &archive, script);
            let mut second = pin(
                b"2",
                vec![match npm {
                    false => Source::pip("model==1.0", "two"),
                    true => Source::npm("model@1.0.0", "package/two"),
                }],
            );
            second.file = "two.bin".to_owned();
            let pins = [pin(&content(), vec![source]), second];
            assert_eq!(fetcher.plan("sub", &pins).unwrap().download(), (300_001, false), "sizes of archives not pinned");
            let paths = fetcher.ensure("sub", &pins, &mut |_| {}, &AtomicBool::new(false)).unwrap();
            assert_eq!(fs::read(&paths[1]).unwrap(), b"2");
            assert_eq!(bench.files(), ["sub/model.bin", "sub/two.bin"]);
            let calls = calls(&bench);
            assert_eq!(calls.len(), 1, "{calls:?}");
            let guards: &[&str] = if npm { &["pack", "--ignore-scripts"] } else { &["download", "--no-deps", "--only-binary=:all:"] };
            assert!(guards.iter().all(|guard| calls[0].split(' ').any(|word| word == *guard)), "{calls:?}");
            let folder = fs::read_to_string(bench.beside("tool").join("folders")).unwrap();
            assert!(folder.contains("/.staging/"), "run outside the caller's folder: {folder}");
        }
    }

    #[test]
    fn a_pinned_archive_is_checked_and_its_size_announced() {
        let bench = Workbench::new();
        let archive = wheel(&[("one", &content())]);
        let fetcher = with_tool(&bench, &archive, DELIVER_WHEEL);
        let mut package = Package::new("model==1.0", ["one"]);
        package.archive_size = Some(archive.len() as u64);
        package.archive_sha256 = Some(digest(b"another"));
        let error = ensure(&fetcher, &pin(&content(), vec![Source::Pip(package.clone())])).unwrap_err();
        assert_eq!(error.class(), Class::Verification, "{error}");
        assert!(calls(&bench)[0].contains("--require-hashes"));
        assert!(bench.files().is_empty());

        // As pip itself refuses it.
        let says = "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.' >&2; exit 1";
        let strict = with_tool(&bench, &archive, says);
        let error = ensure(&strict, &pin(&content(), vec![Source::Pip(package.clone())])).unwrap_err();
        assert_eq!(error.class(), Class::Verification, "{error}");

        // Twice the size for a while, then less: the progress stays within the archive and never steps back.
        let copies =
            "cp $here/archive $TMPDIR/part; cp $here/archive $out/model-1.0-py3-none-any.whl; sleep 0.2; rm $TMPDIR/part; sleep 0.2";
        let fetcher = with_tool(&bench, &archive, copies);
        package.archive_sha256 = Some(digest(&archive));
        let pin = pin(&content(), vec![Source::Pip(package)]);
        assert_eq!(fetcher.plan("sub", std::slice::from_ref(&pin)).unwrap().download(), (archive.len() as u64, true));
        let mut steps = Vec::new();
        let mut report = |p: bespoke_fetch::Progress<'_>| {
            if p.phase == Phase::Downloading {
                steps.push(p.done);
            }
        };
        watched(&fetcher, &pin, &mut report).unwrap();
        assert!(steps.is_sorted() && steps.last() == Some(&(archive.len() as u64)), "{steps:?}");
    }

    #[test]
    fn what_a_failing_tool_says_is_in_the_error_and_it_is_not_asked_twice() {
        let bench = Workbench::new();
        let script = "for i in 1 2 3 4 5 6 7 8 9; do echo line $i >&2; done\necho 'ERROR: https://me:hunter2@host/ says no' >&2\nexit 3";
        let fetcher = with_tool(&bench, b"", script);
        let sources = vec![Source::pip("model==1.0", "one"), Source::pip("model==1.0", "two")];
        let error = ensure(&fetcher, &pin(&content(), sources)).unwrap_err();
        assert_eq!(error.class(), Class::Network);
        let text = error.to_string();
        assert!(text.contains("exit status 3") && text.contains("line 1") && text.contains("says no"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("line 6"), "{text}");
        assert_eq!(calls(&bench).len(), 1);
        assert!(bench.files().is_empty());
    }

    #[test]
    fn a_tool_that_delivers_nothing_or_too_much_is_caught() {
        for (script, told) in [
            ("exit 0", "no single *.whl file"),
            ("cp $here/archive $out/a-1.whl; cp $here/archive $out/b-1.whl", "no single *.whl file"),
            ("ln -s /etc/passwd $out/model-1.0-py3-none-any.whl", "cannot be used"),
            ("head -c 5000000 /dev/zero > $out/m.whl; sleep 60", "larger than 1000000 bytes"),
        ] {
            let bench = Workbench::new();
            let mut fetcher = with_tool(&bench, b"not a zip", script);
            fetcher.limits.archive_bytes = 500_000;
            let error = ensure(&fetcher, &pin(&content(), vec![Source::pip("model==1.0", "one")])).unwrap_err();
            assert!(error.to_string().contains(told), "{script}: {error}");
            assert!(bench.files().is_empty(), "{script}");
        }
    }

    #[test]
    fn without_tools_the_error_says_what_to_install() {
        let bench = Workbench::new();
        let mut fetcher = bench.fetcher();
        fetcher.tools.pip = vec![vec!["/nowhere/python3".into(), "-m".into(), "pip".into()]];
        fetcher.tools.npm = vec![vec!["/nowhere/npm".into()]];
        let sources = vec![Source::pip("model==1.0", "one"), Source::npm("model@1.0.0", "package/one")];
        let error = ensure(&fetcher, &pin(&content(), sources)).unwrap_err();
        let Error::Network { attempts, .. } = &error else { panic!("{error}") };
        assert!(attempts.iter().all(|attempt| matches!(attempt.failure, Failure::NoTool { .. })));
        let text = error.to_string();
        assert!(text.contains("/nowhere/python3 -m pip (not found)") && text.contains("python3-pip"), "{text}");
    }

    /// The tool starts a child of its own, which must go too.
    #[test]
    fn a_hanging_tool_ends_with_the_time_limit_and_with_a_cancel() {
        for cancelled in [false, true] {
            let bench = Workbench::new();
            let mut fetcher = with_tool(&bench, b"", "sleep 300 &\necho $! > $here/child\nwait");
            if !cancelled {
                fetcher.limits.total = Duration::from_millis(400);
            }
            let (started, cancel) = (bench.beside("tool").join("child"), AtomicBool::new(false));
            let since = Instant::now();
            let pins = [pin(&content(), vec![Source::pip("model==1.0", "one")])];
            let mut report = |_: bespoke_fetch::Progress<'_>| cancel.store(cancelled && has_line(&started), Ordering::Relaxed);
            let error = fetcher.ensure("sub", &pins, &mut report, &cancel).unwrap_err();
            assert!(since.elapsed() < Duration::from_secs(10));
            assert_eq!(error.class(), if cancelled { Class::Cancelled } else { Class::Network }, "{error}");
            let child = fs::read_to_string(&started).unwrap();
            let process = Path::new("/proc").join(child.trim());
            if Path::new("/proc/self").exists() {
                wait_for("the end of the tool's child", || !process.exists() || is_zombie(&process));
            }
            assert!(bench.files().is_empty());
        }
    }

    fn has_line(path: &Path) -> bool {
        fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
    }

    fn is_zombie(process: &Path) -> bool {
        fs::read_to_string(process.join("stat")).map_or(true, |stat| stat.contains(") Z "))
    }
}

fn silero() -> Pin {
    Pin {
        file: "silero_vad.onnx".to_owned(),
        size: 2_327_524,
        sha256: "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3".parse().unwrap(),
        license: "MIT".to_owned(),
        sources: vec![Source::pip("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx")],
    }
}

fn is_number() -> Pin {
    let mut package = Package::new("is-number@7.0.0", ["package/package.json"]);
    package.archive_sha256 = Some(digest("7b75c1057198cf97696909a9bee176c9c5e9bcb5b03bf3ecef2f484defadd51e"));
    Pin {
        file: "package.json".to_owned(),
        size: 1599,
        sha256: digest("51c133f4e41df982aef69027249ff9d7262645029f437d079adc7c83328fb620"),
        license: "MIT".to_owned(),
        sources: vec![Source::Npm(package)],
    }
}

fn digest(text: &str) -> Sha256 {
    text.parse().unwrap()
}

fn patient(bench: &Workbench) -> Fetcher {
    let mut fetcher = bench.fetcher();
    fetcher.limits = bespoke_fetch::Limits::default();
    fetcher
}

/// Downloads a wheel of 11 MB.
#[test]
fn the_real_pip_brings_the_silero_model() {
    let bench = Workbench::new();
    let path = ensure(&patient(&bench), &silero()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), 2_327_524);
    assert_eq!(bench.files(), ["sub/silero_vad.onnx"]);
}

/// Downloads 4 kB with npm where there is one; else as the next test does.
#[test]
fn the_real_npm_brings_a_member() {
    let bench = Workbench::new();
    let path = ensure(&patient(&bench), &is_number()).unwrap();
    assert!(fs::read_to_string(path).unwrap().contains("\"name\": \"is-number\""));
    assert_eq!(bench.files(), ["sub/package.json"]);
}

/// Downloads Node.js as a wheel: 40 to 63 MB.
#[test]
fn a_machine_without_npm_gets_it_through_pip() {
    let bench = Workbench::new();
    let mut fetcher = patient(&bench);
    fetcher.tools.npm = vec![vec!["/nowhere/npm".into()]];
    let mut fetched_npm = false;
    let mut report = |p: Progress<'_>| fetched_npm |= p.phase == Phase::FetchingNpm && p.done > 0;
    fetcher.ensure("sub", &[is_number()], &mut report, &AtomicBool::new(false)).unwrap();
    assert!(fetched_npm);
    assert_eq!(bench.files(), ["sub/package.json"], "npm is gone again");
}
