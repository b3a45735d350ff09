//! Where texts are cut.

use super::*;
use crate::markdown::{
    read,
    tests::{Dice, random, sound},
};

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn pieces(markdown: &str, longest: usize) -> Vec<String> {
    let rich = read(markdown);
    cuts(&rich, longest).into_iter().map(|range| rich.text[range].to_owned()).collect()
}

#[test]
fn the_best_place_in_reach_is_taken() {
    assert_eq!(pieces("One two.\n\nThree four. Five six", 20), ["One two.\n\n", "Three four. Five six"]);
    assert_eq!(pieces("One two three four. Five six seven", 30), ["One two three four. ", "Five six seven"]);
    assert_eq!(pieces("one two three", 8), ["one two ", "three"]);
    assert_eq!(pieces("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    // An early paragraph is no reason for a short message when there is a place further on.
    assert_eq!(pieces("A\n\nbbbb bbbb bbbb bbbb bbbb", 20), ["A\n\nbbbb bbbb bbbb ", "bbbb bbbb"]);
}

#[test]
fn a_character_is_never_cut() {
    assert_eq!(pieces("😀😀😀", 3), ["😀", "😀", "😀"]);
    let family = "👨‍👩‍👧";
    assert_eq!(pieces(&family.repeat(2), units(family) + 2), [family, family]);
    // One that is longer than a message still goes.
    let tower = format!("e{}", "\u{301}".repeat(10));
    assert_eq!(pieces(&tower, 4).concat(), tower);
}

#[test]
fn a_style_is_kept_whole_where_that_is_possible_and_a_block_goes_on() {
    assert_eq!(pieces("aaaa bbbb **cccc dddd** eeee", 16), ["aaaa bbbb ", "cccc dddd eeee"]);
    let rich = read("```rust\nfirst line\n    second line\nthird line\n```");
    let ranges = cuts(&rich, 30);
    let parts: Vec<Part> = ranges.into_iter().filter_map(|range| part(&rich, range)).collect();
    assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>(), ["first line\n    second line", "third line"]);
    let pre = |length: usize| vec![json!({ "type": "pre", "offset": 0, "length": length, "language": "rust" })];
    assert_eq!(parts.iter().map(|part| part.entities.clone()).collect::<Vec<_>>(), [pre(26), pre(10)]);
    // An indented line stays indented at the beginning of a message.
    let rich = read("```\nfirst line\n    second line\n```");
    let texts: Vec<String> = cuts(&rich, 20).into_iter().filter_map(|range| part(&rich, range)).map(|part| part.text).collect();
    assert_eq!(texts, ["first line", "    second line"]);
}

#[test]
fn places_are_counted_in_utf16() {
    let part = &parts(&read("😀 **é** `x`"))[0];
    assert_eq!(part.text, "😀 é x");
    assert_eq!(part.entities, [json!({ "type": "bold", "offset": 3, "length": 1 }), json!({ "type": "code", "offset": 5, "length": 1 })]);
}

#[test]
fn more_places_than_a_message_may_have_begin_another() {
    let parts = parts(&read(&"**a** b ".repeat(250)));
    assert_eq!(parts.iter().map(|part| part.entities.len()).collect::<Vec<_>>(), [100, 100, 50]);
}

/// The parts together are the text, each within its limit, and no place of any of them is wrong.
#[test]
fn nothing_is_lost_and_nothing_too_long() {
    let mut dice = Dice(7);
    for round in 0..2_000 {
        let rich = read(&random(&mut dice, 300));
        sound(&rich).unwrap();
        let longest = 8 + dice.below(120);
        let ranges = cuts(&rich, longest);
        assert_eq!(ranges.iter().map(|range| &rich.text[range.clone()]).collect::<String>(), rich.text, "round {round}");
        let mut words = String::new();
        for range in ranges {
            assert!(!range.is_empty() && units(&rich.text[range.clone()]) <= longest, "round {round}: {range:?}");
            let Some(part) = part(&rich, range) else { continue };
            let places: Vec<u16> = part.text.encode_utf16().collect();
            let mut ends: Vec<usize> = Vec::new();
            for entity in &part.entities {
                let (offset, length) = (entity["offset"].as_u64().unwrap() as usize, entity["length"].as_u64().unwrap() as usize);
                assert!(length > 0 && String::from_utf16(&places[offset..offset + length]).is_ok(), "round {round}: {entity}");
                ends.retain(|end| *end > offset);
                assert!(ends.iter().all(|end| offset + length <= *end), "round {round}: {entity} crosses another");
                ends.push(offset + length);
            }
            words.push_str(&part.text);
        }
        let without = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(without(&words), without(&rich.text), "round {round}");
    }
}

#[test]
fn a_real_message_is_within_what_telegram_takes() {
    let parts = parts(&read(&"A sentence with 😀 and **words**. ".repeat(1_000)));
    assert!(parts.len() > 5);
    assert!(parts.iter().all(|part| units(&part.text) <= LONGEST && part.entities.len() <= 100 && part.text.ends_with('.')));
}
