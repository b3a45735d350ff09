//! Answers kept to a JSON Schema: what is compiled, what may follow what, and that every answer is whole.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bespoke_plugin_api::Message;
use bespoke_plugin_api::serde_json::{self, Value, json};
use bespoke_provider_smol::constrain::{Lenience, Schema, Text, Vocabulary};
use bespoke_provider_smol::engine::{Engine, EngineOptions, Finish, Generation};
use bespoke_provider_smol::error::Error;
use bespoke_provider_smol::sampler::Sampling;

use crate::{tiny, weights};

fn strict(schema: &Value) -> Schema {
    Schema::compile(schema, Lenience::Strict).unwrap()
}

/// Whether a text fits as a whole.
fn fits(schema: &Value, text: &str) -> bool {
    Text::new(&strict(schema)).with_all(text.as_bytes()).is_some_and(|text| text.complete())
}

/// Schemas with texts that fit and texts that do not.
fn table() -> Vec<(Value, Vec<&'static str>, Vec<&'static str>)> {
    let string = json!({ "type": "string" });
    vec![
        (
            json!({ "type": "object", "properties": { "a": string, "b": { "type": "integer" }, "c": string }, "required": ["b"] }),
            vec![r#"{"b":1}"#, r#"{"a":"x","b":-20}"#, r#"{"a":"","b":0,"c":"y"}"#, r#"{"b":0,"c":"y"}"#],
            vec![
                "{}",
                r#"{"a":"x"}"#,
                r#"{"b":1,"a":"x"}"#,
                r#"{"b":1,}"#,
                r#"{ "b":1}"#,
                r#"{"b":01}"#,
                r#"{"b":1.5}"#,
                r#"{"b":-0}"#,
                r#"{"d":1}"#,
            ],
        ),
        (json!({ "type": "object" }), vec!["{}"], vec!["[]", "{\"a\":1}"]),
        (
            json!({ "type": "string", "minLength": 2, "maxLength": 3 }),
            vec![r#""ab""#, r#""äöü""#, r#""a\n""#, r#""\"\\""#, r#""😀😀""#],
            vec![r#""a""#, r#""abcd""#, r#""a\q""#, r#""a\u0041""#, "\"a\nb\"", "\"\u{1}a\"", "ab"],
        ),
        (
            json!({ "type": "integer", "minimum": -12, "maximum": 105 }),
            vec!["-12", "-1", "0", "9", "99", "105"],
            vec!["-13", "-20", "106", "110", "200", "1e1", "-", ""],
        ),
        (json!({ "type": "integer", "minimum": 40, "maximum": 59 }), vec!["40", "59"], vec!["4", "39", "60", "400", "-40", "0"]),
        (json!({ "type": "integer", "maximum": -5 }), vec!["-5", "-123"], vec!["-4", "0", "5"]),
        (json!({ "type": "number" }), vec!["0", "-0.5", "12.25"], vec![".5", "1.", "01", "1e5", "--1"]),
        (
            json!({ "enum": ["cat", "catfish", 3, null, true] }),
            vec![r#""cat""#, r#""catfish""#, "3", "null", "true"],
            vec![r#""ca""#, "false"],
        ),
        (json!({ "const": { "k": [1, "x"] } }), vec![r#"{"k":[1,"x"]}"#], vec![r#"{"k":[1]}"#]),
        (
            json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 1, "maxItems": 2 }),
            vec!["[true]", "[false,true]"],
            vec!["[]", "[true,true,true]", "[true,]", "[1]"],
        ),
        (
            json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }, { "type": "array", "items": { "type": "null" } }] }),
            vec!["12", r#""x""#, "[]", "[null,null]"],
            vec!["true", "[1]"],
        ),
        (json!({ "type": ["string", "null"], "maxLength": 2 }), vec!["null", r#""ab""#], vec![r#""abc""#, "nul"]),
        (
            json!({
                "$defs": { "place": { "type": "object", "properties": { "x": { "type": "integer" } }, "required": ["x"] } },
                "type": "array", "items": { "$ref": "#/$defs/place" }
            }),
            vec!["[]", r#"[{"x":1},{"x":2}]"#],
            vec!["[{}]"],
        ),
    ]
}

#[test]
fn what_fits_is_told_from_what_does_not() {
    for (schema, good, bad) in table() {
        for text in good {
            assert!(fits(&schema, text), "{schema} should take {text}");
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{text} is no JSON");
        }
        for text in bad {
            assert!(!fits(&schema, text), "{schema} should not take {text}");
        }
    }
}

#[test]
fn from_every_place_the_shortest_end_makes_it_fit() {
    for (schema, good, _) in table() {
        for text in good {
            for end in 0..=text.len() {
                let compiled = strict(&schema);
                let place = if end == 0 { Text::new(&compiled) } else { Text::new(&compiled).with_all(&text.as_bytes()[..end]).unwrap() };
                let closing = place.closing();
                let whole = [&text.as_bytes()[..end], &closing].concat();
                let whole = String::from_utf8(whole).unwrap();
                assert!(fits(&schema, &whole), "{schema}: {whole}");
                assert_eq!(closing.is_empty(), place.complete(), "{schema}: {whole}");
                serde_json::from_str::<Value>(&whole).unwrap();
            }
        }
    }
}

#[test]
fn what_is_not_known_is_named() {
    let refused = |schema: Value| Schema::compile(&schema, Lenience::Strict).unwrap_err().to_string();
    let mut all = String::new();
    for schema in [
        json!({ "type": "string", "pattern": "^a" }),
        json!({ "type": "object", "properties": { "a": { "type": "array", "items": { "type": "number", "maximum": 3 } } } }),
        json!({ "type": "array", "items": { "type": "null" }, "uniqueItems": true }),
        json!({ "type": "object", "patternProperties": {} }),
        json!({ "type": "object", "required": ["a"] }),
        json!({ "allOf": [{ "type": "null" }, { "type": "null" }] }),
        json!({ "oneOf": [{ "type": "string" }, { "type": "string", "maxLength": 3 }] }),
        json!({ "not": {} }),
        json!({}),
        json!(false),
        json!({ "type": "date" }),
        json!({ "type": "array" }),
        json!({ "type": "string", "minLength": 3, "maxLength": 2 }),
        json!({ "type": "string", "maxLength": -1 }),
        json!({ "type": "integer", "minimum": 1.2, "maximum": 1.8 }),
        json!({ "enum": [] }),
        json!({ "$ref": "#/$defs/nowhere" }),
        json!({ "$ref": "#" }),
        json!({ "type": "array", "minItems": 4000, "items": { "type": "array", "minItems": 4000, "items": { "type": "string", "minLength": 4000 } } }),
    ] {
        all += &format!("{}\n", refused(schema));
    }
    expect_test::expect![[r#"
        #: `pattern` is not supported here
        #/properties/a/items: `maximum` is not supported here
        #: `uniqueItems` is not supported here
        #: `patternProperties` is not supported here
        #: `required` names `a`, which `properties` does not describe
        #: `allOf` of several schemas is not supported
        #: `oneOf` is supported where its schemas differ in `type` or `const`; `anyOf` is, always
        #: `not` is not supported here
        #: it has no `type`, so any text would fit; name one
        #: no text fits this schema; it must be an object
        #: there is no type `date`
        #: an array needs `items`
        #: no text fits: the least length is above the most
        #: `maxLength` must be a whole number, 0 or more
        #: no integer is within `minimum` and `maximum`
        #: `enum` must be a list of values
        #: `$ref` names `#/$defs/nowhere`, which is not in this schema
        #: it nests deeper than 32 levels, or refers to itself
        #: the schema is too large
    "#]]
    .assert_eq(&all);
}

#[test]
fn what_another_check_follows_may_say_more() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": "^a" }, "b": {} }, "required": ["a", "b"] });
    assert!(Schema::compile(&schema, Lenience::Strict).is_err());
    let compiled = Schema::compile(&schema, Lenience::Checked).unwrap();
    assert!(Text::new(&compiled).with_all(br#"{"a":"x","b":null}"#).unwrap().over());
}

#[test]
fn a_mask_has_exactly_the_tokens_that_may_follow() {
    let tokenizer = weights::engine().tokenizer();
    let vocabulary = weights::engine().vocabulary();
    for (schema, good, _) in table() {
        let compiled = strict(&schema);
        let text = good[good.len() - 1];
        for end in 0..text.len() {
            let place = if end == 0 { Text::new(&compiled) } else { Text::new(&compiled).with_all(&text.as_bytes()[..end]).unwrap() };
            let mask = vocabulary.mask(tokenizer, &place);
            for token in 0..tokenizer.len() as u32 {
                let may = !tokenizer.is_control(token) && place.with_all(tokenizer.bytes(token)).is_some();
                assert_eq!(mask.allows(token), may, "{schema} {} {:?}", &text[..0], String::from_utf8_lossy(tokenizer.bytes(token)));
            }
        }
    }
}

#[allow(clippy::print_stdout, reason = "the figures are for whoever runs the test")]
#[test]
fn masks_cost_little() {
    let tokenizer = weights::engine().tokenizer();
    let start = Instant::now();
    let vocabulary = Vocabulary::new(tokenizer);
    let sorted = start.elapsed();
    let schema = strict(&json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 40 }, "age": { "type": "integer" }, "kind": { "enum": ["cat", "dog"] },
            "tags": { "type": "array", "items": { "type": "string" } }
        },
        "required": ["name", "age", "kind", "tags"]
    }));
    let written = r#"{"name":"Felix the great cat","age":12,"kind":"cat","tags":["black and white","very soft"]}"#;
    let mut tokens = Vec::new();
    tokenizer.encode(written, &mut tokens);
    let (mut text, mut total, mut most) = (Text::new(&schema), 0.0f64, 0.0f64);
    for token in &tokens {
        let start = Instant::now();
        let mask = vocabulary.mask(tokenizer, &text);
        let took = start.elapsed().as_secs_f64();
        (total, most) = (total + took, most.max(took));
        assert!(mask.allows(*token));
        text = text.with_all(tokenizer.bytes(*token)).unwrap();
    }
    assert!(text.over());
    println!(
        "sorted in {sorted:.0?}; masks of {} tokens: mean {:.3} ms, most {:.3} ms",
        tokens.len(),
        total * 1e3 / tokens.len() as f64,
        most * 1e3
    );
}

fn tiny_engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::load(&tiny::file().1, &EngineOptions::default()).unwrap())
}

/// A request that a model of random weights would never fulfil by itself.
fn request(schema: &Value, max_tokens: usize, seed: u64) -> Generation {
    let sampling = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(seed), ..Sampling::default() };
    Generation { prompt: vec![65, 66], max_tokens, sampling, stop: Vec::new(), schema: Some(Arc::new(strict(schema))) }
}

#[test]
fn random_weights_write_fitting_json_in_every_room() {
    for (schema, ..) in table() {
        let least = strict(&schema).shortest().len();
        for (seed, max_tokens) in (0..).zip([least, least + 1, least + 2, least + 7, 60, 120]) {
            let mut text = String::new();
            let answer = tiny_engine().generate(&request(&schema, max_tokens, seed), &|| false, &mut |piece| text += &piece).unwrap();
            assert!(fits(&schema, &text), "{schema}: {text}");
            assert!(answer.completion_tokens <= max_tokens, "{answer:?}: {text}");
        }
        let none = tiny_engine().generate(&request(&schema, least.max(2) - 1, 0), &|| false, &mut |_| ());
        if least > 1 {
            assert!(matches!(none, Err(Error::NoRoom { least: l, room }) if l == least && room == least - 1), "{schema}: {none:?}");
        }
    }
}

#[test]
fn a_long_answer_is_closed_and_says_so() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "array", "items": { "type": "string", "minLength": 200 } } }, "required": ["a"] });
    let mut text = String::new();
    let answer = tiny_engine().generate(&request(&schema, 40, 3), &|| false, &mut |piece| text += &piece).unwrap();
    assert_eq!((text.as_str(), answer.finish), (r#"{"a":[]}"#, Finish::Length), "no item fits into 40 tokens");
    let schema = json!({ "type": "string", "minLength": 30 });
    let mut text = String::new();
    let answer = tiny_engine().generate(&request(&schema, 40, 3), &|| false, &mut |piece| text += &piece).unwrap();
    assert!(fits(&schema, &text) && answer.completion_tokens <= 40, "{text}");
}

#[test]
fn the_real_model_fills_in_what_it_is_asked() {
    let engine = weights::engine();
    let messages = [Message::system("You answer in JSON."), Message::user("What is the capital of France, and is it in Europe?")];
    let schema = json!({
        "type": "object",
        "properties": { "capital": { "type": "string", "maxLength": 30 }, "in_europe": { "type": "boolean" } },
        "required": ["capital", "in_europe"]
    });
    let prompt = engine.prompt(&messages, true).unwrap();
    let request =
        Generation { prompt, max_tokens: 48, sampling: Sampling::default(), stop: Vec::new(), schema: Some(Arc::new(strict(&schema))) };
    let mut text = String::new();
    let answer = engine.generate(&request, &|| false, &mut |piece| text += &piece).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value["capital"].as_str().unwrap().contains("Paris") && value["in_europe"].is_boolean(), "{text}");
    assert_eq!(answer.finish, Finish::Stop);
    let stop = Generation { stop: vec!["x".into()], ..request };
    assert!(matches!(engine.generate(&stop, &|| false, &mut |_| ()), Err(Error::Option { option: "stop", .. })));
}
