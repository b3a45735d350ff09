//! What went in comes out: as long, as early, as loud, at every rate.

use std::time::Duration;

use bespoke_ogg_opus::{Encoder, OggOpusError, RATES, decode, encode, is_ogg_opus};

use crate::sound::{likeness, pages, voice};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn every_rate_gives_as_many_samples_at_the_same_time() {
    for rate in RATES {
        // No whole number of frames.
        let said = voice(rate, rate as usize * 3 / 2 + 77);
        let note = encode(&said, rate).unwrap();
        assert!(is_ogg_opus(&note));
        let heard = decode(&note, rate, MINUTE).unwrap();
        assert_eq!(heard.len(), said.len(), "{rate} Hz");
        // The first moments are the codec's to find its way.
        let from = rate as usize / 10;
        let alike = likeness(&said[from..], &heard[from..]);
        // Below wideband the codec keeps how it sounds, and less of its shape; libopus gives the same numbers for these files.
        assert!(alike > if rate < 16_000 { 0.75 } else { 0.9 }, "{rate} Hz: {alike}");
        // Four samples late would be another sound.
        assert!(alike > likeness(&said[from..], &heard[from + 4..]), "{rate} Hz");
        let kbit_s = note.len() as f64 * 8.0 / 1000.0 / (said.len() as f64 / f64::from(rate));
        assert!((8.0..48.0).contains(&kbit_s), "{rate} Hz: {kbit_s} kbit/s");
    }
}

#[test]
fn a_note_is_heard_at_any_rate() {
    let said = voice(16_000, 32_000);
    let note = encode(&said, 16_000).unwrap();
    for rate in RATES {
        assert_eq!(decode(&note, rate, MINUTE).unwrap().len(), 2 * rate as usize);
    }
    assert!(matches!(decode(&note, 44_100, MINUTE), Err(OggOpusError::Rate(44_100))));
    assert!(matches!(encode(&said, 22_050), Err(OggOpusError::Rate(22_050))));
}

#[test]
fn lengths_around_a_frame_are_exact() {
    for length in [0, 1, 2, 959, 960, 961, 1919, 1920, 4 * 960 - 312, 4 * 960 - 311, 4 * 960 - 313] {
        let note = encode(&voice(48_000, length), 48_000).unwrap();
        assert_eq!(decode(&note, 48_000, MINUTE).unwrap().len(), length);
    }
}

#[test]
fn pieces_make_the_same_file_as_the_whole() {
    let said = voice(24_000, 50_000);
    let whole = encode(&said, 24_000).unwrap();
    for size in [1, 479, 480, 481, 10_000] {
        let mut encoder = Encoder::new(24_000).unwrap();
        said.chunks(size).for_each(|piece| encoder.push(piece).unwrap());
        assert!(encoder.finish().unwrap() == whole, "pieces of {size}");
    }
}

#[test]
fn granule_positions_rise_to_the_end_of_the_sound() {
    let note = encode(&voice(16_000, 100_000), 16_000).unwrap();
    let pages = pages(&note);
    assert_eq!((pages[0].0, pages[0].1, pages[1].1), (2, 0, 0), "the headers");
    let last = pages.last().unwrap();
    let pre_skip = i64::from(u16::from_le_bytes(note[38..40].try_into().unwrap()));
    assert_eq!((last.0, last.1), (4, pre_skip + 100_000 * 3));
    assert!(pages.windows(2).all(|two| two[0].1 <= two[1].1 && two[0].2 + 1 == two[1].2), "{pages:?}");
    // RFC 7845, section 4: no page waits longer than a second or so to be heard.
    let longest = pages.windows(2).map(|two| two[1].1 - two[0].1).max().unwrap();
    assert!(longest <= 3 * 48_000, "{pages:?}");
}

#[test]
fn samples_that_are_none_and_loud_ones_are_taken() {
    let mut said = voice(48_000, 9_600);
    said[10] = f32::NAN;
    said[20] = f32::INFINITY;
    said[30..4_000].fill(1e30);
    let heard = decode(&encode(&said, 48_000).unwrap(), 48_000, MINUTE).unwrap();
    assert!(heard.len() == said.len() && heard.iter().all(|sample| (-1.0..=1.0).contains(sample)));
}
