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

    const ALL: &[(State, &str)] = &[
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

    #[test]
    fn the_page_has_them_all() {
        let page = include_str!("../../../docs/host.md");
        let table: Vec<(Vec<&str>, &str)> = page
            .lines()
            .skip_while(|line| *line != "| `state` | `status` |")
            .skip(2)
            .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
            .map(|(states, said)| (states.split(", ").collect(), said))
            .collect();
        let mut row = Row::missing("x", Vec::new(), "", "");
        let mut states = 0;
        for (of, said) in &table {
            states += of.len();
            for name in of {
                row.state =
                    *ALL.iter().map(|(state, _)| state).find(|state| state.name() == *name).unwrap_or_else(|| panic!("no state {name}"));
                (row.in_flight, row.health) = (0, "ok".into());
                assert!(said.starts_with(&format!("`{}`", status(&row))), "{name}: {said}");
                row.in_flight = 1;
                assert!(said.contains(&format!("`{}`", status(&row))), "{name} with a call: {said}");
                row.health = "failed".into();
                assert!(said.contains(&format!("`{}`", status(&row))), "{name} with failed health: {said}");
            }
        }
        assert_eq!(states, ALL.len(), "{table:?}");
    }

    #[test]
    fn each_state_is_one_of_the_seven() {
        let mut row = Row::missing("x", Vec::new(), "", "");
        for (state, said) in ALL {
            row.state = *state;
            assert_eq!(status(&row), *said);
        }
        row.state = State::Ready;
        row.in_flight = 1;
        assert_eq!(status(&row), "busy");
        row.health = "failed".into();
        assert_eq!(status(&row), "error");
    }
}
