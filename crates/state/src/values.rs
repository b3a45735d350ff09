//! What plugins store: values under keys, each plugin's apart from the others'.

use bespoke_host::KeyValue;
use bespoke_plugin_api::{Result, bytes::Bytes};
use rusqlite::{OptionalExtension, params};

use crate::{State, error::StateError};

/// Most bytes of a value.
pub const VALUE_LIMIT: usize = 1 << 20;
/// Most bytes of a key.
pub const KEY_LIMIT: usize = 256;
/// Most keys of a plugin.
pub const KEYS_LIMIT: usize = 10_000;
/// Most bytes of all values of a plugin.
pub const TOTAL_LIMIT: usize = 64 << 20;

impl KeyValue for State {
    fn load(&self, plugin: &str, key: &str) -> Result<Option<Bytes>> {
        let value: Option<Vec<u8>> = self.read(|tx| {
            let mut query = tx.prepare_cached("SELECT value FROM plugin_values WHERE plugin = ?1 AND key = ?2")?;
            Ok(query.query_row([plugin, key], |row| row.get(0)).optional()?)
        })?;
        Ok(value.map(Bytes::from))
    }

    fn store(&self, plugin: &str, key: &str, value: Option<Bytes>) -> Result<()> {
        let over = |what: String| StateError::TooLarge { plugin: plugin.to_owned(), what };
        let Some(value) = value else {
            return Ok(self.write(|tx| {
                tx.prepare_cached("DELETE FROM plugin_values WHERE plugin = ?1 AND key = ?2")?.execute([plugin, key])?;
                Ok(())
            })?);
        };
        if key.is_empty() || key.len() > KEY_LIMIT {
            return Err(over(format!("a key has 1 to {KEY_LIMIT} bytes, this one {}", key.len())).into());
        }
        if value.len() > VALUE_LIMIT {
            return Err(over(format!("a value has at most {VALUE_LIMIT} bytes, this one {}", value.len())).into());
        }
        Ok(self.write(|tx| {
            let mut others =
                tx.prepare_cached("SELECT count(*), total(length(value)) FROM plugin_values WHERE plugin = ?1 AND key <> ?2")?;
            let (keys, bytes): (i64, f64) = others.query_row([plugin, key], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if keys >= KEYS_LIMIT as i64 {
                return Err(over(format!("a plugin has at most {KEYS_LIMIT} keys")).into());
            }
            // Far below 2^53, so the sum is exact.
            if bytes + value.len() as f64 > TOTAL_LIMIT as f64 {
                return Err(over(format!("the values of a plugin have at most {TOTAL_LIMIT} bytes together")).into());
            }
            tx.prepare_cached("INSERT OR REPLACE INTO plugin_values (plugin, key, value) VALUES (?1, ?2, ?3)")?.execute(params![
                plugin,
                key,
                &value[..]
            ])?;
            Ok(())
        })?)
    }
}
