//! Strangers, and letting them in.

use bespoke_plugin_api::{
    Health, Reload,
    serde_json::{Value, json},
};
use bespoke_plugin_testkit::block_on;

use crate::kit::{Kept, Set, telegram, update};

fn from(user: i64, number: i64) -> Value {
    let mut update = update(number, number, "let me in");
    update["message"]["from"]["id"] = json!(user);
    update["message"]["chat"]["id"] = json!(user);
    update
}

#[test]
fn where_nobody_is_let_in_the_first_one_is_told_how() {
    let set = Set::new(json!({}), telegram(vec![from(7, 1), from(7, 2), from(8, 3)]));
    let Health::Degraded(why) = set.instance.life.health() else { panic!() };
    assert!(why.contains("nobody may write to the bot"), "{why}");
    let running = set.run(&Kept::new());
    set.until_asked("getUpdates", 2);
    let told: Vec<String> = set.bodies("sendMessage").iter().map(|body| format!("{} {}", body["chat_id"], body["text"])).collect();
    assert_eq!(told.len(), 2, "each once: {told:?}");
    assert!(told.iter().any(|told| told.starts_with("7 ") && told.contains("bespoke config set plugins.telegram.allowed_users '[7]'")));
    assert!(set.logged().contains("user 7 in chat 7 may not write"), "{}", set.logged());
    assert!(!set.logged().contains("let me in\n"));
    running.stop().unwrap();
}

#[test]
fn where_somebody_is_let_in_strangers_get_no_answer() {
    let set = Set::new(json!({ "allowed_users": [1] }), telegram(vec![from(7, 1)]));
    assert_eq!(set.instance.life.health(), Health::Ok);
    let inbox = Kept::new();
    let running = set.run(&inbox);
    set.until_asked("getUpdates", 2);
    assert!(set.bodies("sendMessage").is_empty() && inbox.all().is_empty());
    assert!(set.logged().contains("allowed_users '[1, 7]'"), "{}", set.logged());
    running.stop().unwrap();
}

#[test]
fn who_is_let_in_while_it_runs_is_heard() {
    let set = Set::new(json!({}), telegram(vec![update(1, 1, "hello")]));
    assert_eq!(block_on(set.instance.life.reconfigure(json!({ "allowed_users": [7] }))).unwrap(), Reload::Applied);
    assert!(block_on(set.instance.life.reconfigure(json!({ "poll_timeout_s": 0 }))).is_err());
    let inbox = Kept::new();
    let running = set.run(&inbox);
    assert_eq!(inbox.texts(1), ["7 1 hello"]);
    running.stop().unwrap();
}

/// An instance that nobody lets run asks nobody: not for its secret, and not Telegram.
#[test]
fn who_is_not_run_asks_nobody() {
    let set = Set::new(json!({}), |asked| panic!("{asked:?}"));
    assert!(matches!(set.instance.life.health(), Health::Degraded(_)));
    assert_eq!(set.instance.life.facts()["mode"], "polling");
    assert!(block_on(set.instance.life.capture_state()).unwrap().is_some());
    block_on(set.instance.life.reconfigure(json!({ "allowed_users": [7] }))).unwrap();
    block_on(set.instance.life.shutdown());
    assert!(set.asked().is_empty());
}
