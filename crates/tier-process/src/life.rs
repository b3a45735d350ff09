//! The life of a plugin in its process: what the plugin says of itself, and what can be seen of it from outside.

use std::{fs, sync::Arc, time::Duration};

use bespoke_plugin_api::{BoxFuture, CallCx, Error, Facts, Health, Life, Reload, Result, State, serde_json::Value};

use crate::{
    pump::{Ended, Handle},
    watch::Patience,
};

/// How long one waits for a process that was told to end, beyond its own time for it.
const GONE: Duration = Duration::from_millis(1500);

pub(crate) struct ProcessLife {
    pub(crate) plugin: Arc<dyn Life>,
    pub(crate) handle: Handle,
    /// What is around it, in words.
    pub(crate) wall: String,
    pub(crate) patience: Patience,
}

impl Life for ProcessLife {
    fn health(&self) -> Health {
        let status = self.handle.status.borrow().clone();
        match (status.ended, status.silent) {
            (Some(Ended::Itself(error)), _) => Health::Failed(error.message().to_owned()),
            (Some(Ended::Asked), _) => Health::Unknown,
            // It is not asked once more: whoever does not answer a ping does not answer this.
            (None, Some(silent)) => Health::Degraded(format!("its process has not answered for {} s", silent.as_secs())),
            (None, None) => self.plugin.health(),
        }
    }

    fn facts(&self) -> Facts {
        let mut facts = self.plugin.facts();
        let status = self.handle.status.borrow().clone();
        facts.insert("tier".into(), "process".into());
        let missing = &status.missing;
        let wall = if missing.is_empty() { self.wall.clone() } else { format!("{}; not: {}", self.wall, missing.join(", ")) };
        facts.insert("sandbox".into(), wall);
        if let Some(pid) = status.pid {
            facts.insert("pid".into(), pid.to_string());
            if let Some(bytes) = resident(pid) {
                facts.insert("memory".into(), format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)));
            }
            if let Some(seconds) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| processor_time(&stat)) {
                facts.insert("cpu".into(), format!("{seconds:.2} s"));
            }
        }
        let running = self.handle.started.elapsed().unwrap_or_default();
        facts.insert("running".into(), format!("{} s", running.as_secs()));
        facts
    }

    fn reconfigure(&self, config: Value) -> BoxFuture<'_, Result<Reload>> {
        self.plugin.reconfigure(config)
    }

    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>> {
        self.plugin.capture_state()
    }

    fn restore_state(&self, state: State) -> BoxFuture<'_, Result<()>> {
        self.plugin.restore_state(state)
    }

    /// The plugin is asked, then its standard input ends, then its process is ended.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // One that does not answer is ended all the same.
            let _ = tokio::time::timeout(self.patience.shutdown, self.plugin.shutdown()).await;
            self.handle.outbox.finish();
            self.handle.gone(self.patience.goodbye + GONE).await;
        })
    }

    fn invoke<'a>(&'a self, cx: &'a CallCx, method: &'a str, args: Value) -> BoxFuture<'a, Result<Value>> {
        self.plugin.invoke(cx, method, args)
    }

    fn methods(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        self.plugin.methods()
    }

    fn ended(&self) -> BoxFuture<'static, Error> {
        let mut status = self.handle.status.clone();
        Box::pin(async move {
            // Without a thread there is nobody to tell; that cannot be, as it tells before it ends.
            let ended = status.wait_for(|status| status.ended.is_some()).await.ok().and_then(|status| status.ended.clone());
            match ended {
                Some(Ended::Itself(error)) => error,
                _ => std::future::pending().await,
            }
        })
    }
}

impl Handle {
    /// Waits until the process is gone, for so long. False when it is not.
    pub(crate) async fn gone(&self, limit: Duration) -> bool {
        let mut status = self.status.clone();
        let gone = async { drop(status.wait_for(|status| status.ended.is_some()).await) };
        tokio::time::timeout(limit, gone).await.is_ok()
    }
}

/// Seconds of processors that a process and those that it has waited for have used, as proc(5) tells it in `stat`.
fn processor_time(stat: &str) -> Option<f64> {
    // Its name may hold anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // utime, stime, cutime, cstime: fields 14 to 17, of which the third comes first here.
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64)
}

/// Memory of a process, where the system says.
fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 300 60 30 10 20 0 1 0 5 0 0";
        assert_eq!(processor_time(stat), Some(400.0 / ticks));
        assert_eq!(processor_time("42 (cut) S 1"), None);
        assert_eq!(processor_time(""), None);
    }
}
