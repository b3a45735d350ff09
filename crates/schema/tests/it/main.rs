//! What fits, what does not, and in which words.

use bespoke_schema::check;
use serde_json::{Value, json};

fn said(schema: Value, value: Value) -> Vec<String> {
    check(&schema, &value).iter().map(ToString::to_string).collect()
}

/// Each: a schema, a value that fits, one that does not, and what is said of that.
#[test]
fn each_keyword_lets_in_and_refuses() {
    let object = |keys: Value| {
        let mut schema = json!({ "type": "object" });
        schema.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        schema
    };
    for (schema, fits, not, message) in [
        (json!({ "type": "string" }), json!("a"), json!(3), "must be a string, is 3"),
        (json!({ "type": "integer" }), json!(2.0), json!(2.5), "must be an integer, is 2.5"),
        (json!({ "type": "boolean" }), json!(true), json!("yes"), "must be true or false, is \"yes\""),
        (json!({ "type": ["string", "null"] }), json!(null), json!([1]), "must be a string or null, is an array of 1 entry"),
        (json!({ "const": 1 }), json!(1.0), json!(2), "must be 1, is 2"),
        (
            json!({ "enum": ["live", "restart"] }),
            json!("live"),
            json!("lvie"),
            "must be one of \"live\", \"restart\", is \"lvie\"; did you mean \"live\"?",
        ),
        (json!({ "minimum": 0, "maximum": 1 }), json!(0.5), json!(1.5), "1.5 is out of range; it has to be from 0 to 1"),
        (json!({ "exclusiveMinimum": 0 }), json!(0.1), json!(0), "0 is out of range; it has to be more than 0"),
        (json!({ "minimum": 1, "exclusiveMaximum": 9 }), json!(8), json!(9), "9 is out of range; it has to be at least 1 and less than 9"),
        (json!({ "multipleOf": 0.1 }), json!(0.3), json!(0.35), "0.35 is no multiple of 0.1"),
        (json!({ "minLength": 1 }), json!("é"), json!(""), "must not be empty"),
        (json!({ "maxLength": 2 }), json!("éé"), json!("abc"), "must have at most 2 characters, has 3"),
        (json!({ "pattern": "^[a-z]+$" }), json!("ab"), json!("A"), "must match ^[a-z]+$, is \"A\""),
        (json!({ "minItems": 1 }), json!([1]), json!([]), "must have at least 1 entry, has 0"),
        (json!({ "maxItems": 1 }), json!([1]), json!([1, 2]), "must have at most 1 entry, has 2"),
        (json!({ "uniqueItems": true }), json!([1, 2]), json!([1, 1.0]), "[1]: 1.0 is there twice"),
        (json!({ "items": { "type": "string" } }), json!(["a"]), json!(["a", 1]), "[1]: must be a string, is 1"),
        (json!({ "prefixItems": [{ "type": "string" }], "items": false }), json!(["a"]), json!(["a", 1]), "[1]: must not be there"),
        (json!({ "contains": { "const": 7 } }), json!([1, 7]), json!([1]), "has no entry of the kind that must be there"),
        (object(json!({ "required": ["a"] })), json!({ "a": 1 }), json!({}), "a: is missing"),
        (
            object(json!({ "properties": { "a": { "type": "string" } } })),
            json!({ "a": "x" }),
            json!({ "a": 1 }),
            "a: must be a string, is 1",
        ),
        (object(json!({ "additionalProperties": false })), json!({}), json!({ "b": 1 }), "b: is unknown; there are no keys"),
        (
            object(json!({ "properties": { "path": true, "size": true }, "additionalProperties": false })),
            json!({ "path": 1 }),
            json!({ "q": 1 }),
            "q: is unknown; there is path, size",
        ),
        (
            object(json!({ "additionalProperties": { "type": "integer" } })),
            json!({ "b": 1 }),
            json!({ "b": "x" }),
            "b: must be an integer, is \"x\"",
        ),
        (
            object(json!({ "patternProperties": { "^x-": { "type": "string" } }, "additionalProperties": false })),
            json!({ "x-a": "s" }),
            json!({ "x-a": 1 }),
            "x-a: must be a string, is 1",
        ),
        (
            object(json!({ "propertyNames": { "pattern": "^[a-z]$" } })),
            json!({ "a": 1 }),
            json!({ "A": 1 }),
            "A: is no name that may stand here",
        ),
        (object(json!({ "minProperties": 1 })), json!({ "a": 1 }), json!({}), "must have at least 1 entry, has 0"),
        (object(json!({ "maxProperties": 1 })), json!({ "a": 1 }), json!({ "a": 1, "b": 1 }), "must have at most 1 entry, has 2"),
        (
            object(json!({ "dependentRequired": { "a": ["b"] } })),
            json!({ "a": 1, "b": 1 }),
            json!({ "a": 1 }),
            "b: is missing; `a` needs it",
        ),
        (json!({ "allOf": [{ "type": "integer" }, { "minimum": 3 }] }), json!(3), json!(2), "2 is out of range; it has to be at least 3"),
        (
            json!({ "anyOf": [{ "type": "integer" }, { "type": "boolean" }] }),
            json!(3),
            json!("x"),
            "\"x\" fits none of the 2 forms that may stand here",
        ),
        (
            json!({ "anyOf": [{ "type": "integer", "maximum": 3 }, { "type": "null" }] }),
            json!(null),
            json!(4),
            "4 is out of range; it has to be at most 3",
        ),
        (json!({ "oneOf": [{ "minimum": 1 }, { "minimum": 5 }] }), json!(2), json!(6), "fits 2 of the forms that exclude each other"),
        (json!({ "not": { "const": "root" } }), json!("me"), json!("root"), "must not be \"root\""),
        (
            json!({ "if": { "minimum": 10 }, "then": { "multipleOf": 10 }, "else": { "type": "integer" } }),
            json!(20),
            json!(15),
            "15 is no multiple of 10",
        ),
        (json!({ "$ref": "#/$defs/a%20b", "$defs": { "a b": { "type": "null" } } }), json!(null), json!(1), "must be null, is 1"),
        (json!(true), json!(1), json!(1), ""),
        (json!({ "x-own": 1, "format": "email" }), json!("no address"), json!(1), ""),
    ] {
        assert_eq!(said(schema.clone(), fits.clone()), [""; 0], "{schema} {fits}");
        let expected: &[&str] = if message.is_empty() { &[] } else { &[message] };
        assert_eq!(said(schema.clone(), not.clone()), expected, "{schema} {not}");
    }
}

#[test]
fn a_schema_or_value_without_end_ends() {
    assert_eq!(said(json!({ "$ref": "#" }), json!(1)), ["nests deeper than 128 levels"]);
    // Twice as many forms with each level: without a bound this would take as long as there is time.
    let doubling = json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }], "not": { "$ref": "#" } });
    assert!(!said(doubling, json!(1)).is_empty());
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let list = json!({ "$ref": "#/$defs/list", "$defs": { "list": { "items": { "$ref": "#/$defs/list" } } } });
    assert_eq!(said(list, deep), [format!("{}: nests deeper than 128 levels", "[0]".repeat(64))]);
}

#[test]
fn no_more_faults_are_told_than_anybody_mends_at_once() {
    let many: Vec<_> = (0..1000).map(|n| json!(n)).collect();
    assert_eq!(said(json!({ "items": { "type": "string" } }), json!(many)).len(), 20);
}

#[test]
fn entries_are_unique_as_json_schema_has_it() {
    let unique = json!({ "uniqueItems": true });
    for (items, at) in [
        (json!([0.0, -0.0]), Some(1)),
        (json!([1, "1", true, null, "null", [1], ["1"], {}, []]), None),
        (json!([[1, 2], [12], [[1], 2]]), None),
        (json!([{ "a": 1, "b": [2] }, { "a": 1 }, { "b": [2.0], "a": 1 }]), Some(2)),
        (json!([{ "a": "b,c" }, { "a": "b", "c": "" }, { "a\":": 1 }]), None),
        (json!([u64::MAX, i64::MIN, 1e300, 1.5]), None),
    ] {
        let faults: Vec<_> = check(&unique, &items).into_iter().map(|fault| fault.path).collect();
        assert_eq!(faults, at.map(|at| format!("[{at}]")).into_iter().collect::<Vec<_>>(), "{items}");
    }
}

#[test]
fn a_long_list_costs_what_it_has_and_no_square_of_it() {
    // Compared one by one, these would be a thousand million comparisons of deep values.
    let item = |n: usize| json!({ "a": [[[1, 2, 3]]], "n": n });
    let many = |count| Value::from((0..count).map(item).collect::<Vec<_>>());
    assert_eq!(said(json!({ "uniqueItems": true }), many(20_000)), [""; 0]);
    assert_eq!(said(json!({ "uniqueItems": true }), many(45_000)), ["cannot be checked: it takes too many steps"]);
    let deep = json!({ "allOf": vec![json!({ "uniqueItems": true }); 1000] });
    assert_eq!(said(deep, many(20_000)).len(), 20);
}
