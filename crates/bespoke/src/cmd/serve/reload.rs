//! A new configuration while it serves: taken over as far as that goes, with what was not, why, and what to type. What runs is `serving`.

use std::{fmt, net::SocketAddr, sync::Arc};

use bespoke_agent::Agent;
use bespoke_host::{Missed, PluginReload, Problem, ReloadOutcome, Selection, State as Life};
use bespoke_serve::Server;
use serde::Serialize;
use serde_json::{Value, json};

use super::{SECTIONS, serving::Serving};
use crate::{
    exit::{Failure, Result},
    sections::Reloaded,
    setup::missing_keys,
    time,
};

/// A part of the configuration that does not count, although it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    /// The plugin, where it is one's.
    plugin: Option<String>,
    /// What goes on instead, in words.
    what: String,
    reason: String,
    /// The command to type.
    fix: Option<String>,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)?;
        self.fix.iter().try_for_each(|fix| write!(f, "\n  try: {fix}"))
    }
}

impl Left {
    fn of_plugin(done: &PluginReload) -> Option<Self> {
        let id = &done.plugin;
        let what = match done.outcome {
            ReloadOutcome::Kept | ReloadOutcome::Rejected => format!("{id} goes on with its old values"),
            ReloadOutcome::Failed => format!("{id} does not run"),
            _ => return None,
        };
        let reason = done.reason.clone().unwrap_or_else(|| "it does not say why".into());
        let fix = done.fix.clone().unwrap_or_else(|| format!("bespoke plugin info {id}"));
        Some(Left { plugin: Some(id.clone()), what, reason, fix: Some(fix) })
    }

    fn of_missed(missed: Missed) -> Self {
        let (id, fix) = (missed.plugin, "bespoke config check".to_owned());
        Left { plugin: Some(id), what: "whatever a hook can stop is refused".into(), reason: missed.reason, fix: Some(fix) }
    }

    fn of_problem(problem: &Problem) -> Self {
        let what = format!("{}: {}", problem.place, problem.key);
        Left { plugin: None, what, reason: problem.message.clone(), fix: problem.fix.clone() }
    }

    /// `before` is where it listens instead.
    pub(super) fn of_listener(failure: Failure, before: Option<SocketAddr>) -> Self {
        let what = match before {
            Some(address) => format!("plugins are reached at http://{address} as before"),
            None => "plugins are not reached over HTTP".to_owned(),
        };
        Left { plugin: None, what, reason: failure.message, fix: failure.help }
    }
}

impl Serving {
    /// Takes over the configuration as it stands now, as far as that goes. What is wrong with the file as a whole is told; then everything
    /// stays as it was.
    pub(super) async fn reload(self: &Arc<Self>, why: &str) -> Result<Value> {
        // In a task of its own: whoever asked may go in the middle of it.
        let (this, why) = (self.clone(), why.to_owned());
        let done = tokio::spawn(async move { this.reload_now(&why).await }).await;
        done.map_err(|error| Failure::failed(format!("the reload broke: {error}")))?
    }

    async fn reload_now(&self, why: &str) -> Result<Value> {
        let _one = self.reloading.lock().await;
        let Some(server) = self.server() else { return Err(Failure::failed("it is starting; it has read the newest file already")) };
        let at = bespoke_state::iso(time::now());
        let reloaded = match self.take_over(server).await {
            Ok(reloaded) => reloaded,
            Err(failure) => {
                self.now().reloaded = Some(json!({ "at": at, "ok": false, "complete": false, "why": why, "error": failure.message }));
                let text = format!("{why}: the configuration is wrong, and what ran before goes on: {failure}");
                self.told.reject(&text, why, &failure.message);
                let message = format!("{}; what ran before goes on", failure.message);
                return Err(Failure { message, ..failure });
            }
        };
        let lines = reloaded.lines();
        let before = std::mem::take(&mut self.now().left);
        self.now().left = self.left_by(&reloaded, before);
        let left = self.left();
        let Ok(plugins) = serde_json::to_value(&reloaded.report.plugins) else {
            return Err(Failure::failed("the report cannot be written"));
        };
        let keys: Vec<&str> = reloaded.changes.iter().map(|change| change.key.as_str()).collect();
        let problem = |p: &Problem| json!({ "place": p.place, "key": p.key, "message": p.message, "fix": p.fix });
        let problems: Vec<Value> = reloaded.report.problems.iter().map(problem).collect();
        let (complete, is_new) = (left.is_empty(), !lines.is_empty());
        let last = {
            let mut now = self.now();
            now.reloaded = Some(json!({ "at": at, "ok": true, "complete": complete, "why": why }));
            let last = now.taken.clone().filter(|_| !is_new);
            if is_new {
                now.taken = Some(json!({ "at": at, "why": why, "lines": lines }));
            }
            last
        };
        let report = json!({
            "complete": complete, "config": self.setup.paths.config_to_be(), "changes": keys, "plugins": plugins, "problems": problems,
            "not_taken": left, "lines": lines, "last": last,
        });
        let said = if is_new { lines.join("; ") } else { "nothing is new".to_owned() };
        let more = json!({ "why": why, "report": report });
        match complete {
            true => self.told.say("reloaded", &format!("{why}: {said}"), &more),
            false => {
                let left = left.iter().map(|left| format!("\n  {}", left.to_string().replace('\n', "\n  "))).collect::<String>();
                self.told.say_badly("reloaded", &format!("{why}: {said}; not all of it counts:{left}"), &more);
            }
        }
        Ok(report)
    }

    async fn take_over(&self, server: &Server) -> Result<Reloaded> {
        let setup = &self.setup;
        let reloaded = setup.reload(SECTIONS).await?;
        let agent = Agent::new(setup.host.clone(), reloaded.sections.agent.clone())?;
        // Whoever is named now and was not before.
        setup.host.start(Selection::Ids(&setup.needed_by(&reloaded.sections))).await;
        if reloaded.changes.iter().any(|change| change.key.starts_with("voice.")) {
            server.hear_with(self.notes(&agent, &reloaded.sections.voice));
        }
        server.reload(agent, reloaded.sections.serve.clone()).await;
        {
            let mut now = self.now();
            now.serve = reloaded.sections.serve.clone();
            now.gateway = reloaded.sections.gateway.clone();
        }
        self.listen().await;
        Ok(reloaded)
    }

    /// What a reload did not take over, and what those before did not and it had no reason to look at.
    fn left_by(&self, reloaded: &Reloaded, before: Vec<Left>) -> Vec<Left> {
        let rows = self.setup.host.rows();
        let mut left: Vec<Left> = reloaded.report.plugins.iter().filter_map(Left::of_plugin).collect();
        // A table of a plugin that is not here is no harm; `config check` tells it, too.
        let is_of_nobody = |p: &Problem| p.key.strip_prefix("plugins.").is_some_and(|id| !rows.iter().any(|row| row.id == id));
        left.extend(reloaded.report.problems.iter().filter(|problem| !is_of_nobody(problem)).map(Left::of_problem));
        // Whoever is named and not here: nobody answers, or speaks, in his place.
        let here = self.setup.host.config();
        left.extend(missing_keys(&self.setup.host, &self.setup.edit()).into_iter().filter(|(key, _)| !key.starts_with("plugins.")).map(
            |(key, row)| {
                let problem = here.problem(&key, format!("`{}` is {}", row.id, row.reason.unwrap_or_default()), row.fix);
                Left::of_problem(&problem)
            },
        ));
        let is_told = |plugin: &str| reloaded.report.plugins.iter().any(|done| done.plugin == plugin);
        left.extend(before.into_iter().filter(|old| old.plugin.as_deref().is_some_and(|plugin| !is_told(plugin))));
        left
    }

    /// What of the configuration does not count at this moment.
    pub(super) fn left(&self) -> Vec<Left> {
        let (mut left, listener) = {
            let now = self.now();
            (now.left.clone(), now.listens_badly.clone())
        };
        if left.iter().any(|left| left.plugin.is_some()) {
            let host = &self.setup.host;
            // What runs with other values than the file has, and what does not run.
            let others = host.diff(&host.config(), &[]);
            let rows = host.rows();
            left.retain(|left| {
                let Some(plugin) = &left.plugin else { return true };
                let down = |row: &&bespoke_host::Row| matches!(row.state, Life::Failed | Life::Quarantined | Life::Blocked | Life::Missing);
                others.iter().any(|change| change.plugin.as_ref() == Some(plugin))
                    || rows.iter().find(|row| row.id == *plugin).as_ref().is_some_and(down)
            });
        }
        for missed in self.setup.host.hooks().missed() {
            left.retain(|left| left.plugin.as_ref() != Some(&missed.plugin));
            left.push(Left::of_missed(missed));
        }
        left.extend(listener);
        left
    }
}
