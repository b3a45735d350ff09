//! What the real model answers with the defaults: facts, sampling, stop texts.

use bespoke_plugin_api::Message;
use bespoke_provider_smol::engine::{Answer, Finish, Generation};
use bespoke_provider_smol::sampler::Sampling;

use crate::weights::engine;

const PLAIN: &str = "You are helpful.";
const VOICE: &str = "You are a helpful voice assistant. Answer in one short sentence.";

fn ask(messages: &[Message], change: impl FnOnce(&mut Generation)) -> (String, Answer) {
    let prompt = engine().prompt(messages, true).unwrap();
    let mut request = Generation { prompt, max_tokens: 48, sampling: Sampling::default(), stop: Vec::new(), schema: None };
    change(&mut request);
    let mut text = String::new();
    let answer = engine().generate(&request, &|| false, &mut |piece| text += &piece).unwrap();
    (text, answer)
}

fn conversation(system: &str, question: &str) -> [Message; 2] {
    [Message::system(system), Message::user(question)]
}

#[test]
fn plain_facts_come_out_right() {
    for system in [PLAIN, VOICE] {
        for (question, facts) in [
            ("What is the capital of France?", &["Paris"][..]),
            ("what is the capital of france", &["Paris"]),
            ("What is the capital of Italy?", &["Rome"]),
            ("What is the capital of Germany?", &["Berlin"]),
            ("What is the capital of Japan?", &["Tokyo"]),
            ("What is the capital of Spain?", &["Madrid"]),
            ("What colour is the sky?", &["blue"]),
            ("How many days are in a week?", &["7", "seven"]),
        ] {
            let (text, _) = ask(&conversation(system, question), |_| ());
            assert!(facts.iter().any(|fact| text.contains(fact)), "{system} {question}: {text}");
        }
    }
}

#[test]
fn an_answer_ends_by_itself_and_counts_its_tokens() {
    let messages = conversation(VOICE, "What is the capital of France?");
    let (text, answer) = ask(&messages, |_| ());
    assert_eq!(text, "The capital of France is Paris.");
    assert_eq!((answer.finish, answer.completion_tokens), (Finish::Stop, 7));
    assert_eq!(answer.prompt_tokens, engine().prompt(&messages, true).unwrap().len());
}

#[test]
fn a_seed_repeats_an_answer() {
    let warm = |seed| {
        let (text, _) = ask(&conversation(PLAIN, "Tell me a story about a dog."), |request| {
            request.sampling = Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::default() };
        });
        text
    };
    assert_eq!(warm(1), warm(1));
    assert_ne!(warm(1), warm(2));
}

#[test]
fn stop_texts_end_an_answer_and_are_not_part_of_it() {
    let messages = conversation(VOICE, "What is the capital of France?");
    // Over the border of two tokens, at the border, and one that never comes.
    for (stop, expected, finish) in [
        ("tal of Fr", "The capi", Finish::Stop),
        (" Paris", "The capital of France is", Finish::Stop),
        ("Paris!", "The capital of France is Paris.", Finish::Stop),
    ] {
        let (text, answer) = ask(&messages, |request| request.stop = vec![stop.to_owned()]);
        assert_eq!((text.as_str(), answer.finish), (expected, finish), "{stop}");
    }
}

#[test]
fn a_long_answer_does_not_go_round_in_circles() {
    let (text, _) = ask(&conversation(PLAIN, "Tell me a story about a dog."), |request| request.max_tokens = 300);
    let words: Vec<&str> = text.split_whitespace().collect();
    let phrases: Vec<_> = words.windows(8).collect();
    let mut different = phrases.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() * 10 >= phrases.len() * 9, "{} of {}: {text}", different.len(), phrases.len());
}

#[test]
fn logits_are_those_of_exact_arithmetic_within_the_rounding() {
    // Log-probabilities of the likeliest tokens by a plain float32 implementation (numpy) over the dequantised weights of
    // the same file. Rounding the activations to bytes moves them: the root mean square of these 18 differences is 0.13
    // here with AVX-512, and 0.11 in llama.cpp, which rounds in the same way. A fault in the network moves them by whole
    // units.
    let exact = [
        (
            conversation(PLAIN, "What is the capital of France?").to_vec(),
            [(504, -1.351), (15319, -1.378), (60, -1.987), (7026, -2.319), (2219, -3.179), (51, -3.868)],
        ),
        (
            vec![Message::user("What is the capital of France?")],
            [(504, -1.883), (60, -1.965), (15319, -2.266), (2219, -2.806), (7026, -2.893), (14925, -3.074)],
        ),
        (
            conversation(PLAIN, "What colour is the sky?").to_vec(),
            [(504, -0.322), (5195, -3.324), (49, -3.602), (788, -3.911), (1348, -4.073), (2068, -4.333)],
        ),
    ];
    let mut squares = 0.0f32;
    for (messages, expected) in exact {
        let logits = engine().logits(&engine().prompt(&messages, false).unwrap());
        let largest = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
        let total: f32 = logits.iter().map(|l| (l - largest).exp()).sum();
        squares += expected.iter().map(|(token, exact)| (logits[*token as usize] - largest - total.ln() - exact).powi(2)).sum::<f32>();
    }
    let error = (squares / 18.0).sqrt();
    assert!(error < 0.3, "{error}");
}
