//! The network against itself: a cache, chunks and other instruction sets change nothing; the engine's rules of ending.

use std::cell::Cell;

use bespoke_plugin_api::Message;
use bespoke_provider_smol::engine::{Engine, EngineOptions, Finish, Generation};
use bespoke_provider_smol::error::Error;
use bespoke_provider_smol::gguf::Gguf;
use bespoke_provider_smol::kernel::{Compute, Isa};
use bespoke_provider_smol::model::{Model, Scratch};
use bespoke_provider_smol::sampler::Sampling;
use bespoke_provider_smol::tokenizer::Tokenizer;

use crate::tiny;

fn model() -> Model {
    let bytes = tiny::bytes();
    let len = bytes.len() as u64;
    let mut gguf = Gguf::read(std::io::Cursor::new(bytes), len).unwrap();
    let tokenizer = Tokenizer::from_gguf(&mut gguf).unwrap();
    Model::load(&mut gguf, tokenizer.len()).unwrap()
}

fn engine() -> Engine {
    let (_folder, path) = tiny::file();
    Engine::load(&path, &EngineOptions::default()).unwrap()
}

fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| i * 31 % 256).collect()
}

fn generation(prompt: Vec<u32>) -> Generation {
    Generation { prompt, max_tokens: 12, sampling: Sampling::default(), stop: Vec::new(), schema: None }
}

fn text(engine: &Engine, request: &Generation) -> (String, bespoke_provider_smol::engine::Answer) {
    let mut text = String::new();
    let answer = engine.generate(request, &|| false, &mut |piece| text += &piece).unwrap();
    (text, answer)
}

#[test]
fn a_cache_and_pieces_give_the_same_logits_to_the_bit() {
    let model = model();
    for isa in Isa::available() {
        let compute = Compute::new(isa, 1).unwrap();
        let run = |pieces: &[&[u32]], cache: &mut bespoke_provider_smol::kv::KvCache| {
            let (mut scratch, mut logits) = (Scratch::default(), Vec::new());
            for piece in pieces {
                model.forward(&compute, piece, cache, &mut scratch, Some(&mut logits));
            }
            logits
        };
        let all = prompt(50);
        let whole = run(&[&all], &mut model.cache());
        assert!(whole.iter().any(|x| *x != 0.0) && whole.iter().all(|x| x.is_finite()));
        assert_eq!(whole, run(&[&all[..1], &all[1..14], &all[14..31], &all[31..]], &mut model.cache()), "{isa:?}");

        // A cache that went another way behind the 20th token, and a copy of its beginning.
        let mut other = model.cache();
        run(&[&all[..20], &prompt(30)[5..]], &mut other);
        assert_eq!(other.common_prefix(&all), 20);
        let mut copy = other.prefix(17);
        other.truncate(20);
        assert_eq!(whole, run(&[&all[20..]], &mut other), "{isa:?}");
        assert_eq!(whole, run(&[&all[17..]], &mut copy), "{isa:?}");
    }
}

#[test]
fn every_instruction_set_and_thread_count_agrees() {
    let model = model();
    let logits = |isa, threads| {
        let compute = Compute::new(isa, threads).unwrap();
        assert_eq!(compute.isa(), isa);
        let mut logits = Vec::new();
        compute.run(|| model.forward(&compute, &prompt(37), &mut model.cache(), &mut Scratch::default(), Some(&mut logits)));
        logits
    };
    let reference = logits(Isa::Portable, 1);
    let largest = reference.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    for isa in Isa::available() {
        let one = logits(isa, 1);
        for (a, b) in one.iter().zip(&reference) {
            assert!((a - b).abs() < largest * 0.02, "{isa:?}: {a} {b}");
        }
        assert_eq!(one, logits(isa, 3), "threads change nothing, {isa:?}");
    }
}

#[test]
fn a_growing_conversation_is_not_computed_again_and_says_the_same() {
    let (warm, mut request) = (engine(), generation(prompt(40)));
    let (first, answer) = text(&warm, &request);
    assert_eq!(answer.cached_tokens, 0);
    request.prompt.extend(first.bytes().map(u32::from).chain([10, 20, 30]));
    let (second, answer) = text(&warm, &request);
    assert!(answer.cached_tokens >= 40, "{}", answer.cached_tokens);
    assert_eq!(second, text(&engine(), &request).0);
}

#[test]
fn the_limits_of_tokens_end_an_answer() {
    let engine = engine();
    let (_, answer) = text(&engine, &Generation { max_tokens: 3, ..generation(prompt(5)) });
    assert!(answer.finish == Finish::Length && answer.completion_tokens == 3 || answer.finish == Finish::Stop);
    // The context ends it where max_tokens would not.
    let (_, answer) = text(&engine, &Generation { max_tokens: 500, ..generation(prompt(tiny::CONTEXT - 2)) });
    assert!(answer.completion_tokens <= 2);
    for (request, option) in [
        (Generation { max_tokens: 0, ..generation(prompt(5)) }, "max_tokens"),
        (generation(Vec::new()), "prompt"),
        (Generation { sampling: Sampling { top_p: 2.0, ..Sampling::default() }, ..generation(prompt(5)) }, "top_p"),
    ] {
        let error = engine.generate(&request, &|| false, &mut |_| ()).unwrap_err();
        assert!(matches!(&error, Error::Option { option: o, .. } if *o == option), "{error}");
    }
}

#[test]
fn a_prompt_beyond_the_context_is_refused_before_it_is_computed() {
    let engine = engine();
    for text in ["x".repeat(tiny::CONTEXT), "x".repeat(50_000_000)] {
        let error = engine.prompt(&[Message::user(text)], true).unwrap_err();
        assert!(matches!(error, Error::ContextTooLong { tokens, limit } if tokens > limit && limit == tiny::CONTEXT - 1));
    }
    let error = engine.generate(&generation(prompt(tiny::CONTEXT)), &|| false, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("the prompt has 192 tokens and the model reads at most 191"), "{error}");
}

#[test]
fn cancelling_stops_at_the_next_token_and_leaves_the_engine_whole() {
    let engine = engine();
    let (expected, _) = text(&engine, &generation(prompt(70)));
    for looks in 0..4 {
        let left = Cell::new(looks);
        let gone = || left.replace(left.get().max(1) - 1) == 0;
        let error = engine.generate(&generation(prompt(70)), &gone, &mut |_| ()).unwrap_err();
        assert!(matches!(error, Error::Cancelled));
        assert_eq!(text(&engine, &generation(prompt(70))).0, expected);
    }
}

#[test]
fn more_answers_than_places_all_come() {
    let (_folder, path) = tiny::file();
    let engine = Engine::load(&path, &EngineOptions { parallel: 1, ..EngineOptions::default() }).unwrap();
    let expected = text(&engine, &generation(prompt(9))).0;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| text(&engine, &generation(prompt(9))).0)).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), expected);
        }
    });
}
