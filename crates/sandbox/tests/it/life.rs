//! How a command starts and ends, and that nothing of it is left behind.

use bespoke_sandbox::{Policy, Report};

use crate::kit::{Place, closed_for_python, of_python, run};

#[test]
fn a_command_runs_behind_the_wall() {
    let place = Place::new();
    for policy in [Policy::open(), closed_for_python()] {
        let outcome = run(of_python(policy, &place.0, "import sys, json, ctypes, asyncio, subprocess; print('hello'); sys.exit(3)"));
        assert_eq!(outcome.stdout, "hello\n", "{outcome:?}");
        assert_eq!(outcome.code(), Some(3), "{outcome:?}");
        assert!(matches!(&outcome.reports[..], [Report::Started { .. }, Report::Ended { signal: None, limit: None, .. }]), "{outcome:?}");
    }
}
