//! What a user allowed: kept, asked again when more is asked, and what a plugin gets of it.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bespoke_host::{
    Config, Consent, Grants, Host, HttpAllowed, HttpClient, NoTerms, Row, Sandbox, Selection, Start, State, Tier, Use, Used, ask,
};
use bespoke_manifest::{Manifest, Permission};
use bespoke_plugin_api::{BoxFuture, Code, Error, HttpReply, HttpRequest, PluginContext, Result};
use expect_test::expect;
use tempfile::TempDir;

use crate::kit::Plug;

fn manifest(version: &str, permissions: &str) -> Manifest {
    let text = format!(
        "id = \"dice\"\nversion = \"{version}\"\nlicense = \"MIT\"\ndescription = \"A test.\"\nauthor = \"The example authors\"\nprotocol = \"1\"\n\
         tiers = [\"process\"]\n{permissions}"
    );
    Manifest::parse("dice/plugin.toml", &text, None).unwrap()
}

const FIRST: &str = r#"[permissions]
network_access = ["api.example.com"]
read_files = ["/usr/share/dice"]
secrets = ["token"]
optional = ["read_files", "secrets"]
reasons = { network_access = "asks for dice", read_files = "knows words", secrets = "logs in" }
"#;

fn file() -> (TempDir, PathBuf, Grants) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home/grants.toml");
    (folder, path.clone(), Grants::at(path))
}

fn told(consent: &Consent) -> String {
    match consent {
        Consent::Granted(permissions) => {
            let items = Permission::ALL.iter().flat_map(|p| permissions.items(*p).into_iter().map(move |item| format!("  {p}: {item}\n")));
            format!("granted\n{}", items.collect::<String>())
        }
        Consent::Blocked(blocked) => format!("{}\n  {}\n", blocked.reason(), blocked.new.lines().join("\n  ")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_asked_is_shown_granted_and_kept() {
    let (_folder, path, grants) = file();
    let first = manifest("1.0.0", FIRST);
    expect![[r#"
        network_access: api.example.com — asks for dice
        read_files: /usr/share/dice — knows words (optional)
        secrets: token — logs in (optional)"#]]
    .assert_eq(&ask(&first).lines().join("\n"));
    expect![[r#"
        waits for your consent to network_access
          network_access: api.example.com — asks for dice
          read_files: /usr/share/dice — knows words (optional)
          secrets: token — logs in (optional)
    "#]]
    .assert_eq(&told(&grants.consent(&first, Tier::Process)));
    grants.grant(&first, Tier::Process, &[Permission::Secrets]).unwrap();
    expect![[r#"
        granted
          network_access: api.example.com
          secrets: token
    "#]]
    .assert_eq(&told(&Grants::at(path.clone()).consent(&first, Tier::Process)));
    expect![[r##"
        # What you allowed each plugin, as it was shown to you. Written by `bespoke plugin grant` and `revoke`.
        # An entry that is changed by hand counts no more: the plugin asks again.
        version = 1

        [grants.dice]
        version = "1.0.0"
        tier = "process"
        digest = "82eaeabfe47736b0ac6193528c9a182bcd6910ebb74703f964da068ca31d6d86"
        granted = [
            "network_access: api.example.com",
            "secrets: token",
        ]
        refused = ["read_files: /usr/share/dice"]
    "##]]
    .assert_eq(&fs::read_to_string(&path).unwrap());
    assert!(grants.revoke("dice").unwrap() && !grants.revoke("dice").unwrap());
    assert!(matches!(grants.consent(&first, Tier::Process), Consent::Blocked(_)));
}

#[test]
fn more_is_asked_again_and_less_is_not() {
    let (_folder, _path, grants) = file();
    grants.grant(&manifest("1.0.0", FIRST), Tier::Process, &[]).unwrap();
    let cases = [
        ("the same", FIRST.to_owned()),
        ("less", FIRST.replace("secrets = [\"token\"]\n", "").replace(", \"secrets\"", "").replace(", secrets = \"logs in\"", "")),
        ("another reason", FIRST.replace("asks for dice", "asks for more")),
        ("a host more", FIRST.replace("[\"api.example.com\"]", "[\"api.example.com\", \"*\"]")),
        ("private, too", FIRST.replace("[\"api.example.com\"]", "[{ host = \"api.example.com\", private = true }]")),
        ("sockets", FIRST.replace("[\"api.example.com\"]", "[\"api.example.com\", { direct = true }]")),
        ("required now", FIRST.replace("optional = [\"read_files\", ", "optional = [")),
        ("optionally more", FIRST.replace("[\"/usr/share/dice\"]", "[\"/usr/share/dice\", \"/etc\"]")),
        ("nothing", String::new()),
    ];
    let all = cases.map(|(what, text)| format!("{what}: {}", told(&grants.consent(&manifest("2.0.0", &text), Tier::Process))));
    expect![[r#"
        the same: granted
          network_access: api.example.com
        less: granted
          network_access: api.example.com
        another reason: granted
          network_access: api.example.com
        a host more: asks for more than version 1.0.0 was granted: network_access
          network_access: any — asks for dice
        private, too: asks for more than version 1.0.0 was granted: network_access
          network_access: api.example.com, at private addresses too — asks for dice
        sockets: asks for more than version 1.0.0 was granted: network_access
          network_access: sockets of its own, to any address — asks for dice
        required now: asks for more than version 1.0.0 was granted: read_files
          read_files: /usr/share/dice — knows words
        optionally more: granted
          network_access: api.example.com
        nothing: granted
    "#]]
    .assert_eq(&all.concat());
    let elsewhere = grants.consent(&manifest("1.0.0", FIRST), Tier::Dylib);
    expect![[r#"
        asks for more than version 1.0.0 was granted: network_access; what was granted was for the tier process
          network_access: api.example.com — asks for dice
          read_files: /usr/share/dice — knows words (optional)
          secrets: token — logs in (optional)
    "#]]
    .assert_eq(&told(&elsewhere));
    let inside = grants.consent(&manifest("3.0.0", &FIRST.replace("api.example.com", "*")), Tier::Compiled);
    assert!(matches!(inside, Consent::Granted(p) if p.has(Permission::Secrets)), "whoever builds it in has chosen it");
}

#[test]
fn what_was_granted_optionally_stays_when_more_of_it_is_asked() {
    let (_folder, _path, grants) = file();
    grants.grant(&manifest("1.0.0", FIRST), Tier::Process, &[Permission::ReadFiles]).unwrap();
    let more = manifest("2.0.0", &FIRST.replace("[\"/usr/share/dice\"]", "[\"/usr/share/dice\", \"/etc\"]"));
    expect![[r#"
        granted
          network_access: api.example.com
          read_files: /usr/share/dice
    "#]]
    .assert_eq(&told(&grants.consent(&more, Tier::Process)));
}

#[test]
fn an_entry_that_was_changed_by_hand_asks_again() {
    let (_folder, path, grants) = file();
    let first = manifest("1.0.0", FIRST);
    grants.grant(&first, Tier::Process, &[]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let wider = text.replace("network_access: api.example.com", "network_access: *");
    assert_ne!(wider, text);
    fs::write(&path, wider).unwrap();
    let asks = manifest("1.0.0", &FIRST.replace("api.example.com", "*"));
    expect![[r#"
        asks for more than version 1.0.0 was granted: network_access; its entry among the grants was changed by hand
          network_access: any — asks for dice
          read_files: /usr/share/dice — knows words (optional)
          secrets: token — logs in (optional)
    "#]]
    .assert_eq(&told(&grants.consent(&asks, Tier::Process)));
}

#[test]
fn a_file_that_is_broken_blocks_who_asks_and_is_not_written_over() {
    let (_folder, path, grants) = file();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let first = manifest("1.0.0", FIRST);
    for text in ["no toml [", "version = 9\n", "[grants.dice]\nversion = 1\n"] {
        fs::write(&path, text).unwrap();
        let Consent::Blocked(blocked) = grants.consent(&first, Tier::Process) else { panic!("{text}") };
        assert!(blocked.why.as_ref().is_some_and(|why| why.contains("grants.toml")), "{blocked:?}");
        let error = grants.grant(&first, Tier::Process, &[]).unwrap_err();
        assert!(error.help().is_some_and(|help| help.contains("rm ")), "{error:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let modest = grants.consent(&manifest("1.0.0", ""), Tier::Process);
        assert!(matches!(modest, Consent::Granted(_)), "who asks for nothing is asked nothing");
    }
}

#[test]
fn only_what_is_optional_can_be_left_out() {
    let (_folder, path, grants) = file();
    let first = manifest("1.0.0", FIRST);
    for permission in [Permission::NetworkAccess, Permission::Env] {
        assert_eq!(grants.grant(&first, Tier::Process, &[permission]).unwrap_err().kind(), "INVALID_PARAMS");
    }
    assert!(!path.exists());
    assert_eq!(Grants::none().grant(&first, Tier::Process, &[]).unwrap_err().kind(), "METHOD_NOT_FOUND");
}

#[test]
fn writers_at_once_lose_nothing() {
    let (_folder, path, _) = file();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let grants = Grants::at(path.clone());
            scope.spawn(move || {
                let text = FIRST.to_owned();
                let mut plugin = manifest("1.0.0", &text);
                plugin.id = format!("p{n}");
                grants.grant(&plugin, Tier::Process, &[]).unwrap();
            });
        }
    });
    assert!((0..8).all(|n| Grants::at(path.clone()).of(&format!("p{n}")).unwrap().is_some()));
}

const RESOURCES: &str = "[resources]\nmemory_mb = 512\ncpu_percent = 50\n";

#[test]
fn terms_are_the_manifest_within_the_configuration() {
    let plugin = manifest("1.0.0", RESOURCES);
    let limits = |text: &str| {
        let config = Config::parse("bespoke.toml", text).unwrap();
        match config.terms(&plugin, Tier::Process, &Grants::none()) {
            Ok(terms) => {
                let limits: Vec<_> = terms.limits.set().map(|(limit, value)| format!("{} {value}", limit.key)).collect();
                format!("{}, {}", terms.sandbox.name(), limits.join(", "))
            }
            Err(NoTerms::Wrong(error)) => error.to_string(),
            Err(other) => panic!("{other:?}"),
        }
    };
    let cases = [
        "",
        "[plugins]\nsandbox = 'required'\n[plugins.limits]\nmemory_mb = 100\nprocesses = 4\n",
        "[plugins]\nsandbox = 'required'\n[plugins.dice]\nsandbox = 'off'\n",
        "[plugins.dice.limits]\nmemory_mb = 256\ndisk_mb = 5\n",
        "[plugins.limits]\nmemory_mb = 100\n[plugins.dice.limits]\nmemory_mb = 256\n",
        "[plugins.dice.limits]\nmemory_mb = 1024\ncpu_percent = 51\n",
        "[plugins.dice.limits]\nmemory_mb = 1024\nwiden = true\n",
        "[plugins.dice.limits]\nmemroy_mb = 1024\nmemory_mb = 0\nwiden = 1\n",
        "[plugins.limits]\nwiden = true\nmemory_mb = 'x'\n",
        "[plugins.dice]\nsandbox = 'of'\nstart = 'later'\nidle_stop_ms = 0\npath = ''\nauto_install_deps = 1\n",
    ];
    expect![[r#"
        auto, memory_mb 512, cpu_percent 50

        required, memory_mb 100, cpu_percent 50, processes 4

        off, memory_mb 512, cpu_percent 50

        auto, memory_mb 256, cpu_percent 50, disk_mb 5

        auto, memory_mb 256, cpu_percent 50

        bespoke.toml:2:1: plugins.dice.limits.memory_mb: 1024 is more than the 512 that the plugin asks for; write 512 or less, or add widen = true beside it
        bespoke.toml:3:1: plugins.dice.limits.cpu_percent: 51 is more than the 50 that the plugin asks for; write 50 or less, or add widen = true beside it

        auto, memory_mb 1024, cpu_percent 50

        bespoke.toml:2:1: plugins.dice.limits.memroy_mb: unknown key; did you mean `memory_mb`?
        bespoke.toml:3:1: plugins.dice.limits.memory_mb: 0 is out of range; it has to be from 1 to 1048576
        bespoke.toml:4:1: plugins.dice.limits.widen: must be true or false, is 1

        bespoke.toml:2:1: plugins.limits.widen: unknown key; known keys: memory_mb, address_space_mb, cpu_percent, cpu_seconds, disk_mb, threads, start_timeout_ms, open_files, file_mb, processes, network_per_s
        bespoke.toml:3:1: plugins.limits.memory_mb: must be a whole number, is "x"

        bespoke.toml:2:1: plugins.dice.sandbox: must be one of "auto", "required", "off", is "of"; did you mean "off"?
        bespoke.toml:3:1: plugins.dice.start: must be one of "eager", "lazy", is "later"
        bespoke.toml:4:1: plugins.dice.idle_stop_ms: 0 is out of range; it has to be from 1 to 86400000
        bespoke.toml:5:1: plugins.dice.path: must not be empty
        bespoke.toml:6:1: plugins.dice.auto_install_deps: must be true or false, is 1

    "#]].assert_eq(&cases.map(|text| format!("{}\n\n", limits(text))).concat());
}

#[test]
fn a_plugin_without_consent_has_no_terms() {
    let error = Config::empty().terms(&manifest("1.0.0", FIRST), Tier::Process, &Grants::none()).unwrap_err().error("dice");
    expect![[r#"
        PERMISSION_DENIED waits for your consent to network_access
            help: bespoke plugin grant dice
    "#]]
    .assert_eq(&crate::kit::told(&error));
}

#[test]
fn the_host_keeps_its_keys_from_the_plugin() {
    let text =
        "[plugins.dice]\nsides = 6\nstart = 'lazy'\nidle_stop_ms = 5000\nlimits = { memory_mb = 1 }\npath = '/x'\nsandbox = 'auto'\n";
    let config = Config::parse("bespoke.toml", text).unwrap();
    assert_eq!(config.plugin("dice").unwrap().to_string(), "{\"sides\":6}");
    let settings = config.plugin_settings("dice").unwrap();
    assert_eq!((settings.start, settings.is_lazy(), settings.idle_stop().map(|d| d.as_secs())), (Start::Lazy, true, Some(5)));
    assert_eq!((settings.sandbox, settings.limits.resources.memory_mb), (Some(Sandbox::Auto), Some(1)));
    let config = Config::parse("bespoke.toml", "[plugins.limits]\nmemory_mb = 1\n[plugins.dice]\n").unwrap();
    assert_eq!(config.plugin_ids(), ["dice"], "limits are no plugin");
    let text = "[plugins.my_tts_plugin]\nvoice = 'a'\n";
    let config = Config::parse("bespoke.toml", text)
        .unwrap()
        .with_env([("BESPOKE_PLUGINS__MY_TTS_PLUGIN__VOICE".into(), "b".into()), ("BESPOKE_PLUGINS__NEW_ONE__VOICE".into(), "c".into())]);
    let voice = |id: &str| config.plugin(id).unwrap()["voice"].clone();
    assert_eq!((voice("my_tts_plugin"), voice("new-one")), ("b".into(), "c".into()));
    let config = Config::parse("bespoke.toml", "[plugins]\ndir = '~/x'\n").unwrap().with_env([("HOME".into(), "/here".into())]);
    assert_eq!(config.plugin_dir().unwrap(), Some(PathBuf::from("/here/x")));
}

#[test]
fn uses_are_counted_within_bounds() {
    let used = Used::default();
    used.count(Permission::NetworkAccess, "api.example.com", true);
    used.count(Permission::NetworkAccess, "api.example.com", true);
    used.count(Permission::NetworkAccess, "evil\n.example.com", false);
    let lines =
        |used: &Used| used.list().iter().map(|u: &Use| format!("{} {} {} {}", u.permission, u.item, u.used, u.refused)).collect::<Vec<_>>();
    assert_eq!(lines(&used), ["network_access api.example.com 2 0", "network_access evil\u{fffd}.example.com 0 1"]);
    for n in 0..10_000 {
        used.count(Permission::Secrets, &format!("s{n}"), false);
    }
    assert!(used.list().len() <= 260);
    assert_eq!(used.list().iter().map(|u| u.used + u.refused).sum::<u64>(), 10_003);
}

const ASKS: &str = r#"[permissions]
network_access = ["api.example.com"]
plugin_communication = ["event:b."]
secrets = ["token"]
optional = ["secrets"]
"#;

/// Answers every request, if the host may be reached.
struct Web;

impl HttpClient for Web {
    fn send(&self, allowed: HttpAllowed, request: HttpRequest) -> BoxFuture<'static, Result<HttpReply>> {
        let open = allowed.hosts.iter().any(|host| request.url.contains(&host.pattern));
        Box::pin(async move {
            if open {
                Ok(HttpReply::new(204, Vec::new(), Box::pin(futures_util::stream::empty())))
            } else {
                Err(Error::new(Code::PERMISSION_DENIED, "not that one"))
            }
        })
    }
}

#[tokio::test]
async fn a_plugin_waits_for_consent_and_gets_what_was_granted_and_no_more() {
    let (_folder, path, grants) = file();
    let context: Arc<Mutex<Option<PluginContext>>> = Arc::default();
    let given = context.clone();
    let plug = Plug::new("a").tier(Tier::Process).extra(ASKS).starts(move |cx, _| {
        *given.lock().unwrap() = Some(cx);
        async { Ok(()) }
    });
    let config = Config::parse("bespoke.toml", "[plugins.a.secrets]\ntoken = 'hush'\n").unwrap();
    let host = Host::builder().config(config).http(Arc::new(Web)).grants(Grants::at(path)).plugins([plug]).build().unwrap();
    host.start(Selection::All).await;
    let row = || host.rows().remove(0);
    let told_row = |row: Row| format!("{} {} → {}", row.state.name(), row.reason.unwrap_or_default(), row.fix.unwrap_or_default());
    expect!["blocked waits for your consent to network_access, plugin_communication → bespoke plugin grant a"].assert_eq(&told_row(row()));
    assert!(context.lock().unwrap().is_none(), "nothing of it ran");

    grants.grant(&host.manifest("a").unwrap(), Tier::Process, &[]).unwrap();
    host.start(Selection::All).await;
    assert_eq!(row().state, State::Ready, "{:?}", row());
    let cx = context.lock().unwrap().take().unwrap();
    let mut said = String::new();
    let mut say = |what: &str, result: Result<()>| {
        said += &match result {
            Ok(()) => format!("{what}: yes\n"),
            Err(error) => format!("{what}: {}", crate::kit::told(&error)),
        };
    };
    let get = |url: &'static str| cx.http(HttpRequest::new("GET", url));
    say("a host", get("https://api.example.com/?key=hush").await.map(drop));
    say("another", get("https://me:hush@evil.example/").await.map(drop));
    say("a secret", cx.secret("token").await.map(drop));
    say("another secret", cx.secret("key").await.map(drop));
    say("events of b", cx.subscribe("b.said").map(drop));
    say("events of all", cx.subscribe("").map(drop));
    say("its own events", cx.subscribe("a.x").map(drop));
    expect![[r#"
        a host: yes
        another: PERMISSION_DENIED not that one
        a secret: PERMISSION_DENIED the user has not granted the secret `token`
            help: bespoke plugin grant a
        another secret: PERMISSION_DENIED plugin.toml does not ask for the secret `key`
            help: add "key" to secrets under [permissions] in plugin.toml
        events of b: yes
        events of all: PERMISSION_DENIED plugin.toml does not ask for events of all
            help: add "event:*" to plugin_communication under [permissions] in plugin.toml
        its own events: yes
    "#]]
    .assert_eq(&said);
    let used = host
        .used("a")
        .iter()
        .map(|u| format!("{}: {} ({} used, {} refused)\n", u.permission, u.item, u.used, u.refused))
        .collect::<String>();
    expect![[r#"
        network_access: api.example.com (1 used, 0 refused)
        network_access: evil.example (0 used, 1 refused)
        plugin_communication: event:* (0 used, 1 refused)
        plugin_communication: event:b.said (1 used, 0 refused)
        secrets: key (0 used, 1 refused)
        secrets: token (0 used, 1 refused)
    "#]]
    .assert_eq(&used);
    assert!(!used.contains("hush"));
    host.shutdown().await;
}

#[tokio::test]
async fn requests_are_held_to_their_number_in_a_second() {
    let context: Arc<Mutex<Option<PluginContext>>> = Arc::default();
    let given = context.clone();
    let asks = "[permissions]\nnetwork_access = [\"a.example\"]\n[resources]\nnetwork_per_s = 1\n";
    let plug = Plug::new("a").extra(asks).starts(move |cx, _| {
        *given.lock().unwrap() = Some(cx);
        async { Ok(()) }
    });
    let host = Host::builder().http(Arc::new(Web)).plugins([plug]).build().unwrap();
    host.start(Selection::All).await;
    let cx = context.lock().unwrap().take().unwrap();
    // More than a second brings, however slow the machine is.
    let mut refused = 0;
    for _ in 0..1000 {
        match cx.http(HttpRequest::new("GET", "https://a.example/")).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!((error.kind(), error.is_retryable()), ("RESOURCE_EXHAUSTED", true));
                refused += 1;
            }
        }
    }
    assert!((1..1000).contains(&refused), "{refused}");
    host.shutdown().await;
}

/// What was granted is where it was when it was shown, whatever its name leads to since.
#[test]
fn places_are_kept_behind_their_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(dir.path()).unwrap();
    for folder in ["first", "second"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    let link = root.join("link");
    std::os::unix::fs::symlink(root.join("first"), &link).unwrap();
    let text = format!(
        "id = \"dice\"\nversion = \"1.0.0\"\nlicense = \"Apache-2.0\"\ndescription = \"A test.\"\nauthor = \"Tests\"\nprotocol = \">=1\"\n\
         tiers = [\"process\"]\n[[provides]]\nkind = \"tool\"\nname = \"dice\"\n[process]\ncommand = [\"./dice\"]\n\
         [permissions]\nread_files = [{0:?}, {1:?}]\nreasons.read_files = \"r\"\n",
        link.join("later").display().to_string(),
        root.join("second").display().to_string()
    );
    let manifest = bespoke_manifest::Manifest::parse("plugin.toml", &text, None).unwrap();
    let shown = bespoke_host::ask(&manifest).lines().join("\n");
    assert!(shown.contains(&format!("(which is {})", root.join("first/later").display())), "{shown}");
    assert_eq!(shown.matches("which is").count(), 1, "{shown}");
    let grants = bespoke_host::Grants::at(root.join("grants.toml"));
    grants.grant(&manifest, bespoke_host::Tier::Process, &[]).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(root.join("second"), &link).unwrap();
    let bespoke_host::Consent::Granted(granted) = grants.consent(&manifest, bespoke_host::Tier::Process) else { panic!("it was granted") };
    assert_eq!(granted.read_files, [root.join("first/later"), root.join("second")].map(|path| path.display().to_string()));
    // A place that was put there by hand is no consent.
    let kept = std::fs::read_to_string(root.join("grants.toml")).unwrap();
    std::fs::write(root.join("grants.toml"), kept.replace("first/later", "other")).unwrap();
    assert!(matches!(grants.consent(&manifest, bespoke_host::Tier::Process), bespoke_host::Consent::Blocked(_)));
}
