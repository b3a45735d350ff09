//! Components as text: what a toolchain would never write.

/// A plugin whose core module has these in it. Pointer 0 is an answer without anything: `start` and `step` may return it.
pub(crate) struct Text<'t> {
    pub(crate) start: &'t str,
    pub(crate) step: &'t str,
    /// Memories, tables, data, further functions.
    pub(crate) more: &'t str,
    /// Imports of the component.
    pub(crate) imports: &'t str,
    /// The version in the name of its export.
    pub(crate) version: &'t str,
}

impl Default for Text<'_> {
    fn default() -> Self {
        Text { start: "(i32.const 0)", step: "(i32.const 0)", more: "(memory (export \"memory\") 2)", imports: "", version: "1.0.0" }
    }
}

impl Text<'_> {
    pub(crate) fn component(&self) -> String {
        let Text { start, step, more, imports, version } = self;
        format!(
            r#"(component
  {imports}
  (core module $m
    {more}
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "start") (result i32) {start})
    (func (export "step") (param i32 i32) (result i32) {step}))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (type $outbound (record (field "frames" (list u8)) (field "more" bool)))
  (func $start (result (result (error string))) (canon lift (core func $i "start") (memory $memory)))
  (func $step (param "inbound" (list u8)) (result (result $outbound (error string)))
    (canon lift (core func $i "step") (memory $memory) (realloc $realloc)))
  (component $named
    (type $t (record (field "frames" (list u8)) (field "more" bool)))
    (import "import-type-outbound" (type $outbound (eq $t)))
    (import "import-func-start" (func $start (result (result (error string)))))
    (import "import-func-step" (func $step (param "inbound" (list u8)) (result (result $outbound (error string)))))
    (export $exported "outbound" (type $outbound))
    (export "start" (func $start) (func (result (result (error string)))))
    (export "step" (func $step) (func (param "inbound" (list u8)) (result (result $exported (error string))))))
  (instance $guest (instantiate $named
    (with "import-type-outbound" (type $outbound))
    (with "import-func-start" (func $start))
    (with "import-func-step" (func $step))))
  (export "bespoke:plugin/guest@{version}" (instance $guest)))"#
        )
    }
}
