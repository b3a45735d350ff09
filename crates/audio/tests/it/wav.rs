//! WAV files as they come: every encoding, cut short, lying, and not WAV at all.

use std::path::{Path, PathBuf};

use bespoke_audio::{Truncation, Wav, WavError, decode_wav, read_wav, write_wav};

/// A canonical 44-byte header; `data` is what the header claims.
fn header(tag: u16, channels: u16, rate: u32, bits: u16, data: u32) -> Vec<u8> {
    let align = channels * (bits / 8);
    let mut out = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    out.extend(tag.to_le_bytes());
    out.extend(channels.to_le_bytes());
    out.extend(rate.to_le_bytes());
    out.extend((rate * u32::from(align)).to_le_bytes());
    out.extend(align.to_le_bytes());
    out.extend(bits.to_le_bytes());
    out.extend(b"data");
    out.extend(data.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Wav, WavError> {
    decode_wav(bytes, Path::new("x.wav"))
}

fn pcm16(values: &[i16]) -> Vec<u8> {
    let mut bytes = header(1, 1, 16_000, 16, 2 * values.len() as u32);
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

#[test]
fn sixteen_bits_are_divided_by_32768_exactly() {
    let wav = decode(&pcm16(&[0, 1, -1, 16_384, i16::MIN, i16::MAX])).expect("valid");
    assert_eq!(wav.samples, [0.0, 1.0 / 32_768.0, -1.0 / 32_768.0, 0.5, -1.0, 32_767.0 / 32_768.0]);
    assert_eq!((wav.rate, wav.channels, wav.truncated), (16_000, 1, None));
}

#[test]
fn every_width_has_the_same_scale() {
    let cases: [(u16, u16, Vec<u8>); 6] = [
        (1, 8, vec![0x40, 0xff]),
        (1, 16, [(-16_384_i16).to_le_bytes(), 32_512_i16.to_le_bytes()].concat()),
        (1, 24, [vec![0, 0, 0xc0], vec![0, 0, 0x7f]].concat()),
        (1, 32, [(-0x4000_0000_i32).to_le_bytes(), 0x7f00_0000_i32.to_le_bytes()].concat()),
        (3, 32, [(-0.5_f32).to_le_bytes(), 0.992_187_5_f32.to_le_bytes()].concat()),
        (3, 64, [(-0.5_f64).to_le_bytes(), 0.992_187_5_f64.to_le_bytes()].concat()),
    ];
    for (tag, bits, data) in cases {
        let mut bytes = header(tag, 1, 8_000, bits, data.len() as u32);
        bytes.extend(&data);
        assert_eq!(decode(&bytes).expect("valid").samples, [-0.5, 0.992_187_5], "{tag} {bits}");
    }
}

#[test]
fn channels_are_averaged() {
    let mut bytes = header(1, 2, 48_000, 16, 8);
    bytes.extend([16_384_i16, 0, -32_768, -32_768].iter().flat_map(|v| v.to_le_bytes()));
    let wav = decode(&bytes).expect("valid");
    assert_eq!((wav.samples, wav.channels), (vec![0.25, -1.0], 2));
}

#[test]
fn the_extensible_form_and_unknown_chunks_are_read() {
    let mut bytes = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x28\0\0\0".to_vec();
    let plain = header(0xfffe, 1, 16_000, 16, 0);
    bytes.extend(&plain[20..36]);
    bytes.extend([22, 0, 16, 0, 4, 0, 0, 0, 1, 0]);
    bytes.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    bytes.extend(b"data\x02\0\0\0\x00\x40");
    assert_eq!(decode(&bytes).expect("valid").samples, [0.5]);
}

#[test]
fn a_float_file_cannot_bring_nan() {
    let mut bytes = header(3, 1, 16_000, 32, 12);
    bytes.extend([f32::NAN, f32::INFINITY, 0.25].iter().flat_map(|v| v.to_le_bytes()));
    assert_eq!(decode(&bytes).expect("valid").samples, [0.0, 0.0, 0.25]);
}

#[test]
fn a_cut_file_gives_what_is_there_and_says_so() {
    let mut bytes = header(1, 1, 16_000, 16, 2_000);
    bytes.extend([0, 0x40, 0, 0x40, 7]);
    let wav = decode(&bytes).expect("readable");
    assert_eq!(wav.samples, [0.5, 0.5]);
    assert_eq!(wav.truncated, Some(Truncation { promised: 1_000, found: 2 }));

    let header_only = decode(&header(1, 1, 16_000, 16, 227_200)).expect("readable");
    assert!(header_only.samples.is_empty());
    assert_eq!(header_only.truncated, Some(Truncation { promised: 113_600, found: 0 }));
}

#[test]
fn a_header_that_lies_about_its_length_costs_nothing() {
    let mut bytes = header(1, 1, 16_000, 16, 0xffff_fffe);
    bytes.extend([0, 0x40]);
    let wav = decode(&bytes).expect("readable");
    assert!(wav.samples.capacity() < 10_000);
    assert_eq!(wav.truncated.expect("cut").promised, 0x7fff_ffff);
    // 0xffffffff is what a streaming recorder writes; there is nothing to complain about.
    let mut bytes = header(1, 1, 16_000, 16, u32::MAX);
    bytes.extend([0, 0x40]);
    assert_eq!(decode(&bytes).expect("readable").truncated, None);
}

#[test]
fn an_empty_recording_is_empty() {
    let wav = decode(&pcm16(&[])).expect("valid");
    assert!(wav.samples.is_empty() && wav.truncated.is_none());
}

#[test]
fn damage_is_named_with_the_file() {
    let mut huge_format = header(1, 1, 16_000, 16, 0);
    huge_format[16..20].copy_from_slice(b"ffff");
    let mut evil = header(1, 1, 16_000, 16, 0);
    evil[36..44].copy_from_slice(b"HURF9999");
    evil.extend([b'x'; 5_000]);
    let mut wrong_rate = header(1, 1, 44_100, 16, 882);
    wrong_rate[24..28].copy_from_slice(&0x0010_ac44_u32.to_le_bytes());
    let mut contradiction = pcm16(&[0]);
    contradiction[28] ^= 1;
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("text", b"hello, this is no sound at all".to_vec(), "does not begin with RIFF"),
        ("avi", b"RIFF\0\0\0\0AVI LIST\0\0\0\0".to_vec(), "not of type WAVE"),
        ("short", b"RIFF\0\0".to_vec(), "ends before its sound data"),
        ("huge format chunk", huge_format, "a format chunk of 1717986918 bytes"),
        ("huge unknown chunk", evil, "ends before its sound data"),
        ("absurd rate", wrong_rate, "a sample rate of 1092676 Hz"),
        ("contradiction", contradiction, "bytes a second contradict"),
        ("no channels", header(1, 0, 16_000, 16, 0), "0 channels"),
        ("mu-law", header(7, 1, 8_000, 8, 0), "unsupported WAV encoding: format tag 0x0007"),
        ("no format", b"RIFF\0\0\0\0WAVEdata\0\0\0\0".to_vec(), "sound data before its format"),
    ];
    for (name, bytes, reason) in cases {
        let text = decode(&bytes).expect_err(name).to_string();
        assert!(text.starts_with("x.wav: ") && text.contains(reason), "{name}: {text}");
    }
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().expect("temporary folder");
    assert!(matches!(read_wav(folder.path()), Err(WavError::NotAFile { .. })));
    assert!(matches!(read_wav(&folder.path().join("no.wav")), Err(WavError::Io { .. })));
    let empty = folder.path().join("empty.wav");
    std::fs::write(&empty, b"").expect("written");
    assert!(matches!(read_wav(&empty), Err(WavError::Empty { .. })));
}

#[test]
fn written_files_read_back_the_same() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("out.wav");
    let samples: Vec<f32> = (-32_768..=32_767).map(|v| v as f32 / 32_768.0).collect();
    write_wav(&path, &samples, 16_000).expect("written");
    assert_eq!(read_wav(&path).expect("read").samples, samples);
    write_wav(&path, &[2.0, -2.0, f32::NAN], 8_000).expect("written");
    assert_eq!(read_wav(&path).expect("read").samples, [32_767.0 / 32_768.0, -1.0, 0.0]);
    assert!(matches!(write_wav(&folder.path().join("no/x.wav"), &[], 8_000), Err(WavError::Io { .. })));
}

/// The nine broken files of the voice kit, when it is there.
#[test]
fn every_malformed_file_of_the_kit_is_an_error_or_an_honest_result() {
    /// Samples read and whether the file was cut, or a part of the error.
    type Outcome = Result<(usize, bool), &'static str>;
    let expected: [(&str, Outcome); 9] = [
        ("awful.wav", Err("a sample rate of 1092676 Hz")),
        ("bad.wav", Err("a format chunk of 1717986918 bytes")),
        ("evil.wav", Err("ends before its sound data")),
        ("header_only.wav", Ok((0, true))),
        ("null.wav", Ok((0, false))),
        ("odd_byte.wav", Ok((113_599, true))),
        ("pyannote_empty_1s.wav", Ok((16_000, false))),
        ("truncated_data.wav", Ok((56_789, true))),
        ("zero_bytes.wav", Err("the file is empty")),
    ];
    // Without the kit no file is there; the cases above cover the same kinds of damage.
    let kit = std::env::var_os("BESPOKE_VOICE_KIT").map(|kit| PathBuf::from(kit).join("malformed"));
    for (name, expected) in kit.iter().flat_map(|_| expected) {
        let kit = kit.as_deref().expect("checked by the loop");
        match (read_wav(&kit.join(name)), expected) {
            (Ok(wav), Ok((samples, cut))) => {
                assert_eq!((wav.samples.len(), wav.truncated.is_some()), (samples, cut), "{name}");
            }
            (Err(error), Err(reason)) => {
                assert!(error.to_string().contains(reason), "{name}: {error}")
            }
            (got, want) => panic!("{name}: got {got:?}, expected {want:?}"),
        }
    }
}
