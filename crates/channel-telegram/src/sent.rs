//! What was sent of late: which messages an answer became. So a key is sent once, what was cut short goes on where it stopped, and an
//! answer that grew beyond a message can still be edited. Pure, and bounded.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
};

use bespoke_plugin_api::serde::{self, Deserialize, Serialize};

use crate::split::Part;

/// Answers that are remembered.
const MOST: usize = 512;

/// The answers of late, the newest last.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Sent(VecDeque<Record>);

/// The messages of an answer.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Record {
    pub(crate) chat: String,
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// What the host calls it: the message that was the last one when it was complete.
    #[serde(default)]
    pub(crate) id: Option<i64>,
    /// The messages with its text, and a mark of what each of them says.
    pub(crate) texts: Vec<(i64, u64)>,
    /// Those with its files.
    pub(crate) files: Vec<i64>,
}

impl Record {
    /// A message that we know nothing of but its id.
    pub(crate) fn of(chat: &str, id: i64) -> Self {
        Record { chat: chat.to_owned(), id: Some(id), texts: vec![(id, 0)], ..Record::default() }
    }

    pub(crate) fn last(&self) -> Option<i64> {
        self.files.last().copied().or(self.texts.last().map(|(id, _)| *id))
    }
}

impl Sent {
    /// What was sent under a key.
    pub(crate) fn under(&self, chat: &str, key: &str) -> Option<Record> {
        self.0.iter().rev().find(|record| record.chat == chat && record.key.as_deref() == Some(key)).cloned()
    }

    /// What the host calls by this id.
    pub(crate) fn called(&self, chat: &str, id: i64) -> Option<Record> {
        self.0.iter().rev().find(|record| record.chat == chat && record.id == Some(id)).cloned()
    }

    /// Remembers an answer in the place of what was known of it.
    pub(crate) fn keep(&mut self, record: &Record) {
        let same = |other: &Record| {
            other.chat == record.chat && ((other.key.is_some() && other.key == record.key) || (other.id.is_some() && other.id == record.id))
        };
        self.0.retain(|other| !same(other));
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(record.clone());
    }
}

/// A mark of what a message says.
pub(crate) fn mark(part: &Part) -> u64 {
    let mut hasher = DefaultHasher::new();
    part.text.hash(&mut hasher);
    part.entities.iter().for_each(|entity| entity.to_string().hash(&mut hasher));
    // 0 is that of a message of which nothing is known.
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_by_key_and_id_and_the_oldest_forgotten() {
        let mut sent = Sent::default();
        for n in 0..2_000 {
            sent.keep(&Record { key: Some(format!("{n}")), ..Record::of("1", n) });
            sent.keep(&Record { key: Some(format!("{n}")), files: vec![7], ..Record::of("1", n) });
        }
        assert_eq!(sent.0.len(), MOST);
        assert_eq!(sent.under("1", "1999").unwrap().last(), Some(7));
        assert_eq!(sent.called("1", 1_999).unwrap().key.as_deref(), Some("1999"));
        assert_eq!((sent.under("2", "1999"), sent.under("1", "0")), (None, None));
    }
}
