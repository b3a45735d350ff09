//! Resampling: right pitch, right level, right length, no drift, any block size.

use std::f64::consts::PI;

use bespoke_audio::{ResampleError, Resampler, resample, rms};

fn sine(rate: u32, hz: f64, seconds: f64) -> Vec<f32> {
    (0..(f64::from(rate) * seconds) as usize).map(|i| (0.5 * (2.0 * PI * hz * i as f64 / f64::from(rate)).sin()) as f32).collect()
}

/// Amplitude, lag in samples, and the RMS of what is not the tone.
fn measure(got: &[f32], first: usize, rate: u32, hz: f64) -> (f64, f64, f64) {
    let step = 2.0 * PI * hz / f64::from(rate);
    let angle = |i: usize| step * (first + i) as f64;
    let n = got.len() as f64;
    let (mut a, mut b) = (0.0, 0.0);
    for (i, &s) in got.iter().enumerate() {
        a += 2.0 / n * f64::from(s) * angle(i).sin();
        b += 2.0 / n * f64::from(s) * angle(i).cos();
    }
    let rest: Vec<f32> = got.iter().enumerate().map(|(i, &s)| (f64::from(s) - a * angle(i).sin() - b * angle(i).cos()) as f32).collect();
    (a.hypot(b), -b.atan2(a) / step, rms(&rest))
}

#[test]
fn a_tone_stays_where_it_is() {
    for (from, to) in [
        (44_100, 16_000),
        (48_000, 16_000),
        (22_050, 16_000),
        (11_025, 8_000),
        (16_000, 8_000),
        (8_000, 16_000),
        (24_000, 16_000),
        (96_000, 8_000),
        (44_101, 16_000),
    ] {
        let got = resample(&sine(from, 400.0, 1.0), from, to).expect("usual rates");
        // The edges see the silence outside; whole periods of 400 Hz in between.
        let (amplitude, lag, rest) = measure(&got[800..800 + to as usize / 2], 800, to, 400.0);
        assert!((amplitude - 0.5).abs() < 1e-3, "{from} -> {to}: amplitude {amplitude}");
        assert!(lag.abs() < 0.55, "{from} -> {to}: {lag} samples late");
        assert!(rest < 1e-3, "{from} -> {to}: {rest} is not the tone");
    }
}

#[test]
fn what_the_output_cannot_hold_is_removed() {
    let got = resample(&sine(48_000, 11_000.0, 1.0), 48_000, 16_000).expect("usual rates");
    assert!(rms(&got[800..15_000]) < 1e-3, "{}", rms(&got[800..15_000]));
}

#[test]
fn the_length_is_exact_however_the_stream_is_cut() {
    let input = sine(44_100, 300.0, 3.0);
    let whole = resample(&input, 44_100, 16_000).expect("usual rates");
    assert_eq!(whole.len(), 48_000);
    for block in [1, 7, 160, 441, 1_000, 100_000] {
        let mut stream = Resampler::new(44_100, 16_000).expect("usual rates");
        let mut out = Vec::new();
        for chunk in input.chunks(block) {
            stream.push(chunk, |s| out.extend_from_slice(s)).expect("pushed");
        }
        stream.finish(|s| out.extend_from_slice(s)).expect("finished");
        assert_eq!(out, whole, "blocks of {block}");
    }
}

#[test]
fn ten_minutes_do_not_drift() {
    let mut stream = Resampler::new(44_100, 16_000).expect("usual rates");
    let tone = sine(44_100, 440.0, 1.0);
    let mut out = Vec::new();
    for _ in 0..600 {
        stream.push(&tone, |s| out.extend_from_slice(s)).expect("pushed");
    }
    stream.finish(|s| out.extend_from_slice(s)).expect("finished");
    assert_eq!(out.len(), 9_600_000);
    let (_, early, _) = measure(&out[800..16_800], 800, 16_000, 440.0);
    let (_, late, _) = measure(&out[9_580_000..9_596_000], 9_580_000, 16_000, 440.0);
    assert!((early - late).abs() < 1e-2, "{early} samples at first, {late} at last");
}

#[test]
fn equal_rates_pass_through_and_short_input_survives() {
    assert_eq!(resample(&[0.1, 0.2], 16_000, 16_000).expect("equal"), [0.1, 0.2]);
    assert_eq!(resample(&[], 44_100, 16_000).expect("empty"), []);
    assert_eq!(resample(&[0.5], 44_100, 16_000).expect("one sample").len(), 1);
    assert_eq!(resample(&[0.5; 3], 8_000, 16_000).expect("three samples").len(), 6);
}

#[test]
fn absurd_rates_are_refused() {
    for (from, to) in [(0, 16_000), (16_000, 0), (1_092_676, 16_000)] {
        assert!(matches!(Resampler::new(from, to), Err(ResampleError::Rate { .. })));
    }
}
