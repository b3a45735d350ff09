//! Is flite understood? Twenty sentences are spoken by the bare engine and written down again.

use bespoke_stt_moonshine::transcript::{joined, transcribe};

use crate::models::engine;
use crate::wer::WordErrors;

/// The first two lists of the Harvard sentences (IEEE Recommended Practice for Speech Quality Measurements, 1969):
/// chosen by phoneticians so that the words are ordinary and no word can be guessed from the rest.
const SENTENCES: [&str; 20] = [
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It's easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.",
    "The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.",
    "The boy was there when the sun rose.",
    "A rod is used to catch pink salmon.",
    "The source of the huge river is the clear spring.",
    "Kick the ball straight and follow through.",
    "Help the woman get back to her feet.",
    "A pot of tea helps to pass the evening.",
    "Smoky fires lack flame and heat.",
    "The soft cushion broke the man's fall.",
    "The salt breeze came across from the sea.",
    "The girl at the booth sold fifty bonds.",
];

#[test]
fn what_flite_says_is_understood() {
    let mut flite = flite_rs::Engine::new();
    // As the plugin tts-flite sets it.
    assert!(flite.select_voice("kal16"));
    flite.set_duration_stretch(0.95);
    let errors: WordErrors = SENTENCES
        .iter()
        .map(|said| {
            let audio = flite.synthesize(said);
            let samples: Vec<f32> = audio.samples.iter().map(|&s| f32::from(s) / 32_768.0).collect();
            let heard = joined(&transcribe(engine(), &samples, audio.sample_rate, &|| false).unwrap());
            let errors = WordErrors::of(said, &heard);
            println!("{} of {} wrong: {said} -> {heard}", errors.errors, errors.words);
            errors
        })
        .sum();
    println!("TTS to STT round trip of {} sentences: {:.1} % of {} words wrong", SENTENCES.len(), errors.percent(), errors.words);
    assert!(errors.percent() <= 25.0);
}
