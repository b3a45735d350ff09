//! Does it hear what was said? Three recordings of people, and the ways in which audio can hold no speech.

use std::time::Instant;

use bespoke_stt_moonshine::pauses::stretches;
use bespoke_stt_moonshine::transcript::{joined, transcribe};

use crate::models::{beckett, engine, librivox};
use crate::wer::WordErrors;

/// Samuel Beckett, Worstward Ho, as read in the recording that comes with the model.
const BECKETT: &str = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.";
/// Jane Austen, Sense and Sensibility, chapter 1.
const AUSTEN_0870: &str =
    "and Mr. John Dashwood had then leisure to consider how much there might prudently be in his power to do for them.";
const AUSTEN_0890: &str = "unless to be rather cold hearted and rather selfish is to be ill-disposed:";

fn heard(audio: &[f32], rate: u32) -> String {
    joined(&transcribe(engine(), audio, rate, &|| false).unwrap())
}

#[test]
fn people_are_understood() {
    let recordings = [(BECKETT, beckett()), (AUSTEN_0870, librivox("librivox_0870.wav")), (AUSTEN_0890, librivox("librivox_0890.wav"))];
    engine();
    let errors: WordErrors = recordings
        .iter()
        .map(|(said, (audio, rate))| {
            let began = Instant::now();
            let heard = heard(audio, *rate);
            let seconds = audio.len() as f32 / *rate as f32;
            let errors = WordErrors::of(said, &heard);
            println!("{} of {} wrong, {seconds:.1} s in {:?}: {heard}", errors.errors, errors.words, began.elapsed());
            errors
        })
        .sum();
    println!("STT of 3 recordings: {:.1} % of {} words wrong", errors.percent(), errors.words);
    assert!(errors.percent() <= 10.0);
}

#[test]
fn every_word_of_beckett_is_right_at_any_rate_and_level() {
    let (audio, rate) = beckett();
    for other in [8_000, 44_100, 48_000] {
        let resampled = bespoke_audio::resample(&audio, rate, other).unwrap();
        assert_eq!(WordErrors::of(BECKETT, &heard(&resampled, other)).errors, 0, "{other} Hz");
    }
    for gain in [0.02, 0.2, 3.0] {
        let quieter: Vec<f32> = audio.iter().map(|s| s * gain).collect();
        assert_eq!(WordErrors::of(BECKETT, &heard(&quieter, rate)).errors, 0, "gain {gain}");
    }
}

#[test]
fn long_recordings_are_cut_and_keep_their_words() {
    let (beckett, rate) = beckett();
    let (austen, _) = librivox("librivox_0870.wav");
    let mut audio = Vec::new();
    let mut said = Vec::new();
    for _ in 0..4 {
        for (part, text) in [(&beckett, BECKETT), (&austen, AUSTEN_0870)] {
            audio.extend_from_slice(part);
            audio.extend(vec![0.0; rate as usize / 2]);
            said.push(text);
        }
    }
    let errors = WordErrors::of(&said.join(" "), &heard(&audio, rate));
    println!(
        "{:.0} s in {} stretches: {:.1} % of {} words wrong",
        audio.len() as f32 / rate as f32,
        stretches(&audio).len(),
        errors.percent(),
        errors.words
    );
    assert!(errors.percent() <= 10.0);
}

#[test]
fn silence_noise_and_scraps_give_nothing() {
    let noise = |gain: f32| {
        let mut state = 1_u32;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            gain * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        }
    };
    let second = 16_000;
    let cases: Vec<(&str, Vec<f32>)> = vec![
        ("nothing", vec![]),
        ("one sample", vec![0.5]),
        ("50 ms", vec![0.1; second / 20]),
        ("digital silence", vec![0.0; 30 * second]),
        ("constant voltage", vec![0.4; 3 * second]),
        ("hiss", std::iter::repeat_with(noise(0.001)).take(10 * second).collect()),
        ("loud noise", std::iter::repeat_with(noise(0.5)).take(10 * second).collect()),
        ("full scale", [1.0, -1.0].repeat(second)),
        ("clicks", (0..5 * second).map(|i| if i % 9_000 == 0 { 0.9 } else { 0.0 }).collect()),
    ];
    for (what, audio) in cases {
        assert_eq!(heard(&audio, 16_000), "", "{what}");
    }
}
