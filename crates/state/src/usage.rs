//! What plugins were used for, and the tokens of each day: sums, nothing of what was asked or answered.

use std::{collections::BTreeMap, time::Duration};

use bespoke_host::{Histogram, Usage, UsageStore, day_of};
use bespoke_plugin_api::{Result, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use crate::{
    State,
    time::{loaded, stored},
};

/// How many days of tokens are kept: of those before, nobody asks.
const TOKEN_DAYS: i64 = 400;

impl UsageStore for State {
    fn add(&self, at: Timestamp, usage: &BTreeMap<String, Usage>) -> Result<()> {
        let day = signed(day_of(at));
        Ok(self.write(|tx| {
            let mut read = tx.prepare_cached(
                "SELECT plugin, calls, errors, times, longest, cpu, memory_mb, last, firsts FROM plugin_usage WHERE plugin = ?1 AND day = ?2",
            )?;
            let mut put = tx.prepare_cached(
                "INSERT OR REPLACE INTO plugin_usage (plugin, day, calls, errors, times, longest, cpu, memory_mb, last, firsts)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            for (plugin, more) in usage {
                let mut all = read.query_row(params![plugin, day], one).optional()?.map(|(_, usage)| usage).unwrap_or_default();
                all.merge(more);
                let nanos = i64::try_from(all.longest.as_nanos()).unwrap_or(i64::MAX);
                let cpu = all.cpu.map(|cpu| i64::try_from(cpu.as_micros()).unwrap_or(i64::MAX));
                let (calls, errors, last) = (signed(all.calls), signed(all.errors), all.last.map(stored));
                let (times, firsts) = (all.times.to_bytes(), all.firsts.to_bytes());
                put.execute(params![plugin, day, calls, errors, times, nanos, cpu, all.memory_mb, last, firsts])?;
            }
            Ok(())
        })?)
    }

    fn usage(&self, at: Timestamp, today: bool) -> Result<BTreeMap<String, Usage>> {
        let since = if today { signed(day_of(at)) } else { 0 };
        Ok(self.read(|tx| {
            let mut query = tx.prepare_cached(
                "SELECT plugin, calls, errors, times, longest, cpu, memory_mb, last, firsts FROM plugin_usage WHERE day >= ?1",
            )?;
            let mut all: BTreeMap<String, Usage> = BTreeMap::new();
            for row in query.query_map([since], one)? {
                let (plugin, usage) = row?;
                all.entry(plugin).or_default().merge(&usage);
            }
            Ok(all)
        })?)
    }

    fn forget(&self, at: Timestamp, days: u32) -> Result<()> {
        let first = signed(day_of(at)).saturating_sub(i64::from(days)).saturating_add(1);
        Ok(self.write(|tx| {
            tx.prepare_cached("DELETE FROM plugin_usage WHERE day < ?1")?.execute([first])?;
            Ok(())
        })?)
    }

    fn spend(&self, at: Timestamp, tokens: u64) -> Result<()> {
        let day = signed(day_of(at));
        Ok(self.write(|tx| {
            let mut add = tx.prepare_cached(
                "INSERT INTO tokens_of_day (day, tokens) VALUES (?1, ?2)
                 ON CONFLICT (day) DO UPDATE SET tokens = min(tokens + excluded.tokens, 4611686018427387904)",
            )?;
            add.execute([day, signed(tokens).min(1 << 62)])?;
            tx.prepare_cached("DELETE FROM tokens_of_day WHERE day < ?1")?.execute([day - TOKEN_DAYS])?;
            Ok(())
        })?)
    }

    fn spent(&self, at: Timestamp) -> Result<u64> {
        let tokens: Option<i64> = self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT tokens FROM tokens_of_day WHERE day = ?1")?;
            Ok(query.query_row([signed(day_of(at))], |row| row.get(0)).optional()?)
        })?;
        Ok(tokens.map_or(0, unsigned))
    }
}

fn one(row: &Row<'_>) -> rusqlite::Result<(String, Usage)> {
    let mut usage = Usage::default();
    usage.calls = unsigned(row.get(1)?);
    usage.errors = unsigned(row.get(2)?);
    usage.times = Histogram::from_bytes(&row.get::<_, Vec<u8>>(3)?);
    usage.longest = Duration::from_nanos(unsigned(row.get(4)?));
    usage.cpu = row.get::<_, Option<i64>>(5)?.map(|micros| Duration::from_micros(unsigned(micros)));
    usage.memory_mb = row.get(6)?;
    usage.last = row.get::<_, Option<i64>>(7)?.map(loaded);
    usage.firsts = Histogram::from_bytes(&row.get::<_, Vec<u8>>(8)?);
    Ok((row.get(0)?, usage))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
