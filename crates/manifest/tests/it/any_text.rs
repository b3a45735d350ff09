//! Any text is an answer or an error, never a panic, and errors point into the text.

use bespoke_manifest::Manifest;

use crate::FULL;

/// xorshift64: the same texts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }
}

#[test]
fn changed_manifests_never_panic() {
    const BITS: &[&str] = &[
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        ".",
        ",",
        "#",
        "é",
        "\u{0}",
        "99999999999999999999",
        "true",
        "-1",
        "[[models]]\n",
        "1979-05-27",
        "inf",
        "\\",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let mut text: Vec<char> = FULL.chars().collect();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len());
            let end = (at + random.below(12)).min(text.len());
            match random.below(3) {
                0 => drop(text.drain(at..end)),
                1 => drop(text.splice(at..end, BITS[random.below(BITS.len())].chars())),
                _ => drop(text.splice(at..at, FULL.chars().skip(random.below(FULL.len() - 40)).take(random.below(40)))),
            }
        }
        let text: String = text.into_iter().collect();
        match Manifest::parse("p", &text, None) {
            Ok(_) => good += 1,
            Err(error) => {
                bad += 1;
                assert!(!error.problems().is_empty());
                let lines = u32::try_from(text.split('\n').count()).unwrap();
                assert!(error.problems().iter().all(|p| (1..=lines).contains(&p.position.line) && p.position.column >= 1), "{error}");
            }
        }
    }
    assert!(good > 100 && bad > 10_000, "the changes must reach both sides: {good} good, {bad} bad");
}

#[test]
fn changed_manifests_of_other_systems_never_panic() {
    const BITS: &[&str] =
        &["\"", "{", "}", "[", "]", ":", ",", "null", "-1", "1e999", "\\u0000", "é", "\n", "=", "[plugin]", "true", "99999999999999999999"];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for (path, sample) in [
        ("manifest.json", include_str!("dialects/app-factory-all/manifest.json")),
        ("plugin.toml", include_str!("dialects/lao/plugin.toml")),
        ("aisopod.plugin.toml", include_str!("dialects/aisopod-code/aisopod.plugin.toml")),
    ] {
        let mut bad = 0;
        for _ in 0..3000 {
            let mut text: Vec<char> = sample.chars().collect();
            for _ in 0..=random.below(3) {
                let at = random.below(text.len());
                let end = (at + random.below(8)).min(text.len());
                drop(text.splice(at..end, BITS[random.below(BITS.len())].chars()));
            }
            let text: String = text.into_iter().collect();
            if let Err(error) = Manifest::read(path, &text) {
                bad += 1;
                let lines = u32::try_from(text.split('\n').count()).unwrap();
                assert!(error.problems().iter().all(|p| (1..=lines).contains(&p.position.line) && p.position.column >= 1), "{error}");
            }
        }
        assert!((1000..3000).contains(&bad), "{path}: the changes must reach both sides: {bad} bad");
    }
}

#[test]
fn every_prefix_is_an_answer() {
    for (end, _) in FULL.char_indices() {
        let _ = Manifest::parse("p", &FULL[..end], None);
    }
}

#[test]
fn deep_nesting_is_an_error() {
    for deep in ["[".repeat(200_000), "{a=".repeat(200_000), "a.".repeat(200_000)] {
        assert!(Manifest::parse("p", &format!("x = {deep}"), None).is_err());
        assert!(Manifest::parse("p", &deep, None).is_err());
        assert!(Manifest::read("manifest.json", &deep).is_err());
    }
    for deep in [
        format!("{}a = 1\n", "a.".repeat(100_000)),
        format!("[{}a]\n", "a.".repeat(100_000)),
        format!("[config_schema]\n{}a = 1\n", "a.".repeat(100_000)),
        format!("[config_schema]\na = {}1{}\n", "{a = ".repeat(100_000), "}".repeat(100_000)),
        format!("{{\"config_schema\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        assert!(Manifest::parse("p", &deep, None).is_err());
        assert!(Manifest::read("manifest.json", &deep).is_err());
    }
}
