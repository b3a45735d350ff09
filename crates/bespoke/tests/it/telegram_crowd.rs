//! Many people on Telegram at once, and a program that is killed among them: each message has one answer, in its order.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use bespoke_state::State;
use rustix::process::Signal;

use crate::{
    bot_api::{BotApi, Sent},
    program::User,
    telegram::{LIMIT, Serves, TOKEN, Telegram, configured, texts},
};

/// Twenty people, and a thousand messages.
const PEOPLE: i64 = 20;
const EACH: usize = 50;

/// Chats with something to answer whenever the program is killed, and how often it is. With 100 it takes longer than a test may.
const CHATS: i64 = 50;
const KILLS: usize = 25;
/// What is said about a message that may come twice.
const TOLD: &str = "is sent again, and may arrive twice";

#[test]
fn a_thousand_messages_of_twenty_people_are_each_answered_once_and_in_order() {
    let telegram = Telegram::start();
    let user = configured(&telegram, "");
    let serves = Serves::begin(&user);
    for n in 0..EACH {
        (1..=PEOPLE).for_each(|person| telegram.writes(person, &question(person, n)));
    }
    for person in 1..=PEOPLE {
        let seen = telegram.until(person, |seen| seen.len() >= EACH && texts(seen).iter().all(|text| !is_beginning(text)));
        assert_eq!(texts(&seen), (0..EACH).map(|n| question(person, n)).collect::<Vec<_>>(), "person {person}");
    }
    let status = user.json(["status", "--json"]);
    let counts = ["turns", "waiting", "outbox", "dead", "repeated"].map(|name| status[name].as_u64().unwrap());
    assert_eq!(counts, [PEOPLE as u64 * EACH as u64, 0, 0, 0, 0], "{status}");
    assert_eq!(serves.signal(Signal::TERM), 0);
}

/// Telegram cannot tell that it is sent a message again. So one that was being sent at the kill may come twice: the last of its chat in
/// that run, and no other one, and only if the program says so.
#[test]
fn kills_at_any_moment_lose_nothing_and_what_comes_twice_was_being_sent() {
    let telegram = BotApi::start();
    let user = crowd(&telegram);
    let mut random = Random(0x5eed);
    // How many messages somebody has written.
    let mut written = BTreeMap::<i64, usize>::new();
    for _ in 0..KILLS {
        feed(&telegram, &mut written);
        let before = telegram.sent().len();
        let serves = Serves::begin(&user);
        let more = before + random.below(60);
        // One that has answered all that there was is as good as one in the middle of it.
        let answered = telegram.until(LIMIT, |sent| sent.len() > more || (1..=CHATS).all(|chat| answers(sent, chat) >= written[&chat]));
        assert!(answered, "after {before} messages nothing more comes");
        // Somewhere between two messages.
        thread::sleep(Duration::from_micros(random.below(3_000) as u64));
        serves.signal(Signal::KILL);
        State::open(user.home().join("state.db")).unwrap().check().unwrap();
        telegram.next_run();
    }
    let serves = Serves::begin(&user);
    let all = telegram
        .until(LIMIT, |sent| (1..=CHATS).all(|chat| sent.iter().any(|s| s.chat == chat && s.text == question(chat, written[&chat] - 1))));
    assert!(all, "not all is answered");
    assert_eq!(serves.signal(Signal::TERM), 0);
    let state = State::open(user.home().join("state.db")).unwrap();
    state.check().unwrap();
    assert_eq!((state.inbox_length().unwrap(), state.outbox_length().unwrap()), (0, (0, 0)));

    let sent = telegram.sent();
    let mut twice = 0;
    for (person, written) in &written {
        let mut here: Vec<Sent> = sent.iter().filter(|sent| sent.chat == *person).cloned().collect();
        // The last one of a run that was killed goes before the one that repeats it, whole or as far as it got.
        for at in (1..here.len()).rev() {
            let (last, next) = (&here[at - 1], &here[at]);
            let begun = last.text.trim_end_matches(" …");
            if last.run < next.run && (last.text == next.text || is_beginning(&last.text) && next.text.starts_with(begun)) {
                here.remove(at - 1);
                twice += 1;
            }
        }
        let said: Vec<&str> = here.iter().map(|sent| sent.text.as_str()).collect();
        assert_eq!(said, (0..*written).map(|n| question(*person, n)).collect::<Vec<_>>(), "person {person}");
    }
    let told = fs::read_dir(user.home().join("logs")).unwrap().flatten();
    let told: usize = told.map(|file| fs::read_to_string(file.path()).unwrap().matches(TOLD).count()).sum();
    assert!(twice <= told, "{twice} came twice, and {told} were told of");
    assert!(sent.len() > KILLS, "{} messages are few", sent.len());
    println!("{KILLS} kills, {} messages: {twice} came twice, {told} were told of", written.values().sum::<usize>());
}

/// The program before fifty people, with a model that takes its time.
fn crowd(telegram: &BotApi) -> User {
    let people: Vec<String> = (1..=CHATS).map(|n| n.to_string()).collect();
    let config = format!(
        "config_version = 1\n[agent]\nprovider = [\"fake\"]\n\
         [serve]\nchannels = [\"telegram\"]\nchats = {CHATS}\nedit_every_ms = 10\nretry_ms = 50\nturn_attempts = 1000000\n\
         [gateway]\nlisten = \"127.0.0.1:0\"\n[plugins.fake]\npiece_delay_ms = 3\n\
         [plugins.telegram]\ntoken = \"${{TELEGRAM_TOKEN}}\"\nbase_url = \"http://{}\"\npaced = false\nallowed_users = [{}]\n",
        telegram.address(),
        people.join(", "),
    );
    User::new().with("TELEGRAM_TOKEN", TOKEN).configured(&config)
}

/// Everybody writes until they wait for two answers.
fn feed(telegram: &BotApi, written: &mut BTreeMap<i64, usize>) {
    let sent = telegram.sent();
    for person in 1..=CHATS {
        let written = written.entry(person).or_default();
        for n in *written..answers(&sent, person) + 2 {
            telegram.writes(person, &question(person, n));
            *written = n + 1;
        }
    }
}

/// How many messages of a person have an answer that is whole.
fn answers(sent: &[Sent], person: i64) -> usize {
    let last = sent.iter().rev().find(|sent| sent.chat == person && !is_beginning(&sent.text));
    last.map_or(0, |sent| 1 + sent.text.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
}

/// What somebody writes, and is answered with.
fn question(person: i64, n: usize) -> String {
    format!("person {person} would like to have this repeated, which is number {n}")
}

/// Of an answer that is still being written.
fn is_beginning(text: &str) -> bool {
    text.ends_with(" …")
}

/// Enough to spread the kills, and the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
