//! What happened, in the order in which it was told. Who told it, and for how long it is kept, is the host's.

use bespoke_host::{EventFilter, EventStats, EventStore, TopicStats, topics};
use bespoke_plugin_api::{Event, Result, Timestamp};
use rusqlite::{Row, params};

use crate::{
    State,
    time::{loaded, stored},
};

impl EventStore for State {
    fn append(&self, events: &[Event]) -> Result<()> {
        Ok(self.write(|tx| {
            let mut insert = tx.prepare_cached("INSERT INTO events (at, topic, source, payload) VALUES (?1, ?2, ?3, ?4)")?;
            for event in events {
                insert.execute(params![stored(event.at), event.topic, event.source, event.payload.to_string()])?;
            }
            Ok(())
        })?)
    }

    fn query(&self, filter: &EventFilter) -> Result<Vec<Event>> {
        let mut found = self.read(|tx| {
            let mut query = tx.prepare_cached(
                "SELECT number, at, topic, source, payload FROM events
                 WHERE number > ?1 AND at >= ?2 AND at < ?3 AND substr(topic, 1, length(?4)) = ?4 AND (?5 IS NULL OR source = ?5)
                 ORDER BY number DESC LIMIT ?6",
            )?;
            let since = filter.since.map_or(0, stored);
            let until = filter.until.map_or(i64::MAX, stored);
            let after = i64::try_from(filter.after).unwrap_or(i64::MAX);
            let rows = query.query_map(params![after, since, until, filter.prefix, filter.source, filter.limit], read)?;
            let mut found = Vec::new();
            for row in rows {
                let (number, at, topic, source, payload) = row?;
                let payload = serde_json::from_str(&payload).map_err(|_| self.damaged(format!("the event {number} is no JSON")))?;
                found.push(Event::new(topic, number.unsigned_abs(), loaded(at), source, payload));
            }
            Ok(found)
        })?;
        found.reverse();
        Ok(found)
    }

    fn stats(&self) -> Result<EventStats> {
        Ok(self.read(|tx| {
            let mut stats = EventStats::default();
            let mut query = tx.prepare_cached("SELECT topic, count(*), min(at), max(at) FROM events GROUP BY topic ORDER BY 2 DESC, 1")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            for row in rows {
                let (topic, count, first, last): (String, i64, i64, i64) = row?;
                let (count, first, last) = (count.unsigned_abs(), loaded(first), loaded(last));
                stats.count += count;
                stats.oldest = Some(stats.oldest.map_or(first, |oldest| oldest.min(first)));
                stats.newest = Some(stats.newest.map_or(last, |newest| newest.max(last)));
                stats.topics.push(TopicStats { topic, count, last });
            }
            let mut query = tx.prepare_cached("SELECT total(json_extract(payload, '$.lost')) FROM events WHERE topic = ?1")?;
            // Far below 2^53, so the sum is exact.
            stats.lost = query.query_row([topics::EVENTS_LOST], |row| row.get::<_, f64>(0))? as u64;
            Ok(stats)
        })?)
    }

    fn retain(&self, most: u64, since: Timestamp) -> Result<u64> {
        let gone = self.write(|tx| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            // The newest that is one too many, if there is one.
            let mut oldest =
                tx.prepare_cached("DELETE FROM events WHERE number <= (SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET ?1)")?;
            let over = oldest.execute([most])?;
            let late = tx.prepare_cached("DELETE FROM events WHERE at < ?1")?.execute([stored(since)])?;
            Ok(over + late)
        })?;
        Ok(gone as u64)
    }
}

type Stored = (i64, i64, String, Option<String>, String);

fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}
