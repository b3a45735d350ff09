//! Files that are cut short, lie or are something else: an error that says so, never a panic, never memory to match a lie.

use bespoke_provider_smol::engine::{Engine, EngineOptions};
use bespoke_provider_smol::error::Error;
use bespoke_provider_smol::gguf::{Gguf, Value};
use bespoke_provider_smol::model::Model;
use bespoke_provider_smol::tokenizer::Tokenizer;

use crate::tiny::{self, Writer};

fn load(bytes: &[u8]) -> Result<Model, Error> {
    let mut gguf = Gguf::read(std::io::Cursor::new(bytes), bytes.len() as u64)?;
    let tokenizer = Tokenizer::from_gguf(&mut gguf)?;
    Model::load(&mut gguf, tokenizer.len())
}

fn message(bytes: &[u8]) -> String {
    match load(bytes) {
        Ok(_) => panic!("it loaded"),
        Err(e) => e.to_string(),
    }
}

fn header(tensors: u64, values: u64, rest: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend(tensors.to_le_bytes());
    file.extend(values.to_le_bytes());
    file.extend(rest);
    file
}

#[test]
fn a_file_cut_short_anywhere_is_damaged() {
    let whole = tiny::bytes();
    load(&whole).unwrap();
    for len in (0..2000).chain((2000..whole.len()).step_by(997)).chain([whole.len() - 1]) {
        let error = load(&whole[..len]).err().unwrap_or_else(|| panic!("{len} bytes loaded"));
        assert!(matches!(error, Error::Damaged { .. }), "{len}: {error}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let whole = tiny::bytes();
    let mut seed = 5u32;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    let mut refused = 0;
    for _ in 0..400 {
        let mut file = whole.clone();
        for _ in 0..3 {
            // The header and the table of tensors end before byte 9000.
            let at = random(9000);
            file[at] = random(256) as u8;
        }
        refused += usize::from(load(&file).is_err());
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn lies_of_the_header_cost_no_memory() {
    let list = |kind: u32, count: u64| {
        let mut rest = 1u64.to_le_bytes().to_vec();
        rest.extend(b"k");
        rest.extend(9u32.to_le_bytes());
        rest.extend(kind.to_le_bytes());
        rest.extend(count.to_le_bytes());
        rest.extend([0; 64]);
        rest
    };
    for (file, expected) in [
        (header(u64::MAX, 0, &[]), "18446744073709551615 tensors are announced"),
        (header(0, 1 << 40, &[]), "1099511627776 metadata entries are announced"),
        (header(0, 1, &u64::MAX.to_le_bytes()), "a text of 18446744073709551615 bytes is announced"),
        (header(0, 1, &list(8, u64::MAX / 4)), "a list of 4611686018427387903 is announced"),
        (header(0, 1, &list(4, 1 << 33)), "a list of 8589934592 is announced"),
        (header(0, 1, &list(9, 1)), "a list of lists"),
        (header(0, 1, &list(77, 1)), "value type 77 does not exist"),
        (b"PK\x03\x04 something else entirely".to_vec(), "it does not begin with GGUF"),
        (b"GGUF\x09\0\0\0 from the future, from the future".to_vec(), "GGUF version 9"),
    ] {
        let message = message(&file);
        assert!(message.contains(expected), "{message}");
        assert!(message.ends_with("fetch it again"), "{message}");
    }
}

#[test]
fn a_tensor_larger_than_its_file_is_refused() {
    let mut rest = Vec::new();
    let name = "t";
    rest.extend((name.len() as u64).to_le_bytes());
    rest.extend(name.as_bytes());
    rest.extend(2u32.to_le_bytes());
    rest.extend((1u64 << 40).to_le_bytes());
    rest.extend((1u64 << 40).to_le_bytes());
    rest.extend(0u32.to_le_bytes());
    rest.extend(0u64.to_le_bytes());
    assert!(message(&header(1, 0, &rest)).contains("tensor t: its size overflows"));
}

#[test]
fn other_models_are_named() {
    let with = |build: &dyn Fn(&mut Writer) -> &mut Writer| {
        let mut writer = Writer::default();
        build(&mut writer);
        message(&writer.finish())
    };
    let bert = with(&|w| w.text("tokenizer.ggml.model", "bert").text("tokenizer.ggml.pre", "default"));
    assert!(bert.contains("its tokenizer is bert/default"), "{bert}");
    let nothing = with(&|w| w.number("llama.block_count", 1));
    assert!(nothing.contains("tokenizer.ggml.model is missing"), "{nothing}");
    let swapped = String::from_utf8_lossy(&tiny::bytes()).contains("llama");
    assert!(swapped);
    let mut mamba = tiny::bytes();
    let at = mamba.windows(5).position(|w| w == b"llama").unwrap();
    mamba[at..at + 5].copy_from_slice(b"mamba");
    assert!(message(&mamba).contains("its architecture is mamba"));
}

#[test]
fn a_path_that_is_no_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.gguf"), folder.path().to_owned()] {
        let Err(error) = Engine::load(&path, &EngineOptions::default()) else { panic!("it loaded") };
        assert!(matches!(&error, Error::Io { path: p, .. } if *p == path), "{error}");
    }
}

#[test]
fn metadata_reads_back() {
    let mut writer = Writer::default();
    writer.text("a", "caf\u{e9}").number("b", 7);
    let bytes = writer.finish();
    let gguf = Gguf::read(std::io::Cursor::new(&bytes), bytes.len() as u64).unwrap();
    assert_eq!(gguf.value("a"), Some(&Value::String("caf\u{e9}".to_owned())));
    assert_eq!(gguf.int("b", 0..=9).unwrap(), 7);
    assert!(gguf.int("b", 0..=6).unwrap_err().to_string().contains("b Int(7) is not a number in 0..=6"));
    assert!(gguf.text("b").is_err() && gguf.int("c", 0..=1).is_err());
}
