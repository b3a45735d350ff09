//! `runtime`: a StableHLO program on a native runtime, and the devices of one. How values are written is in `values`; how a runtime
//! comes here is not said.

mod values;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bespoke_host::RuntimeStore;
use bespoke_pjrt::{Client, CompileOptions, LIBRARY_VAR, Library, PjrtError, Tensor, Value as Setting, skip_tpu_metadata};
use bespoke_plugin_api::Code;
use bespoke_runtimes::{Spec, Tpu, UnknownSpec};
use serde_json::{Value, json};

use crate::{
    cli::{RuntimeVerb, Verb, runtime::RunProgram},
    exit::{Exit, Failure, Result},
    output::Out,
    setup::Setup,
};

/// XLA compiles on the thread that asks, and large programs nest deeply.
const STACK: usize = 64 << 20;

/// Sets what has to stand in the environment before a runtime is loaded. Whoever loads none pays nothing for it.
pub(crate) fn before_threads(verb: &Verb) {
    // Without a TPU, its library asks the cloud's metadata service for minutes.
    if matches!(verb, Verb::Runtime(_)) && Tpu::detect(Path::new("/")).is_err() {
        #[allow(unsafe_code, reason = "the environment can only be set through an unsafe call")]
        // SAFETY: the command line was read, and nothing else was done: no other thread exists that could read the environment.
        unsafe {
            skip_tpu_metadata();
        }
    }
}

pub(super) async fn run(setup: &Setup, verb: RuntimeVerb) -> Result<()> {
    let (runtime, out) = match &verb {
        RuntimeVerb::Run(args) => (Runtime::find(setup, &args.spec, args.library.as_deref())?, setup.out),
        RuntimeVerb::Devices { spec, library } => (Runtime::find(setup, spec, library.as_deref())?, setup.out),
    };
    let work = move || match verb {
        RuntimeVerb::Run(args) => execute(out, &runtime, &args),
        RuntimeVerb::Devices { .. } => devices(out, &runtime),
    };
    let (sender, ended) = tokio::sync::oneshot::channel();
    // Not on a thread of the runtime: it takes as long as it takes, and more stack than they have.
    let thread = std::thread::Builder::new().name("runtime".into()).stack_size(STACK);
    thread.spawn(move || sender.send(work()))?;
    ended.await.unwrap_or_else(|_| Err(Failure::failed("the runtime panicked; the log says more")))
}

/// A library, and how it was found.
struct Runtime {
    spec: Spec,
    library: PathBuf,
    preload: Vec<PathBuf>,
    /// `installed 0.0.1`, `bundled 0.0.1`, or who named it.
    origin: String,
}

/// A library at work.
struct Loaded {
    client: Client,
    platform: String,
    version: String,
    took: Duration,
}

impl Runtime {
    /// The library that is named; else that of the pack, installed or bundled; else that of the environment.
    fn find(setup: &Setup, spec: &str, library: Option<&Path>) -> Result<Self> {
        let spec: Spec = spec
            .parse()
            .map_err(|error: UnknownSpec| Failure::new(Exit::NotFound, error.to_string()).help("bespoke plugin list runtime"))?;
        match spec {
            Spec::XlaCpu | Spec::XlaCuda | Spec::XlaTpu => {}
            Spec::OnnxCpu | Spec::OnnxCuda => {
                let why = format!("{spec} runs models of ONNX, and plugins do that with their own; this verb runs programs in StableHLO");
                return Err(Failure::new(Exit::Usage, why)
                    .help("bespoke vad FILE.wav --engine ort")
                    .or("bespoke runtime run xla:cpu FILE"));
            }
            _ => {
                let why = format!("{spec} runs no programs by itself; this verb runs programs in StableHLO");
                return Err(Failure::new(Exit::Usage, why).help("bespoke runtime run xla:cpu FILE"));
            }
        }
        let named =
            |library: &Path, origin: &str| Runtime { spec, library: library.to_owned(), preload: Vec::new(), origin: origin.to_owned() };
        if let Some(library) = library {
            return Ok(named(library, "--library"));
        }
        match setup.packs.find(spec.as_str()) {
            Ok(pack) => {
                let origin = format!("{} {}", pack.origin, pack.version);
                Ok(Runtime { spec, library: pack.library, preload: pack.preload, origin })
            }
            Err(error) => match std::env::var_os(LIBRARY_VAR).filter(|path| !path.is_empty()) {
                Some(library) => {
                    tracing::info!("{LIBRARY_VAR} names the library: {error}");
                    Ok(named(Path::new(&library), LIBRARY_VAR))
                }
                None => {
                    let absent = error.code() == Code::DEPENDENCY_MISSING;
                    let failure = Failure::from(error).or(format!("export {LIBRARY_VAR}=/a/pjrt_plugin.so"));
                    Err(if absent { Failure { exit: Exit::NotFound, ..failure } } else { failure })
                }
            },
        }
    }

    fn load(&self) -> Result<Loaded> {
        let begun = Instant::now();
        let library = Library::load(&self.library, &self.preload).map_err(|error| self.unusable(&error))?;
        // Else XLA takes most of a device's memory at once, for a program that may need little.
        let options: &[(&str, Setting)] = if self.spec == Spec::XlaCuda { &[("preallocate", Setting::Bool(false))] } else { &[] };
        let client = Client::new(library, options).map_err(|error| self.unusable(&error))?;
        let (platform, version) = (client.platform_name().map_err(failed)?, client.platform_version().map_err(failed)?);
        let took = begun.elapsed();
        let (major, minor) = library.api_version();
        tracing::info!("{}: {} ({}), PJRT API {major}.{minor}", self.spec, library.path().display(), self.origin);
        let more = if version == platform { String::new() } else { format!(" ({})", version.replace('\n', " ")) };
        tracing::info!("platform {platform}{more}, ready in {}", shown(took));
        if let Some(other) = instead(self.spec, &platform) {
            let why = format!("{} was asked for, and this library runs on {platform}: {}", self.spec, library.path().display());
            return Err(Failure::failed(why).help(format!("bespoke runtime run {other} FILE")));
        }
        Ok(Loaded { client, platform, version, took })
    }

    fn unusable(&self, error: &PjrtError) -> Failure {
        let exit = match error {
            PjrtError::Load { path, .. } if !path.exists() => Exit::NotFound,
            _ => Exit::Failed,
        };
        let failure = Failure::new(exit, format!("{} cannot be used: {error}", self.spec));
        if self.spec == Spec::XlaCpu { failure } else { failure.help("bespoke doctor") }
    }

    /// What ran, for a program to read.
    fn told(&self, loaded: &Loaded) -> serde_json::Map<String, Value> {
        let (major, minor) = loaded.client.library().api_version();
        let told = json!({
            "runtime": self.spec.as_str(), "library": self.library, "origin": self.origin, "api": format!("{major}.{minor}"),
            "platform": loaded.platform, "platform_version": loaded.version, "load_ms": ms(loaded.took),
        });
        match told {
            Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        }
    }
}

/// The pack that a platform is of, where it is another one. Platforms of other makers are of none, and users who name such a library know.
fn instead(spec: Spec, platform: &str) -> Option<Spec> {
    let platform = platform.to_ascii_lowercase();
    let device = if platform == "gpu" { "cuda" } else { &platform };
    [Spec::XlaCpu, Spec::XlaCuda, Spec::XlaTpu].into_iter().find(|other| other.device() == device && *other != spec)
}

fn devices(out: Out, runtime: &Runtime) -> Result<()> {
    let loaded = runtime.load()?;
    let devices = loaded.client.devices();
    if out.json {
        let listed = devices.iter().enumerate();
        let listed: Vec<_> = listed
            .map(|(n, device)| json!({ "device": n, "id": device.id(), "kind": device.kind(), "name": device.to_string() }))
            .collect();
        let attributes = loaded.client.library().attributes().map_err(failed)?;
        let attributes: serde_json::Map<_, _> = attributes.into_iter().map(|(name, value)| (name, json!(value.to_string()))).collect();
        let mut told = runtime.told(&loaded);
        told.insert("attributes".into(), Value::Object(attributes));
        told.insert("devices".into(), json!(listed));
        return out.json(&told, true);
    }
    let rows: Vec<_> =
        devices.iter().enumerate().map(|(n, device)| vec![n.to_string(), device.kind().to_owned(), device.to_string()]).collect();
    out.table(&["DEVICE", "KIND", "NAME"], &rows)
}

fn execute(out: Out, runtime: &Runtime, args: &RunProgram) -> Result<()> {
    let program = read(&args.file)?;
    let written: Vec<Value> =
        args.input.iter().enumerate().map(|(n, text)| values::parse(n, text)).collect::<Result<_, _>>().map_err(usage)?;
    let loaded = runtime.load()?;
    let client = &loaded.client;
    let device = client.devices().get(args.device).ok_or_else(|| {
        let count = client.devices().len();
        let there = if count == 1 { "device 0 only".to_owned() } else { format!("devices 0 to {}", count - 1) };
        let failure = Failure::new(Exit::NotFound, format!("{} has {there}, and no device {}", runtime.spec, args.device));
        failure.help(format!("bespoke runtime devices {}", runtime.spec))
    })?;

    let begun = Instant::now();
    let compiled = client.compile(&program, &CompileOptions::on(args.device));
    let compiled = compiled.map_err(|error| Failure::failed(format!("{} does not compile: {error}", args.file.display())))?;
    let compile = begun.elapsed();
    let inputs: Vec<Tensor> =
        values::inputs(&written, compiled.inputs()).map_err(|why| usage(format!("{}: {why}", args.file.display())))?;

    let begun = Instant::now();
    let buffers = inputs.iter().map(|input| client.buffer(input, args.device)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let results = compiled.execute(&buffers.iter().collect::<Vec<_>>()).map_err(failed)?;
    let results = results.iter().map(bespoke_pjrt::Buffer::to_host).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let run = begun.elapsed();
    tracing::info!("{device}: compiled in {}, ran in {}", shown(compile), shown(run));

    let results: Vec<_> = results.iter().map(|result| (result.tensor_type().to_string(), values::nested(result))).collect();
    if out.json {
        let listed: Vec<_> = results.iter().map(|(of, value)| json!({ "type": of, "value": value })).collect();
        let mut told = runtime.told(&loaded);
        told.insert("device".into(), json!(device.to_string()));
        told.insert("compile_ms".into(), json!(ms(compile)));
        told.insert("run_ms".into(), json!(ms(run)));
        told.insert("results".into(), json!(listed));
        return out.json(&told, true);
    }
    results.iter().try_for_each(|(of, value)| out.line(format!("{} : {of}", values::written(value))))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Exit::NotFound, format!("{}: no such file", path.display())),
        _ => Failure::failed(format!("{} cannot be read: {error}", path.display())),
    })
}

fn usage(why: String) -> Failure {
    Failure::new(Exit::Usage, why)
}

/// A failure of the runtime itself.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` has it")]
fn failed(error: PjrtError) -> Failure {
    Failure::failed(error.to_string())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn shown(duration: Duration) -> String {
    format!("{:.3} ms", ms(duration))
}
