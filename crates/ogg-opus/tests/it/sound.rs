//! Sounds to encode, and how alike two are.

/// A voice-like tone: harmonics of 140 Hz that come and go.
pub(crate) fn voice(rate: u32, samples: usize) -> Vec<f32> {
    let at = |n: usize| n as f32 / rate as f32;
    let tone = |t: f32| (1..12).map(|k| (t * 140.0 * k as f32 * std::f32::consts::TAU).sin() / k as f32).sum::<f32>();
    (0..samples).map(|n| 0.2 * tone(at(n)) * (0.6 + 0.4 * (at(n) * 20.0).sin())).collect()
}

/// Correlation of two recordings at no delay: 1 is the same shape.
pub(crate) fn likeness(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

/// Pages of a file: type, granule position, sequence number.
pub(crate) fn pages(file: &[u8]) -> Vec<(u8, i64, u32)> {
    let (mut pages, mut rest) = (Vec::new(), file);
    while !rest.is_empty() {
        assert_eq!(&rest[..4], b"OggS");
        let segments = &rest[27..27 + usize::from(rest[26])];
        let size = 27 + segments.len() + segments.iter().map(|&n| usize::from(n)).sum::<usize>();
        let granule = i64::from_le_bytes(rest[6..14].try_into().unwrap());
        pages.push((rest[5], granule, u32::from_le_bytes(rest[18..22].try_into().unwrap())));
        rest = &rest[size..];
    }
    pages
}
