//! What goes wrong between Telegram and the plugin, and what it makes of it. The clock jumps: waits cost no time, and are seen on it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bespoke_plugin_api::{
    Attachment, CallCx, Code, Error, Health, HostApi, HttpReply, MessageRef, Outbound, Result,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::block_on;

use crate::kit::{Asked, Kept, Set, TOKEN, allowed, me, ok, refusal, telegram, update, whole};

type Reply = Option<Result<HttpReply>>;

/// A server whose first answers to `getUpdates` are these, and which then has a message.
fn after(faults: Vec<fn() -> Reply>) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    let (count, good) = (AtomicUsize::new(0), telegram(vec![update(1, 1, "hello")]));
    move |asked| match asked.method.as_str() {
        "getUpdates" => match faults.get(count.fetch_add(1, Ordering::SeqCst)) {
            Some(fault) => fault(),
            None => good(asked),
        },
        _ => good(asked),
    }
}

fn unreachable() -> Reply {
    Some(Err(Error::new(Code::NETWORK_FAILED, format!("http://x.test/bot{TOKEN}/getUpdates: refused")).retryable()))
}

#[test]
fn what_passes_is_waited_out_and_told() {
    for (name, fault, least, told) in [
        ("429", (|| refusal(429, "Too Many Requests: retry after 7", json!({ "retry_after": 7 }))) as fn() -> Reply, 21.0, "Too Many"),
        ("500", || refusal(500, "Internal Server Error", json!({})), 1.5, "says 500: Internal Server Error"),
        ("502 of a proxy", || whole(502, "<html>Bad Gateway</html>"), 1.5, "status 502"),
        ("no network", unreachable, 1.5, "refused"),
        ("no JSON", || whole(200, "<html>welcome to the hotel</html>"), 1.5, "no answer of the Bot API"),
        ("cut JSON", || whole(200, r#"{"ok":true,"result":[{"update_id":"#), 1.5, "no answer of the Bot API"),
        ("no list", || ok(json!({ "a": 1 })), 1.5, "no list"),
        ("another poller", || refusal(409, "Conflict: terminated by other getUpdates request", json!({})), 30.0, "other getUpdates"),
    ] {
        let set = Set::new(allowed(), after(vec![fault, fault, fault]));
        let begun = set.host.now();
        let inbox = Kept::new();
        let running = set.run(&inbox);
        assert_eq!(inbox.texts(1), ["7 1 hello"], "{name}");
        set.until_asked("getUpdates", 5);
        running.stop().unwrap();
        let waited = begun.until(set.host.now()).as_secs_f64();
        assert!(waited >= least, "{name}: {waited}");
        let logged = set.logged();
        assert!(logged.contains(told) && !logged.contains(TOKEN) && !logged.contains("secret-Token"), "{name}: {logged}");
        // The same trouble is told once, and its end too.
        assert_eq!(logged.matches(told).count(), 1, "{name}: {logged}");
        assert!(logged.contains("messages come in again"), "{name}: {logged}");
        assert_eq!(set.instance.life.health(), Health::Ok, "{name}");
    }
}

#[test]
fn a_trouble_that_lasts_shows_in_health() {
    let set = Set::new(allowed(), |asked| match asked.method.as_str() {
        "getUpdates" => refusal(409, "Conflict: terminated by other getUpdates request", json!({})),
        _ => me(),
    });
    let running = set.run(&Kept::new());
    set.until_asked("getUpdates", 3);
    let Health::Degraded(why) = set.instance.life.health() else { panic!() };
    assert!(why.contains("other getUpdates"), "{why}");
    assert!(set.logged().contains("stop the other one"), "{}", set.logged());
    running.stop().unwrap();
}

#[test]
fn a_wrong_token_ends_it_with_what_helps_and_is_not_repeated() {
    for (code, description) in [(401, "Unauthorized"), (404, "Not Found")] {
        let set = Set::new(allowed(), move |_| refusal(code, description, json!({})));
        let error = set.run(&Kept::new()).ended().unwrap_err();
        assert!(!error.is_retryable() && error.help().unwrap().contains("@BotFather"), "{error:?}");
        assert_eq!(set.asked().len(), 1);
        assert!(!format!("{error:?}{}", set.logged()).contains("secret-Token"));
        assert!(matches!(set.instance.life.health(), Health::Degraded(_)));
    }
    // In the middle of it, too.
    let set = Set::new(allowed(), |asked| if asked.method == "getMe" { me() } else { refusal(401, "Unauthorized", json!({})) });
    assert_eq!(set.run(&Kept::new()).ended().unwrap_err().code(), Code::INVALID_PARAMS);
}

#[test]
fn no_token_and_a_bad_one_are_told_apart() {
    let set = Set::new(allowed(), |_| panic!("nobody is asked"));
    set.host.fail_secret("token", Error::new(Code::PERMISSION_DENIED, "unset").with_data(json!({ "unset": "TELEGRAM_TOKEN" })));
    let error = set.run(&Kept::new()).ended().unwrap_err();
    assert!(error.message().contains("there is no token") && error.help().unwrap().contains("/newbot"), "{error:?}");
    set.host.set_secret("token", "4711 secret-Token_x");
    let error = set.run(&Kept::new()).ended().unwrap_err();
    assert!(error.message().contains("no token of a bot") && !format!("{error:?}").contains("secret-Token"), "{error:?}");
    set.host.fail_secret("token", Error::new(Code::PERMISSION_DENIED, "the keyring is locked"));
    assert_eq!(set.run(&Kept::new()).ended().unwrap_err().message(), "the keyring is locked");
}

#[test]
fn a_webhook_that_is_in_the_way_is_removed() {
    let set = Set::new(
        allowed(),
        after(vec![|| refusal(409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook", json!({}))]),
    );
    let inbox = Kept::new();
    let running = set.run(&inbox);
    assert_eq!(inbox.texts(1), ["7 1 hello"]);
    assert_eq!(set.bodies("deleteWebhook"), [json!({ "drop_pending_updates": false })]);
    running.stop().unwrap();
}

/// A batch with one update that no answer can hold, or that is no JSON, loses that one only.
#[test]
fn one_update_that_cannot_be_read_does_not_stop_those_behind_it() {
    let huge = || whole(200, format!(r#"{{"ok":true,"result":[{{"update_id":2,"message":{{"text":"{}"}}}}]}}"#, "x".repeat(9 << 20)));
    let deep = || whole(200, format!(r#"{{"ok":true,"result":[{{"update_id":2,"a":{}"#, "[".repeat(1_000)));
    for broken in [huge as fn() -> Reply, deep] {
        let good = telegram(vec![update(1, 1, "one"), update(3, 3, "three")]);
        let set = Set::new(allowed(), move |asked| {
            let (offset, limit) = (asked.body["offset"].as_i64().unwrap_or(0), asked.body["limit"].as_i64());
            match asked.method.as_str() {
                // With the one that is broken in it, a batch cannot be read.
                "getUpdates" if offset <= 2 && (limit == Some(100) || offset == 2) => broken(),
                _ => good(asked),
            }
        });
        let inbox = Kept::new();
        let running = set.run(&inbox);
        assert_eq!(inbox.texts(2), ["7 1 one", "7 3 three"]);
        assert!(set.logged().contains("update 2 cannot be read and is left out"), "{}", set.logged());
        running.stop().unwrap();
    }
}

fn sent(set: &Set, message: Outbound) -> Result<String> {
    block_on(set.channel().send(&CallCx::new(), message)).map(|sent| sent.id)
}

#[test]
fn a_flood_is_waited_for_and_told_when_it_lasts() {
    let count = AtomicUsize::new(0);
    let set = Set::new(json!({}), move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => refusal(429, "Too Many Requests: retry after 4", json!({ "retry_after": 4 })),
        _ => ok(json!({ "message_id": 5 })),
    });
    let begun = set.host.now();
    assert_eq!(sent(&set, Outbound::new("7", "hello")).unwrap(), "5");
    assert!(begun.until(set.host.now()) >= Duration::from_secs(8));

    for (seconds, tries) in [(4, 3), (4_000, 1)] {
        let set = Set::new(json!({}), move |_| refusal(429, "Too Many Requests", json!({ "retry_after": seconds })));
        let error = sent(&set, Outbound::new("7", "hello")).unwrap_err();
        assert!(error.is_retryable());
        let told = error.data().unwrap()["retry_after_ms"].as_u64().unwrap();
        assert!((seconds * 1_000 - 1..=seconds * 1_000).contains(&told), "{told}");
        assert_eq!(set.asked().len(), tries);
    }
}

/// Nothing was sent: so says the client of the host where it finds no connection.
fn unsent() -> Reply {
    let error = Error::new(Code::NETWORK_FAILED, format!("http://x.test/bot{TOKEN}: refused")).retryable();
    Some(Err(error.with_data(json!({ "may_have_arrived": false }))))
}

fn may_have_arrived(error: &Error) -> Option<bool> {
    error.data()?.get("may_have_arrived")?.as_bool()
}

#[test]
fn what_did_not_leave_is_tried_again_and_then_left_to_the_host() {
    let count = AtomicUsize::new(0);
    let set = Set::new(json!({}), move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => unsent(),
        _ => ok(json!({ "message_id": 5 })),
    });
    assert_eq!(sent(&set, Outbound::new("7", "hello")).unwrap(), "5");
    let set = Set::new(json!({}), |_| unsent());
    let error = sent(&set, Outbound::new("7", "hello")).unwrap_err();
    assert!(error.is_retryable() && !error.message().contains("secret-Token"), "{error}");
    assert_eq!((error.code(), may_have_arrived(&error)), (Code::NETWORK_FAILED, Some(false)));
    assert_eq!(set.asked().len(), 3);
    assert!(matches!(set.instance.life.health(), Health::Degraded(_)));
}

/// Another try could be the same message once more: it is the host's to make, which counts it.
#[test]
fn what_may_have_arrived_is_not_sent_again_here() {
    let late = || Some(Err(Error::new(Code::EXECUTION_TIMEOUT, "x.test did not answer within 30 s").retryable()));
    for (name, fault) in [
        ("a line that broke", unreachable as fn() -> Reply),
        ("no answer", late),
        ("an endless head", || Some(Err(Error::new(Code::RESOURCE_EXHAUSTED, "the head of the answer of x.test is too large")))),
        ("500", || refusal(500, "Internal Server Error", json!({}))),
        ("502 of a proxy", || whole(502, "<html>Bad Gateway</html>")),
        ("no JSON", || whole(200, "<html>welcome to the hotel</html>")),
        ("cut JSON", || whole(200, r#"{"ok":true,"result":{"message_id":"#)),
        ("no id", || ok(json!({}))),
    ] {
        let voice = Attachment::voice("audio/ogg", vec![1]);
        for message in [Outbound::new("7", "**hello**"), Outbound::new("7", "").attachments(vec![voice])] {
            let set = Set::new(json!({}), move |_| fault());
            let error = sent(&set, message).unwrap_err();
            // The host takes this code for that as well.
            let unsure = may_have_arrived(&error).unwrap_or(error.code() == Code::NETWORK_FAILED);
            assert!(error.is_retryable() && unsure, "{name}: {error:?}");
            assert_eq!(set.asked().len(), 1, "{name}");
        }
        // To change a message twice is to change it once.
        let count = AtomicUsize::new(0);
        let set = Set::new(json!({}), move |_| if count.fetch_add(1, Ordering::SeqCst) == 0 { fault() } else { ok(json!({})) });
        if name != "no id" {
            block_on(set.channel().edit(&CallCx::new(), MessageRef::new("7", "5"), Outbound::new("7", "hello"))).unwrap();
            assert_eq!(set.bodies("editMessageText").len(), 2, "{name}");
        }
    }
}

/// What is sent again from its beginning, after a restart, would show the parts that are there once more: that is told of any failure.
#[test]
fn an_answer_of_which_some_is_there_may_have_arrived() {
    for fault in [unsent as fn() -> Reply, || refusal(429, "Too Many Requests", json!({ "retry_after": 4_000 }))] {
        let count = AtomicUsize::new(0);
        let set =
            Set::new(json!({}), move |_| if count.fetch_add(1, Ordering::SeqCst) == 0 { ok(json!({ "message_id": 5 })) } else { fault() });
        let error = sent(&set, Outbound::new("7", "word ".repeat(1_000)).idempotency_key("k".into())).unwrap_err();
        assert_eq!(may_have_arrived(&error), Some(true), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[test]
fn what_telegram_does_not_take_is_not_sent_again() {
    for (code, description, help) in [
        (400, "Bad Request: chat not found", None),
        (403, "Forbidden: bot was blocked by the user", Some("unblock")),
        (401, "Unauthorized", Some("@BotFather")),
    ] {
        let set = Set::new(json!({}), move |_| refusal(code, description, json!({})));
        let error = sent(&set, Outbound::new("7", "**hello**")).unwrap_err();
        assert!(!error.is_retryable() && error.message().contains(description), "{error}");
        assert_eq!(help.map(|help| error.help().unwrap().contains(help)), help.map(|_| true), "{error:?}");
        assert_eq!(set.asked().len(), 1, "{description}");
    }
    for bad in ["", "ann", "@ann", "7:x", "7:"] {
        let set = Set::new(json!({}), |_| panic!("nobody is asked"));
        assert_eq!(sent(&set, Outbound::new(bad, "hello")).unwrap_err().code(), Code::INVALID_PARAMS, "{bad}");
    }
}

#[test]
fn a_deadline_is_not_waited_over() {
    let set = Set::new(json!({}), |_| refusal(429, "Too Many Requests", json!({ "retry_after": 9 })));
    let cx = CallCx::new().with_deadline(set.host.now().plus(Duration::from_secs(5)));
    let error = block_on(set.channel().send(&cx, Outbound::new("7", "hello"))).unwrap_err();
    assert!(error.is_retryable() && error.data().unwrap()["retry_after_ms"].as_u64().unwrap() > 8_000);
    assert!(set.host.now() < cx.deadline().unwrap());
    let _: Value = set.bodies("sendMessage")[0].clone();
}
