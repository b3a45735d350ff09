//! What a test does in a process of its own: the test binary starts itself with one test, which reads what to do from the environment.

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::AtomicBool,
};

use bespoke_runtimes::Spec;

use crate::kit::packs;

const ROOT: &str = "BESPOKE_RUNTIMES_TEST_ROOT";
const TABLE: &str = "BESPOKE_RUNTIMES_TEST_TABLE";
const INDEX: &str = "BESPOKE_RUNTIMES_TEST_INDEX";
const SPEC: &str = "BESPOKE_RUNTIMES_TEST_SPEC";
const KILL_AT: &str = "BESPOKE_RUNTIMES_TEST_KILL_AT";

/// In the process that a test started: installs, and kills itself at a step; otherwise does nothing. Fails with the error's words.
#[test]
fn runs_what_the_environment_names() {
    let (Some(root), Ok(spec)) = (env::var_os(ROOT), env::var(SPEC)) else { return };
    let kill_at: Option<usize> = env::var(KILL_AT).ok().map(|text| text.parse().unwrap());
    let packs = packs(Path::new(&root), &env::var(TABLE).unwrap(), env::var(INDEX).ok().as_deref());
    let mut steps = Steps::default();
    let spec: Spec = spec.parse().unwrap();
    let result = packs.install(
        spec,
        None,
        &mut |p| {
            if steps.next(&p) && Some(steps.seen.len()) == kill_at {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
            }
        },
        &AtomicBool::new(false),
    );
    result.map_err(|e| e.to_string()).unwrap();
}

/// The steps of an installation: each phase of each wheel once.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) seen: Vec<String>,
}

impl Steps {
    /// Whether this is a new one.
    pub(crate) fn next(&mut self, p: &bespoke_runtimes::Progress<'_>) -> bool {
        let step = format!("{:?} {}", p.phase, p.file);
        let new = !self.seen.contains(&step);
        if new {
            self.seen.push(step);
        }
        new
    }
}

/// The command of such a process.
pub(crate) fn command(root: &Path, table: &str, index: &str, spec: Spec) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child::runs_what_the_environment_names"]);
    command.env(ROOT, root).env(TABLE, table).env(INDEX, index).env(SPEC, spec.as_str()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Starts one that kills itself at a step.
pub(crate) fn start(root: &Path, table: &str, index: &str, spec: Spec, kill_at: Option<usize>) -> Child {
    let mut command = command(root, table, index, spec);
    if let Some(step) = kill_at {
        command.env(KILL_AT, step.to_string());
    }
    command.spawn().unwrap()
}
