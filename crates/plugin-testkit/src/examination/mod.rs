//! The examination of one plugin through the transport that its users get: a line for each rule that it keeps or breaks. For authors; the
//! conformance suite beside it compares tiers, and stops at the first difference.

mod cases;
mod duties;
mod kinds;
mod report;
mod samples;
mod speech;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bespoke_plugin_api::{Audio, BoxFuture, Contribution, Instance, PluginContext, Result, Spec};
use serde_json::{Value, json};

use self::report::{Report, read};
pub use self::{
    cases::Cases,
    report::{Check, Fault, Outcome},
};
use crate::{
    conformance::record::{caught, line},
    executor::block_on_for,
    host::{Clock, TestHost},
    rules::{LIMIT, PROMPT},
    running::{Running, Start},
};

/// How a file with audio becomes samples.
type Hear = dyn Fn(&Path) -> std::result::Result<Audio, String>;

/// How a plugin says whether a configuration fits.
type Fits = dyn Fn(&Value) -> Result<()>;

/// How a manifest says whether what is contributed is what it declares.
type Declares = dyn Fn(&[Spec]) -> std::result::Result<(), String>;

/// An examination of one plugin. It starts many instances, each in a world of its own: offline, with a clock that jumps.
pub struct Examination {
    id: String,
    start: Box<Start>,
    cases: Cases,
    limit: Duration,
    schema: Value,
    any_config: bool,
    fits: Box<Fits>,
    declares: Box<Declares>,
    data: Option<PathBuf>,
    hear: Box<Hear>,
    prepare: Box<dyn Fn(&TestHost)>,
}

impl Examination {
    /// The examination of the plugin `id`, which `start` gives instances of.
    pub fn new(id: &str, start: impl Fn(PluginContext, Value) -> BoxFuture<'static, Result<Instance>> + Send + Sync + 'static) -> Self {
        Examination {
            id: id.to_owned(),
            start: Box::new(start),
            cases: Cases::default(),
            limit: LIMIT,
            schema: Value::Null,
            any_config: false,
            fits: Box::new(|_| Ok(())),
            declares: Box::new(|_| Ok(())),
            data: None,
            hear: Box::new(|path| Err(format!("{}: nobody here reads files with audio", path.display()))),
            prepare: Box::new(|_| ()),
        }
    }

    /// With what the author says of it.
    #[must_use]
    pub fn cases(mut self, cases: Cases) -> Self {
        self.cases = cases;
        self
    }

    /// With the most time that a start may take.
    #[must_use]
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// With the JSON Schema of its configuration, which the host holds every configuration against, and fills in its defaults.
    #[must_use]
    pub fn schema(mut self, schema: Value) -> Self {
        self.schema = schema;
        self
    }

    /// Without a rule on keys that it does not know: nobody describes its configuration, as that of a plugin of App Factory.
    #[must_use]
    pub fn takes_any_config(mut self) -> Self {
        self.any_config = true;
        self
    }

    /// With its manifest's word on whether what it contributes is what it declares.
    #[must_use]
    pub fn declares(mut self, declares: impl Fn(&[Spec]) -> std::result::Result<(), String> + 'static) -> Self {
        self.declares = Box::new(declares);
        self
    }

    /// With a folder for its data.
    #[must_use]
    pub fn data_dir(mut self, folder: PathBuf) -> Self {
        self.data = Some(folder);
        self
    }

    /// With its own word on whether a configuration fits, where it gives one before it starts.
    #[must_use]
    pub fn fits(mut self, fits: impl Fn(&Value) -> Result<()> + 'static) -> Self {
        self.fits = Box::new(fits);
        self
    }

    /// With a way to read files with audio.
    #[must_use]
    pub fn hear(mut self, hear: impl Fn(&Path) -> std::result::Result<Audio, String> + 'static) -> Self {
        self.hear = Box::new(hear);
        self
    }

    /// With hosts that are told more: where model files lie.
    #[must_use]
    pub fn host(mut self, prepare: impl Fn(&TestHost) + 'static) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// Runs all of it. `tell` hears of each check as soon as it is known.
    pub fn run(&self, tell: impl FnMut(&Check)) -> Vec<Check> {
        let mut report = Report::new(tell);
        let Some(first) = duties::starts(self, &mut report) else { return report.checks };
        let contributions = first.contributions();
        drop(first);
        for contribution in &contributions {
            self.contribution(contribution, &mut report);
        }
        duties::all(self, &contributions, &mut report);
        cases::all(self, &mut report);
        report.checks
    }

    /// What a contribution owes by its kind, in an instance of its own.
    fn contribution(&self, found: &Contribution, report: &mut Report<'_>) {
        let subject = format!("{} {}", found.kind().name(), found.name());
        let running = match self.started(Clock::Jump) {
            Ok(running) => running,
            Err(fault) => return report.failed(&subject, "starts again", fault),
        };
        // The same one, of this instance.
        let same = |c: &Contribution| c.kind() == found.kind() && c.name() == found.name();
        let contributions = running.contributions();
        let Some(contribution) = contributions.iter().find(|c| same(c)) else {
            let fault = Fault::new("the same contributions in each instance", format!("{subject} is not there"), read::PLUGINS);
            return report.failed(&subject, "is there again", fault);
        };
        let mut part = report.of(&subject);
        match contribution {
            Contribution::Vad(..) | Contribution::Stt(..) | Contribution::Tts(..) => speech::check(self, contribution, &mut part),
            _ => kinds::check(self, contribution, &mut part),
        }
        part.check("is still there after all of this", || duties::lives(&running));
    }

    /// An instance in a world of its own.
    fn started(&self, clock: Clock) -> std::result::Result<Running, Fault> {
        self.started_with(clock, self.cases.config())
    }

    fn started_with(&self, clock: Clock, config: Value) -> std::result::Result<Running, Fault> {
        let host = TestHost::with_clock(clock);
        (self.prepare)(&host);
        self.cases.prepare(&host);
        let mut config = config;
        bespoke_schema::fill(&self.schema, &mut config);
        let context = host.context(&self.id);
        let context = match &self.data {
            Some(folder) => context.with_data_dir(folder.clone()),
            None => context,
        };
        let start = caught((self.start)(context, config));
        let expected = format!("a start that ends within {} ms", self.limit.as_millis());
        match block_on_for(self.limit, start) {
            Some(Ok(instance)) => Ok(Running { instance, host, probe: None, foreign: Vec::new() }),
            Some(Err(e)) => Err(Fault::new("an instance, without the network", line(&e), read::START).help(e.help())),
            None => Err(Fault::new(expected, "it does not end", read::START)),
        }
    }

    /// Awaits something of a plugin for as long as it may take.
    fn within<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> std::result::Result<Result<T>, Fault> {
        block_on_for(LIMIT, caught(work))
            .ok_or_else(|| Fault::new(format!("{what} ends"), format!("it goes on after {} s", LIMIT.as_secs()), read::CALLS))
    }
}

impl std::fmt::Debug for Examination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Examination").field("plugin", &self.id).finish_non_exhaustive()
    }
}

/// What no plugin's configuration has.
fn unknown_key(config: &Value) -> Value {
    let mut config = config.clone();
    if let Value::Object(keys) = &mut config {
        keys.insert("no_such_key".into(), json!(1));
    }
    config
}

/// Whether an error says something about the plugin's own doing rather than what it was asked: it raised, panicked or died.
fn is_fault(error: &bespoke_plugin_api::Error) -> bool {
    use bespoke_plugin_api::Code;
    matches!(error.code(), Code::PLUGIN_EXCEPTION | Code::PLUGIN_CRASHED | Code::INTERNAL_ERROR | Code::PARSE_ERROR | Code::INVALID_REQUEST)
}

/// What a shared world of many calls is shared by.
type Shared<T> = Arc<std::sync::Mutex<T>>;

/// What was collected by now.
fn taken<T: Default>(shared: &Shared<T>) -> T {
    std::mem::take(&mut *shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// How long one may wait for a cancelled call.
const LET_GO: Duration = PROMPT;
