//! The model file: the right one, wrong ones, damaged ones.

use bespoke_vad_silero::{Model, ModelError, SHA256};

use crate::kit;

#[test]
fn the_model_of_the_repository_is_the_one_of_the_references() {
    let model = kit::model();
    assert_eq!(model.sha256(), SHA256);
    assert_eq!(model.checkpoint(), "silero 6.2");
    for reference in kit::references() {
        assert_eq!(reference.model_sha256, SHA256);
    }
}

#[test]
fn a_missing_wrong_or_damaged_file_is_an_error_that_names_it() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("vad-silero-damaged-models");
    std::fs::create_dir_all(&folder).expect("a folder for this test");
    assert!(matches!(Model::read(&folder.join("no.onnx")), Err(ModelError::Io { .. })));

    let good = std::fs::read(kit::model_path()).expect("the model of the repository");
    let renamed = |name: &[u8]| {
        let mut bytes = good.clone();
        while let Some(at) = bytes.windows(name.len()).position(|window| window == name) {
            bytes[at] = b'x';
        }
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("text", b"version https://git-lfs.github.com/spec/v1".to_vec()),
        ("page", b"<!DOCTYPE html><html><body>404</body></html>".to_vec()),
        ("zeros", vec![0; 4_096]),
        ("ones", vec![0xff; 4_096]),
        ("half", good[..good.len() / 2].to_vec()),
        ("short by one", good[..good.len() - 1].to_vec()),
        ("renamed tensor", renamed(b"encoder.2.reparam_conv.weight")),
        ("renamed transform", renamed(b"stft.forward")),
    ];
    for (name, bytes) in cases {
        let path = folder.join(format!("{name}.onnx"));
        std::fs::write(&path, bytes).expect("written");
        let error = Model::read(&path).expect_err(name).to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("fetch it again"), "{name}: {error}");
    }
}

/// Random damage anywhere is an error or a model, never a panic, a hang or a huge allocation.
#[test]
fn damage_anywhere_is_survived() {
    let good = std::fs::read(kit::model_path()).expect("the model of the repository");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("vad-silero-flipped.onnx");
    let mut seed = 1_u64;
    for round in 0..60 {
        let mut bytes = good.clone();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Half of the damage in the first kilobytes, where lengths stand.
            let range = if round % 2 == 0 { 4_096 } else { bytes.len() };
            bytes[(seed >> 33) as usize % range] ^= 1 << (seed % 8);
        }
        std::fs::write(&path, bytes).expect("written");
        let _ = Model::read(&path);
    }
}
