//! Bytes of strangers: an error or samples, never a panic, never without end.

use std::time::Duration;

use bespoke_ogg_opus::{OggOpusError, decode, encode, is_ogg_opus};

use crate::sound::voice;

const MINUTE: Duration = Duration::from_secs(60);

/// Numbers that only look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// The checksum of a page (RFC 3533), so that what is changed is read and not only refused.
fn crc(page: &[u8]) -> u32 {
    page.iter().fold(0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| crc << 1 ^ (0x04c1_1db7 * (crc >> 31))))
}

fn page(kind: u8, granule: i64, sequence: u32, segments: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(kind);
    page.extend(granule.to_le_bytes());
    page.extend(7_u32.to_le_bytes());
    page.extend(sequence.to_le_bytes());
    page.extend([0; 4]);
    page.push(u8::try_from(segments.len()).unwrap());
    page.extend(segments);
    page.extend(payload);
    let sum = crc(&page).to_le_bytes();
    page[22..26].copy_from_slice(&sum);
    page
}

/// Head and tags of a file; the head says so many channels, samples to skip and so much gain.
fn headers(channels: u8, pre_skip: u16, gain: i16) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend(pre_skip.to_le_bytes());
    head.extend(48_000_u32.to_le_bytes());
    head.extend(gain.to_le_bytes());
    head.push(0);
    let tags = b"OpusTags\0\0\0\0\0\0\0\0";
    [page(2, 0, 0, &[19], &head), page(0, 0, 1, &[16], tags)].concat()
}

/// Puts the checksums right, as far as the pages can be found.
fn mend(file: &mut [u8]) {
    let mut at = 0;
    while file.len() >= at + 27 && file[at..].starts_with(b"OggS") {
        let segments = usize::from(file[at + 26]);
        let Some(lengths) = file.get(at + 27..at + 27 + segments) else { return };
        let end = at + 27 + segments + lengths.iter().map(|&n| usize::from(n)).sum::<usize>();
        if end > file.len() {
            return;
        }
        file[at + 22..at + 26].fill(0);
        let sum = crc(&file[at..end]).to_le_bytes();
        file[at + 22..at + 26].copy_from_slice(&sum);
        at = end;
    }
}

/// Decodes and says whether that worked.
fn survives(file: &[u8]) -> bool {
    match decode(file, 16_000, Duration::from_secs(5)) {
        Ok(heard) => {
            assert!(heard.len() <= 5 * 16_000 && heard.iter().all(|sample| (-1.0..=1.0).contains(sample)));
            true
        }
        Err(OggOpusError::Malformed(why)) => {
            assert!(!why.contains("panicked"), "the codec panicked");
            false
        }
        Err(OggOpusError::TooLong(5)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn changed_files_are_errors_or_samples() {
    let good: Vec<Vec<u8>> =
        [(8_000, 9_000), (16_000, 20_000), (48_000, 40_000)].map(|(rate, length)| encode(&voice(rate, length), rate).unwrap()).into();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut heard = 0;
    for round in 0..1_500 {
        let mut file = good[round % good.len()].clone();
        for _ in 0..1 + random.below(8) {
            let at = random.below(file.len());
            match random.below(6) {
                0 => file[at] = random.below(256) as u8,
                1 => file[at] ^= 1 << random.below(8),
                2 => file.truncate(at.max(1)),
                3 => drop(file.drain(at..(at + random.below(60)).min(file.len()))),
                4 => {
                    let end = (at + random.below(200)).min(file.len());
                    let copy = file[at..end].to_vec();
                    file.splice(at..at, copy);
                }
                _ => file[at..].iter_mut().take(20).for_each(|byte| *byte = 255),
            }
            if file.is_empty() {
                file.push(0);
            }
        }
        // Most get past the checksum, or the codec itself would never see them.
        if round % 4 != 0 {
            mend(&mut file);
        }
        heard += u32::from(survives(&file));
    }
    assert!(heard > 100, "of the changed files {heard} could still be heard: the others test the container only");
}

#[test]
fn random_packets_in_good_pages_are_errors_or_samples() {
    let mut random = Random(42);
    let mut heard = 0;
    for round in 0..600 {
        let channels = 1 + (round % 2) as u8;
        let mut file = headers(channels, random.below(65_536) as u16, random.below(65_536) as u16 as i16);
        for sequence in 2..2 + 1 + random.below(6) as u32 {
            let packet: Vec<u8> = (0..1 + random.below(250)).map(|_| random.below(256) as u8).collect();
            let granule = [i64::from(sequence) * 960, -1, i64::MAX, i64::MIN, 0][random.below(5)];
            file.extend(page(0, granule, sequence, &[packet.len() as u8], &packet));
        }
        heard += u32::from(survives(&file));
    }
    assert!(heard > 50, "{heard}");
}

#[test]
fn a_small_file_that_plays_for_hours_is_given_up() {
    // Packets of one byte, each 60 ms of what a receiver makes up for a lost frame.
    let silence: Vec<u8> = page(0, -1, 2, &[1; 255], &[0x18; 255]);
    for skip in [0, u16::MAX] {
        let mut file = headers(1, skip, 0);
        for sequence in 2..2_000 {
            let mut next = silence.clone();
            next[18..22].copy_from_slice(&u32::to_le_bytes(sequence));
            file.extend(next);
        }
        mend(&mut file);
        // 8 hours 29 minutes in 0.56 MB.
        let error = decode(&file, 16_000, MINUTE).unwrap_err();
        assert!(matches!(error, OggOpusError::TooLong(60)), "{error}");
    }
}

#[test]
fn what_is_no_note_says_so() {
    let note = encode(&voice(16_000, 16_000), 16_000).unwrap();
    let vorbis = page(2, 0, 0, &[7], b"\x01vorbis");
    for (name, file) in [
        ("nothing", &b""[..]),
        ("text", b"hello"),
        ("OggS alone", b"OggS"),
        ("vorbis", &vorbis),
        ("cut in a page", &note[..note.len() - 1]),
        ("headers without their end", &note[..60]),
        ("no channel", &headers(0, 0, 0)),
        ("nine channels", &headers(9, 0, 0)),
    ] {
        let result = decode(file, 16_000, MINUTE);
        assert!(matches!(result, Err(OggOpusError::Malformed(_))), "{name}: {result:?}");
    }
    assert!(!is_ogg_opus(b"OggS") && !is_ogg_opus(&vorbis));
    assert!(decode(&headers(1, 0, 0), 16_000, MINUTE).unwrap().is_empty());
    // What follows the end of the stream is nobody's.
    assert_eq!(decode(&[&note[..], &note[..]].concat(), 16_000, MINUTE).unwrap().len(), 16_000);
}
