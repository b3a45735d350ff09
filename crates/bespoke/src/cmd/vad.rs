//! `vad`: where in recordings somebody speaks.

use std::{fmt::Write, path::Path, time::Duration};

use bespoke_audio::{TimestampOptions, speech_timestamps};
use bespoke_host::Slot;
use bespoke_plugin_api::{Audio, Kind, VadEvent, VadOptions, next, try_next};
use serde::Serialize;

use crate::{
    cli::{Vad, VadEngine, VadFormat},
    exit::{Failure, Result},
    models::Consent,
    output::Out,
    setup::{Need, Setup},
};

use super::speech;

/// One window of every detector, in milliseconds.
const WINDOW_MS: u32 = 32;

/// What was found in one file; samples count in its own rate.
#[derive(Debug, Serialize)]
struct Found {
    name: String,
    sample_rate: u32,
    engine: String,
    probs: Vec<f32>,
    timestamps: Vec<(u64, u64)>,
    events: Vec<Edge>,
    #[serde(skip)]
    length: u64,
    #[serde(skip)]
    took: Duration,
}

#[derive(Debug, Serialize)]
struct Edge {
    r#type: &'static str,
    samples_index: u64,
}

/// The detector's own setting behind `--engine`.
pub(crate) fn overrides(engine: VadEngine) -> Vec<(&'static str, String)> {
    match engine {
        VadEngine::Ort => vec![("plugins.silero.engine", "ort".into())],
        VadEngine::Builtin => vec![("plugins.silero.engine", "builtin".into())],
        VadEngine::Auto | VadEngine::Energy => Vec::new(),
    }
}

pub(crate) async fn run(setup: &Setup, args: Vad) -> Result<()> {
    let names = match args.engine {
        VadEngine::Auto => setup.voice.vad.clone(),
        VadEngine::Ort | VadEngine::Builtin => vec!["silero".to_owned()],
        VadEngine::Energy => vec!["energy".to_owned()],
    };
    setup.start(&[Need::of(Kind::Vad, &names)], &Consent::from(&args.fetching)).await?;
    let out = setup.out;
    let vad = choose(setup, &names)?;
    let engine = setup.rows().into_iter().find(|row| row.id == vad.plugin()).and_then(|row| row.facts.get("engine").cloned());
    let engine = engine.unwrap_or_else(|| vad.name().to_owned());

    let mut failed = 0;
    for (n, path) in args.files.iter().enumerate() {
        let found = match listen(out, &vad, &engine, path).await {
            Ok(found) => found,
            Err(failure) => {
                // One bad file does not keep the others from being looked at.
                out.note(failure.to_string());
                failed += 1;
                continue;
            }
        };
        match (args.format, out.json) {
            (VadFormat::Svg, _) => out.text(&svg(&found))?,
            (VadFormat::Jsonl, _) | (_, true) => out.json(&found, false)?,
            (VadFormat::Table, false) => {
                if n > 0 {
                    out.line("")?;
                }
                table(setup, &found)?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} of {} files could not be read", args.files.len()))),
    }
}

/// The first detector that works; why the ones before it do not is told.
fn choose(setup: &Setup, names: &[String]) -> Result<Slot<dyn bespoke_plugin_api::Vad>> {
    let mut last = None;
    for name in names {
        match setup.host.find::<dyn bespoke_plugin_api::Vad>(name).and_then(|slot| slot.lease().map(|_| slot.clone())) {
            Ok(slot) => return Ok(slot),
            Err(error) => {
                if names.len() > 1 {
                    setup.out.note(format!("the next detector stands in: {error}"));
                }
                last = Some(error);
            }
        }
    }
    Err(last.map_or_else(|| Failure::failed("voice.vad names no detector"), Failure::from))
}

async fn listen(out: Out, vad: &Slot<dyn bespoke_plugin_api::Vad>, engine: &str, path: &Path) -> Result<Found> {
    let audio = speech::read(out, path)?;
    let (vad, name, engine) = (vad.clone(), stem(path), engine.to_owned());
    let runtime = tokio::runtime::Handle::current();
    let task = tokio::task::spawn_blocking(move || detect(&runtime, &vad, name, engine, &audio));
    task.await.map_err(|e| Failure::failed(format!("the detector: {e}")))?
}

/// Runs on a working thread: a detector computes in `push`.
fn detect(
    runtime: &tokio::runtime::Handle,
    vad: &Slot<dyn bespoke_plugin_api::Vad>,
    name: String,
    engine: String,
    audio: &Audio,
) -> Result<Found> {
    let begun = std::time::Instant::now();
    let mut stream = vad.enter(|vad| vad.open(&VadOptions::new(audio.rate)))?;
    let (mut probs, mut events) = (Vec::new(), Vec::new());
    let mut take = |event: VadEvent| match event {
        VadEvent::Window { probability, .. } => probs.push(probability),
        VadEvent::SpeechStart { at, .. } => events.push(Edge { r#type: "start_of_speech", samples_index: at }),
        VadEvent::SpeechEnd { at, .. } => events.push(Edge { r#type: "end_of_speech", samples_index: at }),
        _ => {}
    };
    let piece = (audio.rate as usize * WINDOW_MS as usize / 1000).max(1);
    for frame in audio.samples.chunks(piece) {
        stream.push(frame)?;
        while let Some(event) = try_next(&mut stream) {
            take(event?);
        }
    }
    stream.finish()?;
    // A detector may answer late: its stream is over when it says so.
    while let Some(event) = runtime.block_on(next(&mut stream)) {
        take(event?);
    }
    let length = audio.samples.len() as u64;
    let timestamps = timestamps(&probs, length, audio.rate);
    Ok(Found { name, sample_rate: audio.rate, engine, probs, timestamps, events, length, took: begun.elapsed() })
}

/// silero-vad's timestamps, in the file's own rate whatever rate the detector works at.
fn timestamps(probs: &[f32], length: u64, rate: u32) -> Vec<(u64, u64)> {
    let model = if rate == 8_000 { 8_000 } else { 16_000 };
    let scale = |n: u64, from: u32, to: u32| n * u64::from(to) / u64::from(from);
    let window = model * WINDOW_MS / 1000;
    let found = speech_timestamps(probs, scale(length, rate, model), model, window, &TimestampOptions::default());
    found.into_iter().map(|span| (scale(span.start, model, rate), scale(span.end, model, rate).min(length))).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn table(setup: &Setup, found: &Found) -> Result<()> {
    let out = setup.out;
    let seconds = |samples: u64| samples as f64 / f64::from(found.sample_rate);
    let speech: u64 = found.timestamps.iter().map(|(from, to)| to - from).sum();
    out.line(format!(
        "{}  {:.2} s at {} Hz  {}  {:.0}x real time",
        found.name,
        seconds(found.length),
        found.sample_rate,
        found.engine,
        seconds(found.length) / found.took.as_secs_f64().max(1e-9),
    ))?;
    out.line(format!("  {}", picture(&found.probs, 60)))?;
    if found.timestamps.is_empty() {
        return out.line("  no speech");
    }
    for (from, to) in &found.timestamps {
        out.line(format!("  {:8.2} – {:8.2} s  {:6.2} s", seconds(*from), seconds(*to), seconds(to - from)))?;
    }
    out.line(format!("  {:.2} s of speech in {} pieces", seconds(speech), found.timestamps.len()))
}

/// Probabilities as a row of blocks: each column shows the highest of its windows.
pub(crate) fn picture(probs: &[f32], columns: usize) -> String {
    const BLOCKS: [char; 8] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '█'];
    let columns = columns.min(probs.len()).max(1);
    (0..columns)
        .map(|n| {
            let range = n * probs.len() / columns..((n + 1) * probs.len()).div_ceil(columns).min(probs.len());
            let highest = probs.get(range).into_iter().flatten().fold(0.0_f32, |a, b| a.max(*b));
            BLOCKS[((highest * 7.0).round() as usize).min(7)]
        })
        .collect()
}

/// The curve of probabilities over time, with what was taken for speech behind it.
fn svg(found: &Found) -> String {
    const WIDTH: f64 = 1000.0;
    const HEIGHT: f64 = 160.0;
    const LEFT: f64 = 40.0;
    const TOP: f64 = 30.0;
    let duration = (found.length as f64 / f64::from(found.sample_rate)).max(1e-3);
    let x = |seconds: f64| LEFT + seconds / duration * WIDTH;
    let y = |p: f64| TOP + (1.0 - p) * HEIGHT;
    let name = found.name.replace('&', "&amp;").replace('<', "&lt;");
    // Writing into a String cannot fail.
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="sans-serif" font-size="12">"#,
        WIDTH + 60.0,
        HEIGHT + 70.0
    );
    let _ = writeln!(
        svg,
        r##"<rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="18">{name} · {duration:.1} s · {}</text>"##,
        found.engine
    );
    for (from, to) in &found.timestamps {
        let (from, to) = (x(*from as f64 / f64::from(found.sample_rate)), x(*to as f64 / f64::from(found.sample_rate)));
        let _ = writeln!(svg, r##"<rect x="{from:.1}" y="{TOP}" width="{:.1}" height="{HEIGHT}" fill="#bfe3c6"/>"##, to - from);
    }
    for p in [0.0, 0.5, 1.0] {
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#ccc"/><text x="8" y="{:.1}">{p}</text>"##,
            LEFT + WIDTH,
            y(p) + 4.0,
            y = y(p)
        );
    }
    let points: Vec<String> = found
        .probs
        .iter()
        .enumerate()
        .map(|(n, p)| format!("{:.1},{:.1}", x((n as f64 + 0.5) * f64::from(WINDOW_MS) / 1000.0), y(f64::from(*p))))
        .collect();
    let _ = writeln!(svg, r##"<polyline fill="none" stroke="#1f5fa8" stroke-width="1.2" points="{}"/>"##, points.join(" "));
    let step = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0].into_iter().find(|step| duration / step <= 12.0).unwrap_or(3600.0);
    let mut at = 0.0;
    while at <= duration {
        let _ = writeln!(svg, r#"<text x="{:.1}" y="{}" text-anchor="middle">{at} s</text>"#, x(at), TOP + HEIGHT + 18.0);
        at += step;
    }
    svg.push_str("</svg>\n");
    svg
}
