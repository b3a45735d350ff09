//! `licenses`: the terms of what this binary contains, and of nothing else.

use crate::program::{User, files_below};

#[test]
fn the_notices_are_those_of_what_is_in_the_binary() {
    let user = User::new();
    let listed = user.json(["licenses", "--json"]);
    let of = |key: &str| listed.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(of("name"), ["bespoke", "flite", "python-sdk", "recording-austen", "recording-question", "silero-vad"]);
    assert!(of("text").iter().all(|text| text.len() > 100));
    let all = user.run(["licenses"]).ok();
    for words in ["Apache License", "Carnegie Mellon University", "2020-present Silero Team", "LibriVox", "silero_vad.onnx"] {
        assert!(all.out.contains(words), "`{words}` is not in what is printed");
    }
    // What is fetched later is no part of it.
    assert!(!all.out.contains("SmolLM2"));
    assert!(files_below(&user.home()).is_empty(), "looking writes nothing");
}

#[test]
fn one_is_asked_for_by_its_name_or_by_a_file() {
    let user = User::new();
    let by_name = user.run(["licenses", "silero-vad"]).ok();
    assert!(by_name.out.starts_with("MIT License"), "{}", by_name.out);
    assert_eq!(user.run(["licenses", "silero_vad.onnx"]).ok().out, by_name.out);
    user.run(["licenses", "silero-vat"]).code(3).nothing().says("did you mean `silero-vad`?");
    user.run(["licenses", "--crates", "flite"]).code(2).nothing();
    // A configuration that is wrong keeps nobody from reading terms.
    User::new().configured("[agent\n").run(["licenses", "flite"]).ok();
}

/// `cargo xtask dist` puts a list in; a plain build has none, and says so.
#[test]
fn a_build_without_a_list_of_its_crates_says_who_makes_one() {
    User::new().run(["licenses", "--crates"]).code(3).nothing().says("try: cargo xtask dist");
}
