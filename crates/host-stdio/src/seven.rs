//! The seven states that App Factory knows, of the host's two axes: where a plugin is in its life, and how well it does.

use bespoke_host::{Row, State};

/// The names of App Factory's `PluginStatus`.
pub(crate) fn status(row: &Row) -> &'static str {
    match row.state {
        State::Starting => "initializing",
        State::Ready if row.health == "failed" => "error",
        State::Ready if row.in_flight > 0 => "busy",
        State::Ready => "ready",
        State::Draining => "shutting_down",
        State::Stopped => "stopped",
        State::Failed | State::Quarantined => "error",
        // Missing, disabled, blocked, or never started.
        _ => "unloaded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_one_of_the_seven() {
        let mut row = Row::missing("x", Vec::new(), "", "");
        let all = [
            (State::Missing, "unloaded"),
            (State::Disabled, "unloaded"),
            (State::Blocked, "unloaded"),
            (State::Unloaded, "unloaded"),
            (State::Starting, "initializing"),
            (State::Ready, "ready"),
            (State::Draining, "shutting_down"),
            (State::Stopped, "stopped"),
            (State::Failed, "error"),
            (State::Quarantined, "error"),
        ];
        for (state, said) in all {
            row.state = state;
            assert_eq!(status(&row), said);
        }
        row.state = State::Ready;
        row.in_flight = 1;
        assert_eq!(status(&row), "busy");
        row.health = "failed".into();
        assert_eq!(status(&row), "error");
    }
}
