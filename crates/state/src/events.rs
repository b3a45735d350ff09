//! What happened, in the order in which it was told. Who told it, and for how long it is kept, is the host's.

use bespoke_host::{EventFilter, EventStats, EventStore, TopicStats, topics};
use bespoke_plugin_api::{Event, Result, Timestamp};
use rusqlite::{Row, params};

use crate::{
    State,
    time::{loaded, stored},
};

/// From the newest on, until there are enough.
const ANY: &str = "SELECT number, at, topic, source, payload FROM events
    WHERE number > ?1 AND at >= ?2 AND at < ?3 AND substr(topic, 1, length(?4)) = ?4 AND (?5 IS NULL OR source = ?5)
    ORDER BY number DESC LIMIT ?6";
/// The same, no further than to the first that is wanted: by the index of times alone, which the `+` keeps SQLite from passing over. Times
/// may jump, so they are still compared.
const SINCE: &str = "SELECT number, at, topic, source, payload FROM events
    WHERE number > ?1 AND at >= ?2 AND at < ?3 AND substr(topic, 1, length(?4)) = ?4 AND (?5 IS NULL OR source = ?5)
        AND number >= (SELECT min(+number) FROM events WHERE at >= ?2)
    ORDER BY number DESC LIMIT ?6";
const TOO_OLD: &str = "DELETE FROM events WHERE at < ?1";

impl EventStore for State {
    // SQLite keeps there the highest number that a row ever had, and takes what others write there for it.
    fn last(&self) -> Result<u64> {
        Ok(self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'")?;
            Ok(query.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
        })?)
    }

    fn set_aside(&self, number: u64) -> Result<()> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        Ok(self.write(|tx| {
            let mut known = tx.prepare_cached(
                "UPDATE sqlite_sequence SET seq = max(?1, (SELECT coalesce(max(number), 0) FROM events)) WHERE name = 'events'",
            )?;
            if known.execute([number])? == 0 {
                tx.prepare_cached("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?1)")?.execute([number])?;
            }
            Ok(())
        })?)
    }

    fn append(&self, events: &[Event]) -> Result<()> {
        Ok(self.write(|tx| {
            let mut insert = tx.prepare_cached("INSERT INTO events (number, at, topic, source, payload) VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for event in events {
                let number = i64::try_from(event.seq).unwrap_or(i64::MAX);
                insert.execute(params![number, stored(event.at), event.topic, event.source, event.payload.to_string()])?;
            }
            Ok(())
        })?)
    }

    fn query(&self, filter: &EventFilter) -> Result<Vec<Event>> {
        let mut found = self.read(|tx| {
            let mut query = tx.prepare_cached(if filter.since.is_some() { SINCE } else { ANY })?;
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
            let late = tx.prepare_cached(TOO_OLD)?.execute([stored(since)])?;
            Ok(over + late)
        })?;
        Ok(gone as u64)
    }
}

type Stored = (i64, i64, String, Option<String>, String);

fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How SQLite goes about it.
    fn plan(state: &State, sql: &str) -> String {
        let lines = state.read(|tx| {
            let mut plan = tx.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let unbound = vec![rusqlite::types::Value::Null; plan.parameter_count()];
            let lines = plan.query_map(rusqlite::params_from_iter(unbound), |row| row.get::<_, String>(3))?;
            Ok(lines.collect::<rusqlite::Result<Vec<_>>>()?)
        });
        lines.unwrap().join("; ")
    }

    #[test]
    fn what_is_asked_by_time_is_found_by_time_and_not_by_reading_everything() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path().join("state.db")).unwrap();
        assert!(plan(&state, TOO_OLD).contains("USING INDEX events_by_time (at<?)"), "{}", plan(&state, TOO_OLD));
        assert!(plan(&state, SINCE).contains("USING COVERING INDEX events_by_time (at>?)"), "{}", plan(&state, SINCE));
    }
}
