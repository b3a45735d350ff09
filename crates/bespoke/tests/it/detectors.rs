//! `vad`: what it prints is what the original detectors give, in every engine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bespoke_audio::{read_wav, resample, write_wav};
use serde_json::{Value, json};

use crate::program::{User, fixtures};

fn kit() -> Option<PathBuf> {
    std::env::var_os("BESPOKE_VOICE_KIT").map(PathBuf::from)
}

/// Reference outputs whose recordings are here, with the recordings: three and digital silence, all with the voice kit.
fn recordings(user: &User) -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    let mut references: Vec<_> = fs::read_dir(fixtures().join("reference")).unwrap().map(|entry| entry.unwrap().path()).collect();
    references.sort();
    for reference in references {
        let reference: Value = serde_json::from_slice(&fs::read(reference).unwrap()).unwrap();
        let name = reference["name"].as_str().unwrap();
        let places = [Some(fixtures()), kit()].into_iter().flatten().map(|folder| folder.join(format!("audio/{name}.wav")));
        match places.into_iter().find(|path| path.is_file()) {
            Some(path) => found.push((path, reference)),
            None if name == "neg_zero" => {
                let path = user.work("neg_zero.wav");
                let samples = usize::try_from(reference["samples"].as_u64().unwrap()).unwrap();
                write_wav(&path, &vec![0.0; samples], u32::try_from(reference["sr"].as_u64().unwrap()).unwrap()).unwrap();
                found.push((path, reference));
            }
            None => {}
        }
    }
    assert_eq!(found.len(), if kit().is_some() { 10 } else { 4 });
    found
}

fn vad(user: &User, engine: &str, files: &[PathBuf]) -> crate::program::Ended {
    let args = ["vad", "--format", "jsonl", "--engine", engine].map(PathBuf::from);
    user.run(args.iter().chain(files))
}

fn probabilities(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect()
}

fn agrees_with_the_original(user: &User, engine: &str, tolerance: f64) {
    let (files, references): (Vec<_>, Vec<_>) = recordings(user).into_iter().unzip();
    let lines = vad(user, engine, &files).ok().lines();
    assert_eq!(lines.len(), references.len());
    let mut worst = 0.0_f64;
    for (line, reference) in lines.iter().zip(&references) {
        let name = &reference["name"];
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known = ["engine", "events", "name", "probs", "sample_rate", "timestamps"].to_vec();
        known.retain(|key| keys.contains(key));
        assert_eq!((keys.len(), known.len()), (6, 6), "{keys:?}");
        assert_eq!((&line["name"], &line["sample_rate"], &line["engine"]), (name, &reference["sr"], &json!(engine)));
        let (found, expected) = (probabilities(&line["probs"]), probabilities(&reference["probs"]));
        assert_eq!(found.len(), expected.len(), "{name}");
        worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(worst, f64::max);
        assert_eq!(line["timestamps"], reference["timestamps_default"], "{name}");
        let events: Vec<Value> = reference["livekit_plugin_default"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| json!({ "type": event["type"], "samples_index": event["samples_index"] }))
            .collect();
        assert_eq!(line["events"], Value::from(events), "{name}");
    }
    println!("{engine}: {} recordings, farthest probability {worst:.2e}", lines.len());
    assert!(worst <= tolerance, "{worst}");
}

#[test]
fn the_built_in_engine_agrees_with_the_original() {
    agrees_with_the_original(&User::new(), "builtin", 1e-4);
}

#[test]
fn onnx_runtime_agrees_with_the_original() {
    agrees_with_the_original(&User::new().with_onnxruntime(), "ort", 1e-3);
}

#[test]
fn which_engine_runs_is_told_and_a_missing_library_is_no_excuse_for_another() {
    let file = [fixtures().join("audio/librivox_0890.wav")];
    let engine = |user: &User| vad(user, "auto", &file).ok().lines()[0]["engine"].clone();
    assert_eq!(engine(&User::new().with_onnxruntime()), "ort");
    let nowhere = User::new().with("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
    let refused = vad(&nowhere, "ort", &file).nothing();
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("silero: "), "{}", refused.err);
}

#[test]
fn by_loudness_digital_silence_is_silent_and_speech_is_not() {
    let user = User::new();
    let silence = user.work("silence.wav");
    write_wav(&silence, &vec![0.0; 160_000], 16_000).unwrap();
    let lines = vad(&user, "energy", &[silence, fixtures().join("audio/librivox_0890.wav")]).ok().lines();
    assert_eq!((&lines[0]["timestamps"], &lines[0]["events"], &lines[0]["engine"]), (&json!([]), &json!([]), &json!("energy")));
    assert!(probabilities(&lines[0]["probs"]).iter().all(|p| *p < 0.5));
    assert!(!lines[1]["timestamps"].as_array().unwrap().is_empty());
}

#[test]
fn samples_are_counted_in_the_files_own_rate() {
    let user = User::new();
    let original = fixtures().join("audio/librivox_0870.wav");
    let wav = read_wav(&original).unwrap();
    let copy = user.work("copy.wav");
    let samples = resample(&wav.samples, wav.rate, 44_100).unwrap();
    write_wav(&copy, &samples, 44_100).unwrap();
    let lines = vad(&user, "builtin", &[original, copy]).ok().lines();
    assert_eq!((&lines[0]["sample_rate"], &lines[1]["sample_rate"]), (&json!(16_000), &json!(44_100)));
    let seconds = |line: &Value| -> Vec<f64> {
        let rate = line["sample_rate"].as_f64().unwrap();
        let spans = line["timestamps"].as_array().unwrap().iter().flat_map(|span| span.as_array().unwrap().clone());
        let events = line["events"].as_array().unwrap().iter().map(|event| event["samples_index"].clone());
        spans.chain(events).map(|n| n.as_f64().unwrap() / rate).collect()
    };
    let (expected, found) = (seconds(&lines[0]), seconds(&lines[1]));
    assert!(expected.len() >= 3, "{expected:?}");
    assert_eq!(expected.len(), found.len(), "{expected:?} {found:?}");
    for (a, b) in expected.iter().zip(&found) {
        // Two windows.
        assert!((a - b).abs() <= 0.064, "{expected:?} {found:?}");
    }
    assert!(found.iter().all(|at| *at <= samples.len() as f64 / 44_100.0));
}

/// Files that are no recordings, or broken ones.
fn malformed(user: &User) -> Vec<PathBuf> {
    let good = fs::read(fixtures().join("audio/librivox_0890.wav")).unwrap();
    let header = |length: u32| {
        let mut bytes = good[..44].to_vec();
        bytes[40..44].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good[..4_044].to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("nothing.wav", Vec::new()),
        ("text.wav", b"this is no recording\n".repeat(100)),
        ("header.wav", header(0)),
        ("promises.wav", header(u32::MAX)),
        ("half.wav", good[..30].to_vec()),
        ("cut.wav", good[..20_001].to_vec()),
        ("no_rate.wav", with(24, &0_u32.to_le_bytes())),
        ("no_channels.wav", with(22, &0_u16.to_le_bytes())),
        ("format.wav", with(20, &0x55_u16.to_le_bytes())),
        ("bits.wav", with(34, &77_u16.to_le_bytes())),
    ];
    let mut paths: Vec<PathBuf> = files
        .into_iter()
        .map(|(name, bytes)| {
            let path = user.work(name);
            fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let folder = user.work("folder.wav");
    fs::create_dir(&folder).unwrap();
    paths.extend([folder, user.work("absent.wav"), user.work(&format!("{}.wav", "long".repeat(500)))]);
    if let Some(kit) = kit() {
        let mut files: Vec<_> = fs::read_dir(kit.join("malformed")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        paths.extend(files);
    }
    paths
}

#[test]
fn a_broken_file_is_told_and_the_others_are_looked_at() {
    let user = User::new();
    let good = fixtures().join("audio/librivox_0890.wav");
    let broken = malformed(&user);
    let mut errors = 0;
    for path in &broken {
        let ended = vad(&user, "builtin", &[path.clone(), good.clone()]);
        let name = path.file_name().unwrap().to_str().unwrap();
        let lines = ended.lines();
        assert_eq!(lines.last().unwrap()["name"], "librivox_0890", "{name}");
        match lines.len() {
            1 => {
                assert_eq!(ended.code, 1, "{name}");
                assert!(ended.err.contains(name) && ended.err.contains("1 of 2 files"), "{name}: {}", ended.err);
                errors += 1;
            }
            // Read as far as it goes, which is told, or honestly empty.
            2 => {
                assert_eq!(ended.code, 0, "{name}");
                assert_eq!(lines[0]["name"], path.file_stem().unwrap().to_str().unwrap());
                let empty = lines[0]["timestamps"] == json!([]) && lines[0]["events"] == json!([]);
                assert!(empty || ended.err.contains("cut off"), "{name}: {} {}", lines[0], ended.err);
            }
            n => panic!("{n} lines for {name}"),
        }
        assert!(!ended.err.contains("panicked"), "{name}: {}", ended.err);
    }
    println!("{errors} of {} broken files are errors", broken.len());
    let all = vad(&user, "builtin", &broken);
    assert_eq!(all.code, 1);
    assert_eq!(all.lines().len(), broken.len() - errors);
}

#[test]
fn every_engine_survives_broken_files() {
    let user = User::new().with_onnxruntime();
    let broken = malformed(&user);
    for engine in ["energy", "ort"] {
        let ended = vad(&user, engine, &broken).code(1);
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
    }
}

#[test]
fn a_table_for_people_and_a_picture_for_documents() {
    let user = User::new();
    let path = fixtures().join("audio/librivox_0890.wav");
    let show = |format: &str| user.run([Path::new("vad"), &path, Path::new("--format"), Path::new(format)]).ok().out;
    let table = show("table");
    assert!(table.contains("librivox_0890  5.30 s at 16000 Hz") && table.contains("of speech in"), "{table}");
    let svg = show("svg");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("<polyline"), "{svg}");
    assert_eq!(svg.matches("<svg").count(), 1);
}
