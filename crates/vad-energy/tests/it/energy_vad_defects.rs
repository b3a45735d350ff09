//! What was wrong with the energy VAD of an earlier voice system: squares that wrapped around in 16
//! bits, a threshold no voice reaches, a closed stream that kept reporting speech, positions from sums
//! of durations, and one rate for all sound.

use std::task::{Context, Poll, Waker};

use bespoke_plugin_api::serde_json::json;

use crate::host::{borders, listen, open, probabilities, sine, start};

/// A sine of amplitude 10000 had an RMS of 0.003 there, one of 20000 was not a number.
#[test]
fn loud_sines_have_a_true_level_and_are_heard() {
    for amplitude in [1_000.0, 10_000.0, 20_000.0, 32_767.0] {
        let sound = [sine(16_000, 0.001, 1.0), sine(16_000, amplitude / 32_768.0, 2.0), sine(16_000, 0.001, 2.0)].concat();
        let events = listen(16_000, &sound, 160);
        assert!(probabilities(&events).iter().all(|p| p.is_finite()));
        let borders = borders(&events);
        assert_eq!(borders.len(), 2, "{amplitude}: {borders:?}");
        assert!((16_000..=16_000 + 3_200).contains(&borders[0].1), "{amplitude}: {borders:?}");
        assert!(borders[1].2.abs_diff(48_000) <= 1_600, "{amplitude}: {borders:?}");
    }
}

#[test]
fn a_sine_from_the_first_sample_is_heard_and_stays_heard() {
    let events = listen(16_000, &sine(16_000, 20_000.0 / 32_768.0, 60.0), 160);
    let borders = borders(&events);
    assert_eq!(borders.len(), 1, "{borders:?}");
    assert!(borders[0].1 < 4_800, "{borders:?}");
}

/// A channel that was closed gave zero values there, which meant "speech starts", for ever.
#[test]
fn a_finished_stream_gives_nothing_more() {
    let instance = start(json!({})).expect("starts");
    for sound in [Vec::new(), sine(16_000, 0.5, 1.0)] {
        let mut stream = open(&instance, 16_000).expect("opens");
        stream.push(&sound).expect("takes sound");
        stream.finish().expect("ends");
        stream.finish().expect("ends once");
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(event)) = stream.poll_next(&mut cx) {
            event.expect("no failure");
        }
        for _ in 0..10 {
            assert!(matches!(stream.poll_next(&mut cx), Poll::Ready(None)));
        }
        assert!(stream.push(&[0.5; 512]).expect_err("over").message().contains("finished"));
        assert!(matches!(stream.poll_next(&mut cx), Poll::Ready(None)));
    }
}

/// Positions are counted, so that the way in which sound arrives does not move them.
#[test]
fn positions_do_not_depend_on_the_blocks() {
    let sound = [sine(44_100, 0.001, 1.0), sine(44_100, 0.3, 1.0), sine(44_100, 0.001, 1.0)].concat();
    let want = listen(44_100, &sound, sound.len());
    assert_eq!(borders(&want).len(), 2);
    for block in [1, 441, 1_411, 5_000] {
        assert_eq!(listen(44_100, &sound, block), want, "blocks of {block}");
    }
}

#[test]
fn every_rate_is_heard_alike() {
    let at = |rate: u32| -> Vec<f64> {
        let sound = [sine(rate, 0.001, 1.0), sine(rate, 0.3, 1.0), sine(rate, 0.001, 1.0)].concat();
        borders(&listen(rate, &sound, 100)).iter().map(|border| border.1 as f64 / f64::from(rate)).collect()
    };
    let want = at(16_000);
    for rate in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000] {
        let got = at(rate);
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 0.07), "{rate}: {got:?}, {want:?}");
    }
}
