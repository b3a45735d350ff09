//! Checks JSON values against JSON Schema (2020-12), as far as tools and configurations use it, and says what is wrong in words
//! that a person or a model can act on. It fetches nothing and never fails on a strange schema: what it cannot read, it does not
//! check.
//!
//! Checked: `type`, `enum`, `const`; `properties`, `required`, `additionalProperties`, `patternProperties`, `propertyNames`,
//! `minProperties`, `maxProperties`, `dependentRequired`; `items`, `prefixItems`, `minItems`, `maxItems`, `uniqueItems`,
//! `contains`; `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`; `minLength`, `maxLength`, `pattern`;
//! `allOf`, `anyOf`, `oneOf`, `not`, `if`/`then`/`else`; `$ref` within the document. `format` says nothing about validity, as in
//! the specification.
//!
//! Not checked, whatever a schema says: `$dynamicRef`, `dependentSchemas`, `dependencies`, `maxContains`, `minContains`,
//! `unevaluatedItems`, `unevaluatedProperties`; references that lead nowhere or out of the document; patterns that `regex-lite`
//! does not read.
//!
//! A check takes 200 000 steps at most, one for each value that is held against a schema or compared for `uniqueItems`; what takes
//! more does not fit.
//!
//! Own code by measurement: `jsonschema` 0.60 without default features adds 2.8 MB to a stripped release binary whose whole core
//! is 3 MB; this crate adds a tenth of a megabyte.
//!
//! ```
//! use serde_json::json;
//!
//! let schema = json!({ "type": "object", "properties": { "path": { "type": "string" } }, "required": ["path"],
//!     "additionalProperties": false });
//! assert!(bespoke_schema::check(&schema, &json!({ "path": "notes.txt" })).is_empty());
//! let faults = bespoke_schema::check(&schema, &json!({ "paht": 1 }));
//! assert_eq!(faults[0].to_string(), "paht: is unknown; did you mean `path`?");
//! assert_eq!(faults[1].to_string(), "path: is missing");
//! ```

mod check;
mod fill;

use std::fmt;

pub use check::check;
pub use fill::fill;

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Where: names joined by dots, positions in brackets from 0, such as `steps[2].name`; empty for the value itself.
    pub path: String,
    /// What, in words that follow the path.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}
