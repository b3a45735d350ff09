//! After warm-up neither the engine nor a whole stream allocates per window.

use bespoke_onnx::Places;
use bespoke_plugin_api::{Instance, VadOptions, serde_json::json, try_next};
use bespoke_plugin_testkit::Counting;
use bespoke_vad_silero::{EngineChoice, Engines, Rate, Wanted};

use crate::kit;
use crate::plugin;
use crate::support;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = Counting::mine();
    work();
    Counting::mine() - before
}

fn noise(samples: usize) -> Vec<f32> {
    let mut seed = 1_u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / 8_388_608.0 - 1.0
    };
    // Loud and quiet by turns, so that events may come.
    (0..samples).map(|i| next() * if i / 16_000 % 2 == 0 { 0.3 } else { 0.001 }).collect()
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8; 100]))) >= 1);
}

/// What ONNX Runtime allocates inside itself, in C++, is not seen here.
#[test]
fn no_engine_allocates_per_window() {
    let ort = Wanted { places: Places::new(Some(support::onnxruntime())), ..Wanted::new(EngineChoice::Ort) };
    for (wanted, rate) in [Wanted::new(EngineChoice::Builtin), ort].iter().flat_map(|w| [(w, Rate::Hz8000), (w, Rate::Hz16000)]) {
        let engines = Engines::new(kit::model(), wanted).expect("runs");
        let mut engine = engines.open(rate).expect("opens");
        let window = noise(rate.window());
        engine.window(&window).expect("runs");
        let count = allocations(|| {
            for _ in 0..200 {
                engine.window(&window).expect("runs");
            }
        });
        assert_eq!(count, 0, "{:?} at {rate:?}", engine.kind());
    }
}

#[test]
fn a_stream_allocates_nothing_per_push() {
    for config in [json!({ "engine": "builtin" }), json!({ "engine": "ort", "onnxruntime": support::onnxruntime() })] {
        let instance = plugin::start(plugin::host(), config).expect("starts");
        no_push_allocates(&instance);
    }
}

fn no_push_allocates(instance: &Instance) {
    let (_, speech) = kit::recordings().into_iter().find(|(r, _)| r.name == "librivox_0870").expect("always here");
    for rate in [8_000, 16_000, 44_100, 48_000] {
        let sound = bespoke_audio::resample(&speech, 16_000, rate).expect("usual rates");
        let mut stream = plugin::vad(instance).open(&VadOptions::new(rate)).expect("opens");
        let mut events = 0;
        let mut listen = |sound: &[f32]| {
            for chunk in sound.chunks(rate as usize / 100) {
                stream.push(chunk).expect("takes sound");
                while let Some(event) = try_next(&mut *stream) {
                    event.expect("no failure");
                    events += 1;
                }
            }
        };
        listen(&sound[..rate as usize / 10]);
        let count = allocations(|| listen(&sound));
        assert_eq!(count, 0, "at {rate} Hz");
        assert!(events > 200);
    }
}
