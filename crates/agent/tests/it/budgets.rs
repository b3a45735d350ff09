//! Budgets of a day, which all conversations share, on a clock that the test holds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bespoke_agent::{Agent, Session};
use bespoke_host::{Host, Usage, UsageStore};
use bespoke_plugin_api::{Error, Result, Timestamp, serde_json::json};

use crate::kit::{Brain, Step, agent_over, config, lines, turn};

/// A store whose days the test turns.
#[derive(Default)]
struct Book {
    day: AtomicU64,
    tokens: Mutex<BTreeMap<u64, u64>>,
    broken: Mutex<Option<Error>>,
}

impl UsageStore for Book {
    fn add(&self, _: Timestamp, _: &BTreeMap<String, Usage>) -> Result<()> {
        Ok(())
    }

    fn usage(&self, _: Timestamp, _: bool) -> Result<BTreeMap<String, Usage>> {
        Ok(BTreeMap::new())
    }

    fn forget(&self, _: Timestamp, _: u32) -> Result<()> {
        Ok(())
    }

    fn spend(&self, _: Timestamp, tokens: u64) -> Result<()> {
        *self.tokens.lock().unwrap().entry(self.day.load(Ordering::SeqCst)).or_default() += tokens;
        Ok(())
    }

    fn spent(&self, _: Timestamp) -> Result<u64> {
        match self.broken.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(self.tokens.lock().unwrap().get(&self.day.load(Ordering::SeqCst)).copied().unwrap_or(0)),
        }
    }
}

async fn agent(book: Option<&Arc<Book>>, daily: u64, brain: &Arc<Brain>) -> Agent {
    let mut host = Host::builder().plugins([brain.plug()]);
    if let Some(book) = book {
        host = host.usage(book.clone());
    }
    agent_over(host.build().unwrap(), config(json!({ "daily_tokens": daily }))).await
}

fn answers() -> Arc<Brain> {
    let answer: &[Step] = &[Step::Say("Well."), Step::Count(90, 10)];
    Brain::new("brain", [answer; 8])
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_a_day_stops_every_conversation_until_the_next_day() {
    let book = Arc::new(Book::default());
    let brain = answers();
    let small = agent(Some(&book), 200, &brain).await;
    for name in ["a", "b"] {
        assert_eq!(turn(&small, &mut Session::new(name), "hi").await.text(), "Well.");
    }
    let mut third = Session::new("c");
    let error = turn(&small, &mut third, "hi").await.error();
    let (said, left) = error.split_once("; a new day begins in ").unwrap();
    assert_eq!(said, "RESOURCE_EXHAUSTED the conversations of today have cost 200 tokens, and agent.daily_tokens allows 200");
    assert!(left.ends_with("at 0:00 UTC\n  try: bespoke config set agent.daily_tokens N, or 0 for no limit"), "{left}");
    assert_eq!(brain.requests().len(), 2, "the model was not asked");
    assert_eq!(lines(third.messages()), "");
    // Another program that shares the store is stopped, too; one with a larger budget is not.
    assert!(turn(&agent(Some(&book), 200, &answers()).await, &mut third, "hi").await.result.is_err());
    assert_eq!(turn(&agent(Some(&book), 201, &answers()).await, &mut third, "hi").await.text(), "Well.");
    book.day.fetch_add(1, Ordering::SeqCst);
    assert_eq!(turn(&small, &mut third, "again").await.text(), "Well.");
    assert_eq!(*book.tokens.lock().unwrap(), BTreeMap::from([(0, 300), (1, 100)]));
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_nothing_is_counted_and_what_cannot_be_counted_is_no_free_ride() {
    let book = Arc::new(Book::default());
    let free = agent(Some(&book), 0, &answers()).await;
    assert_eq!(turn(&free, &mut Session::new("a"), "hi").await.text(), "Well.");
    assert!(book.tokens.lock().unwrap().is_empty());
    *book.broken.lock().unwrap() = Some(Error::internal("the disk is full"));
    assert_eq!(turn(&free, &mut Session::new("a"), "hi").await.text(), "Well.");
    let brain = answers();
    let small = agent(Some(&book), 1_000, &brain).await;
    assert!(turn(&small, &mut Session::new("a"), "hi").await.error().contains("the disk is full"));
    assert!(brain.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_store_the_program_counts_for_itself() {
    let small = agent(None, 100, &answers()).await;
    assert_eq!(turn(&small, &mut Session::new("a"), "hi").await.text(), "Well.");
    // Unless midnight passes just now.
    let refused = turn(&small, &mut Session::new("b"), "hi").await.result.is_err();
    assert!(refused || small.host().tokens_today().unwrap().0 < 200);
}
